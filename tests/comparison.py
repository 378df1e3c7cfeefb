"""Compares two values as deeply as a program could without looking at addresses."""

import struct

from values import Node, Slotted

# Pickle writes these out each time, so which of them are the same object says nothing.
WITHOUT_IDENTITY = (type(None), bool, int, float)


class Comparison:
    """Remembers which objects of one value stand for which of the other."""

    def __init__(self):
        self._theirs_of_ours, self._ours_of_theirs = {}, {}

    def check(self, ours, theirs):
        assert type(ours) is type(theirs)
        if type(ours) in WITHOUT_IDENTITY:
            assert leaf(ours) == leaf(theirs)
        elif self._meet_first(ours, theirs):
            assert leaf(ours) == leaf(theirs)
            for part, their_part in zip(parts(ours), parts(theirs), strict=True):
                self.check(part, their_part)

    def _meet_first(self, ours, theirs):
        """Whether the two were not met before; what pickle makes one object must be one object."""
        if isinstance(ours, str | bytes) and len(ours) <= 1:
            return True  # CPython has only one object of each of these
        assert self._ours_of_theirs.setdefault(id(theirs), ours) is ours, "one became several"
        if id(ours) in self._theirs_of_ours:
            immutable = isinstance(ours, str | bytes | tuple | frozenset)
            assert immutable or self._theirs_of_ours[id(ours)] is theirs, "several became one"
            return False
        self._theirs_of_ours[id(ours)] = theirs
        return True


def leaf(value):
    """What a value is besides its parts, so that `==` tells different ones apart."""
    match value:
        case float():
            return struct.pack("d", value)
        case int() | str() | bytes() | bytearray():
            return value
        case list() | tuple() | dict() | set() | frozenset() | Node() | Slotted():
            return len(list(parts(value)))
        case _ if type(value).__repr__ is object.__repr__:
            return type(value)
    return array_leaf(value) if is_array(value) else repr(value)


def is_array(value):
    return hasattr(value, "dtype") and not isinstance(value, type)


def array_leaf(array):
    """What an array is: how its memory is described, and what is there."""
    dtype = array.dtype
    described = (dtype.str, dtype.char, dtype.descr, str(dtype.metadata), dtype.isalignedstruct)
    content = None if dtype.hasobject else array.tobytes()
    return described, array.shape, array.strides, repr(array.flags), content


def parts(value):
    """The objects that a value consists of, in an order that does not depend on hashes."""
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        yield attributes
    match value:
        case list() | tuple():
            yield from value
        case dict():
            for item in value.items():
                yield from item
        case set() | frozenset():
            yield from sorted(value, key=lambda part: (type(part).__name__, repr(part)))
        case Slotted():
            yield value.parts
        case _ if is_array(value) and value.dtype == object:
            yield from value.flat
