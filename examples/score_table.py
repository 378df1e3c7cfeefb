"""A model applied to a table, chunk by chunk: `python score_table.py [ROWS]`. Needs scikit-learn.

Model and table are in shared memory: the model is decoded once in each worker, and no row is sent.
"""

import sys

import numpy as np
from sklearn.ensemble import RandomForestClassifier

import manycore

CHUNK = 5_000


class Worker:
    """What a worker has from its start to its end."""

    @classmethod
    def begin(cls, model, table, scores):
        """Keeps what all chunks need."""
        cls.model, cls.table, cls.scores = model.value, table, scores


def score(start):
    """The probability of the second class for the rows of one chunk."""
    rows = slice(start, start + CHUNK)
    Worker.scores[rows] = Worker.model.predict_proba(Worker.table[rows])[:, 1]


def main(rows="100000"):
    """Learns that points lie within a circle, and says how often that was right."""
    chance = np.random.default_rng(0)
    points = chance.uniform(-1, 1, (2_000, 2))
    forest = RandomForestClassifier(20, random_state=0).fit(points, np.hypot(*points.T) < 0.8)
    model = manycore.share(forest, readonly=True)
    table = manycore.share(chance.uniform(-1, 1, (int(rows), 2)))
    scores = manycore.ndarray(len(table))
    context = manycore.get_context("forkserver")  # a fork would copy the threads of libraries
    with context.Pool(initializer=Worker.begin, initargs=(model, table, scores)) as pool:
        pool.map(score, range(0, len(table), CHUNK), chunksize=1)
    right = (scores > 0.5) == (np.hypot(*table.T) < 0.8)
    print(f"{len(table)} points, {right.mean():.0%} right")


if __name__ == "__main__":
    main(*sys.argv[1:])
