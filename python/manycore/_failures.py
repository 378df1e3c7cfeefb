"""What went wrong in a task, as its answer.

A worker imports this when something has: that takes longer than all else that it imports.
"""

from __future__ import annotations

import pickle
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError  # type: ignore[attr-defined]

from manycore._pickling import dumps_all


def sendable_exception(error: BaseException) -> object:
    """An exception as a task's answer: with its traceback, in a form that will travel."""
    wrapped = ExceptionWithTraceback(error, error.__traceback__)
    try:
        pickle.loads(dumps_all(wrapped))
    except Exception as why:  # it cannot be pickled, or not be rebuilt
        return ExceptionWithTraceback(MaybeEncodingError(why, error), error.__traceback__)
    return wrapped


def unsendable_result(why: BaseException, value: object) -> object:
    """The answer of a task whose result cannot be pickled."""
    return ExceptionWithTraceback(MaybeEncodingError(why, value), why.__traceback__)


def unsendable_error(why: BaseException, value: object) -> BaseException:
    """What is raised instead of a result that cannot be pickled."""
    error: BaseException = MaybeEncodingError(why, value)
    return error.with_traceback(why.__traceback__)
