"""Reads texts, counts their words, writes the counts: `python words_to_sqlite.py DATABASE TEXT...`.

Three kinds of processes with a queue between two: one reads, several count, and one writes, the
only one that has the database. A queue ends when this process closes its producer, which it does
when those who put into it have ended: in order, or killed.
"""

import sqlite3
import sys
from collections import Counter
from contextlib import closing

from manycore import Process, Queue, available_cpus


def read(paths, texts):
    """Puts every text with its name."""
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.put((path, file.read()))


def count(texts, counts):
    """Puts the counts of each text."""
    for path, text in texts:
        words = (word.strip(".,;:!?\"'()").lower() for word in text.split())
        counts.put((path, Counter(filter(None, words))))


def write(counts, database):
    """Writes all counts in one transaction."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (text, word, number)")
        for path, words in counts:
            rows = [(path, word, number) for word, number in words.items()]
            connection.executemany("INSERT INTO words VALUES (?, ?, ?)", rows)


def main(database, *paths):
    """Returns whether a process failed."""
    texts, counts = Queue(maxsize=16), Queue(maxsize=16)
    writer = Process(target=write, args=(counts, database))
    reader = Process(target=read, args=(paths, texts))
    counters = [Process(target=count, args=(texts, counts)) for _ in range(available_cpus())]
    with counts.producer():
        writer.start()
        with texts.producer():
            for process in (reader, *counters):
                process.start()
            reader.join()
        for process in counters:
            process.join()
    writer.join()
    return any(process.exitcode for process in (reader, *counters, writer))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
