"""Images as NumPy arrays: the embedded digits, MNIST and its relatives, CIFAR-10 and SVHN, and the user's own.

    images, labels = load_images("digits", "train")     # float32 (N, 1, 28, 28) in [0, 1], int64 (N,)
    flowers = load_image_set("~/flowers", "train", image_size=64)     # flowers.images: uint8 (N, 3, 64, 64)

`digits` needs no network: they are the 1797 handwritten digits that come with scikit-learn (UCI ML hand-written
digits), 8x8 pixels, enlarged to MNIST's 28x28. The other names come through torchvision, which downloads them once
into the folder named by the environment variable VAE_DATA (default: `data/` in this repository).

Everything is NumPy; scikit-learn, Pillow and torchvision are imported only inside the function that needs them, so
that level 1 runs on a machine without PyTorch.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from image_arrays import read_array_file
from image_files import fitted, printable
from image_folder import read_folder

DATASETS = ("digits", "mnist", "fashion", "kmnist")  # 28x28, grey
COLOUR_DATASETS = ("cifar10", "svhn")  # 32x32
DIGITS = tuple("0123456789")  # the names of ten classes
SPLITS = ("train", "test", "all")


@dataclass
class ImageSet:
    """Images uint8 (N, C, H, W), C 1 or 3, and their class labels int64 (N,), positions in `class_names`.

    class_names: empty where there are no classes; the labels are 0 then. files: of each image, its path in the folder;
    empty where the images are no files. skipped: the files that were left out because they are no images.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple = ()
    files: tuple = ()
    skipped: tuple = ()


def load_image_set(data, split, image_size=None, channels=None, skip_bad=False):
    """One split of a data set, by name or path.

    data: one of DATASETS or COLOUR_DATASETS (a folder of that name is ./mnist), or the path to
    - a folder of pictures (PNG, JPEG, WebP, GIF, BMP, TIFF, ...), in which sub-folders are classes and hidden files and
      other endings do not count. train/ and test/ in it are the splits, with the classes below;
    - a .npy, or a .npz with `images` and perhaps `labels` (integers or strings): (N, H, W), (N, H, W, C) or
      (N, C, H, W) of uint8 or of floats in [0, 1]; an axis of 1 or 3 is C, the last one if both could be;
    - the original dSprites' .npz, whose labels are the shapes.
    split: "train", "test" or "all". Where the data has no split of its own, the last tenth of a shuffle that depends on
    nothing but the sorted file names (or the number of images) is the test set. "train" and "test" come shuffled, "all"
    of the user's own images in their order.
    image_size: a multiple of 4 from 8 up; the largest square in the middle of each image is resized to it, antialiased.
    Without it all images must have one size, both sides multiples of 4.
    channels: 1 (grey, Pillow's luminance) or 3 (colour). By default what the data has: a folder has colour if the mode
    or the palette of any picture in it has, which is read from the headers of all.
    skip_bad: leave out files that are no images. Otherwise they are named.

    Raises ValueError for what cannot be used, FileNotFoundError for data that is not here and cannot be downloaded,
    each with one line.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if image_size is not None and image_size not in range(8, 2**15, 4):
        raise ValueError(f"image size {image_size}: expected a multiple of 4 from 8 up, such as 28, 32 or 64")
    if channels not in (None, 1, 3):
        raise ValueError(f"{channels} channels: expected 1 (grey) or 3 (colour)")
    if not isinstance(data, str | os.PathLike):
        raise ValueError(f"data {data!r}: expected the name of a data set, or a path")
    image_size, channels = image_size and int(image_size), channels and int(channels)
    if data in DATASETS + COLOUR_DATASETS:
        if split == "all":
            both = [load_image_set(data, part, image_size, channels) for part in ("train", "test")]
            images, labels = (np.concatenate([getattr(part, name) for part in both]) for name in ("images", "labels"))
            return ImageSet(images, labels, both[0].class_names)
        images, labels, class_names = _digits(split) if data == "digits" else _torchvision(data, split)
        return ImageSet(fitted(images, image_size, channels), labels.astype(np.int64), class_names)
    path = os.path.expanduser(os.fsdecode(data))
    is_folder, kinds = os.path.isdir(path), "a folder of pictures, .npz or .npy"
    if not os.path.exists(path):
        if data == os.path.basename(path) and not os.path.splitext(path)[1]:  # rather a name that was mistyped
            names = ", ".join(DATASETS + COLOUR_DATASETS)
            raise ValueError(f"unknown data set '{printable(data)}': expected one of {names}, or a path to {kinds}")
        raise FileNotFoundError(f"nothing is at {printable(path)}: expected {kinds}")
    if not is_folder and not (os.path.isfile(path) and path.lower().endswith((".npz", ".npy"))):
        raise ValueError(f"{printable(path)} is no folder and no array: expected {kinds}")
    try:
        if is_folder:
            return ImageSet(*read_folder(path, split, image_size, channels, skip_bad))
        return ImageSet(*read_array_file(path, split, image_size, channels))
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None


def load_images(name_or_path, split, dtype=np.float32):
    """The images of one data set as all levels take them, scaled to [0, 1], and their class labels.

    Returns `images` (N, 1, 28, 28) of `dtype` and `labels` (N,) int64. Grey values, not binarised. Images of another
    size, or in colour, are resized and turned to grey as in `load_image_set`, which says what may be loaded and raised.
    """
    images, labels = load_uint8_images(name_or_path, split)
    return images.astype(dtype) / 255, labels


def load_uint8_images(name_or_path, split):
    """The same images as stored: uint8 (N, 1, 28, 28), a quarter of the memory; `images / 255` lies in [0, 1]."""
    loaded = load_image_set(name_or_path, split, image_size=28, channels=1)
    return loaded.images, loaded.labels


def data_folder():
    """Where downloaded data lies: $VAE_DATA, or `data/` in the repository."""
    return Path(os.environ.get("VAE_DATA") or Path(__file__).resolve().parent.parent / "data")


def _digits(split):
    from PIL import Image
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)  # (1797, 64), values 0..16
    images = np.zeros((len(small), 28, 28), np.uint8)
    for image, pixels in zip(images, small.reshape(-1, 8, 8), strict=True):
        # Bicubic to 24x24 leaves two pixels of border on each side. The cubic overshoots next to sharp edges, so the
        # result is cut back to [0, 1].
        large = Image.fromarray(pixels.astype(np.float32) / 16).resize((24, 24), Image.Resampling.BICUBIC)
        image[2:26, 2:26] = np.rint(255 * np.clip(large, 0, 1))
    # The writers of this set put the digits down in runs of 0 to 9, so every fifth run of ten images makes a test set
    # with the classes in balance: 357 images. No random numbers, so the split can never change.
    is_test = np.arange(len(images)) // 10 % 5 == 4
    chosen = is_test if split == "test" else ~is_test
    return images[chosen, None], labels[chosen], DIGITS


def _torchvision(name, split):
    from torchvision import datasets

    loader = {"mnist": "MNIST", "fashion": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10", "svhn": "SVHN"}[
        name
    ]
    dataset = getattr(datasets, loader)
    root, chosen, side = data_folder(), {"train": split == "train"}, 28
    if name == "cifar10":
        side, folder = 32, root / dataset.base_folder
        files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    elif name == "svhn":
        _require_scipy()
        root = folder = root / "SVHN"  # the names of its files do not say whose they are
        chosen, side, files = {"split": split}, 32, [f"{split}_32x32.mat"]
    else:
        folder = root / loader / "raw"
        files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if not all((folder / file).is_file() for file in files):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the reports
                dataset(root, **chosen, download=True)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"{name} is not on this machine and cannot be downloaded ({_first_line(error)}): expected its files, "
                f"as torchvision keeps them, in {folder} (set VAE_DATA to look elsewhere); --data digits needs none"
            ) from None
    try:
        data = dataset(root, **chosen)
        images, labels = np.asarray(data.data), np.asarray(data.labels if name == "svhn" else data.targets)
        if name == "cifar10":
            images = images.transpose(0, 3, 1, 2)
        elif name != "svhn":
            images = images[:, None]
        channels = 1 if side == 28 else 3
        if images.shape != (len(labels), channels, side, side) or not labels.max() < 10:
            raise ValueError(f"{len(labels)} labels up to {labels.max()}, images {images.shape}")
    except (RuntimeError, ValueError, AssertionError, TypeError, KeyError) as error:
        raise ValueError(
            f"the {name} files in {folder} are damaged ({_first_line(error)}): delete them, they are downloaded again"
        ) from None
    class_names = DIGITS if name in ("mnist", "svhn") else tuple(data.classes)
    return np.ascontiguousarray(images), labels, class_names


def _require_scipy():
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise ImportError("svhn's files are read by SciPy, which is not installed: pip install scipy") from None


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
