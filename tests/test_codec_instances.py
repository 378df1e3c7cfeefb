"""An instance of a plain class arrives as through pickle, whatever its class has."""

import copyreg
import dataclasses
import enum
import pickle
import sys
import types
import typing
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manycore
import processes
import targets
from comparison import Comparison
from test_codec import check_round_trip, fixed_seed
from values import NESTED, PLAIN, Node

T = typing.TypeVar("T")


class Plain:
    shared = "of the class"


class Child(Plain, Node):
    pass


class Outer:
    class Inner:
        pass


class Generic(typing.Generic[T]):
    pass


@dataclasses.dataclass
class Data:
    number: int = 1
    text: str = "any"


@dataclasses.dataclass(frozen=True)
class Frozen:
    number: int = 1
    text: str = "any"


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    number: int = 1


class NeedsArguments:
    def __new__(cls, *arguments):
        made = super().__new__(cls)
        made.__dict__["made with"] = len(arguments)
        return made

    def __init__(self, required):
        self.required = required


class HasNewArguments(NeedsArguments):
    def __getnewargs__(self):
        return 1, 2


class HasNewKeywords(NeedsArguments):
    def __new__(cls, *arguments, key=None):
        return super().__new__(cls, *arguments, key)

    def __getnewargs_ex__(self):
        return (1,), {"key": 2}


class Answers:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class AnswersEverything:
    """Says that it has any attribute."""

    def __getattr__(self, name):
        return lambda *_: ()


class Intercepts:
    def __getattribute__(self, name):
        if name == "__reduce_ex__":
            return lambda _: (str, ("intercepted",))
        return super().__getattribute__(name)


class LiesAboutItsClass:
    @property
    def __class__(self):
        return Plain


class LiesAboutItsAttributes:
    @property
    def __dict__(self):
        return {"lie": 1}


class RefusesToBeSet:
    def __setattr__(self, name, value):
        raise TypeError("not here")

    @property
    def number(self):
        return 7


class Compares:
    def __eq__(self, other):
        raise TypeError("not comparable")

    def __hash__(self):
        raise TypeError("not hashable")

    def __bool__(self):
        raise TypeError("neither")

    def __len__(self):
        raise TypeError("no length")


class SetsState:
    def __setstate__(self, state):
        self.was_set = state


class GetsState:
    def __getstate__(self):
        return {"replaced": sorted(self.__dict__)}


class GetsNoState:
    def __getstate__(self):
        return None


class Reduces:
    def __reduce__(self):
        return Plain, ()


class ReducesItself:
    def __reduce_ex__(self, protocol):
        return Plain, (), {"protocol": protocol}


class Slots:
    __slots__ = ("__dict__", "__weakref__", "slot")


class OnlySlots:
    __slots__ = ("slot",)


class ChildOfSlots(Slots):
    pass


class IntWithAttributes(int):
    pass


class ListWithAttributes(list):
    pass


class DictWithAttributes(dict):
    pass


class Failure(Exception):
    pass


class Meta(type):
    pass


class HasMeta(metaclass=Meta):
    pass


class Keeps:
    def __init_subclass__(cls, **_):
        cls.kept = True

    def __class_getitem__(cls, _):
        return cls


class ChildOfKeeps(Keeps):
    pass


class Colour(enum.Enum):
    RED = "red"


CLASSES = [
    Plain,
    Child,
    Node,
    Outer,
    Outer.Inner,
    Generic,
    Data,
    Frozen,
    NeedsArguments,
    HasNewArguments,
    HasNewKeywords,
    Answers,
    Intercepts,
    LiesAboutItsAttributes,
    RefusesToBeSet,
    Compares,
    SetsState,
    GetsState,
    GetsNoState,
    Reduces,
    ReducesItself,
    Slots,
    ChildOfSlots,
    IntWithAttributes,
    ListWithAttributes,
    DictWithAttributes,
    Failure,
    HasMeta,
    ChildOfKeeps,
    types.SimpleNamespace,
]


def made(cls, attributes=()):
    """An instance of any class with these attributes."""
    value = cls.__new__(cls)
    object.__getattribute__(value, "__dict__").update(attributes)
    return value


NAMES = st.sampled_from(["a", "name", "number", "_Plain__private", "__reduce__", "shared"])
INSTANCES = st.builds(made, st.sampled_from(CLASSES), st.dictionaries(NAMES | st.text(), NESTED))


@pytest.fixture
def queue():
    queue = manycore.Queue()
    yield queue
    assert queue.empty()
    queue.close()


@fixed_seed
@given(value=INSTANCES)
def test_instances_arrive_as_through_pickle(queue, value):
    check_or_fail(queue, value)


@fixed_seed
@given(
    value=st.recursive(
        PLAIN | INSTANCES | st.builds(made, st.sampled_from(CLASSES)),
        lambda it: st.one_of(
            st.lists(it, max_size=4),
            st.tuples(it, it),
            st.dictionaries(PLAIN, it, max_size=3),
            st.builds(lambda part: made(Plain, {"part": part}), it),
        ),
        max_leaves=6,
    )
)
def test_instances_in_containers_arrive_as_through_pickle(queue, value):
    check_or_fail(queue, value)


def check_or_fail(queue, value):
    """A value and an error are the ones of pickle."""
    try:
        pickled = pickle.dumps(value, 5)
        _first = pickle.loads(pickled)  # whose names of attributes those of all others become
        expected = pickle.loads(pickled)
    except Exception as error:
        with pytest.raises(type(error)) as raised:
            queue.put(value)
            queue.get()
        assert str(raised.value) == str(error)
    else:
        queue.put(value)
        Comparison().check(queue.get(), expected)


def with_itself(cls):
    value = made(cls)
    value.myself = value
    return value


def with_its_own_dict():
    value = made(Plain)
    value.attributes = value.__dict__
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(made(cls) for cls in CLASSES),
        *(made(cls, {"a": 1, "b": [2], "c": {"d": (3,)}}) for cls in CLASSES),
        made(AnswersEverything),
        made(LiesAboutItsClass),
        made(Plain, {1: 2}),
        made(Plain, {None: 2, "a": 1}),
        made(Plain, {"\ud800": 1}),
        made(Plain, {"name": sys.intern("name")}),
        made(Plain, {"__reduce_ex__": lambda _: (str, ("instead",))}),
        made(Plain, {"__reduce__": lambda: (str, ("instead",))}),
        made(Plain, {"__getstate__": lambda: {"instead": 1}}),
        made(Plain, {"__getstate__": Plain}),
        made(Plain, {"__class__": 1, "__dict__": 2}),
        made(Plain, {"__setstate__": 1}),
        made(Plain, {"cls": Plain, "module": Plain.__module__}),
        made(Plain, {"one": (text := "a longer text"), "other": text}),
        made(Plain, {"one": (part := made(Plain)), "other": part}),
        made(Plain, {"large": bytes(40_000), "array": bytearray(5 << 20)}),
        made(Plain, {str(number): number for number in range(100)}),
        made(Plain, {"inner": made(Outer.Inner, {"inside": made(Child)})}),
        with_itself(Plain),
        with_itself(SetsState),
        [with_itself(Plain)],
        with_its_own_dict(),
        [(part := made(Plain)), part],
        [made(Plain, {"a": 1}), made(Plain, {"a": 2})],
        [made(Plain, {"a": 1}), (made(Child, {"b": 2}), [made(Outer.Inner)])],
        {1: made(Plain), 2: [made(Child)]},
        {made(Plain): 1},
        [[[[[[[[[made(Plain)]]]]]]]]],
        [[[[[[[made(Plain)]]]]]]],
        [[[[[[made(Plain, {"deep": [[]]})]]]]]],
        Generic[int](),
        FrozenSlots(),
        Colour.RED,
        object(),
        made,
        weakref.WeakKeyDictionary,
        [len, made, Plain, sys],
    ],
    ids=lambda value: type(value).__name__,
)
def test_instances_that_are_traps(queue, value):
    check_or_fail(queue, value)


@pytest.fixture
def module():
    """A module with a class in it that a test may change."""
    module = types.ModuleType("module_of_a_test")
    exec("class Changing:\n    pass", module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("__reduce__", lambda self: (str, ("reduced",))),
        ("__reduce_ex__", lambda self, _: (str, ("reduced",))),
        ("__getstate__", lambda self: {"other": 1}),
        ("__getstate__", lambda self: None),
        ("__setstate__", lambda self, state: self.__dict__.update(set=state)),
        ("__setstate__", None),
        ("__getnewargs__", lambda self: ("any",)),
        ("__getnewargs__", lambda self: ()),
        ("__getnewargs_ex__", lambda self: ((), {"key": 1})),
        ("__new__", lambda cls: (_ for _ in ()).throw(LookupError("no more"))),
        ("__slots__", ("number",)),
        ("__slotnames__", ["number"]),
        ("__getattr__", lambda self, name: name),
        ("__getattribute__", lambda self, name: object.__getattribute__(self, name)),
        ("__module__", "nowhere"),
        ("__module__", None),
        ("__qualname__", "Other"),
        ("__qualname__", "Changing.Other"),
    ],
)
@pytest.mark.parametrize("of_base", [False, True])
@pytest.mark.beyond_stdlib  # there the thread that feeds the pipe prints the error
def test_what_a_class_gets_later_counts_from_then_on(queue, module, name, attribute, of_base):
    cls = module.Changing
    if of_base:
        module.Derived = type("Derived", (cls,), {"__module__": module.__name__})
        cls = module.Derived
    value = made(cls, {"number": 1})
    check_or_fail(queue, value)
    before = {**module.Changing.__dict__, "__qualname__": "Changing"}.get(name)
    setattr(module.Changing, name, attribute)
    check_or_fail(queue, value)
    if before is None:
        delattr(module.Changing, name)
    else:
        setattr(module.Changing, name, before)
    check_or_fail(queue, value)


@pytest.mark.parametrize("register", [copyreg.pickle, ForkingPickler.register])
def test_a_reducer_that_is_registered_later_counts_from_then_on(queue, module, register):
    value = made(module.Changing, {"number": 1})
    check_round_trip(queue, value)
    register(module.Changing, lambda value: (str, ("reduced",)))
    try:
        queue.put(value)
        assert queue.get() == "reduced"
    finally:
        copyreg.dispatch_table.pop(module.Changing, None)
        ForkingPickler._extra_reducers.pop(module.Changing, None)
    check_round_trip(queue, value)


def remove_module(module):
    del sys.modules[module.__name__]


def forbid_module(module):
    sys.modules[module.__name__] = None


@pytest.mark.parametrize(
    "change",
    [
        lambda module: delattr(module, "Changing"),
        lambda module: setattr(module, "Changing", Plain),
        lambda module: setattr(module, "Changing", made),
        lambda module: setattr(module, "Changing", 7),
        lambda module: setattr(module, "Changing", int),
        lambda module: setattr(module, "Changing", OnlySlots),
        lambda module: setattr(module, "Changing", NeedsArguments),
        lambda module: setattr(module, "Changing", Failure),
        lambda module: setattr(module, "Changing", SetsState),
        lambda module: setattr(module, "Changing", LiesAboutItsAttributes),
        lambda module: setattr(module, "Changing", AnswersEverything),
        lambda module: setattr(module, "Changing", Meta),
        lambda module: setattr(module, "__getattr__", lambda _: Plain),
        remove_module,
        forbid_module,
    ],
)
@pytest.mark.parametrize("attributes", [{}, {"number": 1}])
def test_what_is_found_on_receipt_is_what_pickle_finds(queue, module, change, attributes):
    value = made(module.Changing, attributes)
    pickled = pickle.dumps(value, 5)
    queue.put(value)
    queue.put("next")
    change(module)
    try:
        expected = pickle.loads(pickled)
    except Exception as error:
        with pytest.raises(type(error)) as raised:
            queue.get()
        assert str(raised.value) == str(error)
    else:
        Comparison().check(queue.get(), expected)
    assert queue.get() == "next"


@pytest.mark.beyond_stdlib  # there the thread that feeds the pipe prints the error
@pytest.mark.parametrize(
    "change",
    [
        lambda module: delattr(module, "Changing"),
        lambda module: setattr(module, "Changing", Plain),
        remove_module,
        forbid_module,
    ],
)
def test_a_class_that_is_not_found_where_it_says_is_not_sent(queue, module, change):
    value = made(module.Changing, {"number": 1})
    change(module)
    check_or_fail(queue, value)


@pytest.mark.beyond_stdlib  # there the thread that feeds the pipe prints the error
def test_an_instance_of_a_local_class_is_not_sent(queue):
    class Inside:
        pass

    check_or_fail(queue, Inside())


def test_the_names_of_attributes_are_those_of_the_program(queue):
    queue.put(made(Plain, {"".join(["attri", "bute"]): 1}))
    (name,) = queue.get().__dict__
    assert name is sys.intern("attribute")


def test_what_says_how_an_object_is_made_is_asked_once(queue):
    asked = []

    class Asks(Plain):
        def __getnewargs__(self):
            asked.append("new arguments")
            return ()

    Asks.__qualname__ = "Asks"
    globals()["Asks"] = Asks
    try:
        queue.put(made(Asks, {"number": 1}))
        assert asked == ["new arguments"]
        assert queue.get().number == 1
    finally:
        del globals()["Asks"]


class Interrupted(BaseException):
    pass


class IsInterrupted(Plain):
    """A signal handler raises the first time that it is asked."""

    interruptions = iter(())

    def __getnewargs__(self):
        for error in self.interruptions:
            raise error
        return ()


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("make", [lambda it: it, lambda it: [1, it, 2]])
def test_an_interruption_is_not_swallowed(queue, monkeypatch, make):
    monkeypatch.setattr(IsInterrupted, "interruptions", iter([Interrupted()]))
    with pytest.raises(Interrupted):
        queue.put(make(IsInterrupted()))
    check_round_trip(queue, make(IsInterrupted()))


def test_auditors_hear_of_classes_as_with_pickle(run_script):
    done = run_script(
        """
        import sys
        import manycore

        class Plain:
            pass

        def hear(event, arguments):
            if event == "pickle.find_class":
                print(*arguments)

        queue = manycore.Queue()
        sys.addaudithook(hear)
        queue.put(Plain())
        queue.get()
        """
    )
    assert (done.returncode, done.stdout) == (0, "__main__ Plain\n"), done.stderr


class UsesTheQueueWhenItArrives:
    queue = None

    def __setstate__(self, state):
        self.queue.put([state, made(Plain, {"text": "x" * 3000})])
        self.got = self.queue.get()
        vars(self).update(state)


def test_an_instance_may_use_the_queue_while_it_is_got(queue, monkeypatch):
    monkeypatch.setattr(UsesTheQueueWhenItArrives, "queue", queue)
    queue.put((made(UsesTheQueueWhenItArrives, {"before": "y" * 2000, "and": 1}), "after"))
    received, after = queue.get()
    assert after == "after"
    assert received.got[0] == {"before": "y" * 2000, "and": 1}
    assert received.got[1].text == "x" * 3000
    assert (received.before, vars(received)["and"]) == ("y" * 2000, 1)


class Empties:
    """Empties the list that it is in while it is asked how to pickle it."""

    whose = ()

    def __getattr__(self, name):
        if name == "__getnewargs_ex__":
            self.whose.clear()
        raise AttributeError(name)


@pytest.mark.beyond_stdlib
def test_a_list_that_is_emptied_meanwhile_spoils_nothing(queue, monkeypatch):
    sent = [made(Empties), 1, 2]
    monkeypatch.setattr(Empties, "whose", sent)
    queue.put(sent)
    queue.put("next")
    received = queue.get()
    assert type(received) is list
    assert queue.get() == "next"


def test_an_instance_crosses_processes_and_comes_back(ctx):
    there, back = ctx.Queue(), ctx.Queue()
    with processes.running(ctx, targets.echo_queue, there, back):
        there.put([node := Node(1, [2]), {"other": [Node()]}])
        first, second = back.get(timeout=60)
        there.put(None)
    assert type(first) is type(second["other"][0]) is Node
    assert first.parts == node.parts
