"""Functions and classes of child processes. This module imports nothing that is not built into the
interpreter, so that starting a child by `spawn` costs what the start costs and not what the
benchmarks import."""

from time import thread_time


def noop() -> None:
    """Return at once."""


def square(x: int) -> int:
    """The smallest task that has a result worth checking."""
    return x * x


def ones(size: int) -> object:
    """An array of so many numbers."""
    import numpy

    return numpy.ones(size)


def size_of(array: object) -> int:
    """How many numbers are in an array."""
    size: int = array.size  # type: ignore[attr-defined]
    return size


class Busy:
    """A task of a chosen length: it counts to `Busy.loops`, which forked workers inherit."""

    loops = 100
    reading = 0.0
    """Seconds that a reading of the clock takes: who times itself reads twice, and sees one."""

    @classmethod
    def task(cls, x: int) -> int:
        """Count, then return `x`."""
        for _ in range(cls.loops):
            pass
        return x

    @classmethod
    def timed(cls, x: int) -> float:
        """Count; the seconds of the CPU's time that it took, the clock's readings included."""
        return cls.timed_for(1)

    @classmethod
    def timed_for(cls, times: int) -> float:
        """Count as often; the seconds of the CPU's time that it took, as above."""
        begin = thread_time()
        for _ in range(times * cls.loops):
            pass
        return thread_time() - begin + cls.reading


class Reading:
    """An object as programs send them: a plain class with a few attributes."""

    def __init__(self, number: int, name: str, value: float) -> None:
        self.number, self.name, self.value = number, name, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]
