"""What a process did, written where SIGKILL cannot undo it."""

import mmap
import time


class Journal:
    """Memory shared across `fork`; each fact is one store of eight bytes, so never half there.

    One process writes: `begin` before it does something, `done` afterwards. The test reads when
    that process has ended. A journal that is full raises IndexError in the writer.
    """

    def __init__(self, capacity: int = 1 << 22):
        # begun, unused, and then for each thing done: what it was (plus one), when
        self._cells = memoryview(mmap.mmap(-1, 16 * (1 + capacity))).cast("Q")
        self._next = 2

    def begin(self, number: int) -> None:
        self._cells[0] = number

    def done(self, what: int) -> None:
        self._cells[self._next + 1] = time.monotonic_ns()
        self._cells[self._next] = what + 1
        self._next += 2

    @property
    def begun(self) -> int:
        """The number of the last thing that was begun, 0 if none was."""
        return self._cells[0]

    def entries(self) -> list[tuple[int, int]]:
        """What was done and when, by `time.monotonic_ns`."""
        found = []
        for index in range(2, len(self._cells), 2):
            if self._cells[index] == 0:
                break
            found.append((self._cells[index] - 1, self._cells[index + 1]))
        return found
