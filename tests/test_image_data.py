"""The images: the embedded digits against scikit-learn's originals, all others from files written here."""

import os
import pickle
import struct
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

import image_data
from image_data import COLOUR_DATASETS, data_folder, load_image_set, load_images, load_uint8_images

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
        ("", "train", "unknown data set ''.*digits, mnist, fashion, kmnist, cifar10, svhn, or a path to a folder"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(load, name, split, expected):
    with pytest.raises(ValueError, match=expected):
        load(name, split)


# --- MNIST and those of its form, through torchvision -----------------------------------------------------------------


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
    """All of them below VAE_DATA, and no way to download."""
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse_download)
    return {name: write_dataset(tmp_path, folder, seed) for seed, (name, folder) in enumerate(FOLDERS.items())}


FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST", "kmnist": "KMNIST"}


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
        downloads.append((type(self).__name__, write_dataset(tmp_path, FOLDERS[name], seed=5)))

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    images, _ = load_uint8_images(name, "test")
    load_uint8_images(name, "train")
    [(dataset, splits)] = downloads
    assert dataset == FOLDERS[name]  # which is the name of torchvision's class, too
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


# --- CIFAR-10 and SVHN, through torchvision --------------------------------------------------------------------------

ANIMALS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10(root, seed=0):
    """Two images a file in the format of CIFAR-10. Returns {split: (images (N, 3, 32, 32), labels (N,))}."""
    rng = np.random.default_rng(seed)
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    splits = {"train": ([], []), "test": ([], [])}
    for file in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        images, labels = rng.integers(0, 256, (2, 3072), np.uint8), rng.integers(0, 10, 2).tolist()
        (folder / file).write_bytes(pickle.dumps({"data": images, "labels": labels}))  # red, green, blue, row by row
        for so_far, more in zip(splits["test" if "test" in file else "train"], (images, labels), strict=True):
            so_far.extend(more)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ANIMALS}))
    return {
        split: (np.array(images).reshape(-1, 3, 32, 32), np.array(labels)) for split, (images, labels) in splits.items()
    }


def write_svhn(root, seed=0):
    """A few images in the format of SVHN, in which a 0 has the label 10. Returns {split: (images, labels)}."""
    rng = np.random.default_rng(seed)
    (root / "SVHN").mkdir()
    splits = {}
    for split, count in (("train", 12), ("test", 5)):
        images, labels = rng.integers(0, 256, (count, 3, 32, 32), np.uint8), np.arange(count) % 10
        pixels = {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        savemat(root / "SVHN" / f"{split}_32x32.mat", pixels)  # (H, W, C, N)
        splits[split] = images, labels
    return splits


WRITERS = {"cifar10": write_cifar10, "svhn": write_svhn}
WHERE = {"cifar10": ("cifar-10-batches-py", "test_batch"), "svhn": ("SVHN", "test_32x32.mat")}


@pytest.fixture
def any_checksum(monkeypatch):
    """torchvision knows the files by their MD5, which those written here do not have."""
    for module in ("cifar", "svhn"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: Path(path).is_file()
        )


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", COLOUR_DATASETS)
def test_colour_files_on_disk_are_read_in_order(tmp_path, monkeypatch, any_checksum, name, split):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    expected_images, expected_labels = WRITERS[name](tmp_path)[split]
    loaded = load_image_set(name, split)
    assert loaded.images.dtype == np.uint8
    assert loaded.labels.dtype == np.int64
    assert loaded.images.flags.c_contiguous
    np.testing.assert_array_equal(loaded.images, expected_images)
    np.testing.assert_array_equal(loaded.labels, expected_labels)
    assert loaded.class_names == tuple(ANIMALS if name == "cifar10" else "0123456789")
    assert loaded.files == loaded.skipped == ()


@pytest.mark.parametrize("name", COLOUR_DATASETS)
def test_colour_files_that_torchvision_does_not_know_are_called_damaged(tmp_path, monkeypatch, name):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    WRITERS[name](tmp_path)
    with pytest.raises(ValueError, match=rf"the {name} files in .*{WHERE[name][0]} are damaged .*: delete them"):
        load_image_set(name, "test")


@pytest.mark.parametrize("name", COLOUR_DATASETS)
def test_labels_that_do_not_fit_the_colour_images_are_called_damaged(tmp_path, monkeypatch, any_checksum, name):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    WRITERS[name](tmp_path)
    folder, file = WHERE[name]
    if name == "cifar10":
        entry = pickle.loads((tmp_path / folder / file).read_bytes())
        (tmp_path / folder / file).write_bytes(pickle.dumps(entry | {"labels": [1, 2, 3]}))
    else:
        savemat(tmp_path / folder / file, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1), np.uint8)})
    with pytest.raises(ValueError, match=r"are damaged \(3 labels"):
        load_image_set(name, "test")


@pytest.mark.parametrize("name", COLOUR_DATASETS)
def test_absent_colour_files_without_a_network_say_where_they_should_be(tmp_path, monkeypatch, name):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        load_image_set(name, "test")
    for part in (name, "no route to host", str(tmp_path / WHERE[name][0]), "VAE_DATA", "--data digits"):
        assert part in str(caught.value)


def test_svhn_without_scipy_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    write_svhn(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match="SciPy, which is not installed: pip install scipy"):
        load_image_set("svhn", "test")


# --- Any data set, by name or path -----------------------------------------------------------------------------------


def test_the_named_sets_say_their_classes(written):
    assert load_image_set("digits", "test").class_names == tuple("0123456789")
    assert load_image_set("mnist", "test").class_names == tuple("0123456789")
    assert load_image_set("fashion", "test").class_names[0] == "T-shirt/top"
    assert load_image_set("kmnist", "test").class_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def test_all_is_train_and_test(written):
    both = load_image_set("kmnist", "all", image_size=8)
    for name in ("images", "labels"):
        parts = [getattr(load_image_set("kmnist", split, image_size=8), name) for split in ("train", "test")]
        np.testing.assert_array_equal(getattr(both, name), np.concatenate(parts))


def test_a_named_set_in_another_size_and_in_grey(tmp_path, monkeypatch, any_checksum):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    originals, _ = write_cifar10(tmp_path)["test"]
    grey = load_image_set("cifar10", "test", channels=1).images
    assert grey.shape == (2, 1, 32, 32)
    luminance = np.tensordot(originals, [0.299, 0.587, 0.114], (1, 0))
    assert np.abs(grey[:, 0] - luminance).max() <= 1
    small = load_image_set("cifar10", "test", image_size=28, channels=1).images
    for image, original in zip(small, originals, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(original.transpose(1, 2, 0)))
        expected = picture.resize((28, 28), Image.Resampling.BICUBIC).convert("L")
        np.testing.assert_array_equal(image[0], np.asarray(expected))


def test_sizes_and_channels_may_be_numbers_of_other_types():
    images = load_image_set("digits", "test", image_size=np.int64(32), channels=np.float32(3)).images
    np.testing.assert_array_equal(images, load_image_set("digits", "test", image_size=32, channels=3).images)


def test_grey_images_in_colour_have_three_equal_channels():
    grey, colour = (load_image_set("digits", "test", image_size=32, channels=channels).images for channels in (1, 3))
    assert colour.shape == (357, 3, 32, 32)
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=1))


def test_levels_1_and_2_get_28x28_and_grey_from_every_path(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "colour.npz", images=colour, labels=np.arange(20) % 4)
    images, labels = load_images(str(tmp_path / "colour.npz"), "test")
    assert images.shape == (2, 1, 28, 28)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    pixels, same_labels = load_uint8_images(tmp_path / "colour.npz", "test")
    np.testing.assert_array_equal(images, pixels / np.float32(255))
    np.testing.assert_array_equal(labels, same_labels)
    expected = load_image_set(tmp_path / "colour.npz", "test", image_size=28, channels=1).images
    np.testing.assert_array_equal(pixels, expected)


def test_a_path_may_be_relative_to_the_home_or_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 100 + i).save(tmp_path / "mnist" / f"{i}.png")
    expected = np.full((3, 1, 8, 8), [[[[100]]], [[[101]]], [[[102]]]], np.uint8)
    for path in ("~/mnist", "./mnist", "mnist/", Path("mnist"), tmp_path / "mnist"):
        np.testing.assert_array_equal(load_image_set(path, "all").images, expected)


def test_a_name_means_the_data_set_even_where_a_folder_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load_image_set("digits", "test").images) == 357
    with pytest.raises(ValueError, match="no picture is in it"):
        load_image_set("./digits", "test")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"split": "both"}, "unknown split 'both': expected one of train, test, all"),
        ({"image_size": 30}, "image size 30: expected a multiple of 4 from 8 up"),
        ({"image_size": 4}, "image size 4: expected"),
        ({"image_size": -28}, "image size -28: expected"),
        ({"image_size": "28"}, "image size 28: expected"),
        ({"image_size": 10**9}, "image size 1000000000: expected"),
        ({"image_size": [28]}, r"image size \[28\]: expected"),
        ({"data": None}, "^data None: expected the name of a data set, or a path$"),
        ({"data": 3}, "^data 3: expected"),  # and not what happens to be open as file 3
        ({"data": ["digits"]}, r"^data \['digits'\]: expected"),
        ({"data": "pipe.npz"}, "^pipe.npz is no folder and no array"),
        ({"data": "photo.png/"}, "^nothing is at photo.png/: expected"),
        ({"channels": 2}, "2 channels: expected 1 .grey. or 3 .colour."),
        ({"channels": 0}, "0 channels: expected"),
        (
            {"data": "a photo.jpg"},
            "^.*a photo.jpg is no folder and no array: expected a folder of pictures, .npz or .npy$",
        ),
        ({"data": "absent.npz"}, "^nothing is at absent.npz: expected a folder of pictures, .npz or .npy$"),
        ({"data": "absent/folder"}, "^nothing is at absent/folder: expected"),
        ({"data": Path("absent")}, "^nothing is at absent: expected"),
        ({"data": "x" * 5000}, "^unknown data set 'xx"),
        ({"data": "a\0b"}, r"^unknown data set 'a\\x00b'"),
        ({"data": "ünknown\udcff"}, r"^unknown data set 'ünknown\\udcff'"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_in_one_line(tmp_path, monkeypatch, changed, expected):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a photo.jpg")
    os.mkfifo("pipe.npz")
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as caught:
        load_image_set(**({"data": "digits", "split": "test"} | changed))
    assert "\n" not in str(caught.value)


# --- What it costs to import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        # A script that only shows its --help must not wait for these.
        ("import image_data", {"torch", "torchvision", "sklearn", "PIL", "matplotlib", "tqdm"}),
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
