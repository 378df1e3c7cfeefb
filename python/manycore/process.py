"""Processes: the standard library's `multiprocessing.process`, so `logging` and others see ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import process as _process
from multiprocessing.process import (  # type: ignore[attr-defined]
    ORIGINAL_DIR,
    AuthenticationString,
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)
from types import MappingProxyType
from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

ORIGINAL_DIR = ORIGINAL_DIR
AuthenticationString = AuthenticationString


_NONE: Mapping[str, Any] = MappingProxyType({})


class OwnedProcess(BaseProcess):
    """A process that ends when the process that started it does.

    Unlike the standard library's, daemonic processes may have children: none can outlive them.

    Args:
        orphan: `"kill"`, or `"keep"` for a process that goes on when the one that started it has
            been killed or has left by `os._exit`.
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = _NONE,
        *,
        daemon: bool | None = None,
        orphan: str = "kill",
    ) -> None:
        if orphan not in ("kill", "keep"):
            raise ValueError(f"orphan must be 'kill' or 'keep', not {orphan!r}")
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._orphan = orphan

    def start(self) -> None:
        """Starts the process; it calls `run`. To be called at most once."""
        self._check_closed()  # type: ignore[attr-defined]
        assert self._popen is None, "cannot start a process twice"  # type: ignore[has-type]
        assert self._parent_pid == os.getpid(), (  # type: ignore[attr-defined]
            "can only start a process object created by current process"
        )
        _process._cleanup()  # type: ignore[attr-defined]
        popen = self._Popen(self)  # type: ignore[attr-defined]
        self._popen = popen
        self._sentinel = popen.sentinel
        # The arguments may refer to this object: a cycle that would keep both alive.
        del self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        _process._children.add(self)  # type: ignore[attr-defined]
