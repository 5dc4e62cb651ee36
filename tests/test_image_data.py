"""The images: the embedded digits against scikit-learn's originals, MNIST and Fashion-MNIST from files written here."""

import struct
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST, FashionMNIST

import image_data
from image_data import data_folder, load_images, load_uint8_images

# --- The digits ------------------------------------------------------------------------------------------------------

ORIGINALS, ORIGINAL_LABELS = load_digits(return_X_y=True)  # (1797, 64), values 0..16
IS_TEST = np.arange(1797) // 10 % 5 == 4  # every fifth run of ten
POSITIONS = {"train": np.flatnonzero(~IS_TEST), "test": np.flatnonzero(IS_TEST)}


@pytest.mark.parametrize(("split", "count"), [("train", 1440), ("test", 357)])
def test_digits_shapes_types_and_range(split, count):
    images, labels = load_uint8_images("digits", split)
    assert images.shape == (count, 1, 28, 28)
    assert labels.shape == (count,)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.min() == 0
    assert images.max() == 255
    assert set(labels.tolist()) == set(range(10))


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_digit_is_its_original_upright_and_under_its_own_label(split):
    images, labels = load_uint8_images("digits", split)
    # Each pixel of the original became a 3x3 block inside the border, so block means undo the enlargement. A mirrored
    # or transposed image, another split or another order cannot correlate with the original at its position.
    blocks = images[:, 0, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(-1, 64)
    originals = ORIGINALS[POSITIONS[split]]
    correlation = [np.corrcoef(block, original)[0, 1] for block, original in zip(blocks, originals, strict=True)]
    assert min(correlation) > 0.9
    np.testing.assert_array_equal(labels, ORIGINAL_LABELS[POSITIONS[split]])


def test_brightness_survives_the_enlargement():
    images, _ = load_images("digits", "train")
    # 0..16 became 0..1, on 24x24 of the 28x28 pixels; what the cubic overshoots is cut off, which costs little.
    expected = ORIGINALS[POSITIONS["train"]].mean() / 16 * (24 / 28) ** 2
    assert images.mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_border_is_two_black_pixels_and_no_more(split):
    images = load_uint8_images("digits", split)[0][:, 0]
    inside = np.zeros((28, 28), bool)
    inside[2:26, 2:26] = True
    assert not images[:, ~inside].any()
    for edge in (images[:, 2], images[:, 25], images[:, 3:25, 4], images[:, 3:25, 23]):
        assert edge.any()


def test_no_image_is_in_both_splits():
    train, test = ({image.tobytes() for image in load_uint8_images("digits", split)[0]} for split in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(split):
    labels = load_uint8_images("digits", split)[1]
    share = np.bincount(labels) / len(labels)
    assert share.min() > 0.09
    assert share.max() < 0.11


def test_the_split_does_not_depend_on_a_random_state():
    before = load_uint8_images("digits", "test")
    np.random.seed(123)  # noqa: NPY002 - the global state is the point
    for a, b in zip(before, load_uint8_images("digits", "test"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_load_images_is_exactly_the_stored_values_over_255(dtype):
    stored, stored_labels = load_uint8_images("digits", "test")
    images, labels = load_images("digits", "test", dtype)
    assert images.dtype == dtype
    np.testing.assert_array_equal(images, stored / dtype(255))
    np.testing.assert_array_equal(labels, stored_labels)
    assert images.max() == 1


def test_load_images_gives_float32_unless_told():
    assert load_images("digits", "test")[0].dtype == np.float32


@pytest.mark.parametrize("load", [load_images, load_uint8_images])
@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("cifar", "train", "cifar.*digits, mnist, fashion"),
        ("Digits", "train", "Digits.*digits, mnist, fashion"),
        ("digits", "validation", "validation.*train, test"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(load, name, split, expected):
    with pytest.raises(ValueError, match=expected):
        load(name, split)


# --- MNIST and Fashion-MNIST, through torchvision --------------------------------------------------------------------


def write_idx(path, array):
    """Write uint8 numbers in the format of MNIST: two zeros, type 8, the number of axes, their sizes, the data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_dataset(root, folder, seed):
    """A few random images in torchvision's layout. Returns {split: (images (N, 28, 28), labels (N,))}."""
    rng = np.random.default_rng(seed)
    splits = {}
    for split, part, count in (("train", "train", 7), ("test", "t10k", 5)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)
        write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)
        splits[split] = images, labels
    return splits


def refuse_download(self):
    raise AssertionError("tried to download")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Both data sets below VAE_DATA, and no way to download."""
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setattr(MNIST, "download", refuse_download)
    return {name: write_dataset(tmp_path, folder, seed) for seed, (name, folder) in enumerate(FOLDERS.items())}


FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST"}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", FOLDERS)
def test_files_on_disk_are_read_in_order(written, name, split):
    images, labels = load_uint8_images(name, split)
    expected_images, expected_labels = written[name][split]
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images, expected_images[:, None])
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(load_images(name, split)[0], expected_images[:, None] / np.float32(255))


def test_vae_data_says_where_to_look(tmp_path, monkeypatch):
    repository = Path(image_data.__file__).resolve().parent.parent
    monkeypatch.setenv("VAE_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("VAE_DATA", "")
    assert data_folder() == repository / "data"
    monkeypatch.delenv("VAE_DATA")
    assert data_folder() == repository / "data"


@pytest.mark.parametrize("name", FOLDERS)
def test_absent_files_are_downloaded_once_and_stdout_stays_clean(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    downloads = []

    def download(self):
        print("Downloading")
        downloads.append((type(self), write_dataset(tmp_path, FOLDERS[name], seed=5)))

    monkeypatch.setattr(MNIST, "download", download)
    images, _ = load_uint8_images(name, "test")
    load_uint8_images(name, "train")
    [(dataset, splits)] = downloads
    assert dataset is {"mnist": MNIST, "fashion": FashionMNIST}[name]
    np.testing.assert_array_equal(images, splits["test"][0][:, None])
    captured = capsys.readouterr()
    assert captured.out == ""  # stdout belongs to the reports
    assert "Downloading" in captured.err


@pytest.mark.parametrize("name", FOLDERS)
def test_absent_files_without_a_network_say_where_they_should_be(tmp_path, monkeypatch, name):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        load_images(name, "test")
    for part in (name, str(tmp_path / FOLDERS[name] / "raw"), "VAE_DATA", "--data digits"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw[:10], id="inside the header"),
        pytest.param(lambda raw: raw[:1000], id="inside the pixels"),
        pytest.param(lambda raw: raw[:2], id="two bytes"),
        pytest.param(lambda raw: b"<html>not found</html>", id="a web page"),
        pytest.param(lambda raw: raw[:2] + b"\x09" + raw[3:], id="another type"),
        pytest.param(lambda raw: raw[:2] + b"\x0a" + raw[3:], id="an unknown type"),
        pytest.param(
            lambda raw: raw[:4] + struct.pack(">3I", 4, 28, 28) + raw[16 : 16 + 4 * 784],
            id="fewer images than labels",
        ),
        pytest.param(
            lambda raw: raw[:4] + struct.pack(">3I", 5, 14, 56) + raw[16:],
            id="not 28x28",
        ),
    ],
)
def test_damaged_files_are_called_damaged(written, tmp_path, damage):
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"mnist files in .*MNIST/raw are damaged .*: delete them"):
        load_images("mnist", "test")


def test_labels_that_name_no_class_are_called_damaged(written, tmp_path):
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([77]))
    with pytest.raises(ValueError, match="labels up to 77"):
        load_images("mnist", "test")


REAL_MNIST = data_folder() / "MNIST" / "raw" / "train-images-idx3-ubyte"


@pytest.mark.skipif(not REAL_MNIST.is_file(), reason="no MNIST in $VAE_DATA")
@pytest.mark.parametrize(("split", "count", "mean", "first"), [("train", 60000, 0.1307, 5), ("test", 10000, 0.1325, 7)])
def test_the_real_mnist(split, count, mean, first):
    images, labels = load_uint8_images("mnist", split)
    assert images.shape == (count, 1, 28, 28)
    assert labels.shape == (count,)
    assert labels[0] == first
    assert images.mean() / 255 == pytest.approx(mean, abs=1e-4)
    assert np.bincount(labels).min() > 0.08 * count


# --- What it costs to import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        # A script that only shows its --help must not wait for these.
        ("import image_data", {"torch", "torchvision", "sklearn", "PIL", "matplotlib"}),
        # Level 1 must run on a machine without PyTorch.
        ("import image_data; image_data.load_images('digits', 'test')", {"torch", "torchvision"}),
    ],
    ids=["import", "digits"],
)
def test_image_data_imports_only_what_it_needs(tmp_path, code, absent):
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not absent & set(done.stdout.split())
