"""What scripts define and `pickle` cannot have, as what it is made of.

The standard library pickles these by their name, or not at all.
"""

from __future__ import annotations

import functools
import weakref
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_Cached: Any = type(functools.cache(len))
_BY_CACHE = frozenset((*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "cache_parameters"))
"""What a function with a cache gets by itself when it is made."""

_WEAK = weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet


def is_definition(obj: object) -> bool:
    """Whether it has the name and the module that it was defined with."""
    return isinstance(obj, FunctionType | type | _Cached) or _is_new_type(obj)


def _is_new_type(obj: object) -> bool:
    made_by = type(obj)
    return made_by.__name__ == "NewType" and made_by.__module__ == "typing"


def parts_of(obj: Any) -> tuple[Any, ...] | None:
    """How to make an object again, as `__reduce__` says it; None if that is not known here."""
    if isinstance(obj, _Cached) and hasattr(obj, "cache_parameters"):
        state = {name: it for name, it in vars(obj).items() if name not in _BY_CACHE}
        return _cached, (obj.__wrapped__, obj.cache_parameters()), state or None
    if type(obj) is functools.cached_property and hasattr(obj, "lock"):  # before Python 3.12
        state = {name: it for name, it in vars(obj).items() if name not in ("func", "lock")}
        return functools.cached_property, (obj.func,), state
    if _is_new_type(obj):
        return type(obj), (obj.__name__, obj.__supertype__), {"__module__": obj.__module__}
    if type(obj) in _WEAK:
        return type(obj), ([*obj] if isinstance(obj, weakref.WeakSet) else dict(obj),)
    return None


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)
