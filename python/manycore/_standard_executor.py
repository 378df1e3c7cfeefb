"""The standard library's `ProcessPoolExecutor` by a name of ours, which leads to it everywhere.

Where `install` has given its own name to ours, pickles of the class find it by this one.
"""

from concurrent.futures.process import ProcessPoolExecutor as ProcessPoolExecutor
