"""Contexts, and what the module has at its top."""

import multiprocessing
import os

import pytest

import manycore
import targets
from processes import running

FIRST_SLICE = [
    "Array",
    "AuthenticationError",
    "BufferTooShort",
    "Lock",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "cpu_count",
    "current_process",
    "get_context",
]
OURS = ["HandleError", "LockOwnerDied", "WorkerDied"]


@pytest.mark.parametrize("name", FIRST_SLICE)
def test_the_module_has_the_standard_librarys_names(name):
    assert callable(getattr(manycore, name))
    assert name in manycore.__all__


@pytest.mark.parametrize("name", FIRST_SLICE)
def test_each_context_has_them_too(ctx, name):
    assert callable(getattr(ctx, name))


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("name", OURS)
def test_the_module_has_its_own_errors_and_warnings(name):
    assert issubclass(getattr(manycore, name), Exception)
    assert name in manycore.__all__


@pytest.mark.parametrize("name", manycore.__all__)
def test_every_public_name_exists(name):
    assert hasattr(manycore, name)


@pytest.mark.parametrize(
    "name", ["AuthenticationError", "BufferTooShort", "ProcessError", "TimeoutError"]
)
def test_errors_can_be_caught_by_the_standard_librarys_names(name):
    assert issubclass(getattr(manycore, name), getattr(multiprocessing, name))


def test_our_errors_are_of_the_kinds_that_callers_catch():
    assert issubclass(manycore.WorkerDied, RuntimeError)
    assert issubclass(manycore.LockOwnerDied, Warning)
    assert issubclass(manycore.HandleError, ValueError)


METHODS = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}


def test_the_start_methods_are_the_standard_librarys():
    assert manycore.get_all_start_methods() == list(METHODS)
    assert manycore.get_all_start_methods() == multiprocessing.get_all_start_methods()


@pytest.mark.parametrize(("method", "prefix"), METHODS.items())
def test_a_context_tells_its_start_method(method, prefix):
    context = manycore.get_context(method)
    assert context.get_start_method() == method
    assert context.Process.__name__ == f"{prefix}Process"
    assert type(context).__name__ == f"{prefix}Context"
    assert isinstance(context, getattr(multiprocessing.context, type(context).__name__))


def test_the_default_start_method_is_that_of_this_python():
    expected = multiprocessing.get_context().get_start_method()
    assert manycore.get_context().get_start_method() == expected
    assert manycore.get_context(None).get_start_method() == expected


def test_a_context_is_always_the_same_object():
    assert manycore.get_context("fork") is manycore.get_context("fork")
    assert manycore.get_context("fork") is not manycore.get_context("spawn")


@pytest.mark.parametrize("method", ["nope", "", 3])
def test_an_unknown_start_method_is_refused_by_name(method):
    with pytest.raises(ValueError, match=f"{method!r}"):
        manycore.get_context(method)


def test_cpu_count_is_that_of_the_machine(ctx):
    assert manycore.cpu_count() == ctx.cpu_count() == os.cpu_count()


def test_the_current_process_is_the_standard_librarys():
    me = manycore.current_process()
    assert me is multiprocessing.current_process()
    assert (me.name, me.pid, me.daemon) == ("MainProcess", os.getpid(), False)


def test_contexts_may_be_used_side_by_side():
    answers = []
    for method in ("fork", "spawn", "forkserver", "fork"):
        context = manycore.get_context(method)
        ours, theirs = context.Pipe()
        with running(context, targets.send, theirs, method):
            answers.append(ours.recv())
    assert answers == ["fork", "spawn", "forkserver", "fork"]


def test_importing_starts_nothing(run_script):
    done = run_script("""
        import os

        def mine():
            with open("/proc/self/maps") as maps:
                shared = [line for line in maps if "memfd" in line]
            with open(f"/proc/self/task/{os.getpid()}/children") as listed:
                children = listed.read().split()
            return os.listdir("/proc/self/fd"), os.listdir("/proc/self/task"), shared, children

        before = mine()
        import manycore
        assert mine() == before, (before, mine())
        assert before[-1] == []
    """)
    assert done.returncode == 0, done.stderr


def test_what_a_child_starts_without_naming_a_start_method_is_started_by_its_own(ctx, pipe):
    mine, theirs = pipe
    with running(ctx, targets.tell_start_method, theirs):
        assert mine.recv() == ctx.get_start_method()
