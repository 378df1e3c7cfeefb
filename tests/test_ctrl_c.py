"""Ctrl-C in a terminal: one press ends the program and all its processes."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time

import pytest

import manycore
import processes
import targets
from eventually import until
from manycore._resting import begin

pytestmark = pytest.mark.beyond_stdlib

PROGRAM = """
    import asyncio, os, signal, sys, threading, time
    from manycore import ProcessPoolExecutor, get_context, pipeline, stage
    from manycore.util import Finalize

    def ready():
        os.write(1, b"ready\\n")

    def sleep(_=None):
        ready()
        while True:  # Python sleeps on if the signal comes just before it enters the kernel
            time.sleep(0.1)

    def get(queue):
        ready()
        queue.get()

    def in_a_pool():
        with context.Pool(2) as pool:
            pool.map(sleep, range(2), 1)

    def in_a_pipeline():
        pipeline(range(100), stage(sleep, workers=2)).run()

    def in_an_executor():
        with ProcessPoolExecutor(2, context) as executor:
            list(executor.map(sleep, range(100)))

    def in_the_end_of_a_block():
        with ProcessPoolExecutor(2, context) as executor:
            futures = [executor.submit(sleep) for _ in range(100)]

    def without_a_block():
        executor = ProcessPoolExecutor(2, context)
        futures = [executor.submit(sleep) for _ in range(100)]
        futures[-1].result()

    def in_an_event_loop():
        async def main():
            with ProcessPoolExecutor(2, context) as executor:
                call = asyncio.get_running_loop().run_in_executor
                await asyncio.gather(*(call(executor, sleep) for _ in range(100)))
        asyncio.run(main())

    def in_an_event_loop_that_waits():
        async def main():
            with ProcessPoolExecutor(2, context) as executor:
                call = asyncio.get_running_loop().run_in_executor
                await asyncio.wait([call(executor, sleep) for _ in range(100)])
        asyncio.run(main())

    def hold(_):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        ready()
        sum(range(10**13))  # in C code, which no handler ends

    def in_a_pool_that_does_not_listen():
        with context.Pool(2) as pool:
            pool.map(hold, range(100), 1)

    def in_an_executor_that_does_not_listen():
        with ProcessPoolExecutor(2, context) as executor:
            list(executor.map(hold, range(100)))

    def in_a_pipeline_that_does_not_listen():
        pipeline(range(100), stage(hold, workers=2)).run()

    def wait_for_ever(_):
        ready()
        threading.Event().wait()

    def in_a_block_whose_callback_waits():
        with context.Pool(1) as pool:
            pool.apply_async(abs, (1,), callback=wait_for_ever)
            ready()
            pool.map(sleep, range(10))

    def in_a_program_whose_callback_waits():
        pool = context.Pool(1)
        pool.apply_async(abs, (1,), callback=wait_for_ever)
        ready()
        pool.map(sleep, range(10))

    def in_an_executor_whose_callback_waits():
        with ProcessPoolExecutor(1, context) as executor:
            executor.submit(time.sleep, 0.1).add_done_callback(wait_for_ever)
            ready()
            executor.submit(sleep).result()

    def in_a_join():
        process = context.Process(target=sleep)
        process.start()
        ready()
        process.join()

    def leave_long_work():
        Finalize(None, sleep, exitpriority=1)

    def in_the_end_of_a_child():
        children = [context.Process(target=leave_long_work) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()

    def in_a_queue():
        queue = context.Queue()
        process = context.Process(target=get, args=(queue,))
        process.start()
        ready()
        context.Queue().get()

    if __name__ == "__main__":
        context = get_context(sys.argv[1])
        globals()[sys.argv[2]]()
"""


IMPORTED = """
    import os, sys, time
    from manycore import ProcessPoolExecutor, get_context

    if __name__ != "__main__":
        os.write(1, b"ready\\n")
        time.sleep(60)

    if __name__ == "__main__":
        context = get_context(sys.argv[1])
        if sys.argv[2] == "process":
            process = context.Process(target=print)
            process.start()
            process.join()
        elif sys.argv[2] == "pool":
            with context.Pool(2) as pool:
                pool.map(abs, range(2))
        else:
            with ProcessPoolExecutor(2, context) as executor:
                list(executor.map(abs, range(2)))
"""

STARTING = """
    import os, time
    from manycore import get_context

    kept = []  # else Python may be about to forget one, where no exception comes through

    def start_and_join():
        process = context.Process(target=abs, args=(1,))
        kept.append(process)
        process.start()
        process.join()

    if __name__ == "__main__":
        context = get_context("fork")
        start_and_join()
        os.write(1, b"ready\\n")
        while True:
            start_and_join()
"""


def own_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has what it runs beside itself ignore it


def read(terminal):
    try:
        return os.read(terminal, 10_000).decode()
    except OSError:  # nobody has it open any more
        return ""


def press_ctrl_c(script, *arguments, after):
    """Presses it once when `after` lines say so; the exit code, and what was written."""
    ours = processes.children_of_ours()
    terminal, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"NO_COLOR": "1"},
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    state = termios.tcgetattr(theirs)
    os.close(theirs)
    output = ""
    try:
        while output.count("ready") < after:
            more = read(terminal)
            assert more, output
            output += more
        pressed = time.monotonic()
        os.write(terminal, b"\x03")
        code = program.wait()
        print(f"\nended {1000 * (time.monotonic() - pressed):.0f} ms later")
        assert termios.tcgetattr(terminal) == state
        while orphans := processes.children_of_ours() - ours - {program.pid}:
            processes.wait_for_end(orphans)
        while more := read(terminal):
            output += more
    finally:
        program.kill()
        program.wait()
        os.close(terminal)
    return code, output


def check(code, output, tracebacks=1):
    assert output.count("Traceback") <= tracebacks, output
    assert sum(line == "KeyboardInterrupt" for line in output.splitlines()) == 1, output
    assert code == -2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "where",
    [
        "in_a_pool",
        "in_a_pipeline",
        "in_an_executor",
        "in_the_end_of_a_block",
        "without_a_block",
        "in_an_event_loop",
        "in_an_event_loop_that_waits",
        "in_a_pool_that_does_not_listen",
        "in_an_executor_that_does_not_listen",
        "in_a_pipeline_that_does_not_listen",
        "in_a_block_whose_callback_waits",
        "in_a_program_whose_callback_waits",
        "in_an_executor_whose_callback_waits",
        "in_a_join",
        "in_a_queue",
        "in_the_end_of_a_child",
    ],
)
def test_one_press_ends_the_program(tmp_path, method, where):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM))
    everybody = 3 if "callback" in where else 2  # who were late would write amid the traceback
    outcome = press_ctrl_c(script, method, where, after=everybody)
    check(*outcome, 2 if "event_loop" in where else 1)  # asyncio's shows what it was doing, too


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("what", ["process", "pool", "executor"])
def test_one_press_ends_the_program_while_children_import_it(tmp_path, method, what):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(IMPORTED))
    check(*press_ctrl_c(script, method, what, after=1))


def test_children_that_are_just_beginning_say_nothing_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(STARTING))
    for _ in range(5):
        check(*press_ctrl_c(script, after=1))


@pytest.fixture
def interrupted(monkeypatch):
    """An event that was waited for when Ctrl-C came as the wait was about to lock again."""
    event = threading.Event()

    def lock_again(state):
        raise KeyboardInterrupt

    monkeypatch.setattr(event._cond, "_acquire_restore", lock_again)
    return event


def test_a_thread_whose_start_is_interrupted_anywhere_says_so(interrupted):
    class Starting(threading.Thread):
        def start(self):
            super().start()
            interrupted.wait(0.001)

    thread = Starting(target=abs, args=(1,))
    with pytest.raises(KeyboardInterrupt):
        begin(thread)
    thread.join()


def test_an_executor_that_is_left_by_an_interrupted_wait_ends(interrupted):
    executor = manycore.ProcessPoolExecutor(1, manycore.get_context("fork"))
    with pytest.raises(RuntimeError, match="lock"), executor:
        future = executor.submit(time.sleep, 1000)
        interrupted.wait(0.001)
    assert future.done()


INTERRUPTED_WAIT = """
    import threading, time
    import manycore

    executor = manycore.ProcessPoolExecutor(1, manycore.get_context("fork"))
    future = executor.submit(time.sleep, 1000)
    event = threading.Event()

    def lock_again(state):
        raise KeyboardInterrupt

    event._cond._acquire_restore = lock_again
    event.wait(0.001)
"""


def test_a_program_that_ends_by_an_interrupted_wait_waits_for_nobody(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(INTERRUPTED_WAIT))
    program = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert program.stderr.count("Traceback") == 2
    assert program.stderr.endswith("RuntimeError: release unlocked lock\n")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ctrl_c_that_comes_while_it_is_about_to_be_held_leaves_nothing_held(monkeypatch, method):
    block = sys.modules["_signal"].pthread_sigmask

    def press_and_block(how, mask):
        before = block(how, mask)
        if how == signal.SIG_BLOCK and mask:
            raise KeyboardInterrupt
        return before

    process = manycore.get_context(method).Process(target=abs, args=(1,))
    with monkeypatch.context() as patch:
        for module in (signal, sys.modules["_signal"]):
            patch.setattr(module, "pthread_sigmask", press_and_block)
        with pytest.raises(KeyboardInterrupt):
            process.start()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_hear_of_it_that_the_pools_thread_starts_behind_a_fork(ctx, gate):
    with ctx.Pool(1) as pool:
        pool.apply_async(targets.stop_at, (gate,))
        gate.arrived()
        first = pool._pool[0].pid
        with processes.running(manycore.get_context("fork"), targets.nothing):
            pass  # the pool's thread has ended and begun again
        processes.kill_and_confirm(first)
        until(lambda: [it for it in pool._pool if it.pid != first])
        assert pool.apply(signal.pthread_sigmask, (signal.SIG_BLOCK, [])) == set()
