"""Pi by chance, more precise the longer it runs: `python monte_carlo.py [ERROR]`.

The estimates come as the workers have them, from an input without an end; it stops when the
standard error of their mean is small enough.
"""

import itertools
import random
import sys
from statistics import fmean, stdev

import manycore

POINTS = 100_000
LEAST = 10  # estimates before the error is believed


def estimate(seed):
    """Pi from the points of one seed."""
    chance = random.Random(seed).random
    return 4 * sum(chance() ** 2 + chance() ** 2 < 1 for _ in range(POINTS)) / POINTS


def main(wanted="0.001"):
    """Prints the mean of as many estimates as it takes."""
    estimates = []
    with manycore.Pool() as pool:
        for one in pool.imap(estimate, itertools.count()):
            estimates.append(one)
            if len(estimates) >= LEAST:
                error = stdev(estimates) / len(estimates) ** 0.5
                if error <= float(wanted):
                    break
    print(f"pi = {fmean(estimates):.4f} ± {error:.4f} after {len(estimates)} estimates")


if __name__ == "__main__":
    main(*sys.argv[1:])
