"""The standard library's `multiprocessing.resource_tracker`; nothing of ours needs it."""

from __future__ import annotations

from multiprocessing import resource_tracker as _standard
from multiprocessing.resource_tracker import ensure_running, register, unregister
from typing import Any

__all__ = [
    "ensure_running",
    "register",
    "unregister",
]


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
