"""The standard library's `multiprocessing.heap`; what is ours lies in the family's heap instead."""

from __future__ import annotations

from multiprocessing import heap as _standard
from multiprocessing.heap import BufferWrapper
from typing import Any

__all__ = [
    "BufferWrapper",
]


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
