"""The standard library's `multiprocessing` by a name of ours, which leads to it in every process.

Where `install` has given the name `multiprocessing` to us, the standard library's modules find each
other by this name, and so do pickles of what is theirs.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sys

# All of them: one that came later would be taken for a module of what has the name by then.
for _module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
    if "win32" not in _module.name:
        _moved = _module.name.replace("multiprocessing", __name__, 1)
        sys.modules[_moved] = importlib.import_module(_module.name)

sys.modules[__name__] = multiprocessing
