"""Values for the codec's tests: some are almost like plain ones, some shared or recursive."""

import collections
import enum
import math

from hypothesis import strategies as st


class Int(int):
    pass


class Float(float):
    pass


class Str(str):
    pass


class Bytes(bytes):
    pass


class Tuple(tuple):
    pass


class List(list):
    pass


class Dict(dict):
    pass


class Set(set):
    pass


class Node:
    """An object with attributes, equal to none but itself."""

    def __init__(self, *parts):
        self.parts = list(parts)


class Slotted:
    __slots__ = ("parts",)

    def __init__(self, *parts):
        self.parts = list(parts)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 1


Pair = collections.namedtuple("Pair", ["left", "right"])

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**3000), 2**3000),
    st.builds(
        lambda sign, bits, off: sign * 2**bits + off,
        st.sampled_from([1, -1]),
        st.sampled_from([7, 8, 15, 16, 31, 32, 63, 64]),
        st.sampled_from([-1, 0]),
    ),
    st.floats(),
    ANY_TEXT,
    st.binary(),
    st.complex_numbers(),
    st.fractions(),
    st.datetimes(),
    st.sampled_from([Colour.RED, Level.HIGH, math.pi, len, Node, Ellipsis]),
    *(
        st.builds(subclass, plain)
        for subclass, plain in [
            (Int, st.integers()),
            (Float, st.floats()),
            (Str, ANY_TEXT),
            (Bytes, st.binary()),
            (bytearray, st.binary()),
        ]
    ),
)


def hashable(parts):
    """Those that can be in a set and that `Comparison` can put in order there."""
    return [p for p in parts if type(p).__hash__ and not isinstance(p, tuple | Node | Slotted)]


MAKERS = {
    "tuple": tuple,
    "list": list,
    "dict": lambda parts: dict(zip(hashable(parts), reversed(parts), strict=False)),
    "set": lambda parts: set(hashable(parts)),
    "frozenset": lambda parts: frozenset(hashable(parts)),
    "Tuple": Tuple,
    "List": List,
    "Dict": lambda parts: Dict(enumerate(parts)),
    "Set": lambda parts: Set(hashable(parts)),
    "Pair": lambda parts: Pair(parts, parts[:1]),
    "OrderedDict": lambda parts: collections.OrderedDict(enumerate(parts)),
    "Node": lambda parts: Node(*parts),
    "Slotted": lambda parts: Slotted(*parts),
}


# Around where parts leave the payload, where they are viewed instead of copied, and beyond.
LARGE_SIZES = [(32 << 10) - 1, 32 << 10, 100_000, 1 << 20, (4 << 20) - 1, (4 << 20) + 3]
LARGE = st.builds(
    lambda kind, size, byte: kind(bytes([byte]) * size),
    st.sampled_from([bytes, bytearray, Bytes]),
    st.sampled_from(LARGE_SIZES),
    st.integers(0, 255),
)


@st.composite
def graphs(draw, atoms=ATOMS):
    """Containers of earlier objects, so shared ones, and knots that make some recursive."""
    nodes = draw(st.lists(atoms, min_size=1, max_size=4))
    for make in draw(st.lists(st.sampled_from(list(MAKERS.values())), max_size=8)):
        chosen = draw(st.lists(st.integers(0, len(nodes) - 1), max_size=5))
        made = make([nodes[index] for index in chosen])
        if isinstance(made, Node | List | Dict | Set | Tuple):
            made.label = len(nodes)
        nodes.append(made)
    index = st.integers(0, len(nodes) - 1)
    for container, content in draw(st.lists(st.tuples(index, index), max_size=3)):
        match nodes[container]:
            case list() as knot:
                knot.append(nodes[content])
            case dict() as knot:
                knot["knot"] = nodes[content]
            case Node() | Slotted() as knot:
                knot.parts.append(nodes[content])
    return draw(st.sampled_from([nodes, nodes[-1]]))


# What the codec may treat on its own: exact types.
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.binary())
FLAT = st.one_of(
    PLAIN,
    st.lists(PLAIN),
    st.lists(PLAIN).map(tuple),
    st.dictionaries(PLAIN, PLAIN),
    st.lists(st.dictionaries(st.text(), PLAIN)),
)
NESTED = st.recursive(
    PLAIN,
    lambda it: st.one_of(
        st.lists(it, max_size=4),
        st.lists(it, max_size=4).map(tuple),
        st.dictionaries(PLAIN | st.tuples(PLAIN, st.tuples(PLAIN)), it, max_size=4),
    ),
    max_leaves=25,
)
PLAIN_OR_LARGE = st.one_of(PLAIN, LARGE)
FLAT_WITH_LARGE = st.one_of(
    LARGE,
    st.lists(PLAIN_OR_LARGE, max_size=8),
    st.lists(PLAIN_OR_LARGE, max_size=8).map(tuple),
    st.dictionaries(PLAIN, PLAIN_OR_LARGE, max_size=8),
)
