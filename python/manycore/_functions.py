"""The functions that a pool's workers run: sent once, found again by number."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from manycore import _by_value, _engine
from manycore._pickling import dumps_function

_MOST = 256
"""Functions whose pickles stay in the heap for later calls."""

_MOST_BYTES = 16 << 20
"""Bytes of these pickles; the latest one stays however long it is."""


class Head(bytes):
    """What stands before the arguments of a function's tasks.

    The pickle is in the heap as long as somebody has this object: whoever is to hand out tasks with
    it, or the job of those that have no answer yet.
    """

    owner: weakref.ref[Functions]

    def __del__(self) -> None:
        owner = self.owner()
        if owner is not None:
            owner.crew.discard(self)


class Functions:
    """The pickled functions of a pool.

    A plain function is recognised by its identity, anything else by its pickle, which is made for
    every call: an object may have changed.
    """

    def __init__(self, crew: _engine.Crew, method: str) -> None:
        self.crew = crew
        self._is_known = _by_value.what_children_know(method)
        self._by_pickle: OrderedDict[tuple[bytes, bool], Head] = OrderedDict()

    def head(self, function: Callable[..., Any]) -> bytes:
        """What stands before the arguments of a task that calls the function.

        Whoever hands out such tasks keeps this object until they are answered.
        """
        known = self.crew.known(function)
        if known is not None:
            return known
        pickled, keep = dumps_function(function, self._is_known)
        head = self._by_pickle.get((pickled, keep))
        if head is None:
            head = self._store(pickled, keep)
        else:
            with contextlib.suppress(KeyError):  # another thread has just let it go
                self._by_pickle.move_to_end((pickled, keep))
        if keep and not isinstance(getattr(function, "__self__", None), type):
            self.crew.know(function, head)  # a class method is another object each time
        return head

    def _store(self, pickled: bytes, keep: bool) -> Head:
        kept = self._by_pickle
        bytes = sum(len(other) for other, _ in list(kept)) + len(pickled)
        while kept and (len(kept) >= _MOST or bytes > _MOST_BYTES):
            (other, _), oldest = kept.popitem(last=False)
            self.crew.forget(oldest)
            bytes -= len(other)
            del oldest  # its memory may be what the new one needs
        head = Head(self.crew.store(pickled, keep))
        head.owner = weakref.ref(self)
        kept[pickled, keep] = head
        return head
