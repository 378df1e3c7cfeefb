"""Makes blurred thumbnails of pictures: `python image_batch.py FOLDER PICTURE...`.

A pipeline of three stages, each in processes of its own: one reads files, several decode and
work on pixels, one writes. What is no picture is left out, and said.
"""

import io
import sys
from functools import partial
from pathlib import Path

from PIL import Image, ImageFilter

from manycore import WorkerDied, available_cpus, pipeline, stage

SIZE = (256, 256)


def read(path):
    """Gives the name and the bytes of a file."""
    return path, Path(path).read_bytes()


def blur(item):
    """Gives the name and the pixels of a small, blurred picture."""
    path, data = item
    with Image.open(io.BytesIO(data)) as picture:
        picture = picture.convert("RGB")
        picture.thumbnail(SIZE)
        small = picture.filter(ImageFilter.GaussianBlur(2))
    return path, small.size, small.tobytes()


def write(folder, item):
    """Writes a picture; gives its path."""
    path, size, pixels = item
    target = Path(folder) / f"{Path(path).stem}.png"
    Image.frombytes("RGB", size, pixels).save(target)
    return str(target)


def main(folder, *paths):
    """Returns whether a picture failed."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    failed = False
    results = pipeline(
        paths,
        read,
        stage(blur, workers=available_cpus(), retries=1),
        partial(write, folder),
        on_error="return",
    )
    for result in results:
        if isinstance(result, OSError | WorkerDied):
            failed = True
            print(f"{result} ({result.__notes__[0]})", file=sys.stderr)
        elif isinstance(result, Exception):
            raise result
        else:
            print(result)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
