"""The standard library's `multiprocessing.resource_sharer`."""

from __future__ import annotations

from multiprocessing import resource_sharer as _standard
from multiprocessing.resource_sharer import stop
from typing import Any

__all__ = [
    "stop",
]


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
