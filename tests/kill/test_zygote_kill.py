"""Kills of the zygote, the process that forks the children of `forkserver`."""

import contextlib
import fcntl
import itertools
import os
import signal
import sys
import termios
import threading

import pytest

import manycore
import targets
from manycore import forkserver
from processes import (
    children_of_ours,
    has_pidfds,
    kill_and_confirm,
    running,
    spare_of,
    stop_and_confirm,
    wait_for_end,
)

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def server():
    return manycore.get_context("forkserver")


@pytest.fixture(autouse=True)
def leaves_no_zygote_of_its_own():
    yield
    forkserver._forkserver._stop()


def zygote():
    """The pid of this process's zygote."""
    with running(manycore.get_context("forkserver"), targets.nothing):
        pass
    return zygote_pid()


def zygote_pid():
    return forkserver._forkserver._zygote.pid


def test_another_zygote_is_started_when_one_has_been_killed(server):
    first = zygote()
    kill_and_confirm(first)
    with running(server, targets.nothing) as process:
        pass
    assert process.exitcode == 0
    second = zygote()
    assert second != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)  # nothing is left of it


def test_a_spare_that_is_killed_is_missed_by_nobody(server):
    spare = spare_of(zygote())
    kill_and_confirm(spare)
    with running(server, targets.nothing) as process:
        pass
    assert process.exitcode == 0
    assert process.pid != spare


def test_a_spare_that_is_killed_with_its_order_is_the_process_that_was_killed(server):
    spare = spare_of(zygote())
    os.kill(spare, signal.SIGSTOP)
    process = server.Process(target=targets.nothing)
    starting = threading.Thread(target=process.start)
    starting.start()
    while spare_of(zygote_pid()) == spare:  # the next one is there once the order has been sent
        os.sched_yield()
    kill_and_confirm(spare)
    starting.join()
    process.join()
    assert (process.pid, process.exitcode) == (spare, -signal.SIGKILL)


def test_a_spare_ends_with_its_zygote():
    first = zygote()
    spare = spare_of(first)
    kill_and_confirm(first)
    wait_for_end([spare])


@pytest.mark.parametrize("way", targets.ENDINGS)
def test_children_outlive_the_zygote_and_their_exit_codes_are_known(server, gate, way):
    # Orphans become children of this process, so it can ask how they ended.
    with running(server, targets.stop_and_end, gate, way) as process:
        gate.arrived()
        kill_and_confirm(zygote())
        assert process.is_alive()
        assert process.exitcode is None
        assert process.join(timeout=0) is None
        gate.let_go()
    assert process.exitcode == targets.ENDINGS[way]


def test_exit_codes_are_known_before_the_adopter_has_collected_those_that_outlived_the_zygote(
    run_script,
):
    # Orphans of the script become children of this process, which does not ask how they ended.
    done = run_script("""
        import os, signal, sys
        from manycore import forkserver, get_context

        def end(release, way, number):
            release.wait()
            {"exit": sys.exit, "raise": signal.raise_signal}[way](number)

        if __name__ == "__main__":
            context = get_context("forkserver")
            for way, number in [("exit", 7), ("exit", 0), ("raise", 9)]:
                release = context.Event()
                process = context.Process(target=end, args=(release, way, number))
                process.start()
                os.kill(forkserver._forkserver._zygote.pid, signal.SIGKILL)
                release.set()
                process.join()
                print(process.exitcode)
    """)
    codes = "7\n0\n-9\n" if has_pidfds() else 3 * "255\n"
    assert (done.stdout, done.stderr) == (codes, "")


def test_a_child_that_outlives_the_zygote_can_be_killed(server, gate):
    with running(server, targets.stop_at, gate) as process:
        gate.arrived()
        kill_and_confirm(zygote())
        process.kill()
    assert process.exitcode == -signal.SIGKILL


def test_a_child_that_outlives_the_zygote_can_start_children(server, gate):
    ours, theirs = server.Pipe()
    before = children_of_ours()
    with running(server, targets.stop_and_start, gate, server, theirs) as process:
        gate.arrived()
        kill_and_confirm(zygote())
        gate.let_go()
        assert ours.recv() == "from a grandchild"
    assert process.exitcode == 0
    wait_for_end(children_of_ours() - before)  # it had a zygote of its own, now an orphan


def test_a_pool_goes_on_when_the_zygote_is_killed(server):
    with server.Pool(2, maxtasksperchild=5) as pool:
        for n in range(20):
            assert pool.map(targets.square, range(n)) == [x * x for x in range(n)]
            if n % 5 == 0:
                kill_and_confirm(zygote())


def test_a_request_that_died_with_its_zygote_is_made_again_and_runs_once(server):
    ours, theirs = server.Pipe()
    stopped = zygote()
    stop_and_confirm(stopped)
    process = server.Process(target=targets.send, args=(theirs, "here"))
    starter = threading.Thread(target=process.start)
    starter.start()
    wait_for_request(stopped)
    kill_and_confirm(stopped)
    starter.join()
    process.join()
    theirs.close()
    assert process.exitcode == 0
    assert ours.recv() == "here"
    with pytest.raises(EOFError):
        ours.recv()


def wait_for_request(pid):
    """Returns when a datagram waits for a stopped zygote."""
    requests = forkserver._forkserver._zygote._requests
    # What a socket has sent counts until it has been read (SIOCOUTQ).
    while not int.from_bytes(fcntl.ioctl(requests, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
        os.sched_yield()


def test_processes_start_while_zygotes_are_being_killed(server):
    """Killed at whatever it is doing: no start fails, and each process runs once."""
    queue, stop = server.SimpleQueue(), threading.Event()
    before = children_of_ours()

    def kill_again_and_again():
        killed = None
        for patience in itertools.cycle(range(20)):
            while (current := forkserver._forkserver._zygote) in (None, killed):
                if stop.wait(0.001):
                    return
            while not current.has_served:
                if stop.wait(0.001):
                    return
            stop.wait(patience / 1000)  # so that it dies at various moments
            with contextlib.suppress(ProcessLookupError):
                kill_and_confirm(current.pid)  # by then its children are ours
            killed = current

    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    try:
        for n in range(15):
            with running(server, targets.put, queue, n) as process:
                pass
            # A zygote that dies between a child's end and its own account of it leaves 255.
            assert process.exitcode in (0, 255)
    finally:
        stop.set()
        killer.join()
    assert sorted(queue.get() for _ in range(15)) == list(range(15))
    assert queue.empty()
    # Those that a zygote forked just before its death, and nobody had heard of, were killed.
    wait_for_end(children_of_ours() - before - {zygote()})


def test_a_zygote_that_always_dies_is_an_error(run_script):
    done = run_script("""
        import os
        from manycore import ProcessError, get_context

        if __name__ == "__mp_main__":
            os._exit(1)

        if __name__ == "__main__":
            context = get_context("forkserver")
            context.set_forkserver_preload(["__main__"])
            try:
                context.Process(target=print).start()
            except ProcessError as error:
                print(error)
    """)
    assert done.stdout == (
        "the fork server has ended 4 times instead of forking; "
        "the last time it was importing the main module\n"
    ), done.stderr
