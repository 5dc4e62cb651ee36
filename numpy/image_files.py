"""One picture file as an array; and what holds for the user's own images of every kind: split, sides, printed names."""

import contextlib
import os
import re

import numpy as np

from input_checks import require_memory

# Photographs and graphics. For others that Pillow knows it starts a program (EPS) or has no reader (HDF5).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
ORIENTATION = 0x0112  # its tag in EXIF


def fitted(images, image_size=None, channels=None):
    """Images that are arrays already, uint8 (N, C, H, W), resized and in grey or colour as `decode` does it."""
    from PIL import Image

    count, own_channels, height, width = images.shape
    channels = channels or own_channels
    shape = (height, width) if image_size is None else (image_size, image_size)
    if (channels, *shape) == images.shape[1:]:
        return images
    result = empty_images(count, channels, *shape)
    for i, image in enumerate(images):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)) if own_channels == 3 else image[0])
        result[i] = _pixels(_resized(picture, image_size), channels)
    return result


def empty_images(count, channels, height, width):
    """Room for so many images, uint8. Raises MemoryError if the machine has less: Linux would grant it all the same."""
    require_memory(count * channels * height * width, f"{count:,} images of {width}x{height}")
    return np.empty((count, channels, height, width), np.uint8)


def decode(path, image_size, channels):
    """One file as uint8 (C, H, W): upright, black where it is transparent, the first picture of those that move.

    Raises whatever Pillow raises at a file that is no picture.
    """
    with _opened(path) as picture:
        if image_size is not None:
            picture.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG is not decoded at its full size
        picture.load()
        turn = _turn(picture)
        picture = _eight_bits(picture)
        return _pixels(_resized(picture if turn is None else picture.transpose(turn), image_size), channels)


@contextlib.contextmanager
def _opened(path):
    from PIL import Image

    if not os.path.isfile(path):  # a link to nothing, or a pipe that would be waited for
        raise ValueError("no file")
    # Given a path, Pillow maps some files into memory, and mixes up rows and columns of a TIFF that lies on its side.
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as picture:
        yield picture


def _turn(picture):
    """How to set a picture upright that a camera stored lying or mirrored, or None."""
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(picture.getexif().get(ORIENTATION))


def _eight_bits(picture):
    """A picture of any mode in one of 8 bits a channel, without transparency."""
    from PIL import Image

    if picture.mode[0] in "IF":  # 16 bits, or floats in [0, 1]
        values, white = np.asarray(picture, np.float64), 1 if picture.mode == "F" else 65535
        if not (values.min() >= 0 and values.max() <= white):
            raise ValueError(f"values outside [0, {white}]")
        return Image.fromarray(np.rint(255 / white * values).astype(np.uint8))
    if picture.mode.endswith(("A", "a")) or "transparency" in picture.info:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == "L" else picture.convert("RGB")


def _resized(picture, image_size):
    """The largest square in the middle, resized with antialiasing (Pillow's filters widen as a picture shrinks)."""
    from PIL import Image

    if image_size is None:
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square.resize((image_size, image_size), Image.Resampling.BICUBIC)


def _pixels(picture, channels):
    array = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    return array.transpose(2, 0, 1) if channels == 3 else array[None]


def shape_of(path):
    """(C, H, W) of a file from its header, 3 channels if its mode or palette has colour; None if it is no picture."""
    try:
        with _opened(path) as picture:
            width, height = picture.size
            # Pillow turns a TIFF by itself; a PNG that does not say it at once would be decoded to ask.
            asked = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
            if asked and picture.getexif().get(ORIENTATION) in (5, 6, 7, 8):
                width, height = height, width
            if picture.mode in ("P", "PA"):
                palette = np.reshape(picture.getpalette(), (-1, 3))
                has_colour = (palette != palette[:, :1]).any()
            else:
                has_colour = picture.mode not in ("1", "L", "LA", "F") and picture.mode[0] != "I"
            return 3 if has_colour else 1, height, width
    except Exception:  # a decoder that meets another file's bytes may raise anything; `decode` will fail too
        return None


# --- What holds for all of them --------------------------------------------------------------------------------------


def positions_of(split, count):
    """Which of `count` images are in a split, (n,) int64: "test" is the last tenth of a shuffle, always the same one.

    "all" is every image, in order. Raises ValueError if there are too few.
    """
    if count < (1 if split == "all" else 2):
        raise ValueError(f"too few images ({count}): expected at least one to train on and one to test on")
    shuffled = np.random.default_rng(0).permutation(count)
    num_test = max(1, count // 10)
    return {"train": shuffled[:-num_test], "test": shuffled[-num_test:], "all": np.arange(count)}[split]


def check_sides(height, width):
    """Raises ValueError unless the networks can halve both sides twice."""
    if height % 4 or width % 4 or not height * width:
        raise ValueError(f"images of {width}x{height}: sides must be multiples of 4; --image-size 32 resizes them")


def printable(text):
    """A name as text that every stream and file takes: control characters and bytes that are not UTF-8 escaped."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda found: ascii(found[0])[1:-1], str(text))
