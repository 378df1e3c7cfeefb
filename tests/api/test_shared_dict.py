"""A dict that processes share."""

import collections
import copy
import enum
import math
import os
import pickle
import sys
import threading
from collections.abc import MutableMapping

import pytest

import manycore
import targets
from processes import running

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def d():
    return manycore.SharedDict()


def test_it_does_what_a_dict_does(d):
    assert isinstance(d, MutableMapping)
    plain = {}
    for mapping in (d, plain):
        mapping["a"] = 1
        mapping["b"] = [1, 2]
        mapping["a"] = {"x": (1, 2.5, None)}
        mapping.update({"c": b"bytes"}, e="more")
        mapping.update([("f", True), ("g", None)])
        del mapping["b"]
        assert mapping.pop("e") == "more"
        assert mapping.pop("e", "default") == "default"
        assert mapping.setdefault("a") == {"x": (1, 2.5, None)}
        assert mapping.setdefault("h", []) == []
        assert mapping.setdefault("i") is None
        assert mapping.get("nothing") is None
        assert mapping.get("nothing", 3) == 3
        assert mapping.get("c") == b"bytes"
        assert ("c" in mapping, "b" in mapping) == (True, False)
        assert len(mapping) == 6
        for missing in (lambda m: m["b"], lambda m: m.pop("b"), lambda m: m.__delitem__("b")):
            with pytest.raises(KeyError, match="'b'"):
                missing(mapping)
    assert d == plain
    assert plain == d
    assert d.copy() == plain
    assert type(d.copy()) is dict
    assert sorted(d) == sorted(d.keys()) == sorted(plain)
    assert sorted(map(repr, d.values())) == sorted(map(repr, plain.values()))
    assert dict(d.items()) == plain
    assert ("f", True) in d.items()
    assert b"bytes" in d.values()
    assert d | {"a": 1} == plain | {"a": 1}
    assert {"a": 1} | d == plain
    d |= {"a": 1}
    assert d["a"] == 1
    d.clear()
    assert (len(d), dict(d), bool(d)) == (0, {}, False)


def test_it_is_made_as_a_dict_is():
    assert manycore.SharedDict({"a": 1}, b=2) == {"a": 1, "b": 2}
    assert manycore.SharedDict([(1, 2), (3, 4)]) == {1: 2, 3: 4}
    assert manycore.SharedDict(mapping=1, handle=2) == {"mapping": 1, "handle": 2}
    assert type(manycore.SharedDict()).fromkeys("ab", 0) == {"a": 0, "b": 0}
    with pytest.raises(TypeError):
        manycore.SharedDict(1)


def test_its_repr_shows_what_is_in_it(d):
    d["a"] = [1]
    assert repr(d) == "SharedDict({'a': [1]})"


def test_a_dict_in_itself_is_shown_and_compared_like_any_that_is(d):
    plain = {}
    plain["a"] = plain
    d["a"] = d
    assert repr(plain) == "{'a': {...}}"
    assert repr(d) == "SharedDict({'a': SharedDict({...})})"
    assert d == d["a"]
    assert d != {"a": 1}
    assert d["a"]["a"] == d
    assert repr(d) == "SharedDict({'a': SharedDict({...})})"
    other = manycore.SharedDict(b=d)
    d["a"] = other
    assert repr(d) == "SharedDict({'a': SharedDict({'b': SharedDict({...})})})"
    d.clear()
    assert repr(other) == "SharedDict({'b': SharedDict({})})"


def fail():
    raise ValueError("not to be unpickled")


class Undecodable:
    def __reduce__(self):
        return fail, ()


@pytest.mark.parametrize("take", [lambda d: d.pop("a"), lambda d: d.popitem()])
def test_what_cannot_be_unpickled_is_not_removed_by_who_tries(d, take):
    d["a"] = Undecodable()
    with pytest.raises(ValueError, match="not to be unpickled"):
        take(d)
    assert "a" in d
    del d["a"]
    assert len(d) == 0


def test_popitem_returns_each_entry_once(d):
    entries = {number: str(number) for number in range(500)}
    d.update(entries)
    assert dict(d.popitem() for _ in range(500)) == entries
    with pytest.raises(KeyError, match="empty"):
        d.popitem()
    d["a"] = 1
    assert d.popitem() == ("a", 1)


KEYS = [
    "",
    "text",
    "ß" * 100,
    "\udcff surrogate",
    b"",
    b"bytes",
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    2**200,
    -(2**200),
    0.5,
    -1e-300,
    math.inf,
    -math.inf,
    None,
    (),
    (1,),
    ("a", (b"b", (None, 2**70, 1.5))),
    ((), ()),
]


def test_keys_come_back_as_they_are(d):
    for number, key in enumerate(KEYS):
        d[key] = number
    assert len(d) == len(KEYS)
    assert set(d) == set(KEYS)
    assert [d[key] for key in KEYS] == list(range(len(KEYS)))
    assert {type(key) for key in d} == {type(key) for key in KEYS}


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, True),
        (0, 0.0, -0.0, False),
        (2**70, 2.0**70),
        (-(2**63), -(2.0**63)),
        (2**63, 2.0**63),
        (int(1e300), 1e300),
        ((1, (0,)), (True, (-0.0,)), (1.0, (False,))),
    ],
    ids=repr,
)
def test_equal_keys_are_one_key(d, same):
    assert len(set(same)) == 1
    for number, key in enumerate(same):
        d[key] = number
        assert {d[other] for other in same} == {number}
    assert (len(d), list(d)) == (1, [same[0]])


def test_keys_that_differ_are_different_keys(d):
    keys = ["1", b"1", 1, (1,), ("1",), "a", ("a",), b"a", None, "None", 0.1, 2**53, 2.0**53 + 2]
    for key in keys:
        d[key] = key
    assert [d[key] for key in keys] == keys


class Text(str):
    pass


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "key",
    [
        [],
        {},
        {1},
        frozenset(),
        object(),
        1j,
        Text("a"),
        Number.ONE,
        bytearray(b"a"),
        len,
        (1, [2]),
        collections.namedtuple("P", "x")(1),
        (((((((((((1,),),),),),),),),),),),
    ],
    ids=lambda key: type(key).__name__,
)
def test_what_is_no_key_is_refused(d, key):
    for use in (d.get, d.pop, d.__contains__, d.__getitem__, d.__delitem__, d.setdefault, d.incr):
        with pytest.raises(TypeError, match="a key of a SharedDict"):
            use(key)
    with pytest.raises(TypeError, match="a key of a SharedDict"):
        d[key] = 1
    assert len(d) == 0


def test_nan_and_long_keys_are_refused(d):
    for nan in (math.nan, (1, math.nan)):
        with pytest.raises(ValueError, match="nan"):
            d[nan] = 1
    d["a" * 30_000] = 1
    with pytest.raises(ValueError, match="40005 bytes"):
        d["a" * 40_000] = 1
    assert list(d) == ["a" * 30_000]


class Plain:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 31_000,
        b"x" * 100_000,
        bytearray(b"y" * 200_000),
        "z" * 5_000_000,
        [b"a" * 40_000, {"b": bytearray(b"b" * 50_000)}],
        {number: str(number) for number in range(20_000)},
        (),
        2**100,
        {1, 2},
        print,
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_values_may_be_anything_that_pickles(d, value):
    for _ in range(3):
        d["key"] = value
        assert d["key"] == value
        assert list(d.values()) == [value]
    assert d.pop("key") == value
    d["key"] = Plain(value)
    assert d["key"].x == value


def test_what_cannot_be_pickled_changes_nothing(d):
    d["a"] = 1
    with pytest.raises(TypeError, match="pickle"):
        d["a"] = threading.Lock()
    with pytest.raises(TypeError, match="pickle"):
        d.setdefault("b", threading.Lock())
    assert d == {"a": 1}


def test_large_values_give_their_memory_back(d):
    before = manycore._engine.heap_usage()[1]
    for _ in range(20):
        d["a"] = b"x" * 10_000_000
    assert manycore._engine.heap_usage()[1] - before < 15_000_000
    d.clear()
    assert manycore._engine.heap_usage()[1] - before < 100_000


def test_views_show_what_there_is_now(d):
    keys, values, items = d.keys(), d.values(), d.items()
    d["a"] = 1
    assert (list(keys), list(values), list(items)) == (["a"], [1], [("a", 1)])
    assert (len(keys), len(values), len(items)) == (1, 1, 1)
    assert keys & {"a", "b"} == {"a"}


def test_it_may_change_while_it_is_gone_through(d):
    d.update((number, number) for number in range(1000))
    seen = []
    for key, value in d.items():
        seen.append(key)
        assert value == key
        d[key] = value
        if isinstance(key, int):
            d.pop(key + 500, None)
            d[f"new {key}"] = f"new {key}"
    numbers = [key for key in seen if isinstance(key, int)]
    assert len(set(seen)) == len(seen)
    assert set(range(500)) - set(numbers) == set()


def test_incr_counts(d):
    assert d.incr("a") == 1
    assert d.incr("a", 5) == 6
    assert d.incr("b", by=-1, initial=10) == 9
    assert d.incr("c", 0.5) == 0.5
    assert d.incr("a", 2**63) == 2**63 + 6
    assert d.incr("text", "b", "a") == "ab"
    with pytest.raises(TypeError):
        d.incr("text")
    assert d == {"a": 2**63 + 6, "b": 9, "c": 0.5, "text": "ab"}


def test_compare_and_set_compares_as_python_does(d):
    assert not d.compare_and_set("a", None, 1)
    d["a"] = [1, 2.0]
    assert not d.compare_and_set("a", [1], "wrong")
    assert d.compare_and_set("a", [True, 2], "new")
    assert d == {"a": "new"}


def test_a_copy_leads_to_the_same_dict(d):
    for other in (copy.copy(d), pickle.loads(pickle.dumps(d))):
        other["a"] = os.urandom(4)
        assert d["a"] == other["a"]
        assert type(other) is type(d)


def test_shared_objects_live_as_long_as_they_are_in_it(d):
    queue = manycore.Queue()
    queue.put("sent")
    d["queue"] = queue
    d["more"] = [queue, manycore.SharedDict(inner=1)]
    del queue
    assert d["queue"].get() == "sent"
    d["queue"].put("again")
    assert d["more"][0].get() == "again"
    assert dict(d.items())["more"][1] == {"inner": 1}
    assert d.pop("more")[1] == {"inner": 1}
    for _ in range(100):
        d["queue"] = d["queue"]
    d["queue"].put("last")
    assert d["queue"].get() == "last"


class Meddler:
    """Changes the dict while it is pickled, compared and added to."""

    def __init__(self, d, x):
        self.d, self.x = d, x

    def __reduce__(self):
        self.d["meddled"] = "pickled"
        return Meddler, (self.d, self.x)

    def __eq__(self, other):
        self.d["meddled"] = "compared"
        return True

    def __add__(self, other):
        self.d.pop("meddled", None)
        return Meddler(self.d, self.x + other)


def test_python_code_may_use_the_dict_while_it_is_used(d):
    d["a"] = Meddler(d, 1)
    assert d["meddled"] == "pickled"
    assert d.compare_and_set("a", 0, Meddler(d, 2))
    assert d.incr("a", 5).x == 7
    assert d["a"].x == 7


def test_processes_count_together(ctx):
    d = ctx.SharedDict()
    with (
        running(ctx, targets.add_often, d, 2000) as first,
        running(ctx, targets.add_often, d, 2000) as second,
    ):
        targets.add_often(d, 2000)
    assert d == {
        "count": 6000,
        **{("of", process.pid): 1000.0 for process in (first, second)},
        ("of", os.getpid()): 1000.0,
    }


def test_what_is_made_of_a_value_is_never_lost(ctx):
    d = ctx.SharedDict(list=[])
    with running(ctx, targets.grow_list, d, 100, 1), running(ctx, targets.grow_list, d, 100, 2):
        pass
    assert sorted(d["list"]) == [(number, step) for number in (1, 2) for step in range(100)]


def test_of_many_defaults_one_is_set(ctx):
    d, results = ctx.SharedDict(), ctx.Queue()
    with (
        running(ctx, targets.set_defaults, d, 1, results),
        running(ctx, targets.set_defaults, d, 2, results),
    ):
        assert results.get() == results.get() == [d[key] for key in range(300)]


def test_it_travels(ctx):
    d = ctx.SharedDict()
    with ctx.Pool(2) as pool:
        pool.starmap(targets.set_item, [(d, number, number**2) for number in range(50)])
        assert pool.apply(targets.identity, (d,)) == d
    assert d == {number: number**2 for number in range(50)}
    queue = ctx.Queue()
    queue.put({"d": d})
    assert queue.get()["d"] == d


def test_threads_count_together(d):
    threads = [threading.Thread(target=targets.add_often, args=(d, 2000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d["count"] == 8000


def test_dicts_that_are_let_go_leave_nothing():
    manycore._engine.reap()
    before = manycore._engine.heap_usage()[:2]
    for _ in range(50):
        d = manycore.SharedDict({number: "x" * number for number in range(300)})
        d["large"] = b"x" * 100_000
        d["queue"] = manycore.Queue()
        del d
    assert manycore._engine.heap_usage()[:2] == before


def test_it_is_not_hashable_and_has_no_order(d):
    with pytest.raises(TypeError, match="unhashable"):
        hash(d)
    with pytest.raises(TypeError):
        reversed(d)
    assert sys.getsizeof(d) > 0
