"""Mistakes: what they raise, that the message helps, and that things go on afterwards."""

import ctypes
import pickle
import threading

import pytest

import manycore
import targets

beyond_stdlib = pytest.mark.beyond_stdlib


@pytest.fixture(scope="module")
def pool():
    with manycore.Pool(2) as pool:
        yield pool


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"processes": -1}, ValueError, "at least 1"),
        ({"processes": "2"}, TypeError, "int"),
        ({"processes": 1.5}, TypeError, "integer"),
        ({"processes": 1, "initializer": 3}, TypeError, "initializer must be a callable"),
        (
            {"processes": 1, "maxtasksperchild": 0},
            ValueError,
            "maxtasksperchild must be a positive",
        ),
        ({"processes": 1, "maxtasksperchild": "x"}, ValueError, "maxtasksperchild must be a pos"),
    ],
)
def test_a_pool_refuses_what_it_cannot_be_made_of(arguments, error, says):
    with pytest.raises(error, match=says):
        manycore.Pool(**arguments)


# Raised by the call itself or by what it returns, as soon as either is used to the end.
POOL_MISUSES = {
    "map of a number": (lambda pool: pool.map(abs, 3), TypeError, "not iterable"),
    "imap of a number": (lambda pool: list(pool.imap(abs, 3)), TypeError, "not iterable"),
    "starmap of numbers": (lambda pool: pool.starmap(abs, [3]), TypeError, "iterable"),
    "arguments that are none": (lambda pool: pool.apply(abs, 3), TypeError, "iterable"),
    "imap in chunks of 0": (lambda pool: list(pool.imap(abs, [1], 0)), ValueError, "1"),
    "imap_unordered in chunks of 0": (
        lambda pool: list(pool.imap_unordered(abs, [1], 0)),
        ValueError,
        "1",
    ),
    "map of no function": (lambda pool: pool.map(3, [1]), TypeError, "callable"),
    "imap of no function": (lambda pool: list(pool.imap(3, [1])), TypeError, "callable"),
    "apply of no function": (lambda pool: pool.apply(3), TypeError, "callable"),
    "apply_async of no function": (lambda pool: pool.apply_async(3).get(), TypeError, "callable"),
    "map of a lock": (
        lambda pool: pool.map(targets.identity, [threading.Lock()]),
        TypeError,
        "cannot pickle",
    ),
    "imap of a lock": (
        lambda pool: list(pool.imap(targets.identity, [1, threading.Lock(), 2])),
        TypeError,
        "cannot pickle",
    ),
    "apply of a lock": (
        lambda pool: pool.apply(targets.identity, (threading.Lock(),)),
        TypeError,
        "cannot pickle",
    ),
    "a pool as argument": (
        lambda pool: pool.apply(targets.identity, (pool,)),
        NotImplementedError,
        "pool objects cannot be passed",
    ),
}


@pytest.mark.parametrize(("use", "error", "says"), POOL_MISUSES.values(), ids=POOL_MISUSES)
def test_a_misused_pool_says_so_and_goes_on(pool, use, error, says):
    with pytest.raises(error, match=says):
        use(pool)
    assert pool.map(targets.square, [1, 2, 3]) == [1, 4, 9]


@pytest.mark.parametrize("code", ["?", "z", "w", "", "ii", 3, None])
@pytest.mark.parametrize(
    "make",
    [lambda code: manycore.Value(code), lambda code: manycore.Array(code, 3)],
    ids=["Value", "Array"],
)
def test_an_unknown_type_code_is_a_type_error(make, code):
    with pytest.raises(TypeError):
        make(code)


@beyond_stdlib  # which says "this type has no size"
def test_an_unknown_type_code_is_named_and_so_are_the_known_ones():
    with pytest.raises(TypeError, match=r"'\?'.*'i'"):
        manycore.Value("?")


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: manycore.Array("i", -1), ValueError, "length must be >= 0, not -1"),
        (lambda: manycore.Array("i", 1.5), TypeError, "float"),
        (lambda: manycore.Array("i", None), TypeError, "NoneType"),
        (lambda: manycore.Array("i", ["a"]), TypeError, "str"),
        (lambda: manycore.Value("i", "x"), TypeError, "str"),
        (lambda: manycore.Value("i", 1.5), TypeError, "float"),
        (lambda: manycore.Value("i", 1, 2), TypeError, "argument"),
        (lambda: manycore.Value("i", 1, lock=3), AttributeError, "3 has no method 'acquire'"),
        (lambda: manycore.Value(ctypes.c_int, 1, 2), TypeError, "argument"),
    ],
)
def test_a_shared_value_refuses_what_does_not_fit(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    "use",
    [
        lambda: manycore.Queue("x"),
        lambda: manycore.Queue(1.5),
        lambda: manycore.Queue().get(timeout="soon"),
        lambda: manycore.Lock().acquire(timeout="soon"),
        lambda: manycore.Process(target=targets.nothing, args=3),
    ],
)
def test_arguments_of_the_wrong_type_are_type_errors(use):
    with pytest.raises(TypeError):
        use()


def test_the_group_argument_is_reserved():
    with pytest.raises(AssertionError, match="group"):
        manycore.Process(group=1)


def test_a_target_that_is_no_function_fails_in_the_child(capfd):
    process = manycore.Process(target=3)
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "not callable" in capfd.readouterr().err


def test_what_spawn_cannot_pickle_is_refused_at_the_start():
    process = manycore.get_context("spawn").Process(
        target=targets.nothing, args=(threading.Lock(),)
    )
    with pytest.raises(TypeError, match="cannot pickle"):
        process.start()


MAKER = """
    import pickle, sys
    import manycore

    handle = {
        "Queue": manycore.Queue,
        "SimpleQueue": manycore.SimpleQueue,
        "Lock": manycore.Lock,
        "RLock": manycore.RLock,
        "Semaphore": manycore.Semaphore,
        "RWLock": manycore.RWLock,
        "Value": lambda: manycore.Value("i", 5),
        "Array": lambda: manycore.Array("i", 5),
    }[sys.argv[1]]()
    print(pickle.dumps(handle).hex(), flush=True)
    sys.stdin.readline()
"""
HANDLES = ["Queue", "SimpleQueue", "Lock", "RLock", "Semaphore", "RWLock", "Value", "Array"]


@beyond_stdlib
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "ended"])
@pytest.mark.parametrize("kind", HANDLES)
def test_a_handle_of_another_family_is_refused(run_script, kind, alive):
    with run_script.start(MAKER, kind) as stranger:
        handle = bytes.fromhex(stranger.stdout.readline())
        if not alive:
            stranger.stdin.close()
            stranger.wait()
        with pytest.raises(manycore.HandleError, match="family"):
            pickle.loads(handle)
        stranger.stdin.close()


def led_to(cls, handle):
    """What a pickle of such an object with this handle in it brings back."""
    if "Queue" not in cls.__name__:
        return cls(handle=handle)
    queue = cls.__new__(cls)
    queue.__setstate__((handle, {}))
    return queue


@beyond_stdlib
@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "Lock", "RLock", "Semaphore", "RWLock"])
def test_a_handle_that_was_tampered_with_is_refused(kind, part):
    make = getattr(manycore, kind)
    for _ in range(2000):
        make()  # in the same place: what lives there next has a generation that nothing else has
    handle = make().handle
    assert handle[2] > 900
    for wrong in (0, 1, handle[part] + 1, handle[part] + 4096, 2**32 - 1, 2**64 - 1, 2**64, -1):
        tampered = (*handle[:part], wrong, *handle[part + 1 :])
        with pytest.raises((manycore.HandleError, OverflowError)):
            led_to(type(make()), tampered)


@beyond_stdlib
def test_a_handle_of_one_kind_does_not_lead_to_another():
    queue, lock = manycore.Queue(), manycore.Lock()
    for cls, handle in ((type(lock), queue.handle), (type(queue), lock.handle)):
        with pytest.raises(manycore.HandleError):
            led_to(cls, handle)


@beyond_stdlib
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_an_item_that_cannot_be_pickled_in_the_middle_of_others(kind):
    queue = getattr(manycore, kind)()
    for item in (1, [threading.Lock()], 2, {"a": (x for x in "b")}, 3):
        try:
            queue.put(item)
        except TypeError as error:
            assert "cannot pickle" in str(error)
            assert not isinstance(item, int)
    assert [queue.get() for _ in range(3)] == [1, 2, 3]
    assert queue.empty()
