"""The images behind a training run: whole on the device, or drawn on demand, grey or black and white.

images = load_resident("digits", "train")
x, labels = images.batch(torch.arange(10))               # (10, 1, 28, 28) floats in [0, 1], (10,)
"""

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import torch

from image_data import COLOUR_DATASETS, DATASETS, load_image_set
from level_script import note
from sprites import NUM_SPRITES, SHAPES, factors_of, render
from trainable import Options, option, read_config, require

SPRITES = {"sprites": 64, "sprites32": 32}  # and the side of their images
NAMES = (*DATASETS, *COLOUR_DATASETS, *SPRITES)  # what --data takes beside a path
SPLITS = {"train": "training set", "test": "test set", "all": "training and test set"}  # and their names in reports
NUM_TEST_SPRITES = 5_000  # drawn at random among all; the rest is for training


@dataclass
class ImageOptions(Options):
    """Which images, and what is made of them."""

    data: str = "digits"
    """digits, sprites, sprites32, mnist, fashion, kmnist, cifar10, svhn, or the path of your own images."""
    image_size: int | None = option(None, least=8)
    """Cut the images to squares and resize them to this side, a multiple of 4."""
    channels: Literal[1, 3] | None = None
    """Grey (1) or colour (3); by default as the images are."""
    skip_bad: bool = False
    """Leave out files that cannot be read as images."""
    train_images: int | None = option(None, least=1)
    """Train on this many images only, the same ones each time; by default on all."""
    binarisation: Literal["none", "fixed", "fresh"] = "none"
    """Grey values as they are; or black and white, drawn once with the seed; or drawn anew for every batch."""
    seed: int = option(0, least=0, most=2**63 - 1)
    """Seed of the initial weights, the data order, the noise and the binarisation."""


@dataclass
class ResidentImages:
    """A data set that lies on the device whole: images uint8 (N, C, H, W), labels int64 (N,).

    class_names: one for each label, none where the images have no classes. files: the images' file names, if they have
    any. split: what it is of its set, in words. binarisation: "none"; "fixed", the images are already black and white;
    "fresh", every batch is drawn anew.
    """

    images: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)
    binarisation: str = "none"
    class_names: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)
    split: str = SPLITS["test"]

    def __len__(self):
        return len(self.labels)

    @property
    def image_shape(self):
        return tuple(self.images.shape[1:])

    @property
    def fingerprint(self):
        """A text that is another one for other images, labels or another order of them."""
        return digest(self.images, self.labels)

    def batch(self, index, generator=None, part=None):
        """The chosen images as floats in [0, 1] (n, C, H, W), and their labels (n,).

        index: a slice or a tensor of positions. generator: draws the black and white pixels of "fresh", where it is
        needed: a pixel is white with its grey value's probability. part: what to keep of the whole batch, a function of
        a tensor's rows; whatever is random is drawn before it. Raises ValueError for "fresh" without a generator.
        """
        if isinstance(index, slice):
            index = torch.arange(len(self), device=self.labels.device)[index]
        kept = index if part is None else part(index)
        x = self.pixels(kept).float() / 255
        if self.binarisation == "fresh":
            require(generator is not None, "images binarised afresh need a generator to draw them")
            thresholds = torch.rand(len(index), *self.image_shape, generator=generator, device=generator.device)
            x = ((thresholds if part is None else part(thresholds)).to(x) < x).float()
        return x, self.labels[kept]

    def pixels(self, index):
        return self.images[index]

    def in_classes(self, names):
        """The same images with labels that count in these class names. Raises ValueError for a class not among them."""
        if self.class_names == tuple(names):
            return self
        require(
            self.class_names, f"the images have no classes, the model knows {listed(names)}: put them in sub-folders"
        )
        unknown = [name for name in self.class_names if name not in names]
        require(not unknown, f"the images have the class {listed(unknown[:1])}, the model knows {listed(names)}")
        places = torch.tensor([names.index(name) for name in self.class_names], device=self.labels.device)
        return replace(self, labels=places[self.labels], class_names=tuple(names))


class RenderedSprites(ResidentImages):
    """The sprites with the given numbers, drawn batch by batch: all of them would fill 3 GB. The label is the shape."""

    def __init__(self, numbers, size, device, binarisation="none", split=SPLITS["train"]):
        labels = torch.from_numpy(factors_of(numbers)[:, 0]).to(device)
        super().__init__(None, labels, binarisation, SHAPES, split=split)
        self.numbers, self.size = numbers, size

    @property
    def image_shape(self):
        return (1, self.size, self.size)

    @property
    def fingerprint(self):
        return digest(torch.from_numpy(self.numbers))

    def pixels(self, index):
        return torch.from_numpy(render(self.numbers[index.cpu().numpy()], self.size)).to(self.labels.device)


def listed(names):
    """Names as a message shows them, a dozen at most."""
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def digest(*tensors):
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(str(tuple(tensor.shape)).encode())
        found.update(tensor.cpu().contiguous().numpy())
    return found.hexdigest()


def load_resident(images, split, device="cpu"):
    """One split of a data set, "train", "test" or "all", on the device (training sprites are drawn on demand).

    images: an ImageOptions, or the name of a data set for one with the defaults. Its train_images keeps so many of the
    training images, spread evenly over the set. Raises what `image_data.load_image_set` raises, ValueError if there are
    fewer.
    """
    options = ImageOptions(images) if isinstance(images, str) else images
    limit = options.train_images if split == "train" else None
    if options.data in SPRITES:
        asked = options.image_size not in (None, SPRITES[options.data]) or options.channels not in (None, 1)
        require(not asked, f"--data {options.data} are {SPRITES[options.data]}x{SPRITES[options.data]} and grey")
        numbers = torch.randperm(NUM_SPRITES, generator=torch.Generator().manual_seed(0)).numpy()
        numbers = numbers[:NUM_TEST_SPRITES] if split == "test" else numbers[NUM_TEST_SPRITES:]
        sprites = RenderedSprites(
            spread(numbers, limit), SPRITES[options.data], device, options.binarisation, SPLITS[split]
        )
        if split == "train":  # black and white already, so that drawing them changes nothing
            return sprites
        pixels = sprites.pixels(torch.arange(len(sprites)))
        return ResidentImages(pixels, sprites.labels, options.binarisation, SHAPES, split=SPLITS[split])
    found = load_image_set(options.data, split, options.image_size, options.channels, options.skip_bad)
    if found.skipped and split != "test":
        note(f"left out, as they are no images: {listed(found.skipped)}")
    pixels, labels, files = found.images, found.labels, found.files
    if limit is not None:
        chosen = spread(np.arange(len(labels)), limit)
        pixels, labels, files = pixels[chosen], labels[chosen], [files[i] for i in chosen] if files else ()
    pixels, labels = torch.from_numpy(pixels), torch.from_numpy(labels)
    if options.binarisation == "fixed":
        generator = torch.Generator().manual_seed(options.seed)
        white = torch.rand(pixels.shape, generator=generator) < pixels / 255
        pixels = 255 * white.to(torch.uint8)
    return ResidentImages(
        pixels.to(device), labels.to(device), options.binarisation, found.class_names, tuple(files), SPLITS[split]
    )


def spread(array, count, name="--train-images"):
    """`count` entries of an array or tensor at equal distances, or all of it. Raises ValueError if it has fewer."""
    if count is None:
        return array
    require(1 <= count <= len(array), f"{name} {count}: expected 1 to {len(array)}, as many as there are")
    return array[np.arange(count) * len(array) // count]


def trained_images(run):
    """Which images a run was trained on, an ImageOptions, and the fingerprints of its training and test images.

    An older run has none of the latter. Raises ValueError if the run's config.json does not say it.
    """
    path = run / "config.json"
    training = read_config(path)["training"] if path.is_file() else None
    require(
        training and "data" in training, f"{path} does not say what the model was trained on: expected a run's folder"
    )
    options = ImageOptions(**{each.name: training[each.name] for each in fields(ImageOptions) if each.name in training})
    try:
        options.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if options.data not in NAMES and "image_size" not in training:  # levels 1 and 2 turn all images into 28x28, grey
        options = replace(options, image_size=28, channels=1)
    fingerprints = training.get("images")
    known = isinstance(fingerprints, list) and len(fingerprints) == 2
    return options, fingerprints if known else [None, None]


def describe(options, images):
    """The binarisation in a report's words: its numbers compare only with those of the same one."""
    if options.data in SPRITES:
        return "black and white"
    return {
        "none": "grey (not binarised)" if images.image_shape[0] == 1 else "colour (not binarised)",
        "fixed": f"binarised once with seed {options.seed}",
        "fresh": f"binarised for this report with seed {options.seed}",
    }[images.binarisation]
