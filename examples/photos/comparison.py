"""Rounds, medians, and the check that all backends produced the same."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from photos.storage import read_images, read_rows

COMPARABLE = "name, width, height, mean_colour, sha256"
"""What the catalogues of two runs must agree on: all but the seconds and the worker's pid."""


class ResultsDiffer(Exception):
    """Two backends produced different results from the same photographs."""


class Timings(dict[str, list[float]]):
    """The seconds of every round by the backend's name."""

    def median(self, backend: str) -> float:
        """Return the median of the rounds of ``backend``."""
        return median(self[backend])

    def speed_up(self, backend: str, over: str) -> float:
        """Return how many times as fast as ``over`` the backend was."""
        return self.median(over) / self.median(backend)


def race(contenders: Mapping[str, Callable[[int], object]], rounds: int) -> Timings:
    """Time each contender once in every round.

    The rounds are interleaved, and each begins with another contender, so that a machine that
    gets busier or warmer favours none. A contender is called with the number of the round.
    """
    timings = Timings((name, []) for name in contenders)
    order = list(contenders)
    for number in range(1, rounds + 1):
        for name in order:
            started = time.perf_counter()
            contenders[name](number)
            timings[name].append(time.perf_counter() - started)
        order.append(order.pop(0))
    return timings


def check_same_output(folders: list[Path]) -> None:
    """Compare the catalogues row by row and the images byte by byte.

    Raises:
        ResultsDiffer: Two folders are not alike.
    """
    first, *others = folders
    rows, images = read_rows(first, COMPARABLE), read_images(first)
    for other in others:
        if read_rows(other, COMPARABLE) != rows:
            raise ResultsDiffer(f"the catalogues in {first} and {other} differ")
        if read_images(other) != images:
            raise ResultsDiffer(f"the images in {first} and {other} differ")
