"""Every public name of the standard library's is there, and is called as there."""

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.beyond_stdlib

FOLDER = Path(__file__).parent.parent / "conformance"


@pytest.fixture
def names(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("names")
    for name in ("names", "signatures"):
        del sys.modules[name]


@pytest.fixture
def signatures(names):
    return sys.modules["signatures"]


def test_every_public_name_is_there_and_is_called_as_in_the_standard_library(names):
    assert names.faults() == []


def test_what_is_called_otherwise_on_purpose_is_there(names):
    for known in names.CALLED_OTHERWISE:
        module, _, name = known.rpartition(".")
        assert hasattr(importlib.import_module(f"manycore.{module}"), name)


@pytest.mark.parametrize(
    ("theirs", "ours", "fault"),
    [
        (lambda a: 0, lambda b=0: 0, "does not take `a`"),
        (lambda a, b=1: 0, lambda b=1, a=0: 0, "takes `a` in another place"),
        (lambda a: 0, lambda a, /: 0, "takes `a` in another place"),
        (lambda a, b: 0, lambda a, *, b: 0, "takes `b` in another place"),
        (lambda a=1: 0, lambda a=2: 0, "has another default for `a`"),
        (lambda a=1: 0, lambda a: 0, "has another default for `a`"),
        (lambda a: 0, lambda a, b: 0, "needs `b`"),
        (lambda a: 0, lambda a, *, b: 0, "needs `b`"),
        (lambda *a: 0, lambda: 0, "does not take any `a`"),
        (lambda **a: 0, lambda *a: 0, "does not take any `a`"),
    ],
)
def test_what_would_break_a_caller_is_a_fault(signatures, theirs, ours, fault):
    assert fault in signatures.of_calls("", theirs, ours)[0]


def test_what_is_there_in_addition_is_no_fault(signatures):
    found = signatures.of_calls("", lambda a, *, ctx: 0, lambda a, b=0, *, ctx=None, c=1: 0)
    assert found == ([], ["needs no `ctx`", "also takes `b`, `c`"])


def test_a_method_that_is_missing_or_called_otherwise_is_a_fault(signatures):
    class Theirs:
        def stays(self, a):
            pass

        def goes(self):
            pass

    class Ours:
        def stays(self):
            pass

    faults, _ = signatures.of_classes(Theirs, Ours)
    assert faults == ["it has no `goes`", "`stays` does not take `a`"]


def test_every_module_says_which_of_its_names_are_public():
    import manycore

    for found in pkgutil.walk_packages(manycore.__path__, "manycore."):
        if found.name == "manycore.joblib":  # imports joblib, with which it has its own tests
            continue
        if not any(part.startswith("_") for part in found.name.split(".")):
            module = importlib.import_module(found.name)
            assert all(hasattr(module, name) for name in module.__all__), found.name


def test_what_only_the_standard_library_has_is_found_under_our_name(run_script):
    done = run_script("""
        import sys, manycore.pool, manycore.queues
        assert "multiprocessing.queues" not in sys.modules
        from manycore.queues import _sentinel
        from manycore.pool import worker
        import multiprocessing.queues
        print(_sentinel is multiprocessing.queues._sentinel, worker.__module__)
        import warnings
        warnings.simplefilter("ignore")
        manycore.install()
        from manycore.synchronize import SEM_VALUE_MAX, SemLock
        print(SemLock.__module__, SEM_VALUE_MAX > 0)
    """)
    assert (done.stdout, done.stderr) == (
        "True multiprocessing.pool\nmultiprocessing.synchronize True\n",
        "",
    )


def test_what_nobody_has_is_an_error_that_names_our_module(run_script):
    done = run_script("""
        import manycore.queues
        try:
            manycore.queues.Stack
        except AttributeError as error:
            print(error)
        print(hasattr(manycore.queues, "__wrapped__"))
    """)
    assert done.stdout == "module 'manycore.queues' has no attribute 'Stack'\nFalse\n"


def test_the_modules_that_come_with_the_package_come_with_ours(run_script):
    done = run_script("""
        import multiprocessing, types
        known = vars(multiprocessing)
        modules = {name for name in known if type(known[name]) is types.ModuleType}
        import manycore
        print(modules - {"sys"} - set(vars(manycore)))
    """)
    assert done.stdout == "set()\n"
