"""Functions that run in child processes. This module imports nothing, so that starting a child by
`spawn` costs what the start costs and not what the benchmarks import."""


def noop() -> None:
    """Return at once."""


def square(x: int) -> int:
    """The smallest task that has a result worth checking."""
    return x * x


class Busy:
    """A task of a chosen length: it counts to `Busy.loops`, which forked workers inherit."""

    loops = 100

    @classmethod
    def task(cls, x: int) -> int:
        """Count, then return `x`."""
        for _ in range(cls.loops):
            pass
        return x
