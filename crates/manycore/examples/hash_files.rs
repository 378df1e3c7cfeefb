//! Prints the SHA-256 of every file below a folder, as `sha256sum` does. A file that cannot be read, or takes longer
//! than a minute, is told and keeps no other from being hashed; if a worker is killed, its file is hashed again.
//!
//! `cargo run --release --example hash_files -- --folder FOLDER`; without a folder, the sources of this crate.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manycore::{Pool, PoolMap};
use sha2::{Digest, Sha256};

/// The hash of a file's content, or why there is none.
fn hash(path: PathBuf) -> Result<String, String> {
    let digest = digest(&path).map_err(|error| error.to_string())?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Adds the files below a folder, in the order of their names.
fn collect_files(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::path);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect_files(&entry.path(), into)?;
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    let mut arguments = std::env::args_os().skip_while(|it| it != "--folder");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    arguments.nth(1).map_or(sources, PathBuf::from)
}

fn main() -> Result<(), Box<dyn Error>> {
    manycore::init();
    let limit = Duration::from_secs(60);
    let pool = Pool::builder().timeout(limit).retries(1).build()?;
    let mut files = Vec::new();
    collect_files(&folder(), &mut files)?;
    let mut hashed = 0;
    let hashes = files.iter().cloned().pool_map(&pool, hash);
    for (file, result) in files.iter().zip(hashes) {
        match result {
            Ok(Ok(hash)) => {
                println!("{hash}  {}", file.display());
                hashed += 1;
            }
            Ok(Err(error)) => eprintln!("{}: {error}", file.display()),
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
    if hashed < files.len() {
        return Err(format!("{} files could not be hashed", files.len() - hashed).into());
    }
    Ok(())
}
