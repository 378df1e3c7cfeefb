"""What is said between a zygote and the processes that ask it for children."""

from __future__ import annotations

import fcntl
import os
import pickle
import socket
import struct
from collections.abc import Sequence

RECORD = struct.Struct("=BiiQ")
"""What is told about a child: which of the following, its pid, its exit code or an error number,
and the most memory in bytes that it had."""
STARTED, ENDED, FAILED = range(3)

MOST_DESCRIPTORS = 253
"""How many the kernel takes in one message."""

LONGEST_PART = 1 << 15
"""Bytes that the work and the surroundings within an order may have, each."""


class Order:
    """What a child is to be.

    With it come descriptors, in this order: where to tell about the child, its lifeline, the file
    that has its work, its standard streams, the resource tracker's, and those that its work uses.

    Attributes:
        keep: Whether it outlives the process that asks.
        surroundings: Pickled preparation that it may find done already; what else there is stands
            in the work.
        work: None where it is long: it comes in a file.
        streams: Numbers of the standard streams that it gets.
        has_tracker: Whether it gets the resource tracker's descriptor.
        message: All of this, as it travels.
    """

    __slots__ = ("has_tracker", "keep", "message", "streams", "surroundings", "work")

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.keep: bool
        self.surroundings: bytes
        self.work: bytes | None
        self.streams: list[int]
        self.has_tracker: bool
        order = pickle.loads(message)
        self.keep, self.surroundings, self.work, self.streams, self.has_tracker = order


def write_order(
    keep: bool, surroundings: bytes, work: bytes | None, streams: list[int], has_tracker: bool
) -> bytes:
    """The message of an order."""
    return pickle.dumps((keep, surroundings, work, streams, has_tracker))


class Channel(socket.socket):
    """A socket between a zygote and others: of those that are open when the program ends, no word.

    Until then somebody may ask how a child is.
    """

    def __del__(self) -> None:
        self.close()


def send(zygote: socket.socket, message: bytes, fds: Sequence[int]) -> None:
    """Sends an order, as one datagram."""
    socket.send_fds(zygote, [message], fds)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets that orders fit through, and that block, whatever the program's own do."""
    kind = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = socket.socketpair(*kind)
    one, other = (Channel(*kind, fileno=above_streams(end.detach())) for end in ends)
    for end in (one, other):
        end.settimeout(None)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST_PART)  # little on some
    return one, other


def above_streams(fd: int) -> int:
    """The descriptor, or a new one in its place if its number is that of a standard stream.

    It is when a program has closed that stream, and whoever inherits it might take it for one.
    """
    if fd > 2:
        return fd
    moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def receive(orders: socket.socket) -> tuple[Order | None, list[int]]:
    """An order with its descriptors; None at the end, or when there is no room for them all."""
    message, fds, flags, _ = socket.recv_fds(
        orders, 2 * LONGEST_PART + 1000, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    is_whole = fds and not flags & socket.MSG_CTRUNC
    return (Order(message) if is_whole else None), fds


def in_file(content: bytes) -> int:
    """A descriptor of a new file in memory, to be read from its beginning."""
    fd = os.memfd_create("manycore-order")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
