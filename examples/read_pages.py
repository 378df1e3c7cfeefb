"""Reads scanned pages by Tesseract: `python read_pages.py [PAGE...]`; without any it draws a book.

Needs Tesseract (on Debian the package `tesseract-ocr`), pytesseract and Pillow. A page that cannot
be read is told of at the end, and costs no other its text.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytesseract
from PIL import Image, ImageDraw, ImageFont

import manycore

SECONDS = 60  # for a page
ALONE = {"OMP_THREAD_LIMIT": "1"}  # as many processes as CPUs, and one thread in each
VERSES = """\
Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?"""


def draw(folder, number):
    """Draws a page of the book; gives its path."""
    page = Image.new("L", (800, 400), "white")
    text = f"Page {number}\n\n{VERSES}"
    ImageDraw.Draw(page).text((60, 40), text, "black", ImageFont.load_default(36), spacing=12)
    path = Path(folder) / f"page-{number:03}.png"
    page.save(path)
    return path


def read(path):
    """The text of a page."""
    with Image.open(path) as page:
        return pytesseract.image_to_string(page, timeout=SECONDS).strip()


def main(*pages):
    """Prints the text of all pages in their order; returns how many could not be read."""
    failed = []
    with TemporaryDirectory() as folder, manycore.Pool(environment=ALONE) as pool:
        pages = pages or pool.starmap(draw, [(folder, number) for number in range(1, 9)])
        texts = pool.imap(read, pages, on_error="return")
        for page, text in zip(pages, texts, strict=True):
            if isinstance(text, Exception):
                failed.append(f"{page}: {text}")
            else:
                print(f"== {Path(page).name}\n{text}\n", flush=True)
    print(*failed, sep="\n", end="\n" * bool(failed), file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)
