"""Integers in shared memory that change in one step."""

import copy
import ctypes
import os
import pickle

import pytest

import manycore
import targets
from manycore import sharedctypes
from processes import forked, running

pytestmark = pytest.mark.beyond_stdlib

SIGNED, UNSIGNED = "bhilq", "BHILQ"


class Tally(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_char), ("count", ctypes.c_uint16), ("low", ctypes.c_int, 4)]


class Packed(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # which Python 3.14 wants to be told
    _fields_ = [("kind", ctypes.c_char), ("count", ctypes.c_uint16)]


class Own(ctypes.c_int):
    pass


def guarded(code, *first):
    return manycore.Value(code, *first)


def bare(code, *first):
    return manycore.atomic(manycore.RawValue(code, *first))


@pytest.fixture(params=[guarded, bare])
def make(request):
    return request.param


@pytest.mark.parametrize("code", [*SIGNED, *UNSIGNED])
def test_each_operation_returns_what_it_was(make, code):
    number = make(code, 5)
    assert number.load() == 5
    assert number.add(3) == 5
    assert number.sub(1) == 8
    assert number.exchange(2) == 7
    assert number.store(4) == 2
    assert number.compare_exchange(3, 9) == 4
    assert number.compare_exchange(4, 9) == 4
    assert number.load() == 9


@pytest.mark.parametrize("code", SIGNED)
def test_a_signed_integer_wraps_as_in_c(make, code):
    number = make(code)
    most = 2 ** (8 * ctypes.sizeof(manycore.RawValue(code)) - 1) - 1
    number.store(most)
    assert number.add(1) == most
    assert number.load() == -most - 1
    assert number.sub(1) == -most - 1
    assert number.load() == most


@pytest.mark.parametrize("code", UNSIGNED)
def test_an_unsigned_integer_wraps_as_in_c(make, code):
    number = make(code, 0)
    most = 2 ** (8 * ctypes.sizeof(manycore.RawValue(code))) - 1
    assert number.sub(1) == 0
    assert number.add(1) == most
    assert number.compare_exchange(most + 1, -1) == 0
    assert number.load() == most


@pytest.mark.parametrize("code", [*SIGNED, *UNSIGNED])
@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64 + 5, 10**30, -(10**30), True])
def test_any_integer_is_converted_as_ctypes_does(make, code, number):
    shared, expected = make(code), manycore.RawValue(code, number).value
    shared.store(number)
    assert shared.load() == expected
    shared.store(0)
    shared.add(number)
    assert shared.load() == expected
    assert shared.compare_exchange(number, 1) == expected
    assert shared.load() == 1


class Index:
    def __index__(self):
        return 2**70 + 6


@pytest.mark.parametrize("wrong", [1.0, "1", None, b"1"])
def test_what_is_no_integer_is_refused(make, wrong):
    number = make("i", 5)
    for operation in (number.store, number.exchange, number.add, number.sub):
        with pytest.raises(TypeError):
            operation(wrong)
    with pytest.raises(TypeError):
        number.compare_exchange(5, wrong)
    with pytest.raises(TypeError):
        number.compare_exchange(wrong, 5)
    assert number.load() == 5
    number.store(Index())
    assert number.load() == 6


def test_an_argument_that_raises_changes_nothing(make):
    class Failing:
        def __index__(self):
            raise LookupError

    number = make("q", 5)
    with pytest.raises(LookupError):
        number.add(Failing())
    assert number.load() == 5


def test_a_bool_is_one():
    flag = manycore.Value(ctypes.c_bool, False)
    assert flag.exchange(7) is False
    assert flag.load() is True
    assert flag.add(1) is True
    assert flag.value is True
    assert flag.sub(1) is True
    assert flag.compare_exchange(False, True) is False
    assert flag.value is True
    assert flag.store("") is True
    assert flag.value is False
    assert bytes(flag.get_obj()) == b"\0"


@pytest.mark.parametrize("wrap", [manycore.atomic, sharedctypes.synchronized])
def test_a_bool_is_true_whatever_other_code_has_stored_that_is_not_zero(wrap):
    bare = manycore.RawValue(ctypes.c_bool)
    flag, byte = wrap(bare), ctypes.c_uint8.from_address(ctypes.addressof(bare))
    byte.value = 2
    assert flag.compare_exchange(False, True) is True
    assert byte.value == 2
    assert flag.compare_exchange(True, False) is True
    assert byte.value == 0
    byte.value = 2
    assert flag.sub(1) is True
    assert flag.load() is False


def test_the_increment_of_a_value_is_one_step_too():
    value = first = manycore.Value("B", 250)
    value += 7
    value -= 2
    assert value is first
    assert value.value == 255
    with pytest.raises(TypeError):
        value += 0.5


@pytest.mark.parametrize("code", ["d", "f", "c", "u", ctypes.c_int.__ctype_be__])
def test_what_is_no_integer_has_no_such_steps(code):
    value = manycore.Value(code)
    for operation in (value.store, value.add, value.sub, value.exchange):
        with pytest.raises(TypeError, match="integer"):
            operation(1)
    with pytest.raises(TypeError, match="integer"):
        value.load()
    with pytest.raises(TypeError, match="integer"):
        value.compare_exchange(0, 1)
    with pytest.raises(TypeError, match="integer"):
        value += 1
    with pytest.raises(TypeError, match="integer"):
        manycore.atomic(value)


def test_the_integer_is_the_values_own():
    value = manycore.Value("i", 3)
    with value.get_lock():  # which it does not ask for
        manycore.atomic(value).add(4)
    assert value.value == 7
    value.value = 9
    assert manycore.atomic(value.get_obj()).load() == 9
    assert manycore.atomic(manycore.Value(Own, 6)).load() == 6


def test_an_integer_may_be_an_item_or_a_field():
    array = manycore.Array("H", [1, 2, 3])
    assert manycore.atomic(array, 1).add(10) == 2
    assert manycore.atomic(array, -1).add(10) == 3
    assert array[:] == [1, 12, 13]
    tallies = manycore.RawArray(Tally, 3)
    manycore.atomic(tallies, 2, "count").sub(1)
    assert [tally.count for tally in tallies] == [0, 0, 65535]
    tally = manycore.Value(Tally, b"x", 5)
    assert manycore.atomic(tally, "count").load() == 5
    assert (tally.kind, tally.count) == (b"x", 5)


@pytest.mark.parametrize(
    ("make", "path", "error"),
    [
        (lambda: manycore.RawArray("i", 3), (), TypeError),
        (lambda: manycore.RawArray("i", 3), (3,), IndexError),
        (lambda: manycore.RawArray("i", 3), (-4,), IndexError),
        (lambda: manycore.RawValue("i"), (0,), TypeError),
        (lambda: manycore.RawValue(Tally), ("other",), AttributeError),
        (lambda: manycore.RawValue(Tally), ("low",), AttributeError),
        (lambda: manycore.RawValue(Tally), ("kind",), TypeError),
        (lambda: manycore.RawValue(Packed), ("count",), ValueError),
        (lambda: ctypes.c_int(), (), TypeError),
        (lambda: 5, (), TypeError),
    ],
)
def test_what_leads_to_no_integer_is_refused(make, path, error):
    with pytest.raises(error):
        manycore.atomic(make(), *path)


def test_the_integer_keeps_its_memory():
    number = manycore.atomic(manycore.RawArray("i", 100_000), 99_999)
    others = [manycore.RawArray("i", 100_000) for _ in range(3)]
    number.store(1)
    assert number.load() == 1
    assert not any(any(other) for other in others)


@pytest.mark.parametrize(
    "travel", [lambda number: pickle.loads(pickle.dumps(number)), copy.copy, copy.deepcopy]
)
def test_a_copy_is_the_same_integer(travel):
    number = manycore.atomic(manycore.RawArray("q", 3), 1)
    travel(number).store(-8)
    assert number.load() == -8
    assert repr(number) == "<Atomic(-8)>"


def test_an_integer_travels_through_a_queue_and_a_pool(ctx):
    number, queue = manycore.atomic(manycore.RawValue("i", 1)), manycore.Queue()
    queue.put([number])
    queue.get()[0].add(1)
    with ctx.Pool(1) as pool:
        pool.apply(targets.add_in_steps, ([number], 5))
    assert number.load() == 7


@pytest.mark.parametrize("make", [guarded, bare])
def test_steps_of_many_processes_are_all_counted(ctx, make):
    numbers = [make(code) for code in "BHiq"]
    with (
        running(ctx, targets.add_in_steps, numbers, 20_000),
        running(ctx, targets.add_in_steps, numbers, 20_000),
    ):
        pass
    assert [number.load() for number in numbers] == [40_000 % 256, 40_000, 40_000, 40_000]


def test_one_of_many_exchanges_wins(ctx):
    turn, wins = manycore.Value("i", 0), manycore.Value("i", 0)
    with (
        running(ctx, targets.win_in_steps, turn, wins, 2000),
        running(ctx, targets.win_in_steps, turn, wins, 2000),
    ):
        pass
    assert (turn.load(), wins.load()) == (2000, 2000)


def test_a_plain_fork_shares_them():
    number = manycore.Value("i", 1)
    with forked(lambda: number.add(os.getpid() > 0)):
        pass
    assert number.load() == 2
