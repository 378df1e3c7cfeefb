"""Waiting for what another process or thread does."""

import time


def until(is_so):
    """Looks again until something is so; the watchdog ends it otherwise."""
    while not is_so():
        time.sleep(0.001)
