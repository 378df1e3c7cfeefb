"""What a call raises that was withdrawn before a worker had begun it.

`concurrent.futures` is imported at the first need.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import CancelledError


def withdrawn() -> CancelledError:
    """The error of a task that was withdrawn."""
    from concurrent.futures import CancelledError

    return CancelledError("the call was withdrawn before a worker had begun it")
