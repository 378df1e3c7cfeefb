"""A place where other processes stop, and say who they are, until the test lets them go on."""

import os
import struct
from pathlib import Path

_PID = struct.Struct("i")


class Gate:
    """Two FIFOs: it needs nothing of what is tested, and every start method can carry it.

    Children call `stop` or `pass_by`, the test calls `arrived` and `let_go`.
    """

    def __init__(self, folder: Path):
        self._arrivals, self._releases = str(folder / "arrivals"), str(folder / "releases")
        for path in (self._arrivals, self._releases):
            os.mkfifo(path)
        # Both directions, so that neither opening nor reading depends on anybody's being there.
        self._ends = [
            os.open(p, os.O_RDWR | os.O_CLOEXEC) for p in (self._arrivals, self._releases)
        ]

    def __getstate__(self):
        return {"_arrivals": self._arrivals, "_releases": self._releases}

    def pass_by(self) -> None:
        """In a child: tells the test this process's id and goes on."""
        with open(self._arrivals, "wb", buffering=0) as arrivals:
            arrivals.write(_PID.pack(os.getpid()))

    def stop(self) -> None:
        """In a child: tells the test this process's id and waits to be let go."""
        with open(self._releases, "rb", buffering=0) as releases:
            self.pass_by()
            if not releases.read(1):
                raise EOFError("the test that should have let this process go has ended")

    def arrived(self, count: int = 1) -> list[int]:
        """In the test: waits for `count` arrivals; the ids of the processes."""
        return [_PID.unpack(os.read(self._ends[0], _PID.size))[0] for _ in range(count)]

    def let_go(self, count: int = 1) -> None:
        """In the test: lets `count` processes that stopped, or will stop, go on."""
        os.write(self._ends[1], b"g" * count)

    def close(self) -> None:
        for end in self._ends:
            os.close(end)
