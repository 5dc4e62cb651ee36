"""A folder of pictures as one uint8 array: PNG, JPEG, WebP, GIF, BMP, TIFF, ... files, sub-folders are classes.

The array is made once and filled picture by picture. They are decoded in threads, because Pillow lets go of Python's
lock while it decodes.
"""

import contextlib
import os
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from image_files import FORMATS, check_sides, decode, empty_images, positions_of, printable, shape_of

PARTS = {"train", "test", "val", "valid", "validation"}  # folders of these names alone are no classes


def read_folder(folder, split, image_size=None, channels=None, skip_bad=False):
    """A split of a folder's pictures: images uint8 (N, C, H, W), labels int64 (N,), class_names, files, skipped.

    files, skipped: paths relative to the folder, of the images and of what was left out because it is no image.
    The split depends on the names in the folder alone: not on its place, the machine, or what can be read.
    Raises ValueError with one line for whatever cannot be used.
    """
    classes, sides = _arranged(_picture_names(folder))
    names = list(classes)
    channels, height, width = _common_shape(folder, names, image_size, channels)
    if sides is None or split == "all":
        chosen = [names[i] for i in positions_of(split, len(names))]
    else:  # shuffled too, so that the first images are not all of one class
        order = np.random.default_rng(0).permutation(len(sides[split]))
        chosen = [sides[split][i] for i in order]

    images = empty_images(len(chosen), channels, height, width)
    files, bad = [], {}
    with contextlib.closing(_decoded(folder, chosen, image_size, channels)) as decoded:
        for name, picture in decoded:
            if isinstance(picture, Exception):
                bad[name] = picture
            elif picture.shape != images.shape[1:]:
                raise ValueError(
                    f"{printable(name)} is {picture.shape[2]}x{picture.shape[1]}, others are {width}x{height}: "
                    "--image-size 32 makes them alike"
                )
            else:
                images[len(files)] = picture
                files.append(name)
    if bad and not skip_bad:  # all of them are named at once, those of the other side too
        others = _decoded(folder, sorted(set(names) - set(chosen)), image_size, channels)
        raise _no_images(
            bad | {name: picture for name, picture in others if isinstance(picture, Exception)}, len(names)
        )
    if not files:
        raise _no_images(bad, len(chosen))
    class_names = sorted(set(classes.values()))
    number = {name: i for i, name in enumerate(class_names)}
    labels = np.array([number[classes[name]] for name in files], np.int64)
    shown = (tuple(map(printable, some)) for some in (filter(None, class_names), files, sorted(bad)))
    return images[: len(files)], labels, *shown


def _picture_names(folder):
    """The pictures in a folder and below, as sorted paths relative to it, with forward slashes. No hidden ones.

    Links are followed, but no folder is read twice.
    """
    from PIL import Image

    endings = {ending for ending, name in Image.registered_extensions().items() if name in FORMATS}
    names, ignored, seen = [], set(), set()
    waiting = [("", os.path.realpath(folder))]  # folders, and where they really are
    for below, place in waiting:
        if place in seen:
            continue  # one of two links to it, or a link that leads back up
        seen.add(place)
        try:
            entries = [entry for entry in os.scandir(os.path.join(folder, below)) if not entry.name.startswith(".")]
        except OSError as error:
            raise ValueError(f"its folder {printable(below) or '.'} cannot be read ({error.strerror})") from None
        for entry in sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name)):
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir(follow_symlinks=False):
                waiting.append((below + entry.name + "/", os.path.join(place, entry.name)))
            elif os.path.isdir(entry):
                waiting.append((below + entry.name + "/", os.path.realpath(entry)))
            elif ending in endings:
                names.append(below + entry.name)
            else:
                ignored.add(ending or "files without ending")
    if not names:
        found = f" (found: {printable(', '.join(sorted(ignored)[:5]))})" if ignored else ""
        raise ValueError(f"no picture is in it{found}: expected .png, .jpg, .webp, .gif, .bmp, .tif, ...")
    return sorted(names)


def _arranged(names):
    """The class of each picture that is in use, {name: class}, and {"train": names, "test": names}, or None.

    The class is "" where there are none.
    """
    first = {name: name.partition("/")[0].lower() if "/" in name else "" for name in names}
    found, sides = set(first.values()) - {""}, None
    if {"train", "test"} <= found:
        sides = {side: [name for name in names if first[name] == side] for side in ("train", "test")}
        inside = {name: name.partition("/")[2] for name in sides["train"] + sides["test"]}
    elif found and found <= PARTS:
        raise ValueError(
            f"it has pictures in {'/, '.join(sorted(found))}/ alone: expected both train/ and test/, "
            "or folders that are classes"
        )
    else:
        inside = {name: name for name in names}
    classes = {name: rest.partition("/")[0] if "/" in rest else "" for name, rest in inside.items()}
    loose = [name for name, label in classes.items() if not label]
    if loose and len(loose) < len(classes):
        raise ValueError(
            f"{len(loose):,} of {len(classes):,} pictures lie beside the folders that are classes "
            f"({_some(loose)}): put them into one, or elsewhere"
        )
    return classes, sides


def _common_shape(folder, names, image_size, channels):
    """(C, H, W) of all images: as asked for, else colour if any picture has it, and the one size they all have."""
    if image_size is not None and channels is not None:
        return channels, image_size, image_size
    shapes = [shape for _, shape in _in_threads(shape_of, folder, names) if shape]
    if not shapes:
        raise _no_images(dict.fromkeys(names), len(names))
    channels = channels or max(shape[0] for shape in shapes)
    if image_size is not None:
        return channels, image_size, image_size
    sizes = Counter(shape[1:] for shape in shapes).most_common()
    (height, width), _ = sizes[0]
    if len(sizes) > 1:
        some = ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in sizes[:4])
        raise ValueError(
            f"its pictures have {len(sizes):,} sizes, {some}{', ...' * (len(sizes) > 4)}: "
            "--image-size 32 makes them alike"
        )
    check_sides(height, width)
    return channels, height, width


def _decoded(folder, names, image_size, channels):
    """(name, picture), one after the other; the exception instead of a picture where a file is none."""

    def attempt(path):
        try:
            return decode(path, image_size, channels)
        except Exception as error:  # a decoder that meets another file's bytes may raise anything
            return error

    return _in_threads(attempt, folder, names, show=True)


def _in_threads(function, folder, names, show=False):
    """(name, function(its path)), in order; with a progress bar on a terminal if it takes longer than a second."""
    from tqdm import tqdm

    hidden = not show or not sys.stderr or sys.stderr.closed or os.environ.get("RANK", "0") != "0"

    def read(block):
        return [(name, function(os.path.join(folder, name))) for name in block]

    blocks = [names[i : i + 64] for i in range(0, len(names), 64)]
    bar = tqdm(total=len(names), unit=" pictures", delay=1, disable=hidden or None)
    with warnings.catch_warnings(), bar, ThreadPoolExecutor(os.cpu_count()) as executor:
        warnings.simplefilter("ignore")  # Pillow's, about pictures that it reads all the same
        for results in executor.map(read, blocks):
            yield from results
            bar.update(len(results))


def _no_images(bad, total):
    """The error about the files that are no images, {name: what was raised}."""
    one = len(bad) == 1
    reasons = {name: f" ({bad[name].strerror})" if getattr(bad[name], "strerror", None) else "" for name in sorted(bad)}
    some = ", ".join(printable(name) + reason for name, reason in [*reasons.items()][:3]) + ", ..." * (len(bad) > 3)
    remedy = "give another folder" if len(bad) == total else f"delete {'it' if one else 'them'} or give --skip-bad"
    return ValueError(f"{len(bad):,} of {total:,} files {'is no image' if one else 'are no images'}: {some}: {remedy}")


def _some(names):
    return ", ".join(map(printable, names[:3])) + ", ..." * (len(names) > 3)
