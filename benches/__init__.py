"""Benchmarks of manycore against the standard library's multiprocessing, in the same run.

    python benches/run.py [names...] [--rounds 7] [--quick] [--json FILE] [--pin]

pool, queue, roundtrip, pipe          one file per subject, each with a tuple `BENCHES`
pipeline, sync, shared, start         likewise
idle                                  the same, of what costs something while nothing happens
tasks                                 functions and classes of child processes; imports nothing
harness                               what a bench, a metric and a sample are
children                              children that start together and report samples
rivals                                other packages, with the face of a context
arm                                   the process that takes the samples of one bench on one module
arm_with_numpy                        the same, as a program that uses NumPy
driver                                sizes the samples, interleaves the modules, stops what hangs
facts, report, bars, cli              the machine, the table, the required ratios, the arguments

How a figure comes about: two *arms*, fresh interpreters of which each imports one of the two
modules, live side by side and take turns, with a third one where another package is measured beside
them. A sample starts its own children, waits until they are ready, times `n` items, and ends the
children again. `n` is calibrated per arm, so that a sample of the slow and of the fast module last
about as long. The first round is dropped; the order within a round alternates. The table shows
medians over rounds and the median, least and greatest of the ratios within rounds; below it stands
what is required and whether it was reached. On a machine with few cores believe a ratio only above
1.3.
"""
