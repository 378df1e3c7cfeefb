"""A queue that is used while it is being used: by finalizers, reducers and signal handlers.

Whoever comes in between puts something first and then gets something, so there always is something
to get; what anybody got is counted, and each item has to be got once.
"""

import collections
import contextlib
import gc
import os
import queue as standard_queue
import signal
import threading
import weakref

import pytest

import heap
import manycore
import targets
from processes import forked

pytestmark = pytest.mark.beyond_stdlib  # there a lock is held while others may come in between

SIZES = [0, 10, 1000, 9_000, 40_000]
KINDS = ["Queue", "SimpleQueue", "JoinableQueue"]


def body_of(name):
    number = int(name.split()[-1])
    return bytes([number % 251]) * SIZES[number % len(SIZES)]


def name_and_body(received):
    return received if isinstance(received, tuple) else received["nested"][0]


class Account:
    """Puts and gets of one queue, by whoever does them."""

    def __init__(self, queue):
        self.queue = queue
        self.put_by, self.got_by = collections.Counter(), collections.Counter()

    def make(self, who):
        """The next item of `who`: small or large, encoded by the engine or by pickle."""
        number = self.put_by[who]
        self.put_by[who] += 1
        name = f"{who} {number}"
        values = name, body_of(name)
        return values if number % 2 else {"nested": [values]}

    def note(self, received):
        name, body = name_and_body(received)
        assert body == body_of(name)
        self.got_by[name] += 1

    def pass_through(self, who):
        """Puts one and gets one."""
        self.queue.put(self.make(who))
        self.note(self.queue.get())

    def try_to_pass_through(self, who):
        """The same without waiting, for a bounded queue that may be full."""
        with contextlib.suppress(standard_queue.Full):
            item = self.make(who)
            try:
                self.queue.put_nowait(item)
            except standard_queue.Full:
                self.put_by[who] -= 1
                raise
        with contextlib.suppress(standard_queue.Empty):
            self.note(self.queue.get_nowait())

    def settle(self):
        """Everything that was put was got, once."""
        while not self.queue.empty():
            self.note(self.queue.get())
        assert sum(self.got_by.values()) == sum(self.put_by.values())
        assert set(self.got_by.values()) == {1}


class Circle:
    """Garbage that only the collector finds; its end is a call."""

    def __init__(self, at_end):
        self.at_end = at_end
        self.myself = self

    def __del__(self):
        self.at_end()


class Finalized:
    def __init__(self):
        self.myself = self


@contextlib.contextmanager
def collecting_all_the_time(how, at_end):
    """The collector runs at every few objects, and then `at_end`; yields what makes garbage."""

    def litter():
        if how == "__del__":
            Circle(at_end)
        elif how == "weakref.finalize":
            weakref.finalize(Finalized(), at_end)
        else:
            Finalized()  # not a list: one that was used before does not count as a new object

    def on_collection(phase, _info):
        if phase == "start":
            at_end()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    if how == "gc.callbacks":
        gc.callbacks.append(on_collection)
    try:
        yield litter
    finally:
        gc.set_threshold(*threshold)
        if how == "gc.callbacks":
            gc.callbacks.remove(on_collection)
        gc.collect()


HOW = pytest.mark.parametrize("how", ["__del__", "weakref.finalize", "gc.callbacks"])


@HOW
@pytest.mark.parametrize("kind", KINDS)
def test_finalizers_put_and_get_while_the_queue_is_used(how, kind):
    account, depth = Account(getattr(manycore, kind)()), []

    def at_end():
        if depth:
            return  # what it makes itself is collected, too
        depth.append(None)
        account.pass_through("finalizer")
        depth.pop()

    with collecting_all_the_time(how, at_end) as litter:
        for _ in range(300):
            litter()
            account.pass_through("main")
    account.settle()
    assert account.put_by["finalizer"] > 100


@HOW
def test_finalizers_put_and_get_on_a_bounded_queue(how):
    account, depth = Account(manycore.Queue(3)), []

    def at_end():
        if depth:
            return
        depth.append(None)
        account.try_to_pass_through("finalizer")
        depth.pop()

    with collecting_all_the_time(how, at_end) as litter:
        for _ in range(300):
            litter()
            account.try_to_pass_through("main")
    account.settle()
    assert account.put_by["finalizer"] > 50


@pytest.mark.slow
@HOW
def test_finalizers_put_and_get_in_threads(how):
    """Each thread, and the finalizers that run in it, keep an account of their own."""
    queue, errors, inside = manycore.Queue(), [], threading.local()
    put, got, finalized = [], [], []  # to append is one step for all threads

    class Shared(Account):
        def make(self, who):
            item = super().make(who)
            put.append(name_and_body(item)[0])
            return item

        def note(self, received):
            name, body = name_and_body(received)
            assert body == body_of(name)
            got.append(name)

    def at_end():
        finalizers = getattr(inside, "finalizers", None)
        if finalizers is not None:
            inside.finalizers = None  # what they make themselves is collected, too
            finalizers.pass_through(f"finalizer-{inside.number}")
            inside.finalizers = finalizers
            finalized.append(inside.number)

    def work(number, litter):
        inside.number = number
        inside.finalizers, account = Shared(queue), Shared(queue)
        try:
            turns = 0
            # In which threads the collector runs, and how often, is not for us to say.
            while turns < 150 or len(finalized) <= 100:
                turns += 1
                litter()
                account.pass_through(f"thread-{number}")
        except BaseException as error:
            errors.append(error)
        inside.finalizers = None

    with collecting_all_the_time(how, at_end) as litter:
        threads = [threading.Thread(target=work, args=(number, litter)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    while not queue.empty():
        Shared(queue).note(queue.get())
    assert sorted(got) == sorted(put)
    assert len(set(put)) == len(put)
    assert sum(name.startswith("finalizer") for name in got) >= len(finalized)


@pytest.mark.parametrize("first", ["queue.put({1, 2})", "queue.get_nowait()", "queue.get()"])
def test_a_finalizer_may_come_while_the_engine_looks_up_what_it_needs_of_python(run_script, first):
    """At the first such call of a program: importing makes objects, so the collector runs."""
    done = run_script(
        """
        import gc, pickle, queue as standard_queue, sys
        import manycore

        class Circle:
            def __init__(self):
                self.myself = self

            def __del__(self):
                inner.put({3})
                assert inner.get() == {3}
                try:
                    inner.get_nowait()
                except standard_queue.Empty:
                    ended.append(None)

        def pickled_elsewhere():
            queue.put({1, 2})

        queue, inner, ended = manycore.Queue(), manycore.Queue(), []
        if sys.argv[1] == "queue.get()":
            process = manycore.get_context("fork").Process(target=pickled_elsewhere)
            process.start()
            process.join()
        circles = [Circle() for _ in range(1000)]
        gc.collect()
        gc.set_threshold(1)
        while circles:
            circles.pop()
        try:
            exec(sys.argv[1])
        except standard_queue.Empty:
            pass
        for _ in range(1000):
            [[]]
        gc.set_threshold(700)
        gc.collect()
        assert len(ended) == 1000, len(ended)
        print("done")
        """,
        first,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


# While an object is encoded or decoded

QUEUE = None  # what the objects below use; an object that is pickled with its queue would send that


@pytest.fixture
def queue():
    global QUEUE
    QUEUE = manycore.Queue()
    gc.collect()
    blocks = heap.blocks_in_use()
    yield QUEUE
    assert QUEUE.empty()
    QUEUE = None  # who asked for the fixture has it still
    gc.collect()
    assert heap.blocks_in_use() <= blocks


class UsesTheQueueWhenPickled:
    """Each level puts one of the next level while it is itself being put."""

    def __init__(self, level):
        self.level = level

    def __reduce__(self):
        if self.level:
            QUEUE.put([UsesTheQueueWhenPickled(self.level - 1), bytes(50_000)])
            inner, large = QUEUE.get()
            assert (inner, len(large)) == (self.level - 1, 50_000)
        QUEUE.put(bytearray(40_000))
        assert QUEUE.get() == bytearray(40_000)
        return int, (self.level,)


def test_a_reducer_may_put_and_get_on_the_queue_that_it_is_put_into(queue):
    for _ in range(3):
        queue.put({"any": [UsesTheQueueWhenPickled(20), manycore.Lock()]})
        assert queue.get()["any"][0] == 20


class FailsWhenPickled:
    def __reduce__(self):
        QUEUE.put({1, 2})
        raise ZeroDivisionError


def test_a_reducer_that_puts_and_then_fails_leaves_what_it_put(queue):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            queue.put([bytearray(40_000), FailsWhenPickled()])
        assert queue.get() == {1, 2}


class GetsWhenUnpickled:
    """Gets what is behind it in the queue while it is itself being got."""

    def __init__(self, level):
        self.level = level

    def __setstate__(self, state):
        self.level = state["level"]
        self.behind = QUEUE.get()


def test_an_object_may_get_what_is_behind_it_while_it_is_got(queue):
    for level in range(20):
        queue.put([GetsWhenUnpickled(level), bytes([level]) * (level * 5000)])
    queue.put("the last")
    received = queue.get()
    for level in range(20):
        outer, payload = received
        assert (outer.level, payload) == (level, bytes([level]) * (level * 5000))
        received = outer.behind
    assert received == "the last"


class PutsItselfWhenUnpickled:
    def __init__(self, left):
        self.left = left

    def __setstate__(self, state):
        self.left = state["left"]
        if self.left:
            QUEUE.put([PutsItselfWhenUnpickled(self.left - 1), bytes(self.left * 1000)])


def test_an_object_may_put_another_while_it_is_got(queue):
    queue.put([PutsItselfWhenUnpickled(50), b""])
    for left in range(50, -1, -1):
        received, payload = queue.get()
        assert received.left == left
    assert payload == b"" or len(payload) == 1000


class ForksWhenUnpickled:
    def __setstate__(self, state):
        with forked(lambda: QUEUE.put(("from the child", QUEUE.get()))):
            pass


def test_an_object_may_fork_while_it_is_got(queue):
    """The child uses the queue in the middle of its parent's `get`."""
    empty = ForksWhenUnpickled()
    empty.state = "so that it has one"
    targets.put(queue, [empty, bytearray(40_000)], b"x" * 50_000)
    _, large = queue.get()
    assert large == bytearray(40_000)
    assert queue.get() == ("from the child", b"x" * 50_000)


# In signal handlers


@contextlib.contextmanager
def on_signal(number, handler):
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def signalled_soon():
    """Sends SIGUSR1 in a while, so that what comes next most likely waits when it comes."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    return timer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", ["small", {1, 2}, b"x" * 50_000], ids=["small", "set", "large"])
def test_a_handler_may_put_what_the_interrupted_get_waits_for(kind, item):
    queue = getattr(manycore, kind)()
    with on_signal(signal.SIGUSR1, lambda *_: queue.put(item)):
        timer = signalled_soon()
        assert queue.get() == item
        timer.join()
    assert queue.empty()


def test_a_handler_may_get_on_the_queue_of_the_interrupted_get():
    queue = manycore.Queue()

    def handler(*_):
        queue.put("first")
        queue.put("second")
        assert queue.get() == "first"

    with on_signal(signal.SIGUSR1, handler):
        timer = signalled_soon()
        assert queue.get() == "second"
        timer.join()
    assert queue.empty()


@pytest.mark.parametrize("item", ["small", {1, 2}, b"x" * 50_000], ids=["small", "set", "large"])
def test_a_handler_may_get_what_the_interrupted_put_waits_for(item):
    queue, got = manycore.Queue(2), []
    targets.put(queue, "first", "second")
    with on_signal(signal.SIGUSR1, lambda *_: got.append(queue.get())):
        timer = signalled_soon()
        queue.put(item)
        timer.join()
    assert got == ["first"]
    assert [queue.get(), queue.get()] == ["second", item]
    assert queue.empty()


def test_a_handler_may_fork_a_child_that_puts_what_the_interrupted_get_waits_for():
    queue = manycore.Queue()

    def handler(*_):
        with forked(lambda: queue.put(os.getpid())) as pid:
            expected.append(pid)

    expected = []
    with on_signal(signal.SIGUSR1, handler):
        timer = signalled_soon()
        received = queue.get()
        timer.join()
    assert [received] == expected


def test_a_handler_may_mark_what_the_interrupted_join_waits_for():
    queue = manycore.JoinableQueue()
    queue.put("item")

    def handler(*_):
        queue.get()
        queue.task_done()

    with on_signal(signal.SIGUSR1, handler):
        timer = signalled_soon()
        queue.join()
        timer.join()
    assert queue.empty()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_handlers_put_and_get_at_any_moment(kind):
    """By a timer of the process's own CPU time, so that they come anywhere in `put` and `get`."""
    account = Account(getattr(manycore, kind)())
    busy = []

    def handler(*_):
        if busy:
            return
        busy.append(None)
        account.pass_through("handler")
        busy.pop()

    with on_signal(signal.SIGVTALRM, handler):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
        try:
            while account.put_by["handler"] < 500:
                account.pass_through("main")
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    account.settle()


def test_what_runs_alone_lets_go_whatever_it_raises():
    lock, run_alone = threading.RLock(), manycore._engine.run_alone
    with pytest.raises(ZeroDivisionError):
        run_alone(lock, lambda: 1 / 0)
    assert run_alone(lock, lambda: run_alone(lock, list)) == (True, (False, None))
    taken = []
    with lock:
        other = threading.Thread(target=lambda: taken.append(run_alone(lock, list, False)))
        other.start()
        other.join()
    assert taken == [(False, None)]
    assert run_alone(lock, list) == (True, [])
