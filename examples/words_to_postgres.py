"""Counts the words of texts into PostgreSQL: `python words_to_postgres.py SERVER TEXT...`.

SERVER is as psycopg has it: `"host=/run/postgresql dbname=books"`. A pipeline of three stages: one
process reads, several count, and two write, each by a connection of its own. A text is one
transaction. When a process is killed in it, the server takes back what it has of the text, which is
worked on again; so each text is there as a whole and once.
"""

import sys
from collections import Counter
from functools import partial

import psycopg

from manycore import WorkerDied, available_cpus, pipeline, stage

TABLE = """
    CREATE TABLE IF NOT EXISTS words (
        text text, word text, number integer, PRIMARY KEY (text, word)
    )
"""


def read(path):
    """Gives the name of a text, and what it is."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return path, file.read()


def count(item):
    """Gives the name of a text, and how often it has each of its words."""
    path, text = item
    words = (word.strip(".,;:!?\"'()").lower() for word in text.split())
    return path, Counter(filter(None, words))


def write(counts, connection):
    """Writes the counts of a text in place of earlier ones; gives its name and their number."""
    path, words = counts
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM words WHERE text = %s", [path])
        with cursor.copy("COPY words (text, word, number) FROM STDIN") as copy:
            for word, number in words.items():
                copy.write_row((path, word, number))
    return path, len(words)


def main(server, *paths):
    """Returns whether a text failed."""
    with psycopg.connect(server) as connection:
        connection.execute(TABLE)
    connect = partial(psycopg.connect, server, autocommit=True)
    results = pipeline(
        paths,
        stage(read, retries=1),
        stage(count, workers=available_cpus(), retries=1),
        stage(write, workers=2, retries=1, init=connect),
        on_error="return",
    )
    failed = False
    for result in results:
        if isinstance(result, OSError | WorkerDied | psycopg.Error):
            failed = True
            print(f"{result} ({result.__notes__[0]})", file=sys.stderr)
        elif isinstance(result, Exception):
            raise result
        else:
            path, number = result
            print(f"{path}: {number} words")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
