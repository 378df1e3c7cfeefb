"""Pipes and connections.

The ends of a `Pipe` are connections whose messages go through shared memory; the kernel is asked
only who is still there. They can be polled, sent through other pipes and queues, and given to
processes, like those of the standard library, of whose class they are a subclass. `Client` and
`Listener` are the standard library's: what they make reaches processes that are not relatives.
"""

from __future__ import annotations

import io
from multiprocessing import connection as _standard
from multiprocessing import reduction
from multiprocessing.connection import Client, Listener, wait
from multiprocessing.context import BufferTooShort
from typing import Any

from manycore import _engine
from manycore._pickling import dumps_all, loads_object
from manycore._rest import pass_on_rest

__all__ = ["Client", "Connection", "Listener", "Pipe", "reduce_connection", "wait"]


class Connection(_standard.Connection):
    """One end of a pipe, or, made from the number of a descriptor, a standard connection over that.

    Differences from the standard library: up to a mebibyte waits in each direction before `send`
    waits for the receiver; `fileno` can be polled, as there, but nothing can be read from it.

    An end is open as long as any process has it, forked children too. A process that is killed
    closes what it has, and leaves what it was sending whole or unsent.
    """

    _end: _engine.PipeEnd | None = None

    @classmethod
    def _of(cls, end: _engine.PipeEnd, readable: bool, writable: bool) -> Connection:
        connection = cls(end.line, readable, writable)
        connection._end = end
        return connection

    def __reduce__(self) -> Any:
        self._check_closed()  # type: ignore[attr-defined]
        end = self._end
        if end is None:
            return _standard.reduce_connection(self)  # type: ignore[attr-defined]
        line = reduction.DupFd(end.line)
        return _rebuild, (type(self), end.handles(), line, self._readable, self._writable)  # type: ignore[attr-defined]

    def _close(self) -> None:
        if self._end is None:
            super()._close()  # type: ignore[misc]
        self._end = None  # which closes it

    def fileno(self) -> int:
        """A descriptor that is readable when there is a message, or when the other end is gone.

        A process in another network namespace sends without making it readable: `poll` sees that.

        Raises:
            OSError: When this end is closed.
        """
        end = self._end
        if end is None or not self.readable:
            return super().fileno()
        return end.fileno()

    def send(self, obj: Any) -> None:
        """Sends an object. Waits while a mebibyte waits to be received already.

        Args:
            obj: What is sent; it is pickled here, if at all, and what that raises is raised.

        Raises:
            OSError: When this end is closed, or only receives.
            BrokenPipeError: When the other end is closed, or its last process has died.
        """
        end = self._end
        if end is None or not self._writable:  # type: ignore[attr-defined]
            return super().send(obj)
        end.send(obj)

    def recv(self) -> Any:
        """The next object. Waits for it.

        Raises:
            OSError: When this end is closed, or only sends.
            EOFError: When everything was received and the other end is closed, or its last process
                has died.
        """
        end = self._end
        if end is None or not self._readable:  # type: ignore[attr-defined]
            return super().recv()
        obj, is_raw = end.recv()
        return loads_object(obj) if is_raw else obj

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next message as bytes: what was sent by `send_bytes`, or the pickle of an object.

        Args:
            maxlength: The most bytes that are taken.

        Raises:
            EOFError: As `recv`.
            OSError: As `recv`, and when the message is longer: then nothing more can be received.
        """
        end = self._end
        if end is None or not self.readable or (maxlength is not None and maxlength < 0):
            return super().recv_bytes(maxlength)
        message = self._bytes(end)
        if maxlength is not None and len(message) > maxlength:
            self._bad_message_length()  # type: ignore[attr-defined]
        return message

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receives the next message as bytes into a writable buffer; their number.

        Args:
            buf: The buffer.
            offset: Where in it they begin, in bytes.

        Raises:
            EOFError: As `recv`.
            BufferTooShort: When they do not fit; the error has them.
        """
        end = self._end
        with memoryview(buf) as view:
            room = view.nbytes - offset
            if end is None or not self.readable or offset < 0 or room < 0:
                return super().recv_bytes_into(buf, offset)
            message = self._bytes(end)
            if len(message) > room:
                raise BufferTooShort(message)
            with view.cast("B") as flat:
                flat[offset : offset + len(message)] = message
            return len(message)

    @staticmethod
    def _bytes(end: _engine.PipeEnd) -> bytes:
        obj, is_raw = end.recv()
        return obj if is_raw else dumps_all(obj)

    def _send_bytes(self, buf: Any) -> None:
        if self._end is None:
            return super()._send_bytes(buf)  # type: ignore[misc,no-any-return]
        self._end.send_bytes(buf)

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        if self._end is None:
            return super()._recv_bytes(maxsize)  # type: ignore[misc]
        file = io.BytesIO()
        file.write(self._bytes(self._end))
        return file

    def _poll(self, timeout: float | None) -> bool:
        if self._end is None:
            return super()._poll(timeout)  # type: ignore[misc,no-any-return]
        return self._end.poll(timeout)


def _rebuild(cls: type[Connection], handles: Any, line: Any, readable: bool, writable: bool) -> Any:
    return cls._of(_engine.PipeEnd.attach(handles, line.detach()), readable, writable)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connections: what is sent through one is received from the other.

    Args:
        duplex: Whether both can send; else the first receives and the second sends.
    """
    one, other = _engine.PipeEnd.pair()
    return Connection._of(one, True, duplex), Connection._of(other, duplex, True)


def reduce_connection(conn: Any) -> Any:
    """What a pickle of a connection consists of, of ours and of the standard library's."""
    if isinstance(conn, Connection):
        return conn.__reduce__()
    return _standard.reduce_connection(conn)  # type: ignore[attr-defined]


pass_on_rest(__name__)
