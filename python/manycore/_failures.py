"""What went wrong in a task, as its answer.

A worker imports this when something has: that takes longer than all else that it imports.
"""

from __future__ import annotations

import os
import pickle
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError  # type: ignore[attr-defined]

from manycore._pickling import dumps_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def sendable_exception(error: BaseException) -> object:
    """An exception as a task's answer: with its traceback, in a form that will travel."""
    wrapped = ExceptionWithTraceback(error, error.__traceback__)
    try:
        pickle.loads(dumps_all(wrapped))
    except Exception as why:  # it cannot be pickled, or not be rebuilt
        told = MaybeEncodingError(why, error)
        told.__cause__ = why.with_traceback(_without_ours(why.__traceback__))
        _first_of(why, error).__context__ = error
        return ExceptionWithTraceback(told, None)
    return wrapped


def _without_ours(tb: TracebackType | None) -> TracebackType | None:
    """A traceback from where it comes to code that is not ours."""
    ours = os.path.join(os.path.dirname(__file__), "")
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(ours):
        tb = tb.tb_next
    return tb


def _first_of(why: BaseException, known: BaseException) -> BaseException:
    """The first of the exceptions that led to `why`, but for one that is known."""
    seen = {id(known)}
    while (before := why.__cause__ or why.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        why = before
    return why


def unsendable_result(why: BaseException, value: object) -> object:
    """The answer of a task whose result cannot be pickled."""
    return ExceptionWithTraceback(MaybeEncodingError(why, value), why.__traceback__)


def unsendable_error(why: BaseException, value: object) -> BaseException:
    """What is raised instead of a result that cannot be pickled."""
    error: BaseException = MaybeEncodingError(why, value)
    return error.with_traceback(why.__traceback__)
