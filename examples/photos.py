"""Read, develop and file photographs in a three-stage pipeline, and compare the backends at it.

Run it with ``python examples/photos.py``; ``--help`` lists the options. The job itself is the
package ``photos`` beside this file (a package goes before a module of the same name).
"""

import sys

INTERRUPTED = 128 + 2  # what a shell reports for a program that SIGINT ended


def main() -> int:
    """Run the job and turn the two ends a user can cause into one line each."""
    try:
        # Imported here, so that Ctrl-C during the second this takes is answered as well.
        from photos.cli import run

        return run()
    except KeyboardInterrupt:
        print("photos: interrupted", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as missing:
        print(f"photos: the Python package {missing.name!r} is not installed", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
