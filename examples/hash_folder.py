"""The SHA-256 of every file below a folder, as of `sha256sum`: `python hash_folder.py FOLDER`.

A file that cannot be read is told of at the end, and costs no other its line.
"""

import hashlib
import sys
from pathlib import Path

import manycore


def digest(path):
    """A line for a file, and whether there is one."""
    try:
        with open(path, "rb") as file:
            return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}", True
    except OSError as error:
        return f"{path}: {error.strerror}", False


def main(folder):
    """Prints all lines in the order of the names; returns how many files could not be read."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    failed = []
    with manycore.Pool() as pool:
        for line, is_read in pool.imap(digest, files, chunksize=8):
            if is_read:
                print(line)
            else:
                failed.append(line)
    print(*failed, sep="\n", end="\n" * bool(failed), file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)
