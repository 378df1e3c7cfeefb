"""Tasks that take too much, or fail now and then: importable, so that `spawn` can name them."""

import contextlib
import os
import signal
import time
from pathlib import Path

import manycore


def sleep_for_ever():
    time.sleep(3600)


def count_for_ever():
    while True:
        pass


def hold_the_interpreter():
    sum(range(10**12))


def refuse_to_stop():
    while True:
        with contextlib.suppress(Exception):
            time.sleep(3600)


def die_if(pair):
    die_if_equal(*pair)


def die_if_equal(chosen, number):
    if number == chosen:
        die_of(number)
    return number


def wait_if(chosen, number):
    if number == chosen:
        sleep_for_ever()
    return number


def tidy_up(path):
    try:
        sleep_for_ever()
    except manycore.TaskTimeout:
        Path(path).write_text("tidy")
        return "tidy"


def tidy_up_slowly():
    """Takes as long as two more signals need to come, and hears of each that does something."""
    with contextlib.suppress(manycore.TaskTimeout):
        sleep_for_ever()
    time.sleep(0.3)
    return "tidy"


def miss_a_signal(number):
    """Sleeps for ever once the signal has come, as if it had come right before the sleep."""
    caught = []
    heeds = signal.signal(number, lambda *_: caught.append(number))
    while not caught:
        time.sleep(0.001)
    signal.signal(number, heeds)
    sleep_for_ever()


def process_id(_=None):
    return os.getpid()


def begin_then(path, number):
    """Notes that it has begun; how often it had before."""
    with open(path, "a+") as file:
        file.write(f"{number}\n")
        file.seek(0)
        return file.read().split().count(str(number)) - 1


def die_at_first(path, times, number):
    """Is killed the first times, for each number."""
    if begin_then(path, number) < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_at_first(path, times, number):
    """Fails the first times, for each number."""
    if begin_then(path, number) < times:
        raise ConnectionError(number)
    return number


def fill(mebibytes):
    """Takes memory, and keeps it for a while."""
    memory = bytearray(mebibytes << 20)
    memory[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(range(0, len(memory), 4096))
    deadline = time.monotonic() + 60
    while mebibytes > 64 and time.monotonic() < deadline:
        time.sleep(0.01)
    return mebibytes


def look_at(array):
    """Touches all pages, and is there for a while."""
    pages = array[::4096]
    time.sleep(0.2)
    return len(pages)


kept = []


def keep(mebibytes):
    """Takes memory for good; the process that has it."""
    kept.append(b"x" * (mebibytes << 20))
    return os.getpid()


def die_of(number):
    os.kill(os.getpid(), number)


class Fixed:
    """A task whose first arguments are fixed, as `functools.partial` makes one."""

    def __init__(self, task, arguments):
        self.task, self.arguments = task, arguments

    def __call__(self, number):
        return self.task(*self.arguments, number)


def die_with(_):
    die_of(signal.SIGKILL)


def refuse(_=None):
    raise PermissionError("no licence")
