"""What is said between a zygote and the processes that ask it for children."""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

RECORD = struct.Struct("=BiiQ")
"""What is told about a child: which of the following, its pid, its exit code or an error number,
and the most memory in bytes that it had."""
STARTED, ENDED, FAILED = range(3)

MOST_DESCRIPTORS = 253
"""How many the kernel takes in one message."""

LONGEST_PART = 1 << 15
"""Bytes that the work and the surroundings within an order may have, each."""


class Order(NamedTuple):
    """What a child is to be.

    With it come descriptors, in this order: where to tell about the child, its lifeline, the file
    that has its work, its standard streams, the resource tracker's, and those that its work uses.
    """

    keep: bool
    """Whether it outlives the process that asks."""
    surroundings: bytes
    """Pickled preparation that it may find done already; what else there is stands in the work."""
    work: bytes | None
    """None where it is long: it comes in a file."""
    streams: list[int]
    """Numbers of the standard streams that it gets."""
    has_tracker: bool

    def send(self, zygote: socket.socket, fds: Sequence[int]) -> None:
        """Sends it, as one datagram."""
        socket.send_fds(zygote, [pickle.dumps(tuple(self))], fds)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets that orders fit through, and that block, whatever the program's own do."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.settimeout(None)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST_PART)  # little on some
    return pair


def receive(orders: socket.socket) -> tuple[Order | None, list[int]]:
    """An order with its descriptors; None at the end, or when there is no room for them all."""
    message, fds, flags, _ = socket.recv_fds(
        orders, 2 * LONGEST_PART + 1000, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    is_whole = fds and not flags & socket.MSG_CTRUNC
    return (Order(*pickle.loads(message)) if is_whole else None), fds


def in_file(content: bytes) -> int:
    """A descriptor of a new file in memory, to be read from its beginning."""
    fd = os.memfd_create("manycore-order")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
