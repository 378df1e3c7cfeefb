"""loky's executor with the face of a pool."""

from __future__ import annotations

import loky

from benches.rivals.executors import Context, Pool


def get_context(method: str) -> Context:
    """The context; loky has a start method of its own."""
    return Context(lambda processes: Pool(loky.ProcessPoolExecutor(processes)))
