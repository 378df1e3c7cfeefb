"""Pipes: one way from process to process, and round trips. Both as it is done with queues."""

from __future__ import annotations

from functools import partial

from benches.harness import Bench, Sample, Target
from benches.queue import MB, ONE_TO_ONE, PAYLOADS, Payload, pass_on
from benches.roundtrip import End, placements


class OneWay:
    """A pipe with the face of a queue."""

    def __init__(self, target: Target) -> None:
        self._reader, writer = target.context().Pipe(duplex=False)
        self.put, self.get = writer.send, self._reader.recv

    def empty(self) -> bool:
        """Whether nothing is left to receive."""
        return not self._reader.poll()


def one_way_sample(payload: Payload, target: Target, n: int) -> Sample:
    """A sample of `send` and `recv`."""
    return pass_on(target, OneWay(target), payload, ONE_TO_ONE, n)


def one_way_bench(payload: Payload) -> Bench:
    """The bench of one direction for one payload."""
    return Bench(
        f"pipe.{payload.name}",
        f"Pipe, one way: {payload.title}",
        partial(one_way_sample, payload),
        payload=payload.size,
        first_n=1 if payload.size >= MB else 1000,
        needs="numpy" if payload.name.startswith("array") else None,
    )


def both_ends(target: Target) -> tuple[End, End]:
    """The ends of one pipe."""
    one, other = target.context().Pipe()
    return End(one.send, one.recv), End(other.send, other.recv)


BENCHES = (
    *(
        one_way_bench(payload)
        for payload in PAYLOADS
        if payload.name in ("int", "bytes-1k", "array-1m")
    ),
    *placements("pipe.roundtrip-", "Pipe", both_ends),
)
