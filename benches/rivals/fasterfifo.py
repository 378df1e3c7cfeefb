"""`faster-fifo` with the face of a context, so that a bench of queues can run on it.

Its queue is a ring of bytes that does not grow, so it is told how large the items are.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

import faster_fifo
import faster_fifo_reduction  # noqa: F401  lets its queues be sent

ROOM = 4 << 20
"""Bytes of the ring where items are small."""
MOST_WAITING = 16
"""Of large items in a queue without a bound, as many fit."""
OVERHEAD = 1024
"""More than a pickle adds to an item."""


class Context:
    """What benches want of a context."""

    def __init__(self, method: str) -> None:
        self.Process: Any = getattr(multiprocessing.get_context(method), "Process")  # noqa: B009

    def Queue(self, maxsize: int = 0, size: int = 0) -> Any:
        """A queue of at most `maxsize` items of about `size` bytes."""
        waiting = min(maxsize, MOST_WAITING) or MOST_WAITING
        room = max(ROOM, waiting * (size + OVERHEAD))
        return faster_fifo.Queue(room, maxsize) if maxsize else faster_fifo.Queue(room)


def get_context(method: str) -> Context:
    """The context of a start method."""
    return Context(method)
