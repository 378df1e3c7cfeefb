"""A process that is stopped inside makes nobody deaf to signals, and holds no interpreter."""

import contextlib
import os
import signal
import sys
import threading

import pytest

import manycore
import targets

pytestmark = [
    pytest.mark.beyond_stdlib,
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::manycore.ProcessStalled"),  # after a second
]


class Interruption(Exception):
    """What the signal handler raises."""


@contextlib.contextmanager
def one_stopped(monkeypatch, place, target, *args):
    """A process that has stopped at a named place of the engine, where it has an object's lock."""
    monkeypatch.setenv("MANYCORE_FAULT", f"stop@{place}")
    process = manycore.get_context("spawn").Process(target=target, args=args)
    process.start()
    monkeypatch.delenv("MANYCORE_FAULT")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.join()
    assert process.exitcode == 0


@contextlib.contextmanager
def interrupted_once_others_run():
    """Interrupts this thread as soon as others have the interpreter: once it waits without it."""

    def interrupt(*_):
        raise Interruption

    def send():
        waits.wait()
        signal.pthread_kill(main, signal.SIGUSR1)

    main, waits = threading.get_ident(), threading.Event()
    sender = threading.Thread(target=send)
    before, interval = signal.signal(signal.SIGUSR1, interrupt), sys.getswitchinterval()
    sender.start()
    sys.setswitchinterval(1000)  # nobody takes the interpreter from this thread
    try:
        with pytest.raises(Interruption):
            waits.set()
            yield
    finally:
        sys.setswitchinterval(interval)
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def prepared(kind):
    """An object, what makes another process stop inside, and what this process wants of it."""
    ctx = manycore.get_context("fork")
    match kind:
        case "with a semaphore":
            it = ctx.Semaphore(2)
            return it, "shares.noted", targets.enter_and_leave, it.__enter__
        case "the end of a with":
            it = ctx.Semaphore(2)
            it.__enter__()
            leave = lambda: it.__exit__(None, None, None)  # noqa: E731
            return it, "shares.noted", targets.enter_and_leave, leave
        case "acquire":
            it = ctx.Semaphore(2, on_owner_death="return")
            return it, "shares.noted", targets.enter_and_leave, it.acquire
        case "release":
            it = ctx.BoundedSemaphore(2, on_owner_death="return")
            it.acquire()
            return it, "shares.noted", targets.enter_and_leave, it.release
        case "acquire_read":
            it = ctx.RWLock()
            return it, "shares.noted", targets.read_and_leave, it.acquire_read
        case "acquire_write":
            it = ctx.RWLock()
            return it, "shares.noted", targets.read_and_leave, it.acquire_write
        case "release_read":
            it = ctx.RWLock()
            it.acquire_read()
            return it, "shares.noted", targets.read_and_leave, it.release_read
        case "abort":
            it = ctx.Barrier(2)
            return it, "barrier.breaking", targets.abort, it.abort


KINDS = [
    "with a semaphore",
    "the end of a with",
    "acquire",
    "release",
    "acquire_read",
    "acquire_write",
    "release_read",
    "abort",
]


@pytest.mark.parametrize("kind", KINDS)
def test_who_needs_its_turn_hears_signals_and_lets_other_threads_run(monkeypatch, kind):
    thing, place, target, wanted = prepared(kind)
    with one_stopped(monkeypatch, place, target, thing), interrupted_once_others_run():
        wanted()
    assert wanted() in (True, None), "which it can do now"
    if kind in ("the end of a with", "release"):
        assert thing.get_value() == 2
    if kind == "release_read":
        assert repr(thing) == "<RWLock(readers=0)>"


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [{"block": False}, {"timeout": 0.1}], ids=["block", "timeout"])
def test_who_has_no_time_does_not_wait_for_one_that_was_stopped(monkeypatch, timeout):
    semaphore, lock = manycore.Semaphore(2, on_owner_death="return"), manycore.RWLock()
    with one_stopped(monkeypatch, "shares.noted", targets.enter_and_leave, semaphore):
        assert semaphore.acquire(**timeout) is False
    with one_stopped(monkeypatch, "shares.noted", targets.read_and_leave, lock):
        assert lock.acquire_read(**timeout) is False
        assert lock.acquire_write(**timeout) is False
    with lock.write(), semaphore, semaphore:
        pass
