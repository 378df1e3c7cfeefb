//! Three stages, each in a process of its own, joined by queues: lines of text are read, transformed
//! and written. `cargo run --example pipeline -- FILE` numbers the lines of a file; without a file it
//! works on a poem.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor};

use manycore::error::{RecvError, SendError};
use manycore::{Process, Queue};

const POEM: &str = "Tyger Tyger, burning bright,\n\
                    In the forests of the night;\n\
                    What immortal hand or eye,\n\
                    Could frame thy fearful symmetry?\n";

/// What a stage may end with, as text: errors do not travel as they are.
type Stage<T> = Result<T, String>;

fn main() -> Result<(), Box<dyn Error>> {
    manycore::init();
    let file = std::env::args().nth(1);
    // At most this many lines wait between two stages: a slow stage holds the faster ones up, and a
    // large file never has to fit into memory.
    let (lines, numbered) = (Queue::bounded(64)?, Queue::bounded(64)?);
    let reader = Process::spawn(read, (file, lines.clone()))?;
    let numberer = Process::spawn(number, (lines.clone(), numbered.clone()))?;
    let writer = Process::spawn(write, numbered.clone())?;

    // A stage closes its queue when it is done. Should it be killed, it cannot: so it is closed here,
    // and the stages after it end, too.
    let read = reader.join();
    lines.close();
    let transformed = numberer.join();
    numbered.close();
    let written = writer.join()??;
    assert_eq!(read??, written, "every line comes out");
    transformed??;
    println!("{written} lines");
    Ok(())
}

fn read((file, lines): (Option<String>, Queue<String>)) -> Stage<usize> {
    let source: Box<dyn BufRead> = match file {
        Some(name) => Box::new(BufReader::new(File::open(name).map_err(text)?)),
        None => Box::new(Cursor::new(POEM)),
    };
    let mut count = 0;
    for line in source.lines() {
        lines
            .send(&line.map_err(text)?)
            .map_err(text::<SendError>)?;
        count += 1;
    }
    lines.close();
    Ok(count)
}

fn number((lines, numbered): (Queue<String>, Queue<String>)) -> Stage<()> {
    for (line, number) in lines.iter().zip(1..) {
        let line = line.map_err(text::<RecvError>)?;
        numbered
            .send(&format!("{number:4}  {line}"))
            .map_err(text::<SendError>)?;
    }
    numbered.close();
    Ok(())
}

fn write(numbered: Queue<String>) -> Stage<usize> {
    let mut count = 0;
    for line in &numbered {
        println!("{}", line.map_err(text::<RecvError>)?);
        count += 1;
    }
    Ok(count)
}

fn text<E: Error>(error: E) -> String {
    error.to_string()
}
