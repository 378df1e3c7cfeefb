"""CPython's own tests of `multiprocessing` and of process pools, run against manycore.

    python conformance/run.py --python .venv/bin/python --python .venv-3.13/bin/python

They are those of the `test` package of each Python. A test that fails without being listed in
listed.toml is an error, and so is one that is listed and passes. With `--control`,
`multiprocessing` itself is run by the same means beside.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys

import page
import table
from isolated import Setting

SUITES = {
    "multiprocessing": "test._test_multiprocessing",
    "concurrent.futures": "test.test_concurrent_futures",
    "standard executor": "test.test_concurrent_futures",  # theirs on our processes
}

QUICK = {
    "MiscTestCase",
    "ProcessPoolForkInitializerTest",
    "ProcessPoolForkProcessPoolExecutorTest",
    "ProcessPoolForkWaitTest",
    "TestInitializers",
    "TestSyncManagerTypes",
    "WithManagerTestContainers",
    "WithProcessesTestConnection",
    "WithProcessesTestEvent",
    "WithProcessesTestLock",
    "WithProcessesTestPool",
    "WithProcessesTestQueue",
    "WithProcessesTestValue",
    "WithThreadsTestPool",
}
"""Classes that are run where time is short: one or two for each part, in less than two minutes."""

_ASK = f"""
import importlib.util, json, platform, manycore
found = [name for name in {list(SUITES.values())} if importlib.util.find_spec(name)]
print(json.dumps([platform.python_version(), manycore.get_all_start_methods(), found]))
"""


def main():
    """Runs what the command line asks for; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    options = _parse()
    tables, cells, is_right = [], [], True
    for name in options.python or [sys.executable]:
        python = os.path.abspath(shutil.which(name) or name)  # tests run in folders of their own
        answer = subprocess.run([python, "-c", _ASK], stdout=subprocess.PIPE, check=True).stdout
        version, methods, modules = json.loads(answer)
        short = ".".join(version.split(".")[:2])
        for suite in options.suite or SUITES:
            if SUITES[suite] not in modules:
                print(f"\nSKIPPED: Python {version} comes without {SUITES[suite]}: not run there")
                continue
            for method in options.method or (["fork"] if options.quick else methods):
                setting = Setting(python, short, suite, method)
                tests = _chosen(setting.tests(), options)
                outcomes = table.Table(setting, options.limit)
                outcomes.fill(tests, options.jobs, options.control)
                is_right = outcomes.report() and is_right
                tables.append(outcomes)
                if options.tests or options.quick:
                    continue
                if unknown := outcomes.unknown():
                    print(f"FAILED: listed, but no tests: {', '.join(unknown)}")
                    is_right = False
                if not outcomes.is_short():
                    print(f"FAILED: more than {table.MOST_LISTED:.0%} of the tests are listed")
                    is_right = False
                cells.append(outcomes.cells(version))
    if not tables:
        print("\nSKIPPED: no Python here has CPython's `test` package, so nothing was run")
        return 0
    print("\n" + table.aligned([table.HEAD, *(outcomes.line() for outcomes in tables)]))
    if options.page:
        page.note(cells)
        page.note_listed()
    print("conformance:", "all as expected" if is_right else "FAILED")
    return 0 if is_right else 1


def _chosen(tests, options):
    wanted = options.tests or (QUICK if options.quick else tests)
    chosen = {case: methods for case, methods in tests.items() if case in wanted}
    for case, _, method in (name.partition(".") for name in options.tests if "." in name):
        if method in tests.get(case, ()):
            chosen[case] = [*chosen.get(case, ()), method]
    return chosen


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tests", nargs="*", help="classes, or CLASS.METHOD, in place of all")
    parser.add_argument("--python", action="append", help="a Python that has manycore; repeatable")
    parser.add_argument("--suite", action="append", choices=SUITES, help="repeatable")
    parser.add_argument("--method", action="append", help="a start method; repeatable")
    parser.add_argument("--quick", action="store_true", help="some classes, by fork")
    parser.add_argument("--control", action="store_true", help="run multiprocessing itself, too")
    parser.add_argument("--page", action="store_true", help=f"write into {page.PAGE.name}, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="classes at a time")
    parser.add_argument(
        "--limit", type=float, default=90, help="seconds without a sign after which a test hangs"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
