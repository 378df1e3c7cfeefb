"""What tests of received memory run in other processes: importable, so that `spawn` can name it."""

import numpy as np

KEPT = []  # until the interpreter ends


def keep_to_the_end(queue, said):
    KEPT.append(queue.get())
    said.put(int(KEPT[0][-1]))


def keep_until_told(queue, said, told):
    received = queue.get()
    said.put(int(received[-1]))
    told.get()
    said.put(int(received[0]))


def keep_and_drop(queue):
    received = queue.get()
    received[:] = 0
    del received
    queue.put(np.zeros(1))
