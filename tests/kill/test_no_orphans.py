"""When the parent is killed, nobody of its family is left; nor is anything in /dev/shm.

That nothing is left in /dev/shm, and that no process is, `leaves_nothing_behind` checks after each
test: orphans become children of pytest.
"""

import os
import signal
import time

import pytest

import manycore
import targets
from processes import descendants, kill_and_confirm, running, wait_for_end

pytestmark = pytest.mark.beyond_stdlib

PARENT = """
    import os, signal, sys, threading, time
    from manycore import get_context

    READY = 1  # standard output: a line for each process that is where it should be

    def ready():
        os.write(READY, b"ready\\n")

    def sleep_deaf(*_):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ready()
        while True:
            time.sleep(1e6)

    def sleep_with_handlers(*_):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO):
            signal.signal(number, signal.SIG_IGN)
        ready()
        while True:
            time.sleep(1e6)

    def compute_deaf(*_):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        compute_without_a_pause()

    def compute_without_a_pause(*_):
        ready()
        sum(range(10**15))  # in C, and the interpreter is never released

    def wait_for_an_item(queue, lock):
        ready()
        queue.get()

    def wait_for_room(queue, lock):
        ready()
        while True:
            queue.put("item")

    def wait_for_the_lock(queue, lock):
        ready()
        lock.acquire()

    def become_another_program(*_):
        os.execv("/bin/sh", ["sh", "-c", "echo ready; exec sleep 1000000"])

    def leave_the_thread_in_charge(*_):
        threading.Thread(target=sleep_deaf).start()

    def have_a_child(*_):
        get_context(sys.argv[1]).Process(target=sleep_deaf).start()
        sleep_deaf()

    def start_process(target):
        context.Process(target=target, args=(queue, lock)).start()

    def start_daemon(target):
        context.Process(target=target, args=(queue, lock), daemon=True).start()

    def start_in_a_thread(target):
        starter = threading.Thread(target=start_process, args=(target,))
        starter.start()
        starter.join()

    def start_pool(target):
        global pool
        pool = context.Pool(2)
        pool.map_async(target, range(2), 1)

    def start_and_kill_zygote(target):
        from manycore.forkserver import _forkserver

        start_process(target)
        os.kill(_forkserver._zygote.pid, signal.SIGKILL)
        start_process(target)

    def start_for_ever(target):
        def start_some():
            while True:
                start_process(target)

        for _ in range(2):
            threading.Thread(target=start_some).start()
        signal.pause()  # and reads nothing: a fork meanwhile could not close its standard input

    def start_idle_pool(target):
        global pool
        pool = context.Pool(2)
        pool.map(abs, range(10))
        ready()

    if __name__ == "__main__":
        method, start, target, end = sys.argv[1:]
        context = get_context(method)
        queue, lock = context.Queue(1 if target == "wait_for_room" else 0), context.Lock()
        lock.acquire()
        globals()[start](globals()[target])
        sys.stdin.readline()
        if end == "_exit":
            os._exit(1)
        if end == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(os.getpid(), getattr(signal, end))
        signal.pause()
"""


def assert_ends_with_its_family(run_script, lines, method, start, target, end):
    with run_script.start(PARENT, method, start, target, end) as parent:
        for _ in range(lines):
            assert parent.stdout.readline() == "ready\n", parent.stderr.read()
        family = descendants(parent.pid)
        assert len(family) >= 1
        parent.stdin.write("end\n")
        parent.stdin.flush()
        if end == "stopped":
            os.waitid(os.P_PID, parent.pid, os.WSTOPPED | os.WNOWAIT)
            parent.kill()
        parent.wait()
        ended = time.monotonic()
        wait_for_end(family)  # hangs if somebody stays
        print(f"\n{len(family)} orphans ended {1000 * (time.monotonic() - ended):.1f} ms later")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "target",
    [
        "sleep_deaf",
        "sleep_with_handlers",
        "compute_without_a_pause",
        "compute_deaf",
        "wait_for_an_item",
        "wait_for_room",
        "wait_for_the_lock",
        "become_another_program",
    ],
)
def test_a_process_ends_with_its_killed_parent_whatever_it_does(run_script, method, target):
    assert_ends_with_its_family(run_script, 1, method, "start_process", target, "SIGKILL")


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGSEGV", "_exit"])
def test_a_process_ends_with_its_parent_however_that_ends(run_script, end):
    assert_ends_with_its_family(run_script, 1, "fork", "start_process", "sleep_deaf", end)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("start", "lines"),
    [("start_daemon", 1), ("start_in_a_thread", 1), ("start_pool", 2), ("start_idle_pool", 1)],
)
def test_however_it_was_started(run_script, method, start, lines):
    assert_ends_with_its_family(run_script, lines, method, start, "sleep_deaf", "SIGKILL")


def test_a_process_with_threads_ends_with_its_parent(run_script):
    assert_ends_with_its_family(
        run_script, 1, "fork", "start_process", "leave_the_thread_in_charge", "SIGKILL"
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("start", ["start_process", "start_pool"])
def test_grandchildren_end_too(run_script, method, start):
    lines = 2 if start == "start_process" else 4
    assert_ends_with_its_family(run_script, lines, method, start, "have_a_child", "SIGKILL")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_parent_that_is_killed_while_it_is_stopped_leaves_nobody(run_script, method):
    assert_ends_with_its_family(run_script, 2, method, "start_pool", "sleep_deaf", "stopped")


def test_who_has_outlived_the_zygote_ends_with_the_parent(run_script):
    assert_ends_with_its_family(
        run_script, 2, "forkserver", "start_and_kill_zygote", "sleep_deaf", "SIGKILL"
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.slow
@pytest.mark.parametrize("started", [1, 4])
def test_a_parent_that_is_killed_while_it_starts_children_leaves_nobody(
    run_script, method, started
):
    """Those of whom nobody has heard yet end as well: `run_script` waits for all of them."""
    with run_script.start(PARENT, method, "start_for_ever", "sleep_deaf", "") as parent:
        for _ in range(started):
            assert parent.stdout.readline() == "ready\n"
        parent.kill()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ["kill", "_exit"])
def test_a_process_that_is_to_be_kept_goes_on_without_its_parent(run_script, method, end):
    source = """
        import os, sys
        from manycore import get_context, parent_process

        def go_on(name, gone):
            os.write(1, f"{os.getpid()}\\n".encode())
            with open(name) as fifo:
                fifo.readline()
            parent_process().join()
            os.write(1, b"went on\\n")

        if __name__ == "__main__":
            method, end, fifo = sys.argv[1:]
            gone = get_context(method).Event()  # shared memory stays, too
            kept = get_context(method).Process(target=go_on, args=(fifo, gone), orphan="keep")
            kept.start()
            sys.stdin.readline()
            os._exit(1) if end == "_exit" else os.kill(os.getpid(), 9)
    """
    fifo = run_script.folder / "fifo"
    os.mkfifo(fifo)
    with run_script.start(source, method, end, str(fifo)) as parent:
        kept = int(parent.stdout.readline())
        parent.stdin.write("end\n")
        parent.stdin.flush()
        parent.wait()
        with open(fifo, "w") as go:
            go.write("on\n")
        assert parent.stdout.readline() == "went on\n"
        wait_for_end([kept])


def test_what_becomes_of_an_orphan_is_one_of_two():
    with pytest.raises(ValueError, match="'kill' or 'keep', not 'leave'"):
        manycore.Process(orphan="leave")


def test_children_of_a_killed_child_end_and_we_do_not(ctx, gate):
    with running(ctx, targets.stop_with_a_child, ctx, gate) as middle:
        (grandchild,) = gate.arrived()
        while grandchild not in descendants():  # a look while processes come and go may miss one
            pass
        kill_and_confirm(middle.pid, signal.SIGKILL)
        wait_for_end([grandchild])


def test_children_do_not_end_with_the_thread_that_started_them(ctx, gate):
    with running(ctx, targets.stop_with_a_child, ctx, gate, True) as middle:
        (grandchild,) = gate.arrived()
        while grandchild not in descendants():  # a look while processes come and go may miss one
            pass
        gate.let_go()
    assert middle.exitcode == 0


def test_a_plain_fork_that_outlives_the_parent_does_not_keep_its_children_alive(run_script, gate):
    # It has a copy of every descriptor of the parent, so of the write end of any lifeline.
    source = """
        import os, sys, time
        from manycore import Process

        if __name__ == "__main__":
            child = Process(target=time.sleep, args=(1e6,))
            child.start()
            stray = os.fork()
            if stray == 0:
                time.sleep(1e6)
            os.write(1, f"{stray} {child.pid}\\n".encode())
            os.kill(os.getpid(), 9)
    """
    with run_script.start(source) as parent:
        parent.wait()
        stray, child = map(int, parent.stdout.readline().split())
        wait_for_end([child])
        kill_and_confirm(stray)
