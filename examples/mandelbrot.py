"""The Mandelbrot set, row by row into one shared array: `python mandelbrot.py [WIDTH [FILE]]`."""

import sys

import numpy as np

import manycore

STEPS = 100


def row(picture, y):
    """Fills one row: in how many steps each number escapes."""
    height, width = picture.shape
    c = np.linspace(-2.2, 0.8, width) + 1j * (2.4 * y / (height - 1) - 1.2)
    z = np.zeros_like(c)
    steps = np.zeros(width, dtype=picture.dtype)
    for _ in range(STEPS):
        z = np.where(abs(z) <= 2, z * z + c, z)
        steps += abs(z) <= 2
    picture[y] = steps


def main(width="600", file=None):
    """Draws it into a PGM file, or as letters."""
    width = int(width)
    height = width * 4 // 5 // (1 if file else 2)
    picture = manycore.ndarray((height, width), dtype="u1")
    with manycore.Pool() as pool:
        pool.starmap(row, [(picture, y) for y in range(height)])
    if file is None:
        for line in picture:
            print("".join(" .:-=+*#%@"[steps * 9 // STEPS] for steps in line.tolist()))
        return
    with open(file, "wb") as target:
        target.write(b"P5 %d %d %d\n" % (width, height, STEPS))
        target.write(picture.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
