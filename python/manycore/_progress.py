"""Progress bars of maps, drawn by tqdm: by whoever waits for the results."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

from manycore._lazy import IMapIterator, IMapUnorderedIterator
from manycore._results import MapResult

_STEP = 0.1
"""Seconds between two looks at how far a map is."""


def bar(progress: bool | str, total: int | None) -> Any:
    """A progress bar, with a label if `progress` is one.

    Raises:
        ModuleNotFoundError: When tqdm is not there.
    """
    label = progress if isinstance(progress, str) else None
    return kind()(total=total, desc=label)


_Bar: Any = None


def kind() -> Any:
    """The class of bars: tqdm's for where this runs, without what it has for bars of processes."""
    global _Bar
    if _Bar is None:
        try:
            from tqdm.auto import tqdm
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "progress= draws bars with tqdm, which is not installed: pip install tqdm",
                name="tqdm",
            ) from error

        # Its thread, which looks for bars that do not move, would be there at every fork.
        _Bar = type("Bar", (tqdm,), {"monitor_interval": 0})
        if not hasattr(tqdm, "_lock"):
            # By default it makes a lock for processes, which start methods may need a tracker for.
            _Bar.set_lock(threading.RLock())
    return _Bar


def length(iterable: Iterable[Any]) -> int | None:
    """How many items there are, where that is known."""
    with contextlib.suppress(TypeError):
        return len(iterable)  # type: ignore[arg-type]
    return None


class ShownMapResult(MapResult):
    """The results of a map whose progress is shown while somebody waits for them."""

    _bar: Any = None

    def draw(self, bar: Any) -> None:
        """Has this bar show how many of the items are done."""
        self._bar = bar
        self._items = len(self._results)

    def show(self) -> None:
        """Draws how far the map is."""
        self._bar.update(self._items - self._left - self._bar.n)
        if self._is_done:
            self._bar.close()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call has completed, at most `timeout` seconds."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while not self._pool._attendant.wait(self, min(time.monotonic() + _STEP, until)):
                self.show()
                if time.monotonic() >= until:
                    return
        except BaseException:
            self._bar.close()
            raise
        self.show()

    def get(self, timeout: float | None = None) -> Any:
        """The results; waits for them."""
        self.wait(timeout)
        return super().get(0)


class _Shown(IMapIterator):
    """A lazy map whose progress is shown as its results are fetched."""

    _bar: Any = None

    def draw(self, bar: Any) -> None:
        """Has this bar show how many results were fetched."""
        self._bar = bar

    def next_if_any(self) -> tuple[bool, Any] | None:
        """The next result, for `open`, if it is there; hands out tasks, too."""
        try:
            return super().next_if_any()
        except BaseException:
            self._bar.close()
            raise

    def open(self, result: tuple[bool, Any]) -> Any:
        """What the task returned."""
        try:
            value = super().open(result)
        except BaseException:
            self._bar.close()
            raise
        self._bar.update()
        return value

    def close(self) -> None:
        """Ends it, and the bar."""
        super().close()
        self._bar.close()


class ShownIMapIterator(_Shown):
    """The results of a lazy map, in order, and a bar."""


class ShownIMapUnorderedIterator(_Shown, IMapUnorderedIterator):
    """The results of a lazy map, as they come, and a bar."""


SHOWN = {IMapIterator: ShownIMapIterator, IMapUnorderedIterator: ShownIMapUnorderedIterator}
"""What shows the progress of each kind of lazy map."""
