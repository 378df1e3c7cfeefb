"""The entry: `python benches/run.py --help`. How figures come about: `benches/__init__.py`."""

import os
import sys

# Not benches/ itself: its queue.py would hide the standard library's.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from benches.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
