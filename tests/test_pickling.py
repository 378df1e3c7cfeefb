"""The pickler that is used again and again, by whoever comes in between."""

import pickle
import sys

import pytest

from manycore import _pickling

pytestmark = pytest.mark.beyond_stdlib

LARGE = 40_000


def message(number):
    """Something that has parts inside and parts beside its pickle."""
    return {number, "text"}, pickle.PickleBuffer(bytearray([number % 251]) * LARGE)


def content(pickled):
    values, buffer = pickle.loads(bytes(pickled[0]), buffers=pickled[1])
    return values, bytes(buffer)


def expected(number):
    return {number, "text"}, bytes([number % 251]) * LARGE


class Interrupting:
    """Pickles something else in front of every line of the pickler's own code.

    As signal handlers, finalizers and reducers may do that put something into a queue.
    """

    def __init__(self):
        self.times = 0

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.previous)

    def trace(self, frame, event, _argument):
        if frame.f_code.co_filename != _pickling.__file__:
            return None
        if event == "line":
            self.times += 1
            assert content(_pickling.dumps(message(self.times))) == expected(self.times)
        return self.trace


def test_what_is_pickled_in_between_stays_apart():
    results = []
    with Interrupting() as interrupting:
        results += [_pickling.dumps(message(-number)) for number in range(1, 6)]
    assert [content(result) for result in results] == [expected(-n) for n in range(1, 6)]
    assert interrupting.times > 50


class Interrupted(Exception):
    pass


def test_an_interruption_at_any_line_spoils_no_later_message():
    for chosen in range(1, 1000):
        lines = 0

        def interrupt(frame, event, _argument):
            nonlocal lines
            if frame.f_code.co_filename != _pickling.__file__:
                return None
            if event == "line":
                lines += 1
                if lines == chosen:  # noqa: B023  used up before the next round
                    raise Interrupted
            return interrupt

        previous = sys.gettrace()
        sys.settrace(interrupt)
        try:
            _pickling.dumps(message(1))
            break  # it has fewer lines
        except Interrupted:
            pass
        finally:
            sys.settrace(previous)
        assert content(_pickling.dumps(message(2))) == expected(2)
    assert chosen > 10
