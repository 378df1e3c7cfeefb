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
    import os, sys, time
    from manycore import get_context

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
@pytest.mark.parametrize("where", ["in_a_pool", "in_a_join", "in_a_queue"])
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
    assert output.count("Traceback") <= 1, output
    assert output.count("KeyboardInterrupt") == 1, output
    assert code == -2
