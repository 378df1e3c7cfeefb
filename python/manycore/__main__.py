"""`python -m manycore`, and the command `manycore`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from manycore import __version__, _program, doctor
from manycore.errors import ProcessError

_USAGE = """%(prog)s PROGRAM [ARGUMENT ...]
       %(prog)s -m MODULE [ARGUMENT ...]
       %(prog)s doctor PID"""

_DESCRIPTION = """Runs an unchanged program, given as a file or a module, with `multiprocessing` and
`concurrent.futures.ProcessPoolExecutor` replaced by manycore in it and in all processes that it
starts. A program whose name is that of a command is run as ./NAME."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a program or a command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else ""
    if first == "-m" and len(words) > 1:
        _program.run_module(words[1], words[2:])
        return 0
    if first in ("", "doctor") or first.startswith("-"):
        return _command(words)
    if not os.path.exists(first):
        print(f"manycore: there is no program or command {first!r}", file=sys.stderr)
        return 2
    _program.run_script(first, words[1:])
    return 0


def _command(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="manycore", usage=_USAGE, description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"manycore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    examine = commands.add_parser(
        "doctor",
        prog="manycore doctor",
        help="say what the processes of a program are doing",
        description="Says who holds which lock, who waits for what, and how full the queues are "
        "in a program that runs or hangs. Nothing in it is touched.",
    )
    examine.add_argument("pid", type=int, help="any process of the program")
    examine.set_defaults(run=lambda options: print(doctor.report(options.pid), end=""))
    options = parser.parse_args(words)
    try:
        options.run(options)
    except (OSError, ProcessError) as error:
        print(f"manycore: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
