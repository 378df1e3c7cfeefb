"""The pickler that is used again and again, by whoever comes in between."""

import copyreg
import gc
import pickle
import threading
import weakref

import pytest

import manycore

pytestmark = pytest.mark.beyond_stdlib

LARGE = 40_000


@pytest.fixture
def queue():
    queue = manycore.Queue()
    yield queue
    assert queue.empty()
    queue.close()


def message(number):
    """Something that has parts inside and parts beside its pickle."""
    return {number, "text"}, pickle.PickleBuffer(bytearray([number % 251]) * LARGE)


def check_message(received, number):
    values, buffer = received
    assert values == {number, "text"}
    assert bytes(buffer) == bytes([number % 251]) * LARGE


class Interrupting:
    """Puts something else into another queue while it is pickled; `then` is called at the end."""

    def __init__(self, other, number, then=lambda: None):
        self.other, self.number, self.then = other, number, then

    def __reduce__(self):
        self.other.put(message(self.number))
        self.then()
        return int, (self.number,)


def test_what_is_pickled_in_between_stays_apart(queue):
    other = manycore.Queue()
    for number in range(5):
        queue.put([message(number), Interrupting(other, 100 + number), message(-number)])
        check_message(other.get(), 100 + number)
    for number in range(5):
        first, middle, last = queue.get()
        check_message(first, number)
        assert middle == 100 + number
        check_message(last, -number)


def test_what_is_pickled_in_between_at_any_depth_stays_apart(queue):
    class Deeper:
        def __init__(self, depth):
            self.depth = depth

        def __reduce__(self):
            if self.depth:
                queue.put([message(self.depth), Deeper(self.depth - 1), message(-self.depth)])
            return int, (self.depth,)

    for _ in range(3):
        queue.put([Deeper(20)])
        for depth in range(1, 21):
            first, middle, last = queue.get()
            check_message(first, depth)
            assert middle == depth - 1
            check_message(last, -depth)
        assert queue.get() == [20]


class Interrupted(BaseException):
    pass


def interrupt():
    raise Interrupted


def test_an_interruption_at_any_part_spoils_no_later_message(queue):
    other = manycore.Queue()
    for place in range(6):
        parts = [message(number) for number in range(5)]
        parts.insert(place, Interrupting(other, 100, interrupt))
        with pytest.raises(Interrupted):
            queue.put(parts)
        check_message(other.get(), 100)
        queue.put(message(place))
        check_message(queue.get(), place)


def test_what_is_finalized_when_the_pickler_forgets_it_may_be_pickled(queue):
    class PutsWhenDeleted:
        def __init__(self, number):
            self.number = number

        def __del__(self):
            queue.put(message(self.number))

    class HasTemporaryState:
        def __getstate__(self):
            return {"finalized": Reduced(PutsWhenDeleted(7))}

    class Reduced:
        def __init__(self, holds):
            self.holds = holds

        def __reduce__(self):
            return str, ("reduced",), None

    copyreg.pickle(HasTemporaryState, lambda value: (dict, (value.__getstate__(),)))
    try:
        for _ in range(3):
            queue.put([message(1), HasTemporaryState(), message(2)])
            gc.collect()
            check_message(queue.get(), 7)
            first, middle, last = queue.get()
            check_message(first, 1)
            assert middle == {"finalized": "reduced"}
            check_message(last, 2)
    finally:
        del copyreg.dispatch_table[HasTemporaryState]


def test_nothing_that_was_pickled_is_kept(queue):
    class Reduced:
        def __reduce__(self):
            return str, ("reduced",)

    sent, buffer = Reduced(), bytearray(LARGE)
    gone = weakref.ref(sent)
    queue.put([sent, pickle.PickleBuffer(buffer)])
    del sent
    assert gone() is None
    buffer.clear()  # which it refuses as long as somebody looks at it
    assert queue.get()[0] == "reduced"


def test_nothing_is_kept_of_what_could_not_be_pickled(queue):
    sent, buffer = Interrupting(manycore.Queue(), 1, interrupt), bytearray(LARGE)
    with pytest.raises(Interrupted):
        queue.put([pickle.PickleBuffer(buffer), sent])
    gone = weakref.ref(sent)
    del sent
    gc.collect()
    assert gone() is None
    buffer.clear()


def test_a_reducer_that_is_registered_in_between_counts_from_then_on(queue):
    class Late:
        def __reduce__(self):
            return str, ("its own",)

    class Registers:
        def __reduce__(self):
            copyreg.pickle(Late, lambda value: (str, ("registered",)))
            return str, ("registers",)

    try:
        by_pickle = pickle.loads(pickle.dumps([Registers(), Late()]))
        del copyreg.dispatch_table[Late]
        queue.put([Registers(), Late()])
        queue.put([Late()])
        assert queue.get() == by_pickle == ["registers", "registered"]
        assert queue.get() == ["registered"]
    finally:
        del copyreg.dispatch_table[Late]
    queue.put([Late()])
    assert queue.get() == ["its own"]


def test_threads_pickle_at_once(queue):
    def work(number):
        queue = manycore.Queue()
        for count in range(200):
            queue.put(message(number + count))
            check_message(queue.get(), number + count)
        done.append(number)

    done = []
    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1000, 2000, 3000]
