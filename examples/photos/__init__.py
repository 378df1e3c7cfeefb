"""A photo job on three stages of processes joined by queues.

- ``cli``: the options, and the order in which things happen
- ``jobs``: the two jobs, done by each backend in turn
- ``sources``: which photographs there are, and how one becomes an array
- ``development``: the work on one photograph: denoise, find edges, make a thumbnail
- ``storage``: PNG files and the SQLite catalogue
- ``stages``: what the reading, the developing and the writing processes do
- ``pipeline``: starts the stages, follows them, and ends them whatever happens
- ``tiles``: the second job, thousands of tiny tasks on a ``Pool``
- ``interrupts``: who answers Ctrl-C
- ``backends``: the implementations of ``multiprocessing``'s interface that are compared
- ``comparison``: rounds, medians, and the check that all backends produced the same
- ``report``: what is printed at the end
"""

import os

# One thread per process, set before anything imports NumPy: with threads of BLAS or OpenMP
# beside them, neither the serial run nor the processes would be what their names say.
for _pool in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
