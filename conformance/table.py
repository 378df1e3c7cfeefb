"""What became of one suite under one setting, beside what is expected."""

import concurrent.futures
import dataclasses
from collections import Counter

import isolated
import listed
from isolated import FAILED, PASSED, SKIPPED, Limits

LISTED, MISLISTED = "listed", "passes though listed"
MOST_LISTED = 0.13
"""The share of a suite's tests that may be listed."""

HEAD = ("Python", "suite", "method", "tests", PASSED, LISTED, SKIPPED, FAILED, "again", "control")


class Table:
    """The outcomes of a suite's tests, by name."""

    def __init__(self, setting, limit):
        self._setting, self._limit = setting, limit
        self._entries = listed.read(setting)
        self._outcomes = {}
        self._again = []
        self._control = None

    def fill(self, tests, jobs, with_control):
        """Runs the tests, so many classes at a time, and once more what fails unexpectedly."""
        self._outcomes = self._run(self._setting, tests, jobs)
        for name in [name for name in self._outcomes if self._verdict(name) == FAILED]:
            case, _, method = name.partition(".")
            if method in tests[case]:
                # Many of CPython's tests rely on how long things take; so CPython runs them again.
                again = isolated.run(self._setting, case, [method], Limits(self._limit))[method]
                if again.kind != FAILED:
                    self._outcomes[name] = again
                    self._again.append(name)
        if with_control:
            control = dataclasses.replace(self._setting, of="multiprocessing")
            self._control = self._run(control, tests, jobs)

    def _run(self, setting, tests, jobs):
        executor = concurrent.futures.ThreadPoolExecutor(jobs)
        running = {
            case: executor.submit(self._run_class, setting, case, methods)
            for case, methods in sorted(tests.items())
        }
        outcomes = {}
        try:
            for case, done in running.items():
                new = {f"{case}.{method}": outcome for method, outcome in done.result().items()}
                outcomes |= new
                bad = [name for name, outcome in new.items() if outcome.kind == FAILED]
                print(
                    f"{setting.of} {case}: {len(new)} run, failed: {', '.join(bad) or 'none'}",
                    flush=True,
                )
        except BaseException:
            isolated.end_all()
            raise
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        return outcomes

    def _run_class(self, setting, case, methods):
        names = (f"{case}.{method}" for method in methods)
        entries = {name: listed.entry_of(self._entries, name) for name in names}
        hang = {
            name: entry.hangs_after
            for name, entry in entries.items()
            if entry and entry.hangs_after
        }
        return isolated.run(setting, case, methods, Limits(self._limit, hang))

    def unknown(self):
        """What is listed for a test that is not there."""
        return listed.unknown(self._entries, self._outcomes)

    def _verdict(self, name):
        kind = self._outcomes[name].kind
        entry = listed.entry_of(self._entries, name)
        if entry is None or kind == SKIPPED or (entry.sometimes and kind == PASSED):
            return kind
        return LISTED if kind == FAILED else MISLISTED

    def is_short(self):
        """Whether few enough tests are listed."""
        return sum(self._verdict(name) == LISTED for name in self._outcomes) <= (
            MOST_LISTED * len(self._outcomes)
        )

    def report(self):
        """Prints what is not as expected, with what it said; whether all is."""
        setting = self._setting
        print(f"\n== {setting.suite} on Python {setting.version}, {setting.method}", flush=True)
        wrong = 0
        for name, outcome in self._outcomes.items():
            verdict = self._verdict(name)
            wrong += verdict in (FAILED, MISLISTED)
            if verdict in (FAILED, MISLISTED):
                print(f"{verdict.upper()}: {name}\n{_indented(outcome.text)}")
        for name in self._again:
            print(f"passed when run again: {name}")
        for name, outcome in (self._control or {}).items():
            if outcome.kind == FAILED:
                print(f"fails with multiprocessing itself: {name}")
        return not wrong

    def cells(self, release):
        """The numbers, as the page has them."""
        *_, tests, passed, listed, skipped, failed, again, _ = self.line()
        control = Counter(outcome.kind for outcome in (self._control or {}).values())
        kinds = (PASSED, SKIPPED, FAILED)
        theirs = [control[kind] for kind in kinds] if self._control else ["not run"] * len(kinds)
        setting = self._setting
        what = (release, setting.suite, setting.method)
        return (*what, tests, passed, listed, skipped, failed, again, *theirs)

    def line(self):
        """The numbers, as `HEAD` names them."""
        counts = Counter(map(self._verdict, self._outcomes))
        control = Counter(outcome.kind for outcome in (self._control or {}).values())
        setting = self._setting
        return (
            setting.version,
            setting.suite,
            setting.method,
            len(self._outcomes),
            counts[PASSED],
            counts[LISTED],
            counts[SKIPPED],
            counts[FAILED] + counts[MISLISTED],
            len(self._again),
            f"{control[PASSED]} of {len(self._control)}" if self._control else "not run",
        )


def _indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines()[-40:])


def aligned(rows):
    """Rows as lines, with columns below each other."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )
