"""Tasks in words."""

from __future__ import annotations

import reprlib

from manycore import _engine

_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def describe(job: _engine.Job, task: int) -> str:
    """A task in words: its function and its arguments in short."""
    if job.name is None:
        return "this task"
    try:
        about = job.about(task)
    except Exception:
        about = None
    if about is None:
        return job.name
    args, kwargs = about
    texts = [_SHORT.repr(it) for it in args]
    texts += [f"{name}={_SHORT.repr(it)}" for name, it in kwargs.items()]
    return f"{job.name}({', '.join(texts)})"
