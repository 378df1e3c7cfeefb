"""The child's side of `spawn`, and what the parent tells it."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from multiprocessing import process as _process
from multiprocessing import resource_tracker, spawn, util
from multiprocessing.spawn import (
    get_executable,
    import_main_path,
    set_executable,
)

from manycore import _by_value, _engine, _frozen, _install, _main_module, _thread_limits, process
from manycore._frozen import freeze_support
from manycore._rest import pass_on_rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "prepare",
    "set_executable",
    "spawn_main",
]


SURROUNDINGS = (
    "authkey",
    "log_to_stderr",
    "log_level",
    "sys_path",
    "sys_argv",
    "dir",
    "orig_dir",
    "start_method",
    "manycore_start_method",
    "manycore_installed",
    "manycore_environment",
)
"""What of a child's preparation is the same for one child after the other, and runs no code."""

_REPLACE_EACH_OTHER = frozenset(SURROUNDINGS) - {"log_level"}
"""What is there always, so that of one child's nothing is left for another's."""

MAIN_MODULE = ("init_main_from_name", "init_main_from_path")
"""Where in its preparation a child finds its main module."""


def get_command_line(**arguments: object) -> list[str]:
    """The command line of a child: this interpreter, its flags, and a call of `spawn_main`."""
    return command_line("spawn", "spawn_main", arguments)


def command_line(module: str, function: str, arguments: dict[str, Any]) -> list[str]:
    """The command line of a fresh interpreter, with this one's flags, that calls a function.

    It collects no garbage until the function has that done: all that it imports is to stay.
    """
    executable = os.fsdecode(get_executable())
    if _frozen.is_frozen():
        return _frozen.command_line(executable, f"{module}.{function}", arguments)
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    call = f"from manycore.{module} import {function}; {function}({listed})"
    program = f"import gc; gc.disable(); {call}"
    flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [executable, *flags, "-c", program, "--multiprocessing-fork"]


def get_preparation_data(name: str) -> dict[str, Any]:
    """What a child needs to look like its parent: name, key, paths, start methods, main module."""
    from manycore.context import _default_context

    data = spawn.get_preparation_data(name)
    data["manycore_start_method"] = _default_context.get_start_method(allow_none=True)
    data["manycore_installed"] = _install.is_installed()
    if not _main_module.is_importable():
        for key in MAIN_MODULE:
            data.pop(key, None)
    return data


def pack(work: bytes, handles: list[tuple[int, int, int]]) -> bytes:
    """The bytes for a child's pipe: its handles' list, then its preparation data and work."""
    return pickle.dumps(handles) + work


def spawn_main(
    pipe_handle: int,
    heap_fd: int,
    lifeline_fd: int | None,
    tracker_fd: int | None = None,
    unblocks: bool = False,
) -> None:
    """Runs what the parent sends through a pipe; ends the process.

    With `unblocks` this process has begun with Ctrl-C blocked, and lets it through once it knows
    what to do about it.
    """
    gc.freeze()  # else what was imported is looked through now and then, and most of all at the end
    gc.enable()
    if lifeline_fd is not None:
        _engine.arm_lifeline(lifeline_fd)
    _engine.join_family(heap_fd)
    if tracker_fd is not None:
        resource_tracker._resource_tracker._fd = tracker_fd  # type: ignore[attr-defined]
    process.holds_ctrl_c = unblocks
    parent_sentinel = os.dup(pipe_handle)
    sys.exit(_main(pipe_handle, parent_sentinel))


def _main(fd: int, parent_sentinel: int) -> int:
    return run(os.fdopen(fd, "rb"), parent_sentinel)


def run(work: BinaryIO, parent_sentinel: int) -> int:
    """Runs what the parent has packed; the exit code."""
    code: int = process.quietly(lambda: _receive(work)._bootstrap(parent_sentinel))
    return code


def _receive(work: BinaryIO) -> Any:
    """The process object that the parent has packed, with what it needs prepared."""
    with work as from_parent:
        current = _process.current_process()
        current._inheriting = True  # type: ignore[attr-defined]
        try:
            held = _engine.receive_handles(pickle.load(from_parent))
            data = pickle.load(from_parent)
            prepare(data)
            _by_value.offer(data.get("manycore_definitions", {}))
            process_obj = pickle.load(from_parent)
        finally:
            del current._inheriting  # type: ignore[attr-defined]
    del held  # what the work refers to is held by its objects now
    return process_obj


def prepare(data: dict[str, Any]) -> None:
    """Has this process look like its parent in all that `get_preparation_data` has noted."""
    from manycore.context import _default_context

    if data.get("manycore_installed"):
        _install.install()
    environment = data.get("manycore_environment")
    if environment is not None and environment != os.environ:
        os.environ.clear()
        os.environ.update(environment)
    _thread_limits.begin(data.get("manycore_variables", {}))
    method = data.get("manycore_start_method")
    if method is not None:
        _default_context.set_start_method(method, force=True)
    spawn.prepare(data)


def prepare_again(data: dict[str, Any]) -> bool:
    """As `prepare`, where this will leave nothing of what else was or will be prepared this way.

    Returns:
        Whether that is so; if not, nothing has changed.
    """
    from manycore.context import _default_context

    if data.keys() != _REPLACE_EACH_OTHER or data["log_to_stderr"]:
        return False
    if data["manycore_installed"] != _install.is_installed():
        return False
    _default_context.set_start_method(None, force=True)
    prepare(data)
    return True


pass_on_rest(__name__)
