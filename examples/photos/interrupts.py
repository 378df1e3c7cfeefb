"""Who answers Ctrl-C.

A terminal sends SIGINT to every process of the job at once. Only the parent turns it into a
``KeyboardInterrupt``; it then ends the others. No child prints a traceback of its own.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C waiting while processes are started.

    So no process can exist of which its parent does not know yet, and a child is not
    interrupted before it has said what SIGINT does to it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_interrupt() -> None:
    """Let SIGINT end this child at once and in silence."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def leave_interrupt_to_parent() -> None:
    """Let SIGINT pass this pool worker by; the parent terminates its pool.

    A worker of the standard library's pool waits with a lock held that ``Pool.terminate``
    takes as well: were it to end by a signal there, its parent would hang.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
