"""Images in .npy and .npz files: axes, kinds of numbers, labels, the original dSprites, damaged files."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

import image_arrays
import sprites
from image_data import load_image_set
from image_files import positions_of

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 12), np.uint8)  # (N, C, H, W)
LAYOUTS = {
    "(N, C, H, W)": lambda images: images,
    "(N, H, W, C)": lambda images: images.transpose(0, 2, 3, 1),
    "columns first": lambda images: np.asfortranarray(images.transpose(0, 2, 3, 1)),
}


@pytest.fixture
def saved(tmp_path):
    """Writes arrays as a .npz, or one as a .npy, and returns the path."""

    def save(array=None, compressed=False, **arrays):
        if array is not None:
            np.save(tmp_path / "images.npy", array)
            return tmp_path / "images.npy"
        (np.savez_compressed if compressed else np.savez)(tmp_path / "images.npz", **arrays)
        return tmp_path / "images.npz"

    return save


@pytest.fixture(params=[10**8, 2000, 1], ids=["one block", "blocks", "row by row"])
def block_bytes(request, monkeypatch):
    monkeypatch.setattr(image_arrays, "BLOCK_BYTES", request.param)


# --- Axes and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [".npy", ".npz", ".npz, compressed"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_layout_is_channels_first_in_the_end(saved, block_bytes, layout, kind, channels):
    expected = IMAGES[:, :channels]
    array = LAYOUTS[layout](expected)
    path = saved(array) if kind == ".npy" else saved(images=array, compressed="compressed" in kind)
    for split in ("train", "test", "all"):
        loaded = load_image_set(path, split)
        assert loaded.images.dtype == np.uint8
        assert loaded.labels.dtype == np.int64
        np.testing.assert_array_equal(loaded.images, expected[positions_of(split, 30)])
        assert not loaded.labels.any()
        assert loaded.class_names == loaded.files == loaded.skipped == ()


def test_without_a_channel_axis_images_are_grey(saved, block_bytes):
    loaded = load_image_set(saved(IMAGES[:, 0]), "all")
    np.testing.assert_array_equal(loaded.images, IMAGES[:, :1])


def test_where_the_channels_could_be_two_axes_they_are_the_last_one(saved):
    array = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 3), np.uint8)  # 3 high and 8 wide, not 8 and 3
    loaded = load_image_set(saved(array), "all", image_size=8)
    for image, original in zip(loaded.images, array, strict=True):
        square = Image.fromarray(np.ascontiguousarray(original[:, 2:5]))
        expected = square.resize((8, 8), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image.transpose(1, 2, 0), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8", np.longdouble])
def test_floats_from_0_to_1_are_rounded_to_the_nearest_of_256(saved, block_bytes, dtype):
    floats = (IMAGES / 255).astype(dtype)
    loaded = load_image_set(saved(images=floats), "all")
    np.testing.assert_array_equal(loaded.images, IMAGES)


def test_floats_between_two_values_go_to_the_nearer_one(saved):
    floats = np.linspace(0, 1, 4 * 64).reshape(4, 8, 8)
    loaded = load_image_set(saved(floats), "all")
    assert np.abs(loaded.images[:, 0] / 255 - floats).max() <= 0.5 / 255 + 1e-12


def test_size_and_channels_can_be_chosen(saved, block_bytes):
    loaded = load_image_set(saved(IMAGES), "test", image_size=28, channels=1)
    assert loaded.images.shape == (3, 1, 28, 28)
    grey = load_image_set(saved(IMAGES), "all", channels=1).images
    luminance = np.tensordot(IMAGES, [0.299, 0.587, 0.114], (1, 0))
    assert np.abs(grey[:, 0] - luminance).max() <= 0.51


def test_a_row_of_a_block_does_not_move_to_another_image(saved, block_bytes):
    """Each image is of one value, its number; so is its label."""
    numbers = np.arange(200, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None], (200, 8, 8))
    for split in ("train", "test", "all"):
        loaded = load_image_set(saved(images=images, labels=numbers), split, image_size=12)
        np.testing.assert_array_equal(loaded.images[:, 0, 5, 5], loaded.labels)
        np.testing.assert_array_equal(loaded.labels, positions_of(split, 200))


def test_no_second_array_of_all_images(saved, monkeypatch):
    monkeypatch.setattr(image_arrays, "BLOCK_BYTES", 2**17)
    images = np.random.default_rng(0).integers(0, 4, (2000, 64, 64), np.uint8)
    path = saved(images=images, compressed=True)
    tracemalloc.start()
    try:
        loaded = load_image_set(path, "train")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * loaded.images.nbytes


# --- Labels and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "class_names"),
    [
        (np.array([3, 7]), ("3", "7")),
        (np.array([-1, 1], np.int8), ("-1", "1")),
        (np.array([0, 2**64 - 1], np.uint64), ("0", str(2**64 - 1))),
        (np.array(["dog", "cat"]), ("cat", "dog")),
        (np.array([b"dog", b"cat"]), ("cat", "dog")),
        (np.array(["ü 猫", "\x1b[2J"]), (r"\x1b[2J", "ü 猫")),
        (np.array([5, 12], ">i4"), ("5", "12")),  # by number, not by letter
    ],
    ids=str,
)
def test_labels_are_classes_by_their_sorted_values(saved, values, class_names):
    labels = values[np.arange(30) % 3 // 2]
    for split in ("train", "test"):
        loaded = load_image_set(saved(images=IMAGES, labels=labels), split)
        assert loaded.class_names == class_names
        sorted_values = sorted(values.tolist())
        expected = [sorted_values.index(label) for label in labels[positions_of(split, 30)].tolist()]
        assert loaded.labels.tolist() == expected


def test_any_name_does_if_there_is_only_one_array_beside_the_labels(saved):
    labels = np.arange(30) % 2
    loaded = load_image_set(saved(faces=IMAGES, labels=labels), "all")
    np.testing.assert_array_equal(loaded.images, IMAGES)
    assert loaded.labels.tolist() == labels.tolist()
    extra = load_image_set(saved(images=IMAGES, other=np.zeros(3), pickled=np.array([None])), "all")
    np.testing.assert_array_equal(extra.images, IMAGES)


def test_capital_endings(saved, tmp_path):
    saved(IMAGES).rename(tmp_path / "A.NPY")
    saved(images=IMAGES).rename(tmp_path / "B.NPZ")
    for name in ("A.NPY", "B.NPZ"):
        np.testing.assert_array_equal(load_image_set(tmp_path / name, "all").images, IMAGES)


# --- The original dSprites -------------------------------------------------------------------------------------------


def dsprites_arrays(count):
    """As in the original file; the metadata are pickled there."""
    return {
        "metadata": np.array({"author": "somebody"}),
        "imgs": np.random.default_rng(0).integers(0, 2, (count, 64, 64), np.uint8),
        "latents_classes": np.zeros((count, 6), np.int64),
        "latents_values": np.zeros((count, 6)),
    }


def test_dsprites_are_white_on_black_and_their_class_is_the_shape(saved, monkeypatch, block_bytes):
    monkeypatch.setattr(sprites, "NUM_SPRITES", 30)
    monkeypatch.setattr(sprites, "SIZES", (3, 1, 10, 1, 1))
    arrays = dsprites_arrays(30)
    path = saved(**arrays, compressed=True)
    for split in ("train", "test", "all"):
        loaded = load_image_set(path, split)
        chosen = positions_of(split, 30)
        np.testing.assert_array_equal(loaded.images, 255 * arrays["imgs"][chosen][:, None])
        assert loaded.class_names == ("square", "ellipse", "heart")
        np.testing.assert_array_equal(loaded.labels, chosen // 10)
    assert load_image_set(path, "test", image_size=32).images.shape == (3, 1, 32, 32)


def test_what_only_has_the_keys_of_dsprites_is_refused(saved):
    with pytest.raises(
        ValueError, match=r"images.npz: expected the dSprites' images of shape \(737280, 64, 64\), got \(4,"
    ):
        load_image_set(saved(**dsprites_arrays(4)), "all")


def test_dsprites_of_other_values_are_refused(saved, monkeypatch):
    monkeypatch.setattr(sprites, "NUM_SPRITES", 4)
    with pytest.raises(ValueError, match="holds values from 0 to 2"):
        load_image_set(
            saved(**(dsprites_arrays(4) | {"imgs": np.full((4, 64, 64), 2, np.uint8) * np.eye(64, dtype=np.uint8)})),
            "all",
        )


# --- What is refused -------------------------------------------------------------------------------------------------

FLOATS = IMAGES / 255
LABELS = np.arange(30)
REFUSED = {
    "no images": ({"images": IMAGES[:0]}, r"too few images \(0\)"),
    "one image to split": ({"images": IMAGES[:1]}, r"too few images \(1\)"),
    "nothing": ({}, "holds no images: expected images and"),
    "labels alone": ({"labels": LABELS}, "holds no images: expected images and"),
    "two arrays": ({"x_train": IMAGES, "x_test": IMAGES}, "holds x_test, x_train: expected images and"),
    "many arrays": ({f"a{i}": IMAGES for i in range(9)}, "holds a0, a1, a2, a3, a4, ...: expected images and"),
    "a number": ({"images": np.uint8(7)}, r"of shape \(\): expected an array of numbers"),
    "rows of pixels": (
        {"images": IMAGES.reshape(30, -1)},
        r"shape \(30, 288\): expected \(N, H, W\), \(N, H, W, C\) or",
    ),
    "five axes": ({"images": IMAGES[None]}, r"expected \(N, H, W\)"),
    "four channels": ({"images": np.zeros((5, 8, 8, 4), np.uint8)}, r"\(5, 8, 8, 4\): expected .* C 1 or 3"),
    "one image in colour": ({"images": IMAGES[0].transpose(1, 2, 0)}, r"\(8, 12, 3\): expected"),
    "no width": ({"images": np.zeros((5, 8, 0), np.uint8)}, r"shape \(5, 8, 0\)"),
    "odd sides": ({"images": np.zeros((5, 30, 20), np.uint8)}, "images of 20x30: sides must be multiples of 4"),
    "integers": ({"images": IMAGES.astype(np.int64)}, r"holds int64: expected uint8, or floats in \[0, 1\]"),
    "complex": ({"images": FLOATS + 0j}, "holds complex128: expected uint8"),
    "booleans": ({"images": IMAGES > 7}, "holds bool: expected uint8"),
    "strings": ({"images": np.full((5, 8, 8), "a")}, "holds <U1: expected uint8"),
    "objects": ({"images": np.array([None] * 5)}, "holds object of shape"),
    "records": ({"images": np.zeros((5, 8, 8), "u1,u1")}, "expected uint8, or floats"),
    "bytes as floats": (
        {"images": IMAGES.astype(np.float32)},
        r"holds values from 0.0 to 255.0: expected uint8, or floats in",
    ),
    "from -1 to 1": ({"images": 2 * FLOATS - 1}, "holds values from -1.0 to 1.0"),
    "a little too much": ({"images": FLOATS * 1.0001}, "holds values from 0.0 to 1.0001"),
    "not a number": (
        {"images": np.where(np.arange(12) == 7, np.nan, FLOATS)},
        "holds values from nan to nan",
    ),
    "infinite": ({"images": np.where(np.arange(12) == 7, np.inf, FLOATS)}, "to inf"),
    "0 and 1": ({"images": IMAGES // 128}, "uint8 of only 0 and 1 is almost black: expected 0 to 255, or floats"),
    "labels of another length": (
        {"images": IMAGES, "labels": LABELS[:-1]},
        r"labels are int64 of shape \(29,\): .* each of 30",
    ),
    "labels as a column": (
        {"images": IMAGES, "labels": LABELS[:, None]},
        r"labels are int64 of shape \(30, 1\): expected",
    ),
    "labels as floats": (
        {"images": IMAGES, "labels": LABELS / 2},
        "labels are float64 of .* expected integers or strings",
    ),
    "labels as objects": ({"images": IMAGES, "labels": np.array([None] * 30)}, "holds object of shape"),
    "labels without letters": ({"images": IMAGES, "labels": np.array([b"\xff"] * 30)}, "ascii"),
}


@pytest.mark.parametrize(("arrays", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_images_is_refused_in_one_line_that_names_the_file(saved, tmp_path, arrays, expected):
    path = saved(**arrays)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"^{tmp_path}/images.npz: .*{expected}") as caught:
            load_image_set(path, split)
        assert "\n" not in str(caught.value)


def test_pickles_are_never_opened(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    for path in (
        saved(np.array([Trap()] * 5)),
        saved(images=np.array([Trap()] * 5)),
        saved(images=IMAGES, labels=np.array([Trap()] * 30)),
    ):
        with pytest.raises(ValueError, match="holds object"):
            load_image_set(path, "all")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_damaged_files_are_refused_in_one_line(saved, kind):
    """Cut off anywhere, or with a byte changed anywhere in the head; changed pixels of a .npy cannot be noticed."""
    path = saved(IMAGES) if kind == "npy" else saved(images=IMAGES, labels=LABELS, compressed=kind == "compressed")
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    cases = [raw[:end] for end in [0, 1, 5, 6, 7, 8, 9, 10, 11, 60, 127, *rng.integers(0, len(raw), 20)]]
    for position in [*range(0, 140, 3), *rng.integers(len(raw) - 250, len(raw), 30)]:
        cases.append(raw[:position] + bytes([raw[position] ^ 0x55]) + raw[position + 1 :])
    refused = []
    for case in cases:
        path.write_bytes(case)
        try:
            assert load_image_set(path, "all").images.shape == IMAGES.shape
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) >= 31
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in refused)


def test_a_head_that_promises_more_than_there_is(saved):
    path = saved(IMAGES)
    raw = path.read_bytes()
    many = b"(30000000000, 3, 8, 12), }"
    path.write_bytes(raw.replace(b"(30, 3, 8, 12), }" + b" " * (len(many) - 17), many))
    with pytest.raises(
        ValueError, match=r"images.npy: cut off: its .* bytes do not hold an array \(30000000000, 3, 8, 12\)"
    ):
        load_image_set(path, "all")
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
        archive.writestr("images.npy", raw)
        archive.writestr("labels.npy", raw.replace(b"|u1", b"<i8"))
    with pytest.raises(
        ValueError, match=r"images.npz: cut off: its .* bytes do not hold an array \(30, 3, 8, 12\) of int64"
    ):
        load_image_set(path.with_suffix(".npz"), "all")


@pytest.mark.parametrize("name", ["text.npz", "text.npy"])
def test_text_is_no_array(tmp_path, name):
    (tmp_path / name).write_text("not an archive")
    with pytest.raises(ValueError, match=name):
        load_image_set(tmp_path / name, "all")


def test_an_encrypted_archive(saved):
    path = saved(images=IMAGES)
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # the flag, in the file's head and in the directory
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"images.npz: .*encrypted"):
        load_image_set(path, "all")
