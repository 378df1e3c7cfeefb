"""`python -m manycore`, and the command `manycore`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from manycore import __version__, doctor
from manycore.errors import ProcessError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="manycore", description="Tools for programs on manycore.")
    parser.add_argument("--version", action="version", version=f"manycore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    examine = commands.add_parser(
        "doctor",
        help="say what the processes of a program are doing",
        description="Says who holds which lock, who waits for what, and how full the queues are "
        "in a program that runs or hangs. Nothing in it is touched.",
    )
    examine.add_argument("pid", type=int, help="any process of the program")
    examine.set_defaults(run=lambda options: print(doctor.report(options.pid), end=""))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ProcessError) as error:
        print(f"manycore: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
