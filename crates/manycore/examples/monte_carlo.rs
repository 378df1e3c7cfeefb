//! Estimates π by random points, until the estimate is as good as wanted. Each task has the seed of its number, and
//! the results are taken in order: so the estimate does not depend on how many workers there are.

use std::error::Error;

use fastrand::Rng;
use manycore::error::TaskError;
use manycore::{Pool, PoolMap};

const POINTS_OF_A_TASK: u32 = 100_000;

/// How many of the task's points in the unit square lie inside the circle.
fn count_inside(seed: u64) -> u32 {
    let mut random = Rng::with_seed(seed);
    (0..POINTS_OF_A_TASK)
        .map(|_| {
            let (x, y) = (random.f64(), random.f64());
            u32::from(x * x + y * y <= 1.0)
        })
        .sum()
}

struct Estimate {
    pi: f64,
    standard_error: f64,
    tasks: u32,
}

fn estimate(pool: &Pool, wanted: f64) -> Result<Estimate, TaskError> {
    let mut inside = 0;
    let mut counts = (0..).pool_map(pool, count_inside); // seeds without end: few are taken ahead
    for tasks in 1.. {
        inside += u64::from(counts.next().expect("there is no end")?);
        let points = f64::from(tasks) * f64::from(POINTS_OF_A_TASK);
        let share = inside as f64 / points;
        let standard_error = 4.0 * (share * (1.0 - share) / points).sqrt();
        if standard_error <= wanted {
            let pi = 4.0 * share;
            return Ok(Estimate {
                pi,
                standard_error,
                tasks,
            });
        }
    }
    unreachable!("the error becomes as small as one likes")
}

fn main() -> Result<(), Box<dyn Error>> {
    manycore::init();
    let pool = Pool::with_available_cpus()?;
    let many = estimate(&pool, 0.001)?;
    println!(
        "{:.4} ± {:.4} by {} tasks in {} workers",
        many.pi,
        many.standard_error,
        many.tasks,
        pool.workers()
    );
    let alone = estimate(&Pool::new(1)?, 0.001)?;
    assert_eq!(many.pi, alone.pi, "the same random points");
    assert!((many.pi - std::f64::consts::PI).abs() < 5.0 * many.standard_error);
    Ok(())
}
