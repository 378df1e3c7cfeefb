"""What a program on manycore is doing, seen from outside: `python -m manycore doctor PID`."""

from __future__ import annotations

from manycore import _engine

__all__ = ["report"]


def report(pid: int) -> str:
    """What the processes of a program are doing, in words.

    It reads the program's shared memory and what the kernel tells of its threads. Nothing is
    written and nobody is stopped, so it can be used on a program that works, hangs or is stopped.
    What threads wait for takes the rights to debug them. The program's memory stays mapped here
    once it was looked at, which costs address space only.

    Args:
        pid: Any process of the program.

    Returns:
        Lines of text, made to be read: they may change with every version.

    Raises:
        ProcessLookupError: When there is no such process, or it has not used manycore so far.
        PermissionError: When this user may not look at it.
        OSError: When it runs another version of manycore, or in another PID namespace.
        Corrupted: When the program's shared memory was scribbled on.
    """
    try:
        return _engine.inspect(pid)
    except OverflowError:
        text = f"process {pid} cannot be looked at: there is no such process"
        raise ProcessLookupError(text) from None
