"""Running tests in processes of their own, each of which may hang or crash."""

import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FRONT = Path(__file__).with_name("front.py")
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
AT_EXIT = "(at exit)"
"""Stands for a method where a process fails after all of them."""


_running = set()
_is_over = threading.Event()


def end_all():
    """Ends what runs, and starts nothing more: the runner was interrupted."""
    _is_over.set()
    for process in list(_running):
        process.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Setting:
    """What is run: a suite of CPython's, under a start method, by a Python, of one of the two."""

    python: str
    version: str
    suite: str
    method: str
    of: str = "manycore"

    def command(self, *arguments):
        """What runs `front.py`."""
        return [self.python, "-X", "faulthandler", str(FRONT), *arguments]

    def environment(self, folder):
        """What `front.py` finds out there: what to run, and where temporary files go."""
        asked = {"SUITE": self.suite, "METHOD": self.method, "OF": self.of}
        return {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **{f"CONFORMANCE_{name}": value for name, value in asked.items()},
            "TMPDIR": folder,
        }

    def tests(self):
        """The names of the methods of each class."""
        with tempfile.TemporaryDirectory() as folder:
            listing = subprocess.run(
                self.command("list"),
                env=self.environment(folder),
                stdout=subprocess.PIPE,
                check=True,
            )
        return json.loads(listing.stdout)


@dataclass(frozen=True)
class Outcome:
    """What became of a test, and what it said."""

    kind: str
    text: str = ""


@dataclass(frozen=True)
class Limits:
    """After how many seconds without a sign a process hangs, by the test that it runs."""

    usual: float
    of: Mapping[str, float] = field(default_factory=dict)

    def while_running(self, test):
        """The limit of a test, or, for `None`, of what comes before, between and after them."""
        return self.of.get(test, self.usual)

    def pause(self):
        """How long a look for signs may take, so that each limit is noticed in time."""
        return min([self.usual, *self.of.values()]) / 4


def run(setting, case, methods, limits):
    """The outcome of each method of a class.

    They run in one process, in this order; if that hangs or dies, another goes on with the next.
    """
    outcomes, left = {}, list(methods)
    while left and not _is_over.is_set():
        done = _run_once(setting, [f"{case}.{method}" for method in left], limits)
        new, running = _read(done.events, case)
        if running is not None:
            new[running] = Outcome(FAILED, done.end)
        if not new:
            new = dict.fromkeys(left, _outcome_of_all(done))
        outcomes |= new
        left = [method for method in left if method not in outcomes]
        if running is None and not done.is_orderly:
            outcomes[AT_EXIT] = Outcome(FAILED, done.end)
    return outcomes


def _outcome_of_all(done):
    """What became of tests of which none has begun, because their class could not be set up."""
    text = "\n".join(text for *_, text in done.events) or done.end
    is_skipped = any(event == SKIPPED for _, _, event, _ in done.events)
    return Outcome(SKIPPED if is_skipped else FAILED, text)


def _read(events, case):
    """The outcomes that were noted, and the test that was running at the end, if one was."""
    outcomes, began = {}, None
    for of, method, event, text in events:
        if of != case:
            continue
        if event == "began":
            began = method
        elif event == "ended":
            # No outcome is noted of a test whose subtests have failed, but theirs.
            outcomes.setdefault(method, Outcome(PASSED))
            began = None
        elif outcomes.get(method, Outcome(PASSED)).kind != FAILED:
            outcomes[method] = Outcome(event, text)
    if began is not None:
        outcomes.pop(began, None)
    return outcomes, began


@dataclass(frozen=True)
class _Run:
    """What a process has noted, and how it has ended."""

    events: list
    is_orderly: bool
    end: str


def _run_once(setting, names, limits):
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.touch()
        with open(Path(folder, "output"), "w+") as output:
            process = subprocess.Popen(
                setting.command("run", str(notes), *names),
                cwd=folder,
                env=setting.environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            _running.add(process)
            try:
                status, silence = _wait(process, notes, limits)
            finally:
                _running.discard(process)
            output.seek(0)
            said = output.read()[-4000:]
        events = [json.loads(line) for line in notes.read_text().splitlines()]
    end = f"noted nothing for {silence} s" if status is None else f"ended with status {status}"
    return _Run(events, status == 0, f"the process {end}\n{said}")


def _wait(process, notes, limits):
    """The status of a process that has ended, or `None` for one that has noted nothing for long.

    And for how long that may be. Nothing of its session is left then.
    """
    ended = os.pidfd_open(process.pid)
    seen, limit, since, status = "", limits.usual, time.monotonic(), None
    try:
        while True:
            if select.select([ended], [], [], limits.pause())[0]:
                status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT).si_status
                break
            if (noted := notes.read_text()) != seen:
                limit = limits.while_running(_running_test(noted))
                seen, since = noted, time.monotonic()
            elif time.monotonic() - since >= limit:
                os.killpg(process.pid, signal.SIGABRT)  # the fault handler prints every stack
                select.select([ended], [], [], 5)
                break
    finally:
        os.close(ended)
        os.killpg(process.pid, signal.SIGKILL)  # it has not been collected, so the number is its
        process.wait()
    return status, limit


def _running_test(notes):
    """The test that has begun and not ended, by the whole lines of what was noted."""
    lines = notes.splitlines(keepends=True)
    last = next((line for line in reversed(lines) if line.endswith("\n")), None)
    case, method, event, _ = json.loads(last) if last else ("", "", "ended", "")
    return None if event == "ended" or not case else f"{case}.{method}"
