"""Pipes between threads: the standard library's `multiprocessing.dummy.connection`."""

from __future__ import annotations

from multiprocessing.dummy import connection as _standard
from multiprocessing.dummy.connection import Client, Listener, Pipe
from typing import Any

__all__ = ["Client", "Listener", "Pipe"]


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
