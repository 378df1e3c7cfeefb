"""Connections: the standard library's `multiprocessing.connection`.

Pipes are pairs of connected sockets or pipes of the kernel, which already keep messages whole and
report the other end's death; processes started here inherit and receive them like the standard
library's own.
"""

from multiprocessing.connection import Client, Connection, Listener, Pipe, wait

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]
