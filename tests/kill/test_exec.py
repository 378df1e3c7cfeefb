"""Processes that become another program while others need what they hold."""

import os
import subprocess
import sys
import threading

import pytest

import manycore
from processes import forked, kill_and_confirm

pytestmark = [
    pytest.mark.beyond_stdlib,
    # CPython 3.12 and later warn when a program with threads forks, which is on purpose here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


# Without it a program that another has become is noticed when it ends.
needs_robust_lists = pytest.mark.skipif(
    any(name in ("all", "robust_list") for name in os.environ.get("MANYCORE_DENY", "").split(",")),
    reason="MANYCORE_DENY says that this kernel keeps no robust lists",
)


def become(*command):
    os.execvp(command[0], command)


@needs_robust_lists
def test_what_a_program_held_before_it_became_another_is_handed_over():
    lock, queue, array = manycore.Lock(), manycore.Queue(), manycore.Array("d", 1 << 20)
    blocks, _, _, _ = manycore._engine.heap_usage()
    pid = os.fork()
    if pid == 0:
        lock.acquire()
        queue.put("from the child")
        kept = [manycore.Queue(), manycore.Array("d", 1 << 20), array]  # noqa: F841
        become("sleep", "1000")
    try:
        assert queue.get() == "from the child"
        with pytest.warns(manycore.LockOwnerDied, match=rf"\b{pid}\b"):
            assert lock.acquire()
        lock.release()
        with lock:
            pass
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # that program runs
        array[0] = 2.0
        assert array[0] == 2.0
        while manycore._engine.heap_usage()[0] != blocks:
            manycore._engine.reap()
    finally:
        kill_and_confirm(pid)
        os.waitpid(pid, 0)


def test_exec_while_threads_are_inside_the_engine_stops_nobody_else():
    queue, value = manycore.Queue(), manycore.Value("i")

    def use():
        while True:
            queue.put(b"x" * 1000)
            queue.get()
            queue.put(bytes(100_000))
            queue.get()
            manycore.Queue().put(1)

    for _ in range(25):
        pid = os.fork()
        if pid == 0:
            for _ in range(2):
                threading.Thread(target=use, daemon=True).start()
            for _ in range(20):
                queue.put(b"x" * 10)
                queue.get()
            become("true")
        for _ in range(100):
            queue.put(b"from the parent")
            queue.get()
        assert os.waitpid(pid, 0) == (pid, 0)
        with value.get_lock():
            value.value += 1
    manycore._engine.reap()
    while not queue.empty():
        queue.get()


def test_programs_are_started_while_threads_are_inside_the_engine():
    queue, stop = manycore.Queue(), threading.Event()

    def use():
        while not stop.is_set():
            queue.put(b"x" * 10)
            queue.get()
            queue.put(bytes(100_000))
            queue.get()
            manycore.Queue().put(1)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(40):
            before = None if number % 2 else (lambda: None)  # by vfork, and by fork
            subprocess.run(["true"], check=True, close_fds=True, preexec_fn=before)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    with forked(lambda: queue.put("still works")):
        assert queue.get() == "still works"


@needs_robust_lists
def test_a_program_that_was_started_by_fork_keeps_no_memory():
    """With `preexec_fn` it is forked, and a member of the family until it is another program."""
    manycore._engine.reap()
    blocks, _, _, _ = manycore._engine.heap_usage()
    array = manycore.Array("d", 1 << 20)
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=lambda: None) as program:
        array[0] = 1.0
        del array
        while manycore._engine.heap_usage()[0] != blocks:
            manycore._engine.reap()
        assert program.poll() is None
        program.stdin.write(b"\n")
