"""Sprites with known factors: white squares, ellipses and hearts on black, rendered when they are asked for.

    images = render([0, 737_279])              # uint8 (2, 1, 64, 64), 0 or 255
    factors = factors_of([0, 737_279])         # (2, 5): shape, scale, orientation, x, y

The grid of factors is that of dSprites (Matthey, Higgins, Hassabis & Lerchner 2017): 3 shapes, 6 scales, 40
orientations and 32 x 32 positions, 737,280 images, every combination once, in the same order. The drawing is our own,
so the pixels differ from the original; `image_data.load_image_set` reads the original file where a user has it. One
difference is on purpose: the original draws the first and the last orientation alike (0 and 2 pi); here the forty
angles differ.

What can be seen of an angle is another matter. A square repeats after a quarter turn and an ellipse after half a turn,
pixel by pixel, so that their forty orientations are 10 and 20 different pictures; a heart has 40. The orientation is
therefore no function of the picture, and a code of the picture cannot know it: at most ln 20 of its ln 40 nats on
average. `visible_factors_of` counts it modulo `orientation_period` instead. That is a function of the picture, at the
price of independence: every shape has the visible orientations 0 to 9, only ellipses and hearts 10 to 19 and only
hearts those above, so that an orientation says something about the shape (0.38 nats of its 1.10). Shape and visible
orientation should be judged each given the other. Of the original file this is not true: its steps are 1/39 of a turn,
and only its first and last orientation are one.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES = ("square", "ellipse", "heart")
SIZES = tuple(FACTORS.values())
PERIODS = (10, 20, 40)  # orientations of each shape that look different
NUM_SPRITES = int(np.prod(SIZES))  # 737,280


def factors_of(index):
    """The factors of sprites by their index: integers of any shape (...) -> (..., 5), in the order of FACTORS.

    Raises IndexError for an index outside 0 .. 737,279.
    """
    index = np.asarray(index)
    if index.size and not (index.min() >= 0 and index.max() < NUM_SPRITES):
        raise IndexError(f"sprites are numbered 0 to {NUM_SPRITES - 1}, got {index.min()} to {index.max()}")
    return np.stack(np.unravel_index(index, SIZES), axis=-1)


def orientation_period(shape):
    """After how many of the 40 orientations a shape looks the same again: shapes 0, 1, 2 of any size -> the same size.

    Raises ValueError for another shape.
    """
    shape = np.asarray(shape)
    if shape.size and not (shape.min() >= 0 and shape.max() < len(SHAPES)):
        raise ValueError(f"shapes are 0 to {len(SHAPES) - 1}, {', '.join(SHAPES)}, got {shape.min()} to {shape.max()}")
    return np.asarray(PERIODS)[shape]


def visible_factors_of(index):
    """As `factors_of`, but with the orientation modulo its period: equal factors are equal pictures.

    At 64 x 64 pixels the reverse holds too. At 32 x 32 an upright square of another scale or place may look the same.
    """
    factors = factors_of(index)
    factors[..., 2] %= orientation_period(factors[..., 0])
    return factors


def index_of(factors):
    """The inverse of `factors_of`: (..., 5) -> (...). Raises ValueError for a factor out of its range."""
    factors = np.asarray(factors)
    if factors.shape[-1:] != (len(SIZES),) or (factors < 0).any() or (factors >= SIZES).any():
        ranges = ", ".join(f"{name} 0..{size - 1}" for name, size in FACTORS.items())
        raise ValueError(f"expected factors (..., {len(SIZES)}) in {ranges}")
    return np.ravel_multi_index(tuple(np.moveaxis(factors, -1, 0)), SIZES)


def render(index, size=64):
    """Draw sprites by their index: integers (N,) -> uint8 (N, 1, size, size), 0 or 255. size: 64 or 32.

    Raises IndexError for an index outside 0 .. 737,279, ValueError for another size.
    """
    shape, scale, orientation, x, y = factors_of(index).T
    # The middle half of the image holds the centres, 32 steps each way: one pixel a step at 64, half a pixel at 32.
    stamps, phases = _stamps(size)
    step = 32 // (size // 2)  # steps per pixel
    side = stamps.shape[-1]
    images = np.zeros((len(shape), size, size), np.uint8)
    windows = sliding_window_view(images, (side, side), axis=(1, 2), writeable=True)
    windows[np.arange(len(shape)), y // step, x // step] = stamps[shape, scale, orientation, y % phases, x % phases]
    return images[:, None]


@lru_cache(maxsize=2)
def _stamps(size):
    """Every shape at every scale, orientation and sub-pixel position: uint8 (3, 6, 40, P, P, size/2, size/2), and P.

    A sprite never reaches further than a quarter of the image from its centre, so a stamp of half the image's side
    holds it, and to draw one is to copy its stamp to the right place.
    """
    if size not in (32, 64):
        raise ValueError(f"sprites are drawn at size 32 or 64, got {size}")
    phases = 64 // size
    side = size // 2
    # Pixel centres relative to the sprite's, in units in which the largest sprite fits into the unit circle.
    offset = (np.arange(phases) + 0.5) / phases - 0.5  # of the sprite's centre, in pixels: zero on average
    grid = ((np.arange(side) + 0.5 - side / 2)[None] - offset[:, None]) / (side / 2)  # (P, side)
    v, u = grid[:, None, :, None], grid[None, :, None, :]  # y downwards, x to the right: (P, P, side, side)
    stamps = np.empty((*SIZES[:3], phases, phases, side, side), np.uint8)
    for i, scale in enumerate(np.linspace(0.5, 1.0, SIZES[1])):
        for j, angle in enumerate(2 * np.pi * np.arange(SIZES[2]) / SIZES[2]):
            cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
            a, b = cos * u + sin * v, -sin * u + cos * v  # the pixel in the sprite's own, unrotated frame
            stamps[0, i, j] = np.maximum(abs(a), abs(b)) <= 0.65
            stamps[1, i, j] = (a / 0.9) ** 2 + (b / 0.45) ** 2 <= 1
            p, q = a / 0.65, -b / 0.65  # the heart's curve, (p^2 + q^2 - 1)^3 = p^2 q^3, points down
            stamps[2, i, j] = (p**2 + q**2 - 1) ** 3 <= p**2 * q**3
    return 255 * stamps, phases
