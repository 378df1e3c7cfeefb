"""Functions and classes of child processes. This module imports nothing, so that starting a child
by `spawn` costs what the start costs and not what the benchmarks import."""


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


class Reading:
    """An object as programs send them: a plain class with a few attributes."""

    def __init__(self, number: int, name: str, value: float) -> None:
        self.number, self.name, self.value = number, name, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]
