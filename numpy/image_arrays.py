"""Images that are one array in a .npy or .npz file, the original dSprites among them, as uint8 (N, C, H, W).

The file is read in blocks and each goes to its place at once, so that there is one array of uint8 and never a second:
the dSprites (Matthey, Higgins, Hassabis & Lerchner 2017) fill 3 GB of it.
"""

import contextlib
import os
import zipfile
import zlib
from functools import partial
from math import prod

import numpy as np

import sprites
from image_files import check_sides, empty_images, fitted, positions_of, printable

BLOCK_BYTES = 2**24
UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_array_file(path, split, image_size=None, channels=None):
    """A split of an array's images: images uint8 (N, C, H, W), labels int64 (N,), class_names.

    The array is `images`, or the only one but `labels`: (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8 or of floats
    in [0, 1]. An axis of 1 or 3 is the channels', the last one if both could be. Labels are integers or strings; their
    sorted values are the classes. Raises ValueError with one line for whatever cannot be used.
    """
    try:
        with _arrays_in(path) as arrays:
            return _read(arrays, split, image_size, channels)
    except UNREADABLE as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(printable(words.splitlines()[0])) from None


@contextlib.contextmanager
def _arrays_in(path):
    """The arrays of a .npz, or the one of a .npy as `images`: {name: (a function that opens it, its bytes)}."""
    if os.path.splitext(path)[1].lower() == ".npy":
        yield {"images": (partial(open, path, "rb"), os.path.getsize(path))}
        return
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        yield {member.filename[:-4]: (partial(archive.open, member), member.file_size) for member in members}


def _read(arrays, split, image_size, channels):
    is_dsprites = {"imgs", "latents_classes"} <= arrays.keys()
    others = sorted(arrays.keys() - {"labels"})
    if not is_dsprites and "images" not in others and len(others) != 1:
        found = ", ".join(others[:5]) + ", ..." * (len(others) > 5) or "no images"
        raise ValueError(f"holds {found}: expected images and, if there are any, labels")
    key = "imgs" if is_dsprites else "images" if "images" in others else others[0]
    open_file, size = arrays[key]
    with open_file() as file:
        shape, dtype, blocks = _opened(file, size)
        if dtype != np.uint8 and dtype.kind != "f":
            raise ValueError(f"holds {dtype}: expected uint8, or floats in [0, 1]")
        if is_dsprites and shape != (sprites.NUM_SPRITES, 64, 64):
            raise ValueError(f"expected the dSprites' images of shape {(sprites.NUM_SPRITES, 64, 64)}, got {shape}")
        order = _channels_first(shape)
        own_channels, *own_sides = (([*shape, 1])[axis] for axis in order[1:])
        if image_size is None:
            check_sides(*own_sides)
        chosen = positions_of(split, shape[0])
        if is_dsprites:
            labels, class_names = sprites.factors_of(np.arange(shape[0]))[:, 0], sprites.SHAPES
        elif "labels" in arrays:
            labels, class_names = _classes(*arrays["labels"], shape[0])
        else:
            labels, class_names = np.zeros(shape[0], np.int64), ()
        sides = own_sides if image_size is None else (image_size, image_size)
        images = empty_images(len(chosen), channels or own_channels, *sides)
        place = np.full(shape[0], -1)  # of each image of the file among the chosen
        place[chosen] = np.arange(len(chosen))
        start, brightest = 0, 0
        for block in blocks:
            to = place[start : start + len(block)]
            start += len(block)
            brightest = max(brightest, block.max())
            block = _as_uint8(block, is_dsprites)[to >= 0]
            block = (block if block.ndim == 4 else block[..., None]).transpose(order)
            images[to[to >= 0]] = fitted(block, image_size, channels)
    if brightest == 1 and dtype == np.uint8 and not is_dsprites:
        raise ValueError("uint8 of only 0 and 1 is almost black: expected 0 to 255, or floats in [0, 1]")
    return images, labels[chosen].astype(np.int64), class_names


def _opened(file, size):
    """Shape and dtype of the array in a .npy file of this many bytes, and its rows, a block at a time."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except Exception:  # NumPy reads it as Python's text, and what it raises at other text may be anything
        raise ValueError("not an array as NumPy saves it, or damaged") from None
    if dtype.hasobject or not shape or min(shape[1:], default=1) < 1:
        raise ValueError(f"holds {dtype} of shape {shape}: expected an array of numbers, image after image")
    if prod(shape) * dtype.itemsize > size:
        raise ValueError(f"cut off: its {size:,} bytes do not hold an array {shape} of {dtype}")

    def blocks():
        if is_fortran:  # its rows do not lie together
            file.seek(0)
            yield np.lib.format.read_array(file, allow_pickle=False)
            return
        row_bytes = prod(shape[1:]) * dtype.itemsize
        at_once = max(1, BLOCK_BYTES // max(1, row_bytes))
        for start in range(0, shape[0], at_once):
            rows = min(at_once, shape[0] - start)
            data = file.read(rows * row_bytes)
            if len(data) < rows * row_bytes:
                raise ValueError("cut off")
            yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])

    return shape, dtype, blocks()


def _channels_first(shape):
    """The order of the axes that makes (N, H, W, C), (N, C, H, W), or (N, H, W) with a 1 behind it, (N, C, H, W)."""
    if (len(shape) == 3 and shape[2] > 3) or (len(shape) == 4 and shape[3] in (1, 3)):
        return 0, 3, 1, 2
    if len(shape) == 4 and shape[1] in (1, 3):
        return 0, 1, 2, 3
    raise ValueError(f"holds an array of shape {shape}: expected (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3")


def _as_uint8(block, is_black_and_white):
    """uint8 as it is and floats in [0, 1] times 255; where 1 is white in uint8, that times 255 too."""
    if block.dtype == np.uint8 and not is_black_and_white:
        return block
    if not (block.min() >= 0 and block.max() <= 1):  # so is a NaN's
        raise ValueError(f"holds values from {block.min()} to {block.max()}: expected uint8, or floats in [0, 1]")
    return 255 * block if block.dtype == np.uint8 else np.rint(255 * block).astype(np.uint8)


def _classes(open_file, size, count):
    """The class of each image (N,) and the classes' names, from the array `labels`."""
    with open_file() as file:
        shape, dtype, blocks = _opened(file, size)
        if shape != (count,) or dtype.kind not in "iuUS":
            raise ValueError(
                f"labels are {dtype} of shape {shape}: expected integers or strings, one for each of {count:,}"
            )
        labels = np.concatenate([*blocks])
    values, labels = np.unique(labels, return_inverse=True)
    return labels, tuple(printable(value) for value in values.astype(str))
