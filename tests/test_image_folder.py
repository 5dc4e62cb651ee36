"""A folder of pictures: what counts, which class and which side of the split it is, and what is refused."""

import io
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import image_folder
from image_data import load_image_set


def write(path, value=0, size=(8, 8), mode="L"):
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def values(loaded):
    """{file: (its grey value, the name of its class)} of a set whose pictures are of one colour."""
    classes = loaded.class_names or ("",)
    return {
        file: (int(image[0, 0, 0]), classes[label])
        for file, image, label in zip(loaded.files, loaded.images, loaded.labels, strict=True)
    }


@pytest.fixture
def pets(tmp_path):
    """Twenty cats and ten dogs; a cat's value is its number, a dog's is 100 more."""
    for i in range(20):
        write(tmp_path / "pets" / "cat" / f"{i:02d}.png", i)
    for i in range(10):
        write(tmp_path / "pets" / "dog" / f"{i:02d}.bmp", 100 + i)
    return tmp_path / "pets"


EXPECTED_PETS = {f"cat/{i:02d}.png": (i, "cat") for i in range(20)} | {
    f"dog/{i:02d}.bmp": (100 + i, "dog") for i in range(10)
}


# --- What is in a folder ---------------------------------------------------------------------------------------------


def test_sub_folders_are_classes_in_the_order_of_their_names(pets):
    loaded = load_image_set(pets, "all")
    assert loaded.images.shape == (30, 1, 8, 8)
    assert loaded.images.dtype == np.uint8
    assert loaded.labels.dtype == np.int64
    assert loaded.class_names == ("cat", "dog")
    assert loaded.labels.tolist() == [0] * 20 + [1] * 10
    assert loaded.files == tuple(EXPECTED_PETS)
    assert loaded.skipped == ()
    assert values(loaded) == EXPECTED_PETS


def test_without_sub_folders_there_are_no_classes(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.png", i)
    loaded = load_image_set(tmp_path, "all")
    assert loaded.class_names == ()
    assert loaded.labels.tolist() == [0, 0, 0, 0]
    assert values(loaded) == {f"{i}.png": (i, "") for i in range(4)}


def test_a_class_is_searched_to_its_bottom_and_an_empty_folder_is_none(tmp_path):
    write(tmp_path / "b" / "2024" / "may" / "x.png", 1)
    write(tmp_path / "b" / "y.png", 2)
    write(tmp_path / "a" / "deep" / "er" / "z.png", 3)
    (tmp_path / "Zero" / "inside").mkdir(parents=True)
    expected = {"a/deep/er/z.png": (3, "a"), "b/2024/may/x.png": (1, "b"), "b/y.png": (2, "b")}
    assert values(load_image_set(tmp_path, "all")) == expected


def test_hidden_files_and_other_endings_do_not_count(pets):
    for name in ("cat/.hidden.png", ".cache/a.png", "cat/._00.png", "__MACOSX/cat/._00.png"):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        (pets / name).write_bytes(b"no picture")
    for name in (
        "README.txt",
        "labels.csv",
        "cat/Thumbs.db",
        "cat/no ending",
        "dog/film.mp4",
        "cat/data.h5",
        "dog/a.eps",
    ):
        (pets / name).write_text("no picture")
    assert values(load_image_set(pets, "all")) == EXPECTED_PETS


@pytest.mark.parametrize(
    "ending", ["JPG", "Png", "jpeg", "jfif", "webp", "GIF", "bmp", "TIFF", "tif", "ppm", "jp2", "tga"]
)
def test_endings_of_pictures_in_any_case(tmp_path, ending):
    write(tmp_path / f"a.{ending}", 200)
    write(tmp_path / f"b.c.{ending}", 200)
    loaded = load_image_set(tmp_path, "all", channels=1)
    assert loaded.files == (f"a.{ending}", f"b.c.{ending}")
    assert np.abs(loaded.images.astype(int) - 200).max() <= 2


def test_names_that_are_not_text_are_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write(tmp_path / name / "line\nbreak.png", 7)
    write(tmp_path / name / os.fsdecode(b"\xff.png"), 8)
    loaded = load_image_set(tmp_path, "all")
    assert loaded.class_names == (r"caf\udce9",)
    assert loaded.files == (r"caf\udce9/line\nbreak.png", r"caf\udce9/\udcff.png")
    (tmp_path / name / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 2 files is no image: caf\\udce9/\\udcff.png: delete it") as caught:
        load_image_set(tmp_path / name / "..", "all")
    str(caught.value).encode("ascii")


def test_links_are_followed_but_never_in_circles(pets, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(pets / "cat")
    write(tmp_path / "linked" / "own" / "x.png", 77)
    (tmp_path / "linked" / "own" / "up").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "own" / "self").symlink_to("self")
    (tmp_path / "linked" / "own" / "file.png").symlink_to(pets / "dog" / "03.bmp")
    loaded = load_image_set(tmp_path / "linked", "all")
    cats = {file: value for file, value in EXPECTED_PETS.items() if value[1] == "cat"}
    assert values(loaded) == cats | {"own/file.png": (103, "own"), "own/x.png": (77, "own")}


def test_no_folder_is_read_twice_however_many_links_lead_to_it(tmp_path):
    for i in range(12):
        write(tmp_path / f"b{i:02d}" / "x.png", i)
        for j in range(12):
            (tmp_path / f"b{i:02d}" / f"to {j}").symlink_to(tmp_path / f"b{j:02d}")
    (tmp_path / "another name").symlink_to(tmp_path / "b03")
    expected = {f"b{i:02d}/x.png": (i, f"b{i:02d}") for i in range(12)}
    assert values(load_image_set(tmp_path, "all")) == expected


def test_a_very_deep_folder(tmp_path):
    folder = tmp_path / "class"
    for _ in range(500):
        folder /= "a"
    write(folder / "x.png", 3)
    assert values(load_image_set(tmp_path, "all")) == {"class/" + "a/" * 500 + "x.png": (3, "class")}


def test_thousands_of_classes(tmp_path):
    write(tmp_path / "c0000" / "x.png", 9)
    for i in range(1, 1200):
        (tmp_path / f"c{i:04d}").mkdir()
        os.link(tmp_path / "c0000" / "x.png", tmp_path / f"c{i:04d}" / "x.png")
    loaded = load_image_set(tmp_path, "all")
    assert len(loaded.class_names) == 1200
    assert loaded.labels.tolist() == list(range(1200))


# --- The split -------------------------------------------------------------------------------------------------------


def test_train_and_test_are_parts_of_the_whole(pets):
    train, test = (load_image_set(pets, split) for split in ("train", "test"))
    assert len(test.images) == 3
    assert values(train) | values(test) == EXPECTED_PETS
    assert len(train.images) + len(test.images) == 30
    assert len(set(train.labels[:10].tolist())) == 2  # not one class after the other
    assert train.class_names == test.class_names == ("cat", "dog")


def test_a_copy_elsewhere_has_the_same_split(pets, tmp_path):
    copy = tmp_path / "copy"
    for file in sorted(EXPECTED_PETS, reverse=True):  # made in another order
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pets / file, copy / file)
    for split in ("train", "test"):
        one, other = load_image_set(pets, split), load_image_set(copy, split)
        assert one.files == other.files
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_the_split_does_not_depend_on_the_order_in_which_the_file_system_lists(pets, monkeypatch):
    expected = load_image_set(pets, "test").files
    scandir = os.scandir
    monkeypatch.setattr(
        image_folder.os, "scandir", lambda path: sorted(scandir(path), key=lambda entry: entry.name[::-1])
    )
    assert load_image_set(pets, "test").files == expected


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_folders_called_train_and_test_are_the_split(tmp_path, train, test):
    for i in range(5):
        write(tmp_path / train / "cat" / f"{i}.png", i)
    write(tmp_path / train / "dog" / "0.png", 50)
    write(tmp_path / test / "dog" / "0.png", 60)
    write(tmp_path / test / "yak" / "0.png", 70)
    write(tmp_path / "val" / "cat" / "0.png", 99)
    write(tmp_path / "0.png", 98)
    expected_test = {f"{test}/dog/0.png": (60, "dog"), f"{test}/yak/0.png": (70, "yak")}
    expected_train = {f"{train}/cat/{i}.png": (i, "cat") for i in range(5)} | {f"{train}/dog/0.png": (50, "dog")}
    loaded = load_image_set(tmp_path, "train")
    assert values(loaded) == expected_train
    assert loaded.class_names == ("cat", "dog", "yak")
    assert loaded.files != tuple(expected_train)  # shuffled
    assert values(load_image_set(tmp_path, "test")) == expected_test
    assert values(load_image_set(tmp_path, "all")) == expected_train | expected_test


def test_train_and_test_without_classes(tmp_path):
    for name in ("train/0.png", "train/1.png", "test/0.png"):
        write(tmp_path / name)
    loaded = load_image_set(tmp_path, "train")
    assert loaded.class_names == ()
    assert sorted(loaded.files) == ["train/0.png", "train/1.png"]
    assert load_image_set(tmp_path, "test").files == ("test/0.png",)


def test_a_train_among_other_vehicles_is_a_class(tmp_path):
    for name in ("train", "bus", "car"):
        write(tmp_path / name / "0.png")
    assert load_image_set(tmp_path, "all").class_names == ("bus", "car", "train")


# --- Size and colour -------------------------------------------------------------------------------------------------


def test_grey_stays_grey_and_one_colour_picture_makes_all_of_them_colour(pets):
    assert load_image_set(pets, "train").images.shape == (27, 1, 8, 8)
    write(pets / "dog" / "colour.png", (200, 100, 50), mode="RGB")
    for split, count in (("train", 28), ("test", 3)):  # whichever side it is on
        assert load_image_set(pets, split).images.shape == (count, 3, 8, 8)
    colour = load_image_set(pets, "all")
    i = colour.files.index("dog/colour.png")
    assert colour.images[i, :, 0, 0].tolist() == [200, 100, 50]
    assert (colour.images[:i] == colour.images[:i, :1]).all()
    grey = load_image_set(pets, "all", channels=1)
    assert grey.images[i, 0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_modes_may_be_mixed(tmp_path):
    for mode, colour in {
        "RGB": (9, 9, 9),
        "RGBA": (9, 9, 9, 255),
        "L": 9,
        "LA": (9, 255),
        "I;16": 9 * 257,
        "P": 9,
    }.items():
        write(tmp_path / f"{mode}.png", colour, mode=mode)
    write(tmp_path / "1.png", 1, mode="1")
    loaded = load_image_set(tmp_path, "all")
    assert loaded.images.shape == (7, 3, 8, 8)
    by_name = dict(zip(loaded.files, loaded.images, strict=True))
    assert (by_name.pop("1.png") == 255).all()
    by_name.pop("P.png")
    assert all((image == 9).all() for image in by_name.values())


def test_one_size_whose_sides_are_no_multiples_of_4(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i, size=(30, 20))
    with pytest.raises(ValueError, match=r"images of 30x20: sides must be multiples of 4; --image-size 32"):
        load_image_set(tmp_path, "all")
    assert load_image_set(tmp_path, "all", image_size=28).images.shape == (3, 1, 28, 28)


def test_sides_that_differ_stay_so(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i, size=(64, 48))
    assert load_image_set(tmp_path, "all").images.shape == (3, 1, 48, 64)


def test_several_sizes_are_listed(pets):
    write(pets / "dog" / "large.png", size=(16, 12))
    write(pets / "dog" / "small.png", size=(4, 4))
    for split in ("train", "test"):
        with pytest.raises(
            ValueError,
            match=r"pets: its pictures have 3 sizes, 8x8 \(30\), .*16x12 \(1\).*: --image-size 32 makes them",
        ):
            load_image_set(pets, split)
    assert load_image_set(pets, "all", image_size=8).images.shape == (32, 1, 8, 8)


def test_a_header_that_says_another_size_than_the_pixels(pets):
    """A PNG may say behind its pixels that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("L", (12, 8)).save(pets / "dog" / f"{i}.png", exif=exif)
    raw = (pets / "dog" / "0.png").read_bytes()
    start = raw.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(raw[start : start + 4], "big")
    last = raw.index(b"IEND") - 4
    folder = pets / "late"
    folder.mkdir()
    (folder / "0.png").write_bytes(raw[:start] + raw[end:last] + raw[start:end] + raw[last:])
    (folder / "1.png").write_bytes(raw[:start] + raw[end:])
    with pytest.raises(ValueError, match=r"0\.png is 8x12, others are 12x8"):
        load_image_set(folder, "all")
    assert load_image_set(folder, "all", image_size=8).images.shape == (2, 1, 8, 8)


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(pets):
    """Three of thirty files are no images, on either side of the split."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save(pets / "cat" / "03.png")
    raw = (pets / "cat" / "03.png").read_bytes()
    (pets / "cat" / "03.png").write_bytes(raw[:-40])
    (pets / "cat" / "00.png").write_text("text")
    (pets / "dog" / "09.bmp").write_bytes(b"")
    return pets


@pytest.mark.parametrize("split", ["train", "test", "all"])
@pytest.mark.parametrize("arguments", [{}, {"image_size": 8}, {"image_size": 8, "channels": 1}], ids=str)
def test_files_that_are_no_images_are_named_with_the_count_of_all(damaged, split, arguments):
    for file in load_image_set(damaged, "test", skip_bad=True).files[:1]:
        (damaged / file).write_text("no image on the test side either")
    with pytest.raises(
        ValueError, match=r"pets: 4 of 30 files are no images: .*, \.\.\.: delete them or give --skip-bad$"
    ):
        load_image_set(damaged, split, **arguments)


def test_up_to_three_of_them_are_named(damaged):
    with pytest.raises(
        ValueError, match=r"3 of 30 files are no images: cat/00.png, cat/03.png, dog/09.bmp: delete them or"
    ):
        load_image_set(damaged, "all")


def test_skip_bad_leaves_them_out(damaged):
    bad = {"cat/00.png", "cat/03.png", "dog/09.bmp"}
    loaded = load_image_set(damaged, "all", skip_bad=True)
    assert values(loaded) == {file: value for file, value in EXPECTED_PETS.items() if file not in bad}
    assert loaded.skipped == tuple(sorted(bad))
    train, test = (load_image_set(damaged, split, skip_bad=True) for split in ("train", "test"))
    assert values(train) | values(test) == values(loaded)
    assert {*train.skipped, *test.skipped} == bad


def test_a_reason_of_the_file_system_is_told(pets, monkeypatch):
    def forbidden(path, *arguments):
        if path.endswith("07.png"):
            raise PermissionError(13, "Permission denied", path)
        return decode(path, *arguments)

    decode = image_folder.decode
    monkeypatch.setattr(image_folder, "decode", forbidden)
    with pytest.raises(ValueError, match=r"1 of 30 files is no image: cat/07.png \(Permission denied\): delete it or"):
        load_image_set(pets, "train")


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_folder_in_which_nothing_is_an_image(tmp_path, skip_bad):
    for i in range(4):
        (tmp_path / f"{i}.png").write_text("text")
    for arguments in ({}, {"image_size": 8, "channels": 1}):
        with pytest.raises(
            ValueError, match=r"4 of 4 files are no images: 0.png, 1.png, 2.png, ...: give another folder"
        ):
            load_image_set(tmp_path, "all", skip_bad=skip_bad, **arguments)


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match=r": no picture is in it: expected .png, .jpg"):
        load_image_set(tmp_path, "all")
    for name in ("a.txt", "b.txt", "c.HEIC", "d"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"no picture is in it \(found: .heic, .txt, files without ending\): expected"):
        load_image_set(tmp_path, "all")


@pytest.mark.parametrize("names", [["train/a/0.png"], ["test/0.png"], ["train/0.png", "val/0.png"]])
def test_a_split_with_one_side(tmp_path, names):
    for name in names:
        write(tmp_path / name)
    (tmp_path / "test").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=r"it has pictures in .*/ alone: expected both train/ and test/"):
        load_image_set(tmp_path, "train")


def test_pictures_beside_classes(pets):
    write(pets / "overview.png")
    with pytest.raises(ValueError, match=r"1 of 31 pictures lie beside the folders that are classes \(overview.png\)"):
        load_image_set(pets, "all")


def test_classes_on_one_side_only(tmp_path):
    for name in ("train/a/0.png", "train/b/0.png", "test/0.png"):
        write(tmp_path / name)
    with pytest.raises(ValueError, match=r"1 of 3 pictures lie beside the folders that are classes \(test/0.png\)"):
        load_image_set(tmp_path, "train")


def test_one_image_is_too_few_to_split_but_can_be_looked_at(tmp_path):
    write(tmp_path / "0.png", 5)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=rf"^{tmp_path}: too few images \(1\): expected at least one to train on"):
            load_image_set(tmp_path, split)
    assert values(load_image_set(tmp_path, "all")) == {"0.png": (5, "")}
    write(tmp_path / "1.png", 6)
    assert len(load_image_set(tmp_path, "train").images) == len(load_image_set(tmp_path, "test").images) == 1


def test_a_folder_that_cannot_be_read(pets, monkeypatch):
    def forbidden(path):
        if path.endswith("dog/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(image_folder.os, "scandir", forbidden)
    with pytest.raises(ValueError, match=r"pets: its folder dog/ cannot be read \(Permission denied\)$"):
        load_image_set(pets, "all")


# --- How it is read --------------------------------------------------------------------------------------------------


def test_many_pictures_arrive_in_order(tmp_path, monkeypatch):
    """Also when those that come first take longest."""

    def slow(path, *arguments):
        if path.endswith(("000.png", "070.png")):
            time.sleep(0.05)
        return decode(path, *arguments)

    for i in range(200):
        write(tmp_path / f"{i:03d}.png", i)
    decode = image_folder.decode
    monkeypatch.setattr(image_folder, "decode", slow)
    monkeypatch.setattr(image_folder.os, "cpu_count", lambda: 4)
    assert load_image_set(tmp_path, "all").images[:, 0, 0, 0].tolist() == list(range(200))


@pytest.mark.parametrize("what", ["an interrupt in a thread", "an error at home"])
def test_what_ends_it_does_not_wait_for_the_rest(tmp_path, monkeypatch, what):
    read = []

    def disturbed(path, *arguments):
        read.append(path)
        if len(read) == 5 and what == "an interrupt in a thread":
            raise KeyboardInterrupt
        time.sleep(0.001)
        return decode(path, *arguments)[..., len(read) == 5 :]  # of another width, which is noticed where they arrive

    for i in range(1000):
        write(tmp_path / f"{i}.png")
    decode = image_folder.decode
    monkeypatch.setattr(image_folder, "decode", disturbed)
    with pytest.raises((KeyboardInterrupt, ValueError)) as caught:
        load_image_set(tmp_path, "all")
    so_far = len(read)
    assert so_far < 500
    time.sleep(0.1)
    assert len(read) == so_far
    assert caught.tb  # which is alive, and the frames that were reading with it


@pytest.mark.parametrize("stream", ["none", "closed"])
def test_without_a_stderr(pets, monkeypatch, stream):
    closed = None
    if stream == "closed":
        closed = io.StringIO()
        closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert len(load_image_set(pets, "all").images) == 30


def test_nothing_is_said_where_nobody_watches(pets, capfd):
    load_image_set(pets, "all")
    assert capfd.readouterr() == ("", "")


def test_names_and_warnings_are_fit_for_an_ascii_terminal(damaged):
    (damaged / "cat" / os.fsdecode(b"\xff.png")).write_text("text")
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40  # of which Pillow warns
    Image.new("RGB", (8, 8)).save(damaged / "dog" / "exif.jpg", exif=exif)
    code = (
        "import sys; from image_data import load_image_set\n"
        "try: load_image_set(sys.argv[1], 'all')\n"
        "except ValueError as error: print(error, file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", code, damaged], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert r"4 of 32 files are no images: cat/00.png, cat/03.png, cat/\udcff.png, ...:" in done.stderr
