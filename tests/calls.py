"""The ways to call functions of a pool whose workers may die, and what comes of each call."""

import collections
import functools
import struct

import manycore


class Tally:
    """Which tasks ran, and how often, as they wrote it down themselves."""

    def __init__(self, folder):
        self.path = str(folder / "tally")

    def take(self):
        with open(self.path, "a+b") as records:
            records.seek(0)
            data = records.read()
            records.truncate(0)
        return collections.Counter(value for (value,) in struct.iter_unpack("<I", data))


def outcome(get, *arguments):
    """What a call returns, or the WorkerDied that it raises."""
    try:
        return get(*arguments)
    except manycore.WorkerDied as died:
        return died


def drain(iterator):
    """The outcome of each `next` until the end."""
    return list(iter(functools.partial(outcome, lambda: next(iterator, None)), None))


# Each starts all tasks and gives a function that waits for the outcomes: one of each task where the
# call tells them apart, else one of the whole.
WAYS = {
    "map": lambda pool, func, items: functools.partial(
        lambda result: [outcome(result.get)], pool.map_async(func, items)
    ),
    "map in chunks": lambda pool, func, items: functools.partial(
        lambda result: [outcome(result.get)], pool.map_async(func, items, 100)
    ),
    "starmap": lambda pool, func, items: functools.partial(
        lambda result: [outcome(result.get)],
        pool.starmap_async(func, [(item,) for item in items], 1),
    ),
    "imap": lambda pool, func, items: functools.partial(drain, pool.imap(func, items)),
    "imap_unordered": lambda pool, func, items: functools.partial(
        drain, pool.imap_unordered(func, items)
    ),
    "apply_async": lambda pool, func, items: functools.partial(
        lambda results: [outcome(result.get) for result in results],
        [pool.apply_async(func, (item,)) for item in items],
    ),
}


def deaths(outcomes):
    return [it for it in outcomes if isinstance(it, manycore.WorkerDied)]
