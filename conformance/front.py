"""Runs some of CPython's own tests in this process, with `multiprocessing` replaced or as it is.

    python front.py list              prints the names of the tests, as JSON
    python front.py run FILE NAME...  runs tests; notes in FILE, as JSON, what becomes of them

What is asked for stands in the environment, where processes that are started anew find it, too.
"""

import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import unittest

SUITE = os.environ["CONFORMANCE_SUITE"]
METHOD = os.environ["CONFORMANCE_METHOD"]

if os.environ["CONFORMANCE_OF"] == "manycore":
    import manycore

    manycore.install()
    if SUITE == "standard executor":
        import concurrent.futures

        from manycore._standard_executor import ProcessPoolExecutor

        concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor
        concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor

# In every process: the tests' functions and classes are looked up in the main module.
if SUITE == "multiprocessing":
    from test import _test_multiprocessing

    _test_multiprocessing.install_tests_in_module_dict(globals(), METHOD)


def _cases():
    """The classes with tests for this start method, by name."""
    if SUITE == "multiprocessing":
        found = vars(sys.modules["__main__"])
    else:
        package = importlib.import_module("test.test_concurrent_futures")
        # Up to Python 3.11 it is one module.
        modules = pkgutil.iter_modules(getattr(package, "__path__", ()), f"{package.__name__}.")
        found = dict(vars(package))
        for module in modules:
            if module.name.rpartition(".")[2].startswith("test_"):
                found |= vars(importlib.import_module(module.name))
        wanted = f"ProcessPool{METHOD.capitalize()}"
        found = {name: case for name, case in found.items() if name.startswith(wanted)}
        others = {name for name in found if METHOD == "fork" and "Forkserver" in name}
        found = {name: case for name, case in found.items() if name not in others}
    return {
        name: case
        for name, case in found.items()
        if isinstance(case, type) and issubclass(case, unittest.TestCase)
    }


class _Notes(unittest.TestResult):
    """Writes at once what happens, since the process may not live long."""

    def __init__(self, file):
        super().__init__()
        self._file, self._process = file, os.getpid()

    def _note(self, test, event, text=""):
        if os.getpid() != self._process:
            return  # a fork that an error has led out of its test
        # What stands for a class or a module that could not be set up has no method's name.
        name = getattr(test, "_testMethodName", None)
        json.dump([type(test).__name__ if name else "", name or str(test), event, text], self._file)
        self._file.write("\n")
        self._file.flush()

    def startTest(self, test):
        super().startTest(test)
        self._began, self._told = time.monotonic(), False
        self._note(test, "began")

    def stopTest(self, test):
        super().stopTest(test)
        self._note(test, "ended", f"{time.monotonic() - self._began:.1f} s")

    def addSuccess(self, test):
        self._note(test, "passed")

    def addSkip(self, test, reason):
        self._note(test, "skipped", reason)

    def addFailure(self, test, error):
        self._note(test, "failed", self._exc_info_to_string(error, test))

    addError = addFailure

    def addExpectedFailure(self, test, error):
        self._note(test, "passed")

    def addUnexpectedSuccess(self, test):
        self._note(test, "failed", "CPython expects it to fail")

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self._note(test, "failed", f"{subtest}\n{self._exc_info_to_string(error, test)}")


def _main(action, *arguments):
    cases = _cases()
    loader = unittest.TestLoader()
    if action == "list":
        print(json.dumps({name: loader.getTestCaseNames(case) for name, case in cases.items()}))
        return
    # What a shell starts in the background ignores Ctrl-C, which some tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    path, *names = arguments
    parts = (name.split(".") for name in names)
    suite = unittest.TestSuite(cases[case](method) for case, method in parts)
    with open(path, "w") as file:
        suite.run(_Notes(file))


if __name__ == "__main__":
    _main(*sys.argv[1:])
