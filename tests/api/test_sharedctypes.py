"""Value and Array: ctypes in shared memory, with and without a lock."""

import copy
import ctypes
import multiprocessing
import pickle
import threading
from multiprocessing import resource_tracker

import pytest

import manycore
import targets
from manycore import sharedctypes
from processes import running

beyond_stdlib = pytest.mark.beyond_stdlib

INTEGERS = "bBhHiIlLqQ"
UNSIGNED = "BHILQ"


@pytest.fixture(scope="module", autouse=True)
def _what_the_standard_library_keeps():
    resource_tracker.ensure_running()
    multiprocessing.RawValue("i")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize(
    ("code", "zero", "new"),
    [*((code, 0, 100) for code in INTEGERS), ("f", 0.0, 0.5), ("d", 0.0, 1e-9), ("c", b"\0", b"x")],
)
def test_a_value_is_zero_until_it_is_set(code, zero, new, lock):
    value = manycore.Value(code, lock=lock)
    assert value.value == zero
    value.value = new
    assert value.value == new
    assert manycore.Value(code, new, lock=lock).value == new


@pytest.mark.parametrize("code", UNSIGNED)
def test_integers_wrap_as_in_c(code):
    value = manycore.Value(code, 0)
    value.value -= 1
    assert value.value == 2 ** (8 * ctypes.sizeof(value.get_obj())) - 1


@pytest.mark.parametrize(
    ("kind", "first"), [(ctypes.c_double, 2.5), (ctypes.c_bool, True), (ctypes.c_short, -3)]
)
def test_a_ctypes_type_may_be_given_instead_of_a_code(kind, first):
    value = manycore.Value(kind, first)
    assert value.value == first
    assert isinstance(value.get_obj(), kind)


def test_a_value_may_be_a_structure():
    point = manycore.Value(Point, 1, 2)
    point.x += 0.5
    assert (point.x, point.y) == (1.5, 2.0)


class Ledger(ctypes.Structure):
    """With fields that are called as methods of integers are, and as their `value` is."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("load", "store", "exchange", "add", "sub", "compare_exchange"),
            *("value", "raw", "get_lock", "get_obj", "_guard"),
        )
    ]


@pytest.mark.parametrize("lock", [True, False])
def test_the_fields_of_a_structure_may_have_any_name(lock):
    names = [name for name, _ in Ledger._fields_]
    bare = manycore.RawValue(Ledger, *range(len(names)))
    ledger = sharedctypes.synchronized(bare) if lock else bare
    assert [getattr(ledger, name) for name in names] == list(range(len(names)))
    for name in names:
        setattr(ledger, name, getattr(ledger, name) + 10)
    assert [getattr(bare, name) for name in names] == list(range(10, 10 + len(names)))


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("code", ["i", "d"])
def test_a_child_sees_and_changes_a_value(ctx, code, lock):
    value = ctx.Value(code, 7, lock=lock)
    with running(ctx, targets.set_value, value, 8):
        pass
    assert value.value == 8


def test_additions_under_the_values_lock_are_all_counted(ctx):
    value = ctx.Value("i", 0)
    processes = [
        ctx.Process(target=targets.add_with_own_lock, args=(value, 2000)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert value.value == 8000


def test_the_lock_is_recursive_unless_another_is_given():
    value = manycore.Value("i")
    with value, value.get_lock():
        value.value += 1
    lock = manycore.Lock()
    assert manycore.Value("i", lock=lock).get_lock() is lock


def test_acquire_and_release_are_those_of_the_lock():
    value = manycore.Value("i", lock=manycore.Lock())
    value.acquire()
    assert value.get_lock().acquire(block=False) is False
    value.release()


@pytest.mark.parametrize(
    "make", [lambda: manycore.Value("i", lock=False), lambda: manycore.Array("i", 1, lock=False)]
)
def test_without_a_lock_it_is_the_bare_ctypes_object(make):
    bare = make()
    assert not hasattr(bare, "get_lock")
    ctypes.addressof(bare)


def test_with_a_lock_get_obj_is_the_bare_ctypes_object():
    value, array = manycore.Value("i", 5), manycore.Array("i", [5])
    assert isinstance(value.get_obj(), ctypes.c_int)
    assert isinstance(array.get_obj(), ctypes.Array)
    value.get_obj().value = 6
    array.get_obj()[0] = 6
    assert (value.value, array[0]) == (6, 6)


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize(
    ("size_or_items", "items"),
    [(0, []), (3, [0, 0, 0]), ([1, 2], [1, 2]), ((1, 2), [1, 2]), (range(4), [0, 1, 2, 3])],
)
def test_an_array_is_made_from_a_size_or_from_items(size_or_items, items, lock):
    array = manycore.Array("i", size_or_items, lock=lock)
    assert len(array) == len(items)
    assert list(array) == items


def test_an_array_has_the_indices_and_slices_of_a_list():
    array = manycore.Array("i", range(5))
    assert (array[0], array[-1], array[1:4], array[::2]) == (0, 4, [1, 2, 3], [0, 2, 4])
    array[0] = 10
    array[1:3] = [11, 12]
    assert array[:] == [10, 11, 12, 3, 4]


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_outside_of_the_array_is_an_error(index):
    array = manycore.Array("i", 5)
    with pytest.raises(IndexError):
        array[index]
    with pytest.raises(IndexError):
        array[index] = 1


def test_a_slice_takes_exactly_as_many_items_as_it_has():
    with pytest.raises(ValueError, match="same size"):
        manycore.Array("i", 3)[0:2] = [1]


def test_an_array_of_characters_has_a_value_and_raw_bytes():
    array = manycore.Array("c", b"hello")
    assert (array.value, array.raw, len(array)) == (b"hello", b"hello", 5)
    array.value = b"hi"
    assert (array.value, array.raw) == (b"hi", b"hi\0lo")


def test_an_array_may_hold_structures():
    points = manycore.Array(Point, [(1, 2), (3, 4)])
    points[0].x = 5
    assert [(p.x, p.y) for p in points] == [(5, 2), (3, 4)]


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_a_child_sees_and_changes_an_array(ctx, size, lock):
    array = ctx.Array("d", size, lock=lock)
    with running(ctx, targets.fill, array, range(size)):
        pass
    assert array[:] == list(range(size))


def test_an_array_lies_in_memory_as_c_would_have_it():
    assert bytes(manycore.Array("h", [1, -1], lock=False)) == b"\x01\x00\xff\xff"


@pytest.mark.parametrize("wrong", ["text", 1.5, None])
def test_an_item_of_the_wrong_type_is_refused(wrong):
    value, array = manycore.Value("i", 1), manycore.Array("i", [1])
    with pytest.raises(TypeError):
        value.value = wrong
    with pytest.raises(TypeError):
        array[0] = wrong
    assert (value.value, array[0]) == (1, 1)


def test_repr_tells_the_value():
    assert repr(manycore.Value("i", 3)) == "<Synchronized wrapper for c_int(3)>"
    assert repr(manycore.Array("i", 3)).startswith("<SynchronizedArray wrapper for <")


def test_the_classes_are_related_as_in_the_standard_library():
    value, array = manycore.Value("i"), manycore.Array("i", 1)
    string, point = manycore.Array("c", 1), manycore.Value(Point)
    for guarded in (value, array, string, point):
        assert isinstance(guarded, sharedctypes.SynchronizedBase)
    assert isinstance(value, sharedctypes.Synchronized)
    assert isinstance(array, sharedctypes.SynchronizedArray)
    assert isinstance(string, sharedctypes.SynchronizedString)
    assert isinstance(string, sharedctypes.SynchronizedArray)
    assert not isinstance(point, sharedctypes.Synchronized)


class Counter(sharedctypes.Synchronized):
    """With a constructor of its own."""

    def __init__(self, first):
        super().__init__(manycore.RawValue("i", first), manycore.RLock())

    def count(self):
        with self:
            self.value += 1
        return self


def test_a_class_may_be_derived_that_is_made_otherwise():
    counter = Counter(5).count().count()
    assert counter.value == 7
    assert repr(counter) == "<Counter wrapper for c_int(7)>"


class Recorder:
    """A lock of one's own."""

    def __init__(self):
        self.calls = []

    def acquire(self):
        self.calls.append("acquire")

    def release(self):
        self.calls.append("release")

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


@pytest.mark.parametrize(
    "access",
    [
        lambda value: value.value,
        lambda value: setattr(value, "value", 2),
        lambda value: value.__enter__() or value.__exit__(None, None, None),
        lambda value: value.acquire() or value.release(),
    ],
    ids=["get", "set", "with", "acquire"],
)
def test_a_lock_of_ones_own_is_asked_each_time(access):
    value = manycore.Value("i", 1, lock=Recorder())
    access(value)
    assert value.get_lock().calls == ["acquire", "release"]


def test_the_lock_is_released_when_an_assignment_fails():
    value, point = manycore.Value("i", 1, lock=Recorder()), manycore.Value(Point, lock=Recorder())
    with pytest.raises(TypeError):
        value.value = "x"
    with pytest.raises(TypeError):
        point.x = "x"
    assert value.get_lock().calls == point.get_lock().calls == ["acquire", "release"]


class Stuck(Recorder):
    def release(self):
        raise RuntimeError("stuck")


def test_an_error_is_not_lost_where_the_lock_cannot_be_released_either():
    value, point = manycore.Value("i", 1, lock=Stuck()), manycore.Value(Point, lock=Stuck())
    with pytest.raises(RuntimeError, match="stuck") as raised:
        value.value = "x"
    assert isinstance(raised.value.__context__, TypeError)
    with pytest.raises(RuntimeError, match="stuck") as raised:
        point.x = "x"
    assert isinstance(raised.value.__context__, TypeError)
    with pytest.raises(RuntimeError, match="stuck") as raised:
        value.value = 2
    assert raised.value.__context__ is None


class RecordingRLock(type(manycore.RLock())):
    """One of ours, or of the standard library's, that acquires in its own way."""

    def acquire(self, *args):
        calls.append("acquire")
        return super().acquire(*args)

    def release(self):
        calls.append("release")
        super().release()


calls = []


@beyond_stdlib  # whose locks have these as attributes of each instance
def test_a_lock_derived_from_ours_is_asked_each_time():
    value = manycore.Value("i", 1, lock=RecordingRLock())
    calls.clear()
    value.value += 1
    assert calls == ["acquire", "release"] * 2


def test_what_is_made_anew_guards_what_it_was_given_last():
    value, lock = manycore.Value("i", 1), manycore.RLock()
    value.__init__(manycore.RawValue("i", 5), lock)
    assert value.value == 5
    value.value = 6
    assert value.get_obj().value == 6
    assert value.get_lock() is lock


def test_a_value_cannot_be_deleted():
    value, point = manycore.Value("i", 1), manycore.Value(Point)
    with pytest.raises(AttributeError):
        del value.value
    with pytest.raises(AttributeError):
        del point.x
    assert value.value == 1


def test_a_value_waits_for_who_has_its_lock():
    value, read = manycore.Value("i", 1), []
    reader = threading.Thread(target=lambda: read.append(value.value))
    with value.get_lock():
        reader.start()
        value.value = 2
    reader.join()
    assert read == [2]


def test_a_guarded_object_without_a_lock_gets_one():
    value = sharedctypes.synchronized(manycore.RawValue("i", 4))
    with value.get_lock(), value:
        assert value.value == 4


def test_a_copy_is_another_object():
    first = manycore.RawArray("i", [1, 2])
    second = sharedctypes.copy(first)
    second[0] = 9
    assert (first[:], second[:]) == ([1, 2], [9, 2])


def test_what_has_a_lock_gets_no_other():
    with pytest.raises(AssertionError, match="already synchronized"):
        sharedctypes.synchronized(manycore.Value("i"))


@beyond_stdlib
@pytest.mark.parametrize("type_", [ctypes.c_int, Point])
def test_a_plain_ctypes_object_is_pickled_as_if_none_of_its_type_were_shared(type_):
    sharedctypes.copy(type_())  # from here on the type has a reducer
    plain = type_()
    ctypes.memset(ctypes.addressof(plain), 3, ctypes.sizeof(plain))
    gotten = through_a_queue(plain)
    assert type(gotten) is type_
    assert bytes(gotten) == bytes(plain)
    ctypes.memset(ctypes.addressof(gotten), 0, ctypes.sizeof(gotten))
    assert bytes(plain) == b"\3" * ctypes.sizeof(plain)


@beyond_stdlib
@pytest.mark.parametrize("kind", [targets.OursFirst, targets.TheirsFirst])
@pytest.mark.parametrize("method", ["fork", "spawn"])  # their fork server would stay
def test_both_libraries_may_share_objects_of_a_type(method, kind):
    theirs = multiprocessing.get_context(method)
    if kind is targets.OursFirst:
        ours, standard = manycore.RawValue(kind, 1), theirs.RawValue(kind, 1)
    else:
        standard, ours = theirs.RawValue(kind, 1), manycore.RawValue(kind, 1)
    through_a_queue(ours).value = 5
    assert (ours.value, standard.value) == (5, 1)
    child = theirs.Process(target=targets.set_value, args=(standard, 6))
    child.start()
    child.join()
    assert (ours.value, standard.value) == (5, 6)
    through_a_queue(ours).value = 7
    assert ours.value == 7
    with pytest.raises(RuntimeError, match="inheritance"):
        manycore.Queue().put(standard)


@beyond_stdlib
@pytest.mark.parametrize("make", [ctypes.c_int, lambda first: multiprocessing.RawValue("i", first)])
def test_what_does_not_lie_in_our_memory_is_guarded_but_does_not_travel(make):
    value = sharedctypes.synchronized(make(4))
    value.value += 1
    assert value.value == 5
    with pytest.raises(TypeError, match="not made by manycore"):
        pickle.dumps(value)
    with pytest.raises(TypeError, match="not made by"):
        manycore.atomic(value)


@beyond_stdlib
def test_a_copy_that_is_not_shared_is_not_taken_for_what_it_was_copied_from():
    shared = manycore.RawValue("i", 4)
    private = copy.copy(shared)
    with pytest.raises(TypeError, match="not made by"):
        manycore.atomic(private)
    with pytest.raises(TypeError, match="pickle"):
        through_a_queue(private)
    with pytest.raises(TypeError, match="changes in one step"):
        sharedctypes.synchronized(private).add(1)
    assert (shared.value, private.value) == (4, 4)


@beyond_stdlib
def test_a_shared_array_of_nothing_travels():
    array = manycore.Array("i", 0)
    assert len(through_a_queue(array)) == len(through_a_queue(array.get_obj())) == 0


def through_a_queue(shared):
    queue = manycore.Queue()
    queue.put(shared)
    return queue.get()


def through_a_pool(shared):
    with manycore.Pool(1) as pool:
        return pool.apply(targets.identity, (shared,))


@beyond_stdlib
@pytest.mark.parametrize(
    "travel",
    [lambda shared: pickle.loads(pickle.dumps(shared)), through_a_queue, through_a_pool],
    ids=["pickle", "queue", "pool"],
)
def test_what_travels_is_the_same_memory_and_the_same_lock(travel):
    value, array = manycore.Value("i", 7), manycore.Array("d", [7])
    travelled = travel(value)
    travelled.value = 8
    travel(array)[0] = 0.5
    assert (value.value, array[:]) == (8, [0.5])

    gotten = threading.Thread(target=lambda: refused.append(travelled.acquire(block=False)))
    refused = []
    with value.get_lock():
        gotten.start()
        gotten.join()
    assert refused == [False]
