"""Frozen programs: one executable, as PyInstaller makes it, which runs the program in any case.

So processes that need an interpreter of their own run the program from its start, up to where it
calls `freeze_support`, which does what they were started for, and ends them.
"""

from __future__ import annotations

import importlib
import sys
from multiprocessing import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAG = "--multiprocessing-fork"
"""What the standard library's command lines have there, too."""

_FUNCTION = "manycore"
"""The argument that says which function is to be called."""


def is_frozen() -> bool:
    """Whether this is such a program."""
    return bool(getattr(sys, "frozen", False))


def command_line(executable: str, function: str, arguments: dict[str, Any]) -> list[str]:
    """The command line of a process that calls a function of ours, as `"module.name"`.

    Raises:
        RuntimeError: When this process was started so, and the program did not ask what for.
    """
    if sys.argv[1:2] == [_FLAG]:
        raise RuntimeError(
            "this process was started by a frozen program to run a task of it, and runs the whole "
            "program instead, which would start the next: call manycore.freeze_support() first of "
            'all behind `if __name__ == "__main__":`'
        )
    listed = [f"{name}={_text(value)}" for name, value in arguments.items()]
    return [executable, _FLAG, f"{_FUNCTION}={function}", *listed]


def freeze_support() -> None:
    """Does what this process was started for, and ends it, if a frozen program has started it.

    Else does nothing. A frozen program has to call this first of all behind its
    `if __name__ == "__main__":`.
    """
    if not is_frozen() or sys.argv[1:2] != [_FLAG]:
        return
    told = dict(argument.split("=", 1) for argument in sys.argv[2:])
    del sys.argv[1:]
    function = told.pop(_FUNCTION, None)
    if function is None:
        # A context of the standard library's has started this process.
        spawn.spawn_main(**{name: _value(text) for name, text in told.items()})
    else:
        module, _, name = function.rpartition(".")
        call = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        call(**{name: _value(text) for name, text in told.items()})
    sys.exit()


def _text(value: bool | int | None) -> str:
    return "None" if value is None else str(int(value))


def _value(text: str) -> Any:
    return None if text == "None" else int(text)
