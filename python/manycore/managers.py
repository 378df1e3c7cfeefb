"""Objects that a server process has for others: the standard library's managers, on our processes.

The server is a process of our contexts, so it ends when the process that started it does, and the
pools that it makes are ours. Proxies and everything between them and the server are the standard
library's.
"""

from __future__ import annotations

from multiprocessing import managers as _standard
from multiprocessing.managers import BaseProxy, Token
from typing import Any

from manycore.context import _default_context
from manycore.pool import Pool

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


class BaseManager(_standard.BaseManager):
    """A server of objects whose types are registered with its class.

    Args:
        address: Where it listens; by default a place of its own.
        authkey: What those who connect have to know; by default the key of this process.
        serializer: `"pickle"` or `"xmlrpclib"`.
        ctx: The context that starts its process; by default the one in use.
        shutdown_timeout: Seconds until a server that was told to end is made to.
    """

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        super().__init__(
            address,
            authkey,
            serializer,
            ctx or _default_context.get_context(),
            shutdown_timeout=shutdown_timeout,
        )


class SyncManager(BaseManager, _standard.SyncManager):
    """A server of lists, dicts, queues, locks, pools and other objects that processes share."""


# The last argument is how it is seen from outside.
SyncManager.register("Pool", Pool, _standard.PoolProxy)  # type: ignore[attr-defined]


class SharedMemoryManager(BaseManager, _standard.SharedMemoryManager):
    """A server that makes blocks of named shared memory, and takes them away when it ends."""


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
