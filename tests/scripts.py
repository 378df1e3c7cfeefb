"""Runs programs as a user would: from a file, with the Python under test, from somewhere else."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import processes

_LIMIT = 60  # seconds; only a hung script needs them


class Scripts:
    """Starts scripts that live in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._script = folder / "script.py"
        self._elsewhere = folder / "elsewhere"
        self._elsewhere.mkdir()

    def __call__(self, source: str, *args: str, timeout: float = _LIMIT, run_by: tuple = ()):
        """Runs a program to its end; a `subprocess.CompletedProcess`.

        `run_by` are words between the interpreter and the program.

        One that hangs is made to print its stacks, and fails.
        """
        others = processes.descendants()
        with self.start(source, *args, run_by=run_by) as script:
            try:
                output, errors = script.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                for pid in sorted(processes.descendants() - others):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGABRT)  # the fault handler prints every stack
                output, errors = script.communicate()
                raise AssertionError(f"the script hung\n{output}\n{errors}") from None
        return subprocess.CompletedProcess(script.args, script.returncode, output, errors)

    @contextlib.contextmanager
    def start(self, source: str, *args: str, run_by: tuple = ()):
        """Starts a program; at the end of the block it and whoever it left behind has ended."""
        self._script.write_text(textwrap.dedent(source))
        ours = processes.children_of_ours()
        script = subprocess.Popen(
            [sys.executable, *run_by, str(self._script), *args],
            cwd=self._elsewhere,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with script:
            try:
                yield script
            except BaseException:
                script.kill()
                raise
            finally:
                # `with script` waits for it; its orphans have become our children, and theirs will.
                script.wait()
                while orphans := processes.children_of_ours() - ours - {script.pid}:
                    processes.wait_for_end(orphans)


def _environment() -> dict[str, str]:
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    environment.pop("PYTHONUNBUFFERED", None)  # it would hide output that is never flushed
    return environment
