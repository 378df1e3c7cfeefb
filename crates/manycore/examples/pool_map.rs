//! Squares numbers in worker processes: the smallest program with a pool.

use manycore::Pool;

fn square(number: u64) -> u64 {
    number * number
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    manycore::init(); // first in `main`: workers are other runs of this program
    let pool = Pool::with_available_cpus()?;
    let squares = pool.map(square, 1..=5)?;
    println!("{squares:?}");
    assert_eq!(squares, [1, 4, 9, 16, 25]);
    Ok(())
}
