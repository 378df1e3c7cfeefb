"""The process that takes the samples of one bench on one module: `python -m benches.arm`.

A line `n` on standard input asks for a sample of `n` items; the answer is a line of JSON, either
`{"sample": ...}` or `{"error": "summary, then traceback"}`. What the bench itself prints goes to
standard error.

Children started by `spawn` import this file again as their main module. So it imports at the top
only what costs nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as type checkers spell it without importing typing
if TYPE_CHECKING:
    from benches.harness import Bench, Target


def private_output() -> int:
    """A descriptor for answers that no child writes to; standard output becomes standard error."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def answer(bench: Bench, target: Target, n: int) -> str:
    """Take one sample; describe it, or what went wrong, in JSON."""
    import gc
    import json
    import traceback
    from dataclasses import asdict

    gc.collect()
    try:
        return json.dumps({"sample": asdict(bench.take(target, n))})
    except Exception as error:
        summary = traceback.format_exception_only(error)[-1]
        return json.dumps({"error": f"{summary}{traceback.format_exc()}"})


def serve(name: str, module: str, pin: str) -> None:
    """Answer requests until standard input ends."""
    import faulthandler

    from benches.harness import Target, load_bench

    faulthandler.enable()  # on SIGABRT, which the driver sends to what hangs, say where that was
    answers = private_output()
    bench, target = load_bench(name), Target(module, pin == "pin")
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests:
        for line in iter(requests.readline, b""):
            os.write(answers, answer(bench, target, int(line)).encode() + b"\n")


if __name__ == "__main__":
    serve(*sys.argv[1:])
