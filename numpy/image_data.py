"""Real images as NumPy arrays: the embedded digits, MNIST and Fashion-MNIST.

    images, labels = load_images("digits", "train")     # float32 (N, 1, 28, 28) in [0, 1], int64 (N,)

`digits` needs no network: they are the 1797 handwritten digits that come with scikit-learn (UCI ML hand-written
digits), 8x8 pixels, enlarged to MNIST's 28x28. `mnist` and `fashion` come through torchvision, which downloads them
once into the folder named by the environment variable VAE_DATA (default: `data/` in this repository).

Everything is NumPy; scikit-learn, Pillow and torchvision are imported only inside the function that needs them, so
that level 1 runs on a machine without PyTorch.
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

DATASETS = ("digits", "mnist", "fashion")
SPLITS = ("train", "test")


def load_images(name, split, dtype=np.float32):
    """The images of one data set, scaled to [0, 1], and their class labels.

    Returns `images` (N, 1, 28, 28) of `dtype` and `labels` (N,) int64. Grey values, not binarised.
    Raises ValueError for an unknown name or split, FileNotFoundError for data that is neither here nor downloadable.
    """
    images, labels = load_uint8_images(name, split)
    return images.astype(dtype) / 255, labels


def load_uint8_images(name, split):
    """The same images as stored: uint8 (N, 1, 28, 28), a quarter of the memory; `images / 255` lies in [0, 1]."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    images, labels = _digits(split) if name == "digits" else _torchvision(name, split)
    return images.reshape(-1, 1, 28, 28), labels.astype(np.int64)


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
    return images[chosen], labels[chosen]


def _torchvision(name, split):
    from torchvision.datasets import MNIST, FashionMNIST

    dataset = {"mnist": MNIST, "fashion": FashionMNIST}[name]
    raw = data_folder() / dataset.__name__ / "raw"
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if not all((raw / file).is_file() for file in files):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the reports
                dataset(data_folder(), download=True)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"{name} is not on this machine and cannot be downloaded ({_first_line(error)}): expected its files, "
                f"as torchvision keeps them, in {raw} (set VAE_DATA to look elsewhere); --data digits needs none"
            ) from None
    try:
        data = dataset(data_folder(), train=split == "train")
        images, labels = data.data.numpy(), data.targets.numpy()
        if images.shape != (len(labels), 28, 28) or not labels.max() < 10:
            raise ValueError(f"{len(labels)} labels up to {labels.max()}, images {images.shape}")
    except (RuntimeError, ValueError, AssertionError, TypeError, KeyError) as error:
        raise ValueError(
            f"the {name} files in {raw} are damaged ({_first_line(error)}): delete them, they are downloaded again"
        ) from None
    return images, labels


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
