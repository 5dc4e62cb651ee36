"""One picture of every kind that Pillow reads, as an array: colour, depth, transparency, orientation, size."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from image_files import decode, fitted, positions_of, printable, shape_of

GREY = np.arange(0, 256, 4, np.uint8).reshape(8, 8)
COLOUR = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def no_words_from_pillow():
    """What a whole folder is read under."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def written(tmp_path):
    """Writes a picture and returns its path."""

    def write(picture, ending="png", **options):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.{ending}"
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path, **options)
        return path

    return write


# --- Modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tif", "webp", "pgm", "tga", "PNG"])
def test_grey_pictures_keep_their_values(written, ending):
    options = {"lossless": True} if ending == "webp" else {}
    image = decode(written(GREY, ending, **options), None, 1)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY[None])


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm", "tga"])
def test_colour_pictures_keep_their_values_channels_first(written, ending):
    options = {"lossless": True} if ending == "webp" else {}
    path = written(COLOUR, ending, **options)
    np.testing.assert_array_equal(decode(path, None, 3), COLOUR.transpose(2, 0, 1))
    luminance = np.tensordot(COLOUR, [0.299, 0.587, 0.114], 1)
    assert np.abs(decode(path, None, 1)[0] - luminance).max() <= 0.51


def test_jpeg_in_grey_colour_and_print_colours(written):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    for picture in (Image.fromarray(flat), Image.fromarray(flat).convert("CMYK")):
        image = decode(written(picture, "jpg", quality=100), None, 3)
        assert np.abs(image.transpose(1, 2, 0).astype(int) - flat).max() <= 3
    assert np.abs(decode(written(GREY, "jpg", quality=100), None, 1)[0].astype(int) - GREY).max() <= 3


def test_grey_becomes_three_equal_channels(written):
    np.testing.assert_array_equal(decode(written(GREY), None, 3), np.stack([GREY] * 3))


def test_black_and_white_is_0_and_255(written):
    image = decode(written(Image.fromarray(GREY > 100)), None, 1)
    np.testing.assert_array_equal(image, np.where(GREY > 100, 255, 0)[None])


@pytest.mark.parametrize("kind", ["png", "tif", "pgm", "big-endian tif"])
def test_16_bits_are_scaled_and_not_cut_off(written, kind):
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    if kind == "pgm":
        path = written(b"P5 8 8 65535\n" + values.astype(">u2").tobytes(), "pgm")
    else:
        path = written(values.astype(">u2") if kind[0] == "b" else values, kind[-3:])
    np.testing.assert_array_equal(decode(path, None, 1)[0], np.rint(values / 257))


def test_floats_from_0_to_1_are_read_and_others_are_not(written):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    np.testing.assert_array_equal(decode(written(values, "tif"), None, 1)[0], np.rint(255 * values))
    for bad in (values + 1, values - 1, values * np.nan):
        with pytest.raises(ValueError, match="outside"):
            decode(written(bad, "tif"), None, 1)


def test_palettes_are_looked_up(written):
    palette = Image.fromarray(COLOUR // 64 * 64).quantize(256)
    path = written(palette)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(decode(path, None, 3).transpose(1, 2, 0), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P with bytes", "P with an index", "RGB with a colour"])
def test_transparent_pixels_are_black(written, mode):
    alpha = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)
    grey = np.where(alpha, GREY | 1, 200).astype(np.uint8)
    options = {}
    if mode == "LA":
        picture = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    elif mode == "RGBA":
        picture = Image.merge("RGBA", [*[Image.fromarray(grey)] * 3, Image.fromarray(alpha)])
    elif mode == "RGB with a colour":
        picture, options = Image.merge("RGB", [Image.fromarray(grey)] * 3), {"transparency": (200, 200, 200)}
    else:
        picture = Image.fromarray(grey)
        picture = picture.convert("P")
        transparent = bytes(0 if i == 200 else 255 for i in range(256))
        options = {"transparency": transparent if "bytes" in mode else 200}
    for channels in (1, 3):
        image = decode(written(picture, **options), None, channels)
        np.testing.assert_array_equal(image, np.stack([np.where(alpha, grey, 0)] * channels))


def test_half_transparent_is_half_as_bright(written):
    picture = Image.new("RGBA", (8, 8), (200, 100, 50, 128))
    np.testing.assert_allclose(decode(written(picture), None, 3)[:, 0, 0], [100, 50, 25], atol=1)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_one_counts(written, ending):
    frames = [Image.new("L", (8, 8), value) for value in (250, 5, 10)]
    image = decode(written(frames[0], ending, save_all=True, append_images=frames[1:]), None, 1)
    assert np.abs(image.astype(int) - 250).max() <= 1


# --- Orientation and size --------------------------------------------------------------------------------------------


UPRIGHT = {  # EXIF 2.3, Orientation: which side of the scene the stored row 0 and column 0 are
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_pictures_are_turned_upright_as_their_exif_says(written, ending, orientation):
    picture = np.kron(np.arange(0, 240, 20).reshape(3, 4), np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(picture, ending, exif=exif, **({"quality": 100} if ending in ("jpg", "webp") else {}))
    image = decode(path, None, 1)
    expected = UPRIGHT.get(orientation, lambda image: image)(picture)
    assert image.shape == (1, *expected.shape)
    assert np.abs(image[0].astype(int) - expected).max() <= 2
    assert shape_of(path)[1:] == expected.shape


def test_damaged_exif_is_no_reason_to_refuse_a_picture(written):
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40):
        assert decode(written(COLOUR, "jpg", exif=exif), None, 3).shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (64, 64), (20, 30), (41, 90)])
def test_the_square_in_the_middle_is_resized(written, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    side, (height, width) = min(shape), shape
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    expected = np.asarray(middle.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    path = written(image)
    np.testing.assert_array_equal(decode(path, 32, 3), expected)
    np.testing.assert_array_equal(fitted(image.transpose(2, 0, 1)[None], 32)[0], expected)


def test_fine_stripes_become_grey_and_no_other_stripes(written):
    """Without antialiasing a reduction keeps every eighth column: all black, or all white."""
    stripes = np.tile(np.array([0, 255], np.uint8), (256, 128))
    image = decode(written(stripes), 32, 1)
    assert 120 < image.min() <= image.max() < 136


def test_a_large_jpeg_that_is_decoded_small_looks_like_one_that_is_not(written):
    y, x = np.mgrid[:512, :768]
    image = (127 + 100 * np.sin(x / 40)[..., None] * np.cos(y / 30)[..., None] * [1, 0.5, -1]).astype(np.uint8)
    small = decode(written(image, "jpg", quality=95), 32, 3)
    np.testing.assert_allclose(small, fitted(image.transpose(2, 0, 1)[None], 32)[0], atol=6)


def test_a_jpeg_is_not_decoded_smaller_than_it_is_wanted(written):
    path = written(np.random.default_rng(0).integers(0, 256, (80, 80), np.uint8), "jpg")
    np.testing.assert_array_equal(decode(path, 64, 1), fitted(decode(path, None, 1)[None], 64)[0])


def test_arrays_that_fit_are_left_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    for arguments in ((), (32,), (None, 3), (32, 3)):
        assert fitted(images, *arguments) is images
    assert fitted(images, None, 1).shape == (5, 1, 32, 32)
    assert fitted(images[:, :1], 28, 3).shape == (5, 3, 28, 28)


# --- Headers, refusals -----------------------------------------------------------------------------------------------


def test_a_header_tells_size_and_colour(written):
    wide = np.zeros((8, 12, 3), np.uint8)
    assert shape_of(written(wide)) == (3, 8, 12)
    assert shape_of(written(wide[..., 0])) == (1, 8, 12)
    for mode in ("1", "LA", "I;16"):
        assert shape_of(written(Image.new(mode, (12, 8)))) == (1, 8, 12), mode
    for mode in ("RGBA", "RGB"):
        assert shape_of(written(Image.new(mode, (12, 8)))) == (3, 8, 12), mode
    assert shape_of(written(Image.new("CMYK", (12, 8)), "jpg")) == (3, 8, 12)
    assert shape_of(written(GREY, "gif")) == (1, 8, 8)  # a palette of greys
    assert shape_of(written(Image.fromarray(COLOUR).quantize(8), "gif")) == (3, 8, 8)
    assert shape_of(written(b"text")) is None


NO_PICTURES = {
    "text": lambda png: b"not a picture",
    "empty": lambda png: b"",
    "cut off in the header": lambda png: png[:20],
    "cut off in the pixels": lambda png: png[:-40],
    "flipped bits": lambda png: png[:60] + bytes(255 - byte for byte in png[60:]),
    "a web page": lambda png: b"<html><body>404</body></html>",
    "PostScript, which Pillow would give to a program": lambda png: (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    ),
    "another format than those of photographs": lambda png: (
        b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {\n0,0,0,0,0,0,0,0};"
    ),  # XBM
    "a bomb": lambda png: png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:],
    "no sides": lambda png: png[:16] + bytes(8) + png[24:],
}


@pytest.mark.parametrize("damage", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_picture_raises(written, damage):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    path = written(damage(written(noise).read_bytes()))
    for size in (None, 32):
        with pytest.raises(Exception, match=""):  # noqa: PT011 - whatever Pillow raises
            decode(path, size, 1)


def test_a_pipe_is_not_waited_for_and_a_link_to_nothing_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    for name in ("pipe.png", "link.png"):
        assert shape_of(tmp_path / name) is None
        with pytest.raises(ValueError, match="no file"):
            decode(tmp_path / name, None, 1)


def test_bytes_that_are_no_text_and_control_characters_are_printable():
    assert printable("ü 猫.png") == "ü 猫.png"
    assert printable(os.fsdecode(b"caf\xe9\n\x1b[2J.png")) == r"caf\udce9\n\x1b[2J.png"
    assert printable(os.fsdecode(bytes(range(1, 256)))).encode("utf-8").isascii()


# --- The split -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "num_test"), [(2, 1), (9, 1), (10, 1), (19, 1), (20, 2), (1000, 100)])
def test_the_last_tenth_of_a_shuffle_is_the_test_set(count, num_test):
    train, test = positions_of("train", count), positions_of("test", count)
    assert len(test) == num_test
    assert sorted([*train, *test]) == list(range(count))
    assert positions_of("all", count).tolist() == list(range(count))
    np.testing.assert_array_equal(test, positions_of("test", count))


def test_the_split_is_shuffled_and_the_same_everywhere():
    test = positions_of("test", 100)
    assert test.tolist() == [
        69,
        78,
        59,
        54,
        29,
        41,
        56,
        33,
        79,
        95,
    ]  # or runs of last year test on what they trained on
    assert (np.diff(positions_of("train", 100)) < 0).any()


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_cannot_be_split(count):
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=f"too few images .{count}."):
            positions_of(split, count)
    assert len(positions_of("all", 1)) == 1
