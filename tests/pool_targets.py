"""What tests of pools run in workers: importable, so that `spawn` can name it."""

import os
import random
import sys
import time

import manycore
import processes
import targets

VARIABLE = "MANYCORE_TEST_VARIABLE"
AT_IMPORT = os.environ.get(VARIABLE)


def note(path, *words):
    """Adds a line to a file, whole whoever else does."""
    with open(path, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def noted(path):
    return path.read_text().split("\n")[:-1] if path.exists() else []


def count(worker, *_args, **_kwargs):
    worker.state.count = getattr(worker.state, "count", 0) + 1
    return worker.id, worker.state.count


def weigh(worker, item, add=0):
    return worker.id >= 0 and item + add


def remember(value):
    manycore.current_worker().state.remembered = value


def remembered(_):
    return manycore.current_worker().state.remembered


def worker_id(_=None):
    return manycore.current_worker().id


def pid_and_id(_=None):
    return os.getpid(), manycore.current_worker().id


def worker_of_a_child(_):
    queue = manycore.Queue()
    child = manycore.get_context("fork").Process(
        target=lambda: queue.put(manycore.current_worker())
    )
    child.start()
    child.join()
    return queue.get()


def note_end(path):
    note(path, os.getpid(), manycore.current_worker().id)


def fail_at_the_end():
    raise OSError("this finalizer fails")


def variable(_=None):
    return os.environ.get(VARIABLE), AT_IMPORT


def cpus(_=None):
    return manycore.current_worker().id, sorted(os.sched_getaffinity(0))


def squares_of_a_pool(n):
    with manycore.Pool(2) as pool:
        return pool.map(targets.square, range(n))


def start_pool_and_stop(gate, path):
    pool = manycore.Pool(2)
    pool.map(targets.square, range(4))
    note(path, *(process.pid for process in pool._pool))
    gate.stop()


def random_number(_=None):
    return random.random()


def seed_of(_=None):
    return manycore.task_seed()


def random_of_numpy(_=None):
    numpy = sys.modules["numpy"]
    own = numpy.random.default_rng(manycore.task_seed())
    return numpy.random.random(), own.random()


def import_numpy():
    import numpy  # noqa: F401


def seed_at_the_second_try(path):
    note(path, manycore.task_seed())
    if len(noted(path)) == 1:
        raise OSError("the first try fails")
    return manycore.task_seed()


def note_seed_and_die_at(item, path, mortal):
    note(path, item, manycore.task_seed())
    if item == mortal:
        targets.ends_as("SIGKILL")


def append(items):
    items.append("more")
    return items


def sleep_for(seconds):
    time.sleep(seconds)
    return seconds


def interrupt_oneself():
    raise KeyboardInterrupt


def stop_here(gate):
    gate.stop()


def describe_oneself(_):
    return processes.describe(os.getpid())


def rest_and_stop(gate, value):
    """Takes long for the first items; the two that follow these stop at the gate."""
    if value in (4, 5):
        gate.stop()
    time.sleep(0.02 if value < 4 else 0)
    return value


def rest_and_stop_of_two(gate, value, other):
    assert value == other
    return rest_and_stop(gate, value)


def sleep_and_tell(seconds):
    time.sleep(seconds)
    return seconds


def sleep_and_divide(seconds):
    time.sleep(seconds)
    return 1 / seconds


def random_number_after(seconds, _):
    time.sleep(seconds)
    return random_number()


def stop_and_tally(gate, path, value):
    """Tallies; two of the first items stop at the gate, and then take long."""
    targets.tally(path, value)
    if value in (1, 3):
        gate.stop()
        time.sleep(0.02)


class Refusing:
    """Cannot be compared, as arrays cannot."""

    def __eq__(self, other):
        raise ValueError("no truth")

    __hash__ = None


def raise_refusing(_=None):
    raise KeyError(Refusing())
