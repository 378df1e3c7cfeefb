"""What tests run as stages of pipelines: importable, so that `spawn` can name it."""

import contextlib
import os
import signal
import time

import watchdog

watchdog.watch_child()


def read(count=1000):
    yield from range(count)


def read_hundred():
    return range(100)


def count_up(path):
    """Counts for ever, and writes down how far it has come."""
    number = 0
    while True:
        with open(path, "w") as file:
            file.write(str(number))
        yield number
        number += 1


def read_and_fail():
    yield from range(10)
    raise OSError("the disk is gone")


def double(item):
    return 2 * item


def fail_on(bad, item):
    if item in bad:
        raise ValueError(f"{item} is bad")
    return item


def repeat(item):
    """As often as its last digit says."""
    for turn in range(item % 10):
        yield item, turn


def repeat_and_fail_on(bad, item):
    yield item, 0
    if item in bad:
        raise ValueError(f"{item} is bad")
    yield item, 1


def repeat_for_ever(path, item):
    yield from ((item, number) for number in count_up(path))


def end_process(item):
    os._exit(item)


def die_on(bad, item):
    if item in bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_once_on(bad, folder, item):
    """Dies of each bad item, but not when it gets it once more."""
    if item in bad and is_first(folder, item):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def repeat_and_die_once_on(bad, folder, item):
    for turn in range(5):
        if item in bad and turn == 3 and is_first(folder, item):
            os.kill(os.getpid(), signal.SIGKILL)
        yield item, turn


def is_first(folder, item):
    try:
        os.close(os.open(f"{folder}/{item}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def wait_on(waiting, gate, item):
    if item in waiting:
        gate.stop()
    return item


def pass_by_on(passing, gate, item):
    if item in passing:
        gate.pass_by()
    return item


def who(_item):
    return os.getpid()


def unsendable(item):
    return (lambda: item) if item == 3 else item


class Unreadable:
    """Pickles, and cannot be read again in the process with this id."""

    def __init__(self, where):
        self.where = where

    def __reduce__(self):
        return refuse, (self.where,)


def refuse(where):
    if os.getpid() == where:
        raise ValueError("not here")
    return Unreadable(where)


def wrap_on(bad, where, item):
    return Unreadable(where) if item in bad else item


class Register:
    """What a worker sets up: writes down that it was opened, entered, left and closed."""

    def __init__(self, path):
        self.path = path
        self.note("opened")

    def note(self, what):
        record = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(record, f"{what}\n".encode())
        os.close(record)

    def __enter__(self):
        self.note("entered")
        return self

    def __exit__(self, *_):
        self.note("left")

    def close(self):
        self.note("closed")


@contextlib.contextmanager
def failing_to_close():
    yield 1
    raise OSError("not written")


@contextlib.contextmanager
def dying_to_close():
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def fail_to_begin():
    raise OSError("no connection")


def die_to_begin():
    os._exit(1)


def write_to(item, register):
    register.note(item)
    return item


def add(item, number):
    return item + number


def read_from(register):
    register.note("read")
    yield from range(3)


def larger(array):
    return array + 1


def sum_of(array):
    return int(array.sum())


def arrays(count, size):
    import numpy

    for number in range(count):
        yield numpy.full(size, number, dtype=numpy.int64)


def ask(question):
    """Answers through a queue that came with the item."""
    queue, item = question
    queue.put(item)
    return item


class CountsPickling:
    """Counts in a file how often it was pickled and unpickled, by whom."""

    def __init__(self, path):
        self.path = path

    def __getstate__(self):
        self.note("pickled")
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__ |= state
        self.note("unpickled")

    def note(self, what):
        record = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(record, f"{what} {os.getpid()}\n".encode())
        os.close(record)


def identity(item):
    return item


def forget(_item):
    return None


def sleep_on(chosen, item):
    if item in chosen:
        time.sleep(3600)
    return item


def refuse_on(chosen, item):
    """Does not stop for being told to."""
    while item in chosen:
        with contextlib.suppress(Exception):
            time.sleep(3600)
    return item


def stop_itself_on(chosen, item):
    if item in chosen:
        os.kill(os.getpid(), signal.SIGSTOP)
    return item


def give_then_sleep_on(chosen, item):
    yield item
    if item in chosen:
        time.sleep(3600)
    yield -item


def give_much(item):
    """More than there is room for."""
    yield from range(item)
