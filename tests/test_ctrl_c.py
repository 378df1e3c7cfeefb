"""Ctrl-C in a terminal: one press ends the program and all its processes."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import time

import pytest

import processes

pytestmark = pytest.mark.beyond_stdlib

PROGRAM = """
    import asyncio, os, signal, sys, time
    from manycore import ProcessPoolExecutor, get_context, pipeline, stage

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

    def in_a_join():
        process = context.Process(target=sleep)
        process.start()
        ready()
        process.join()

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


def own_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has what it runs beside itself ignore it


def read(terminal):
    try:
        return os.read(terminal, 10_000).decode()
    except OSError:  # nobody has it open any more
        return ""


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
        "in_a_pool_that_does_not_listen",
        "in_an_executor_that_does_not_listen",
        "in_a_pipeline_that_does_not_listen",
        "in_a_join",
        "in_a_queue",
    ],
)
def test_one_press_ends_the_program(tmp_path, method, where):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM))
    ours = processes.children_of_ours()
    terminal, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, str(script), method, where],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    state = termios.tcgetattr(theirs)
    os.close(theirs)
    output = ""
    try:
        while output.count("ready") < 2:
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
    tracebacks = 2 if where == "in_an_event_loop" else 1  # asyncio's own shows what it was doing
    assert output.count("Traceback") <= tracebacks, output
    assert sum(line == "KeyboardInterrupt" for line in output.splitlines()) == 1, output
    assert code == -2
