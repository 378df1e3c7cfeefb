"""Pickling support: the standard library's `multiprocessing.reduction`, for our pipes, too."""

from __future__ import annotations

import socket
from multiprocessing.reduction import (
    AbstractReducer,
    DupFd,
    ForkingPickler,
    dump,
    recvfds,
    register,
    sendfds,
)

from manycore._rest import pass_on_rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Sends a descriptor through a connection; the receiver calls `recv_handle`.

    Args:
        conn: One end of a `Pipe` that goes both ways, or a connection over a Unix socket.
        handle: The number of the descriptor. The receiver gets another for the same open file.
        destination_pid: Not used here; other systems need it.

    Raises:
        OSError: When the connection is closed, or is none over which a descriptor can go.
    """
    with _socket(conn) as line:
        sendfds(line, [handle])


def recv_handle(conn: Any) -> int:
    """The descriptor that was sent through a connection. Waits for it.

    Raises:
        EOFError: When the other end is closed.
        OSError: As `send_handle`.
    """
    with _socket(conn) as line:
        (handle,) = recvfds(line, 1)
    return handle


def _socket(conn: Any) -> socket.socket:
    end = getattr(conn, "_end", None)  # of our pipes: what can be polled is no socket
    number = conn.fileno() if end is None else end.line
    return socket.fromfd(number, socket.AF_UNIX, socket.SOCK_STREAM)


pass_on_rest(__name__)
