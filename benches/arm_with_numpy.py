"""An arm whose program uses NumPy, and imports it where programs do that: `benches.arm`, else."""

from __future__ import annotations

import sys

import numpy  # noqa: F401  what is measured is that it is there

from benches.arm import serve

if __name__ == "__main__":
    serve(*sys.argv[1:])
