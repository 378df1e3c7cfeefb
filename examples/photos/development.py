"""The work on one photograph: denoise it, find its edges, make a thumbnail."""

import hashlib
import os
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import resize

from photos.sources import Pixels

DENOISE_WEIGHT = 0.08
DENOISE_ITERATIONS = 20
EDGE_SIGMA = 1.5
THUMBNAIL_SIDE = 160


@dataclass(frozen=True)
class Developed:
    """A developed photograph: three images, and what the catalogue says of it."""

    name: str
    width: int
    height: int
    mean_colour: str
    sha256: str
    """The digest of the decoded pixels, as they arrived in the process that developed them."""
    seconds: float
    worker_pid: int
    denoised: Pixels
    edges: Pixels
    thumbnail: Pixels


def develop(name: str, pixels: Pixels) -> Developed:
    """Develop one photograph in this process."""
    started = time.perf_counter()
    height, width = pixels.shape[:2]
    denoised = denoise_tv_chambolle(
        pixels.astype(np.float32) / 255,
        weight=DENOISE_WEIGHT,
        max_num_iter=DENOISE_ITERATIONS,
        channel_axis=-1,
    )
    edges = canny(rgb2gray(denoised), sigma=EDGE_SIGMA)
    thumbnail = _shrink(denoised)
    return Developed(
        name=name,
        width=width,
        height=height,
        mean_colour=_mean_colour(pixels),
        sha256=hashlib.sha256(pixels).hexdigest(),
        denoised=_to_bytes(denoised),
        edges=_to_bytes(edges),
        thumbnail=_to_bytes(thumbnail),
        seconds=time.perf_counter() - started,
        worker_pid=os.getpid(),
    )


def _shrink(image: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    return resize(image, (round(height * scale), round(width * scale)), anti_aliasing=True)


def _to_bytes(image: NDArray[np.generic]) -> Pixels:
    """Return ``image``, of values from 0 to 1, with a byte per value."""
    return np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)


def _mean_colour(pixels: Pixels) -> str:
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
