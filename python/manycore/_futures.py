"""The futures of an executor: real ones, which cost little until somebody treats them so.

`concurrent.futures.Future` has a condition, two lists and a state of its own, whose making takes
longer than handing out a call. So they are made when they are first asked for: by a callback, by
`wait` or `as_completed`, or by asyncio. Until then whoever wants the result waits for the pool's
answer itself.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, _base
from typing import TYPE_CHECKING, Any

from manycore import _engine

if TYPE_CHECKING:
    from manycore._executor_pool import ExecutorPool

__all__ = ["Future"]

_LATE = frozenset(("_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"))
"""What `concurrent.futures.Future.__init__` sets, the last one last."""

_materialising = threading.Lock()


class Future(_engine.Promise, _base.Future):  # type: ignore[type-arg]
    """The result of a call that was submitted, now or later."""

    _pool: ExecutorPool

    def __init__(self, pool: ExecutorPool, **details: Any) -> None:
        # Not called for usual calls: the engine makes these.
        _engine.Job.__init__(self, None, pool=pool, **details)

    def __getattr__(self, name: str) -> Any:
        if name not in _LATE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._materialise()
        return self.__dict__[name]

    def _materialise(self) -> None:
        """Makes it what `concurrent.futures` expects, and has that told of the answer."""
        with _materialising:
            if "_done_callbacks" in self.__dict__:
                return  # another thread was sooner
            _base.Future.__init__(self)
        due = self._pool._attendant.keeper.due
        if self._when_answered(due, self._settle):
            self._pool._attendant.need_keeper(collects=True)
        else:
            self._tell()

    def _settle(self) -> None:
        """Once it is answered, in the keeper's thread, unless somebody is cancelling it."""
        if self._take_turn():
            self._finish()

    def _take_turn(self) -> bool:
        turn = object()
        return not self._is_done and self.__dict__.setdefault("_turn", turn) is turn

    def _finish(self) -> None:
        """The call is done from now on, and those are told of it who want to be."""
        if self._complete():
            self._pool._crew.ring()
        self._tell()

    def _tell(self) -> None:
        """Tells who waits for this future in the ways of `concurrent.futures`. Runs once."""
        if not self._pool.is_ours():
            self._done_callbacks.clear()  # a forked copy: they are called where the call was made
        if self._is_withdrawn:
            with self._condition:
                self._state = _base.CANCELLED_AND_NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
                self._condition.notify_all()
            self._invoke_callbacks()
        elif self._error is not None:
            self.set_exception(self._failure())
        else:
            self.set_result(self._returned)

    def _failure(self) -> BaseException:
        """What the call raised, or why it has no result."""
        failure: BaseException | None = self.__dict__.get("_failed")
        if failure is None:
            error = self._error
            assert error is not None
            failure = self._failed = self._pool.as_broken(error, self)
        return failure

    def _wait(self, timeout: float | None) -> None:
        """Waits for the answer in this thread.

        Raises:
            TimeoutError: When `timeout` seconds were not enough.
            CancelledError: When the call was cancelled.
        """
        if not self._is_done:
            until = None if timeout is None else time.monotonic() + timeout
            if not self._pool._attendant.wait(self, until):
                raise TimeoutError
        if self._is_withdrawn:
            raise CancelledError

    def _wait_for_result(self, timeout: float | None) -> Any:
        """What `result` does where the result is not there, or is no result."""
        if not self._is_done or self._error is not None:
            self._wait(timeout)
            if self._error is not None:
                try:
                    raise self._failure()
                finally:
                    self = None  # type: ignore[assignment]  # no cycle with the traceback
        return self._returned

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None; waits for it.

        Raises:
            TimeoutError: When `timeout` seconds were not enough.
            CancelledError: When the call was cancelled.
        """
        self._wait(timeout)
        return None if self._error is None else self._failure()

    def cancel(self) -> bool:
        """Cancels the call, unless a worker has begun it. Whether it will never run."""
        if not self._is_done and self._pool.is_ours():
            has_turn = self._take_turn()
            self._pool._attendant.withdraw(self)
            if has_turn and self._is_withdrawn and not self._is_done:
                self._finish()  # callbacks are called by who cancels, as in the standard library
            elif has_turn:
                self.__dict__.pop("_turn", None)
                if self._left == 0 and not self._is_done:
                    self._pool._attendant.keeper.due.add(self._settle)  # it had to wait for this
        return self._is_withdrawn

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._is_withdrawn

    def running(self) -> bool:
        """Whether a worker has begun the call, and not answered it."""
        return not self.done() and self._pool._crew.is_running(self)

    def done(self) -> bool:
        """Whether the call was answered or cancelled."""
        if not self._is_done:
            self._pool._attendant.poll()
        return self._is_withdrawn or self._pool._attendant.has_answer(self)

    def __repr__(self) -> str:
        name = f"<{type(self).__name__} at {id(self):#x} state="
        if not self.done():
            return f"{name}{'running' if self.running() else 'pending'}>"
        if self.cancelled():
            return f"{name}cancelled>"
        if self._error is not None:
            return f"{name}finished raised {type(self._failure()).__name__}>"
        return f"{name}finished returned {type(self._returned).__name__}>"
