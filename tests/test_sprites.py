"""Sprites are what their factors say."""

import numpy as np
import pytest
from scipy import ndimage

from sprites import (
    NUM_SPRITES,
    SHAPES,
    SIZES,
    factors_of,
    index_of,
    orientation_period,
    render,
    visible_factors_of,
)


def draw(size=64, **factors):
    """One sprite as booleans (size, size); factors that are not given: a large square, upright, in the middle."""
    chosen = {"shape": 0, "scale": 5, "orientation": 0, "x": 16, "y": 16} | factors
    return render([index_of(list(chosen.values()))], size)[0, 0] > 0


def test_index_and_factors_are_a_bijection():
    index = np.arange(NUM_SPRITES)
    factors = factors_of(index)
    assert NUM_SPRITES == 737_280
    assert factors.shape == (NUM_SPRITES, 5)
    assert np.array_equal(index_of(factors), index)
    assert np.array_equal(factors.max(axis=0) + 1, SIZES)
    # The order of the original: the last factor changes fastest.
    assert factors_of(1).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("size", [64, 32])
def test_images_are_binary_and_whole(size):
    index = np.random.default_rng(0).integers(0, NUM_SPRITES, 500)
    images = render(index, size)
    assert images.shape == (500, 1, size, size)
    assert images.dtype == np.uint8
    assert set(np.unique(images)) == {0, 255}
    middle = factors_of(index)
    middle[:, 3:] = 16 + middle[:, 3:] % 2  # at 32 pixels every other position lies half a pixel further
    for image, same_in_the_middle in zip(images[:, 0], render(index_of(middle), size)[:, 0], strict=True):
        assert ndimage.label(image)[1] == 1  # one piece
        assert (image > 0).sum() == (same_in_the_middle > 0).sum()  # that the border does not cut


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("shape", range(3))
def test_a_step_in_position_moves_the_centre_by_as_much(shape, size):
    for axis, factor in ((1, "x"), (0, "y")):
        centres = [ndimage.center_of_mass(draw(size, shape=shape, **{factor: i}))[axis] for i in range(32)]
        line = np.polyfit(np.arange(32), centres, 1)
        assert line[0] == pytest.approx(size / 64, abs=0.02)  # x to the right, y downwards
        assert np.abs(np.polyval(line, np.arange(32)) - centres).max() < 0.3


@pytest.mark.parametrize("shape", range(3))
def test_area_grows_with_the_square_of_the_scale(shape):
    scales = np.linspace(0.5, 1, 6)
    areas = [np.mean([draw(shape=shape, scale=i, orientation=j).sum() for j in range(40)]) for i in range(6)]
    np.testing.assert_allclose(areas / areas[-1], scales**2, rtol=0.05)


def test_rotation_symmetries():
    """A square repeats after a quarter turn, an ellipse after half a turn, a heart after a whole one."""
    for shape, repeats in enumerate((4, 2, 1)):
        turned = [draw(shape=shape, orientation=i) for i in range(40)]
        period = 40 // repeats
        same = [i for i in range(40) if (turned[i] != turned[0]).mean() < 0.005]
        assert same == list(range(0, 40, period)), SHAPES[shape]


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("scale", range(6))
def test_pictures_are_the_same_exactly_where_the_visible_factors_are(size, scale):
    """All shapes and orientations at one place: 10 + 20 + 40 pictures."""
    index = index_of([[shape, scale, turn, 7, 12] for shape in range(3) for turn in range(40)])
    visible = visible_factors_of(index)
    _, picture = np.unique(render(index, size).reshape(len(index), -1), axis=0, return_inverse=True)
    _, seen = np.unique(visible, axis=0, return_inverse=True)
    assert np.array_equal(picture[:, None] == picture, seen[:, None] == seen)
    assert len(set(picture)) == 70
    for shape, count in enumerate((10, 20, 40)):
        turns = visible[visible[:, 0] == shape, 2]
        assert turns.tolist() == list(range(count)) * (40 // count)
        assert orientation_period(shape) == count


def test_visible_factors_change_nothing_but_the_orientation():
    index = np.random.default_rng(0).integers(0, NUM_SPRITES, (4, 50))
    factors, visible = factors_of(index), visible_factors_of(index)
    assert visible.shape == (4, 50, 5)
    assert np.array_equal(np.delete(factors, 2, axis=-1), np.delete(visible, 2, axis=-1))
    assert np.array_equal(render(index_of(factors).ravel()), render(index_of(visible).ravel()))


def test_the_visible_orientation_says_something_about_the_shape():
    """What the text says of it: nats, over the whole set."""

    def entropy(*columns):
        counts = np.unique(np.stack(columns), axis=1, return_counts=True)[1]
        return -(counts / counts.sum() * np.log(counts / counts.sum())).sum()

    shape, _, turn, _, _ = visible_factors_of(np.arange(NUM_SPRITES)[:: 32 * 32]).T
    assert entropy(shape) + entropy(turn) - entropy(shape, turn) == pytest.approx(0.38, abs=0.005)
    assert entropy(shape, turn) - entropy(shape) == pytest.approx(np.log(20))


@pytest.mark.parametrize("shape", range(3))
def test_orientation_turns_the_shape(shape):
    """Ten steps are a quarter turn: compare with the picture turned by NumPy."""
    start, quarter = draw(shape=shape), draw(shape=shape, orientation=10)  # in the middle of the image
    assert np.array_equal(np.rot90(start, -1), quarter)


@pytest.mark.parametrize("shape", range(3))
def test_a_sprite_fits_its_stamp_at_every_orientation(shape):
    """Further from the centre than a quarter of the image, a stamp would cut it."""
    y, x = np.mgrid[:64, :64] + 0.5 - 32
    radius = max(np.hypot(x, y)[draw(shape=shape, orientation=i)].max() for i in range(40))
    assert 14 < radius < 16


def test_all_sprites_differ_where_their_factors_do():
    """For one shape without symmetry every combination of the other factors is its own picture."""
    index = index_of([[2, 5, j, x, 7] for j in range(40) for x in range(0, 32, 8)])
    assert len(np.unique(render(index).reshape(len(index), -1), axis=0)) == len(index)


@pytest.mark.parametrize("index", [-1, NUM_SPRITES])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(IndexError, match="0 to 737279"):
        render([0, index])


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="size 32 or 64"):
        render([0], size=28)
    with pytest.raises(ValueError, match=r"shape 0\.\.2"):
        index_of([3, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="shapes are 0 to 2, square, ellipse, heart, got -1 to 3"):
        orientation_period([0, 3, -1])
