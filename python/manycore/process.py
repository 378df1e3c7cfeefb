"""Processes: the standard library's `multiprocessing.process`, so `logging` and others see ours."""

from __future__ import annotations

import os
from multiprocessing import process as _process
from multiprocessing.process import (  # type: ignore[attr-defined]
    ORIGINAL_DIR,
    AuthenticationString,
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)
from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

ORIGINAL_DIR = ORIGINAL_DIR
AuthenticationString = AuthenticationString


class OwnedProcess(BaseProcess):
    """A process that ends when the process that started it does.

    Unlike the standard library's, daemonic processes may have children: none can outlive them.
    """

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

    def _bootstrap(self, parent_sentinel: int | None = None) -> Any:
        """In the child: its start method is that of what it starts itself without naming one."""
        if self._start_method is not None:  # type: ignore[attr-defined]
            from manycore.context import _default_context

            _default_context.set_start_method(self._start_method, force=True)  # type: ignore[attr-defined]
        return super()._bootstrap(parent_sentinel)  # type: ignore[misc]
