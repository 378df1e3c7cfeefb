"""The functions that a pool's workers run: sent once, found again by number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from manycore import _by_value, _engine
from manycore._pickling import dumps_function

_MOST = 256
"""Functions whose pickles stay in the heap for later calls."""


class Functions:
    """The pickled functions of a pool.

    A plain function is recognised by its identity, anything else by its pickle, which is made for
    every call: an object may have changed.
    """

    def __init__(self, crew: _engine.Crew, method: str) -> None:
        self._crew = crew
        self._is_known = _by_value.what_children_know(method)
        self._by_pickle: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._outdated: list[bytes] = []

    def head(self, function: Callable[..., Any]) -> bytes:
        """What stands before the arguments of a task that calls the function."""
        known = self._crew.known(function)
        if known is not None:
            return known
        pickled, keep = dumps_function(function, self._is_known)
        head = self._by_pickle.get((pickled, keep))
        if head is None:
            head = self._store(pickled, keep)
        if keep and not isinstance(getattr(function, "__self__", None), type):
            self._crew.know(function, head)  # a class method is another object each time
        return head

    def _store(self, pickled: bytes, keep: bool) -> bytes:
        head = self._crew.store(pickled, keep)
        self._by_pickle[pickled, keep] = head
        if len(self._by_pickle) > _MOST:
            _, oldest = self._by_pickle.popitem(last=False)
            self._crew.forget(oldest)
            self._outdated.append(oldest)
        if self._outdated and not self._crew.open:
            # Only now is it certain that no task refers to them.
            for outdated in self._outdated:
                self._crew.discard(outdated)
            self._outdated.clear()
        return head
