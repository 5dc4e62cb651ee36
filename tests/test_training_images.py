"""The images of a run: resident or rendered, spread, binarised, in colour, with classes.

Sprites are held against `sprites.render`, random pixels against binomial bounds.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import training_images
from comparison import assert_one_line
from experiment import TrainingConfig
from image_data import load_images
from small_models import few_images
from sprites import NUM_SPRITES, factors_of, render
from trainable import TrainableModel
from trainer import evaluate, train
from training_images import ImageOptions, RenderedSprites, ResidentImages, load_resident

pytestmark = pytest.mark.usefixtures("few_digits")

# --- The images ------------------------------------------------------------------------------------------------------


def test_resident_images_are_scaled_only_when_they_are_used():
    images, _ = few_images(20, 0)
    for index in (slice(3, 6), torch.tensor([5, 3, 4])):
        x, labels = images.batch(index)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x, images.images[index].double().div(255).float(), rtol=0, atol=0)
        assert torch.equal(labels, images.labels[index])
    assert images.images.dtype == torch.uint8
    assert len(images) == 20


def test_load_resident_is_the_same_data_as_load_images():
    x, labels = load_resident("digits", "test").batch(slice(None))
    images, classes = load_images("digits", "test")
    assert torch.equal(x, torch.from_numpy(images))
    assert torch.equal(labels, torch.from_numpy(classes))


@pytest.mark.parametrize("size", [32, 64])
def test_a_batch_of_sprites_is_what_render_draws(size):
    numbers = np.random.default_rng(0).integers(0, NUM_SPRITES, 50)
    images = RenderedSprites(numbers, size, "cpu")
    assert len(images) == 50
    assert images.image_shape == (1, size, size)
    for index in (torch.tensor([7, 0, 7, 49]), slice(3, 9)):
        x, labels = images.batch(index)
        chosen = numbers[index.numpy() if isinstance(index, torch.Tensor) else index]
        assert x.dtype == torch.float32
        np.testing.assert_array_equal(x, render(chosen, size) / 255)
        np.testing.assert_array_equal(labels, factors_of(chosen)[:, 0])


def test_the_label_of_a_sprite_is_its_shape():
    third = NUM_SPRITES // 3
    images = RenderedSprites(np.array([0, third - 1, third, 2 * third, NUM_SPRITES - 1]), 32, "cpu")
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == [0, 0, 1, 2, 2]


def test_no_sprite_is_in_both_splits(monkeypatch):
    drawn = []

    def spy(numbers, size):
        drawn.append(np.asarray(numbers))
        return np.zeros((len(numbers), 1, size, size), np.uint8)

    monkeypatch.setattr(training_images, "render", spy)
    test = load_resident("sprites32", "test")
    train_images = load_resident("sprites32", "train")
    shown = np.concatenate(drawn)
    assert len(test) == len(shown) == 5000
    both = np.concatenate([shown, train_images.numbers])
    np.testing.assert_array_equal(np.sort(both), np.arange(NUM_SPRITES))  # each once
    np.testing.assert_array_equal(test.labels, factors_of(shown)[:, 0])
    shapes = np.bincount(factors_of(shown)[:, 0])
    assert abs(shapes - 5000 / 3).max() < 5 * math.sqrt(5000 * 2 / 9)  # drawn at random, not the first ones


@pytest.mark.parametrize("limit", [1, 7, 99, 199, 200])
def test_a_limit_keeps_images_spread_evenly_over_the_set(limit):
    everything = load_resident("digits", "train")
    some = load_resident(ImageOptions(train_images=limit), "train")
    assert len(some) == len(some.images) == limit
    kept = [i * 200 // limit for i in range(limit)]
    assert torch.equal(some.images, everything.images[kept])
    assert torch.equal(some.labels, everything.labels[kept])


def test_a_limit_of_sprites_is_spread_too():
    everything, some = (
        load_resident("sprites", "train"),
        load_resident(ImageOptions("sprites", train_images=1000), "train"),
    )
    assert len(some) == 1000
    positions = np.flatnonzero(np.isin(everything.numbers, some.numbers))
    assert set(np.diff(positions)) <= {732, 733}  # 732,280 / 1000
    assert positions[-1] >= 732_280 - 733


@pytest.mark.parametrize(("data", "there"), [("digits", 200), ("sprites32", NUM_SPRITES - 5000)])
def test_a_limit_above_the_set_is_refused(data, there):
    assert len(load_resident(ImageOptions(data, train_images=there), "train")) == there
    with pytest.raises(ValueError, match=f"--train-images {there + 1}: expected 1 to {there}, as many as there are"):
        load_resident(ImageOptions(data, train_images=there + 1), "train")


# --- Binarisation ----------------------------------------------------------------------------------------------------


def test_without_binarisation_pixels_are_grey_values():
    images = load_resident("digits", "test")
    x, labels = images.batch(slice(None))
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x, load_images("digits", "test")[0])
    np.testing.assert_array_equal(labels, load_images("digits", "test")[1])
    assert 0.1 < ((x > 0) & (x < 1)).float().mean() < 0.9


def assert_drawn_from(white, grey):
    """Whether independent pixels came out white as often as their grey values say: five standard deviations."""
    grey = grey.double()
    spread = (grey * (1 - grey)).sum().sqrt()
    assert abs((white - grey).sum()) < 5 * spread
    # And bright pixels more often than dark ones, weighed by how bright they are.
    spread = (grey**3 * (1 - grey)).sum().sqrt()
    assert abs((grey * (white - grey)).sum()) < 5 * spread


@pytest.mark.parametrize("split", ["train", "test"])
def test_fixed_binarisation_is_drawn_once_from_the_seed(split):
    grey = load_resident("digits", split).batch(slice(None))[0]
    images = {seed: load_resident(ImageOptions(binarisation="fixed", seed=seed), split) for seed in (0, 1)}
    x = {seed: data.batch(slice(None))[0] for seed, data in images.items()}
    for white in x.values():
        assert torch.isin(white, torch.tensor([0.0, 1.0])).all()
        assert_drawn_from(white, grey)
        assert (white[grey == 0] == 0).all()
        assert (white[grey == 1] == 1).all()
    assert torch.equal(x[0], load_resident(ImageOptions(binarisation="fixed"), split).batch(slice(None))[0])
    different = (x[0] != x[1]).double()
    assert_drawn_from(different, 2 * grey.double() * (1 - grey.double()))  # two independent draws
    assert torch.equal(images[0].labels, load_resident("digits", split).labels)


def test_fixed_binarisation_takes_the_same_images_with_a_limit():
    whole = load_resident("digits", "train")
    limited = load_resident(ImageOptions(binarisation="fixed", train_images=50), "train")
    grey = whole.batch(torch.arange(0, 200, 4))[0]
    assert_drawn_from(limited.batch(slice(None))[0], grey)
    assert (limited.batch(slice(None))[0][grey == 0] == 0).all()


def test_fresh_binarisation_draws_white_with_the_grey_values_probability():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = ResidentImages(ramp, torch.zeros(1, dtype=torch.int64), "fresh")
    draws, generator = 4000, torch.Generator().manual_seed(0)
    index = torch.zeros(draws, dtype=torch.int64)
    x = images.batch(index, generator)[0].double()
    assert torch.isin(x, torch.tensor([0.0, 1.0], dtype=torch.float64)).all()
    grey = ramp[0].double() / 255
    deviation = (x.mean(0) - grey).abs()
    assert (deviation <= 5 * (grey * (1 - grey) / draws).sqrt()).all()  # zero for black and for white
    assert_drawn_from(x, grey.expand_as(x))
    # Every pixel by itself: the variance of the number of white ones is the sum of the pixels' variances.
    expected = (grey * (1 - grey)).sum().item()
    assert x.flatten(1).sum(1).var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / draws))


class Recorder(TrainableModel):
    """Stands in for a model, and remembers which images it saw."""

    noise_shape = (2,)
    num_classes = 60  # so that it is told which image is which

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained, self.tested = [], []

    def terms(self, x, eps, c=None, step=None):
        (self.trained if torch.is_grad_enabled() else self.tested).append((x, c, eps))
        return {"loss": x.flatten(1).sum(1) + self.weight}


def recorded(binarisation, seed=0):
    """What a model saw in two epochs of training: [epoch] -> images by number; the same of the evaluations."""
    grey = load_resident("digits", "train").images
    sets = [
        ResidentImages(grey[start : start + count], torch.arange(count), binarisation)
        for start, count in ((0, 60), (60, 30))
    ]
    model = Recorder()
    train(model, *sets, TrainingConfig(epochs=2, batch_size=20, seed=seed, binarisation=binarisation))

    def by_number(calls):
        x, c = (torch.cat(parts) for parts in list(zip(*calls, strict=True))[:2])
        return x[c.argsort()]

    assert len(model.trained) == 6
    assert len(model.tested) == 2
    epochs = [by_number(model.trained[:3]), by_number(model.trained[3:])]
    return SimpleNamespace(
        epochs=epochs, tests=[by_number([call]) for call in model.tested], calls=model.trained, sets=sets, model=model
    )


def test_fresh_training_batches_differ_from_epoch_to_epoch():
    seen = recorded("fresh")
    first, second = seen.epochs
    grey = seen.sets[0].images / 255
    for x in seen.epochs:
        assert x.shape == (60, 1, 28, 28)
        assert torch.isin(x, torch.tensor([0.0, 1.0])).all()
        assert_drawn_from(x, grey)
    assert (first != second).flatten(1).any(1).all()
    assert_drawn_from((first != second).double(), 2 * grey.double() * (1 - grey.double()))


def test_fresh_evaluation_draws_the_same_every_time():
    seen = recorded("fresh")
    assert torch.equal(*seen.tests)
    assert torch.isin(seen.tests[0], torch.tensor([0.0, 1.0])).all()
    assert_drawn_from(seen.tests[0], seen.sets[1].images / 255)
    for seed, same in ((0, True), (1, False)):
        evaluate(seen.model, seen.sets[1], seed)
        assert torch.equal(seen.model.tested[-1][0], seen.tests[0]) == same


def test_without_binarisation_every_epoch_sees_the_grey_values():
    seen = recorded("none")
    for x in seen.epochs:
        assert torch.equal(x, seen.sets[0].images / 255)


def test_fresh_binarisation_leaves_sprites_as_they_are(monkeypatch):
    monkeypatch.setattr(training_images, "NUM_TEST_SPRITES", 20)
    for split, limit in (("train", 20), ("test", None)):
        fresh, grey = (
            load_resident(ImageOptions("sprites32", train_images=limit, binarisation=kind), split)
            for kind in ("fresh", "none")
        )
        index = torch.arange(20)
        drawn = fresh.batch(index, torch.Generator().manual_seed(0))[0]
        assert drawn.shape == (20, 1, 32, 32)
        assert torch.equal(drawn, grey.batch(index)[0])


def test_fresh_images_cannot_be_had_without_their_draws():
    images = load_resident(ImageOptions(binarisation="fresh"), "test")
    with pytest.raises(ValueError, match="images binarised afresh need a generator") as error:
        images.batch(slice(None))
    assert_one_line(error)


@pytest.mark.parametrize("binarisation", ["none", "fresh"])
@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 8), slice(8, 8)])
def test_a_part_of_a_batch_is_that_part_of_the_whole_one(binarisation, rows):
    """Two processes draw for the whole batch and keep their rows, so that together they have one process's images."""
    images = load_resident(ImageOptions(binarisation=binarisation), "test")
    index = torch.tensor([7, 3, 3, 40, 0, 12, 5, 9])
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    x, labels = images.batch(index, generators[0])
    x_part, labels_part = images.batch(index, generators[1], lambda tensor: tensor[rows])
    assert torch.equal(x_part, x[rows])
    assert torch.equal(labels_part, labels[rows])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())  # what is drawn next is the same too


# --- Own images ------------------------------------------------------------------------------------------------------


@pytest.fixture
def coloured(tmp_path):
    """An .npz of thirty small colour images of three classes."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (30, 8, 12, 3), np.uint8), np.arange(30) % 3
    np.savez(tmp_path / "coloured.npz", images=pixels, labels=labels)
    return str(tmp_path / "coloured.npz")


def test_colour_images_keep_their_channels_and_their_labels(coloured):
    whole = load_resident(coloured, "all")
    assert whole.image_shape == (3, 8, 12)
    assert whole.images.dtype == torch.uint8
    with np.load(coloured) as file:
        pixels, labels = file["images"].transpose(0, 3, 1, 2) / 255, file["labels"]
    x, c = whole.batch(slice(None))
    found = {image.tobytes(): label for image, label in zip(x.numpy(), c.tolist(), strict=True)}
    assert found == {image.tobytes(): label for image, label in zip(np.float32(pixels), labels, strict=True)}
    assert len(whole.class_names) == 3
    assert training_images.describe(ImageOptions(coloured), whole) == "colour (not binarised)"


def test_train_and_test_make_the_whole_set(coloured):
    parts = [load_resident(coloured, split) for split in ("train", "test", "all")]
    assert [len(part) for part in parts] == [27, 3, 30]
    rows = [sorted(image.numpy().tobytes() for image in part.images) for part in parts]
    assert sorted(rows[0] + rows[1]) == rows[2]
    assert len(set(rows[2])) == 30
    assert [part.split for part in parts] == ["training set", "test set", "training and test set"]


def test_size_and_channels_can_be_asked_for(coloured):
    images = load_resident(ImageOptions(coloured, image_size=8, channels=1), "train")
    assert images.image_shape == (1, 8, 8)
    assert training_images.describe(ImageOptions(coloured), images) == "grey (not binarised)"


@pytest.mark.parametrize("binarisation", ["fixed", "fresh"])
def test_colour_is_binarised_channel_by_channel(coloured, binarisation):
    options = ImageOptions(coloured, binarisation=binarisation)
    x, _ = load_resident(options, "train").batch(slice(None), torch.Generator().manual_seed(0))
    grey = load_resident(coloured, "train").batch(slice(None))[0]
    assert torch.isin(x, torch.tensor([0.0, 1.0])).all()
    assert_drawn_from(x, grey)
    assert (x[:, 0] != x[:, 1]).any()


def test_files_and_classes_stay_with_their_images(tmp_path):
    for i in range(20):
        path = tmp_path / ("cats" if i % 2 else "dogs") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), i).save(path)
    for options in (ImageOptions(str(tmp_path)), ImageOptions(str(tmp_path), train_images=7)):
        images = load_resident(options, "train")
        assert images.class_names == ("cats", "dogs")
        assert len(images.files) == len(images) == (options.train_images or 18)
        for pixels, label, file in zip(images.images, images.labels, images.files, strict=True):
            number = int(pixels[0, 0, 0])
            assert file == f"{images.class_names[label]}/{number}.png"
            assert label == 1 - number % 2


# --- What tells one set from another ---------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_pixels_the_labels_and_their_order():
    images, _ = few_images(6, 0)

    def fingerprint(pixels=images.images, labels=images.labels):
        return ResidentImages(pixels, labels).fingerprint

    pixels, labels = images.images.clone(), images.labels.clone()
    pixels[5, 0, 7, 7] ^= 1
    labels[5] += 1
    others = [
        fingerprint(),
        fingerprint(pixels),
        fingerprint(labels=labels),
        fingerprint(images.images.flip(0), images.labels.flip(0)),
        fingerprint(images.images.flip(0)),
        fingerprint(images.images[:5], images.labels[:5]),
        fingerprint(images.images.view(6, 1, 4, 16)),
        fingerprint(images.images.view(6, 4, 4, 4)),
    ]
    assert len(set(others)) == len(others)
    assert fingerprint(images.images.clone(), images.labels.clone()) == images.fingerprint
    assert fingerprint(images.images.expand(6, 1, 8, 8).contiguous(memory_format=torch.channels_last)) == others[0]


def test_a_fingerprint_of_sprites_is_of_their_numbers():
    numbers = np.array([5, 3, 700_000])
    sets = [RenderedSprites(order, 32, "cpu").fingerprint for order in (numbers, numbers.copy(), numbers[::-1].copy())]
    assert sets[0] == sets[1] != sets[2]


def test_a_set_can_be_shown():
    for images in (RenderedSprites(np.arange(3), 32, "cpu"), few_images()[0]):
        assert type(images).__name__ in repr(images)
        assert "tensor" not in repr(images)


@pytest.mark.parametrize("count", [0, -1, 11])
def test_as_many_as_there_are_can_be_spread(count):
    array = np.arange(10)
    with pytest.raises(ValueError, match=f"--images {count}: expected 1 to 10, as many as there are"):
        training_images.spread(array, count, "--images")
    assert training_images.spread(array, None) is array
    assert training_images.spread(array, 4).tolist() == [0, 2, 5, 7]
    assert training_images.spread(torch.arange(10), 10).tolist() == list(range(10))


def classes(names, labels):
    pixels = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    return ResidentImages(pixels, torch.tensor(labels), class_names=names)


def test_classes_are_matched_by_their_names():
    images = classes(("apple", "pear"), [0, 1, 1])
    assert images.in_classes(("apple", "pear")) is images
    matched = images.in_classes(("fig", "pear", "apple"))
    assert matched.labels.tolist() == [2, 1, 1]
    assert matched.class_names == ("fig", "pear", "apple")
    for names in (("apple", "fig"), ("apple",)):
        with pytest.raises(ValueError, match="class 'pear', the model knows 'apple'"):
            images.in_classes(names)
    with pytest.raises(ValueError, match="have no classes, the model knows 'apple'"):
        classes((), [0, 0]).in_classes(("apple",))
