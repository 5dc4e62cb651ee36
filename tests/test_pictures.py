"""The pictures: what is decoded, by a stand-in model whose images spell its codes, and where on paper it ends up."""

import errno
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import ndtri
from sklearn.decomposition import PCA

import level_script
import pictures
from comparison import seeded
from in_process import assert_refused, run_main
from level_script import report_noise, save_image_grid, save_loss_curves
from pictures import (
    draw_all,
    loss_curves,
    manifold_codes,
    save_latent_space,
    save_manifold,
    save_samples,
)
from training_images import ResidentImages
from vae_paper import VAE, Autoencoder, ConditionalVAE

# --- A stand-in model ------------------------------------------------------------------------------------------------


class Spelling:
    """Decodes a code into an image (1, 2, Z): the first row spells z, the second the class that was asked for."""

    units = {}  # noqa: RUF012
    elbo_terms = ("reconstruction_nll", "kl_divergence")

    def __init__(self, mu, logvar, num_classes=0):
        self.mu, self.logvar = mu, logvar
        self.latent_dim, self.num_classes = mu.shape[1], num_classes

    def parameters(self):
        return iter([self.mu])

    def embed(self, x, c):
        return self.encode(x, c)[0]

    def kl_per_latent(self, mu, logvar):
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)

    def encode(self, x, c):
        assert (c is not None) == (self.num_classes > 0)
        return self.mu, self.logvar

    def sample(self, z, c):
        assert (c is not None) == (self.num_classes > 0)
        c = torch.full((len(z),), -1) if c is None else c
        return torch.stack([z, c[:, None].expand_as(z)], dim=1)[:, None]


def codes(images):
    return images[..., 0, 0, :]


def classes(images):
    return images[..., 0, 1, 0]


def draw(monkeypatch, tmp_path, latent_dim=4, num_classes=0, count=30, rows=(), **data):
    """Draw everything for a stand-in model. Returns it, the labels and what each picture was given, by file name."""
    rng = np.random.default_rng(1)
    mu, logvar = (torch.from_numpy(rng.standard_normal((count, latent_dim))).float() for _ in range(2))
    logvar *= torch.linspace(0.1, 2, latent_dim)  # so that the latents differ in their KL
    model = Spelling(mu, logvar, num_classes)
    labels = torch.from_numpy(rng.permutation(np.arange(count) % 10))  # in no order that a wrong index could fit
    drawn = {}
    for name in [name for name in vars(pictures) if name.startswith("save_") and name != "save_image_grid"]:
        monkeypatch.setattr(pictures, name, lambda path, *args, **options: drawn.update({path.name: (args, options)}))
    draw_all(tmp_path, model, ResidentImages(torch.zeros(count, 1, 2, latent_dim), labels, **data), 3, rows)
    return model, labels, drawn


# --- What is decoded -------------------------------------------------------------------------------------------------

ALWAYS = {"reconstructions.png", "samples.png", "latent_space.png", "interpolation.png", "traversal.png"}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, set()),
        ({"num_classes": 10}, set()),
        ({"latent_dim": 1}, set()),
        ({"latent_dim": 2}, {"manifold.png"}),
        ({"rows": [{"train_loss": 1.0, "test_loss": 2.0}]}, {"loss_curves.png"}),
    ],
)
def test_draw_all_draws_each_picture_that_makes_sense(monkeypatch, tmp_path, options, more):
    _, _, drawn = draw(monkeypatch, tmp_path, **options)
    assert drawn.keys() == ALWAYS | more


@pytest.mark.parametrize("num_classes", [0, 10])
def test_reconstructions_decode_each_images_own_mean(monkeypatch, tmp_path, num_classes):
    model, labels, drawn = draw(monkeypatch, tmp_path, num_classes=num_classes)
    x, decoded = drawn["reconstructions.png"][0]
    assert x.shape == decoded.shape == (10, 1, 2, 4)
    np.testing.assert_array_equal(codes(decoded), model.mu[:10])
    np.testing.assert_array_equal(classes(decoded), labels[:10] if num_classes else np.full(10, -1))


def test_reconstructions_begin_with_the_first_test_images(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(pictures, "save_image_grid", lambda path, rows, *rest: given.append((path.name, rows)))
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 28, 28)
    draw_all(tmp_path, VAE(latent_dim=3), ResidentImages(images, torch.arange(12) % 3), seed=0)
    rows = dict(given)["reconstructions.png"]
    assert rows.shape == (2, 10, 1, 28, 28)
    np.testing.assert_array_equal(rows[0], images[:10].numpy() / np.float32(255))


def test_samples_decode_draws_from_the_prior(monkeypatch, tmp_path):
    _, _, drawn = draw(monkeypatch, tmp_path)
    (images,), options = drawn["samples.png"]
    assert images.shape[:2] == (8, 10)
    assert not options
    np.testing.assert_array_equal(codes(images).reshape(80, 4), report_noise(3 + 1, 80, 4))


@pytest.mark.parametrize("num_classes", [10, 3])
def test_conditional_samples_have_one_class_per_row_and_one_z_per_column(monkeypatch, tmp_path, num_classes):
    _, _, drawn = draw(monkeypatch, tmp_path, num_classes=num_classes, count=num_classes)
    (images, names), _ = drawn["samples.png"]
    assert names == tuple("0123456789"[:num_classes])
    assert images.shape[:2] == (num_classes, 10)
    np.testing.assert_array_equal(classes(images), np.arange(num_classes)[:, None].repeat(10, axis=1))
    for row in codes(images):
        np.testing.assert_array_equal(row, report_noise(3 + 1, 10, 4))


def test_rows_of_conditional_samples_are_named_after_their_class(figure, tmp_path):
    images = np.random.default_rng(0).random((3, 2, 1, 4, 4))
    save_samples(tmp_path / "a.png", images, ("0", "cats", "a name of 17 chars"))
    assert row_names(figure()) == ["class 0", "cats", "a name of 17 ch…"]
    save_samples(tmp_path / "b.png", images)
    assert row_names(figure()) == []


@pytest.mark.parametrize("num_classes", [0, 10])
def test_interpolation_runs_from_mean_to_mean_straight_and_on_an_arc(monkeypatch, tmp_path, num_classes):
    model, labels, drawn = draw(monkeypatch, tmp_path, num_classes=num_classes)
    (images, condition, names), _ = drawn["interpolation.png"]
    first = [labels.tolist().index(label) for label in range(5)]
    start, end = model.mu[first].numpy(), model.mu[[*first[1:], first[0]]].numpy()
    assert images.shape[:2] == (10, 10)
    assert names == 5 * ["straight", "arc"]
    line, arc = codes(images)[::2], codes(images)[1::2]
    for way in (line, arc):
        np.testing.assert_allclose(way[:, 0], start, atol=1e-6)
        np.testing.assert_allclose(way[:, -1], end, atol=1e-6)
    steps = np.diff(line, axis=1)
    np.testing.assert_allclose(steps, ((end - start) / 9)[:, None].repeat(9, axis=1), atol=1e-6)
    lengths = np.linspace(np.linalg.norm(start, axis=1), np.linalg.norm(end, axis=1), 10, axis=1)
    np.testing.assert_allclose(np.linalg.norm(arc, axis=2), lengths, rtol=1e-5)
    kept = np.arange(5).repeat(2) if num_classes else np.full(10, -1)
    np.testing.assert_array_equal(classes(images), kept[:, None].repeat(10, axis=1))
    assert bool(condition) == (num_classes > 0)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_interpolation_takes_the_classes_that_are_there(monkeypatch, tmp_path, count):
    _, labels, drawn = draw(monkeypatch, tmp_path, count=count)
    assert len(labels.unique()) == count
    assert len(drawn["interpolation.png"][0][0]) == 2 * min(count, 5)


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("latent_dim", [1, 4, 13])
def test_traversal_moves_one_latent_per_row_most_kl_first(monkeypatch, tmp_path, latent_dim, num_classes):
    model, labels, drawn = draw(monkeypatch, tmp_path, latent_dim=latent_dim, num_classes=num_classes)
    (images, values, names), _ = drawn["traversal.png"]
    # Independent of pictures.py: torch.distributions, averaged over the test images.
    q = torch.distributions.Normal(model.mu, torch.exp(model.logvar / 2))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).mean(dim=0).numpy()
    order = np.argsort(-kl)[:10]
    assert images.shape[:2] == (min(latent_dim, 10), 11)
    np.testing.assert_allclose(values, np.linspace(-3, 3, 11), atol=1e-6)
    for row, latent, name in zip(codes(images), order, names, strict=True):
        expected = model.mu[0].numpy()[None].repeat(11, axis=0)
        expected[:, latent] = values
        np.testing.assert_array_equal(row, expected)
        assert name == f"z[{latent}], KL {kl[latent]:.1f}"
    assert (classes(images) == (labels[0].item() if num_classes else -1)).all()


@pytest.mark.parametrize("num_classes", [0, 10])
def test_manifold_decodes_the_plane(monkeypatch, tmp_path, num_classes):
    names = tuple("0123456789") if num_classes else ()
    _, labels, drawn = draw(monkeypatch, tmp_path, latent_dim=2, num_classes=num_classes, class_names=names)
    (images, condition), _ = drawn["manifold.png"]
    np.testing.assert_array_equal(codes(images), manifold_codes(20))
    assert (classes(images) == (labels[0].item() if num_classes else -1)).all()
    assert condition == (f" of class {labels[0]}" if num_classes else "")


@pytest.mark.parametrize("num_classes", [0, 10])
def test_the_classes_own_names_stand_in_the_pictures(monkeypatch, tmp_path, num_classes):
    names = tuple(f"kind {i}" for i in range(10))
    _, labels, drawn = draw(monkeypatch, tmp_path, latent_dim=2, num_classes=num_classes, class_names=names)
    assert drawn["latent_space.png"][0][2] == names
    assert drawn["samples.png"][0][1:] == ((names,) if num_classes else ())
    assert drawn["manifold.png"][0][1] == (f" of kind {labels[0]}" if num_classes else "")


def test_of_hundreds_of_classes_the_first_are_sampled(monkeypatch, tmp_path):
    names = tuple(f"kind {i}" for i in range(300))
    _, _, drawn = draw(monkeypatch, tmp_path, num_classes=300, class_names=names)
    (images, shown), _ = drawn["samples.png"]
    assert shown == names[:20]
    np.testing.assert_array_equal(classes(images), np.arange(20)[:, None].repeat(10, axis=1))


def test_without_classes_the_first_images_are_interpolated(monkeypatch, tmp_path):
    mu, logvar = torch.randn(2, 7, 4, generator=seeded(0))
    drawn = {}
    for name in [name for name in vars(pictures) if name.startswith("save_") and name != "save_image_grid"]:
        monkeypatch.setattr(pictures, name, lambda path, *args, **options: drawn.update({path.name: args}))
    images = ResidentImages(torch.zeros(7, 1, 2, 4), torch.zeros(7, dtype=torch.long))
    draw_all(tmp_path, Spelling(mu, logvar), images, 3)
    lines = codes(drawn["interpolation.png"][0])
    np.testing.assert_allclose(lines[::2, 0], mu[:5], atol=1e-6)
    np.testing.assert_allclose(lines[::2, -1], mu[[1, 2, 3, 4, 0]], atol=1e-6)


def test_an_autoencoders_latents_are_ranked_by_their_variance(monkeypatch, tmp_path):
    """Its second head was never trained: a KL from it would rank by chance."""
    model = Autoencoder(latent_dim=4, architecture="mlp", hidden_dims=(8,))
    with torch.no_grad():
        model.encoder.mu.weight.mul_(torch.tensor([0.1, 3.0, 1.0, 9.0])[:, None])
        model.encoder.logvar.bias.copy_(torch.tensor([5.0, 0.0, 0.0, 0.0]))  # a large KL of the first
    images = torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8, generator=seeded(0))
    drawn = {}
    for name in [name for name in vars(pictures) if name.startswith("save_") and name != "save_image_grid"]:
        monkeypatch.setattr(pictures, name, lambda path, *args, **options: drawn.update({path.name: args}))
    draw_all(tmp_path, model, ResidentImages(images, torch.arange(30) % 3), 0)
    with torch.no_grad():
        variance = np.var(model.encoder(images / 255)[0].numpy(), axis=0)
    order = np.argsort(-variance)
    assert order.tolist()[-1] == 0
    assert drawn["traversal.png"][2] == [f"z[{latent}], variance {variance[latent]:.1f}" for latent in order]


@pytest.mark.parametrize("cls", [VAE, ConditionalVAE, Autoencoder])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_binarised_afresh_reach_the_model_as_black_and_white(monkeypatch, tmp_path, cls, channels):
    """And those of the seed, each time the same."""
    model, seen, shown = cls(latent_dim=2, image_shape=(channels, 8, 8)), [], []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    monkeypatch.setattr(pictures, "save_reconstructions", lambda path, x, decoded: shown.append((x, decoded)))
    grey = torch.randint(0, 256, (12, channels, 8, 8), dtype=torch.uint8, generator=seeded(0))
    draw_all(tmp_path, model, ResidentImages(grey, torch.arange(12) % 10, "fresh"), seed=7)
    thresholds = torch.rand(12, channels, 8, 8, generator=seeded(7))
    want = (thresholds < grey / 255).float()
    assert seen
    assert all(torch.equal(x, want) for x in seen)
    assert torch.equal(shown[0][0], want[:10])
    assert {path.name for path in tmp_path.iterdir()} == (ALWAYS | {"manifold.png"}) - {"reconstructions.png"}


def test_colours_are_shown_as_they_are(tmp_path):
    """Red stays red, in a grid and on a manifold."""
    images = np.zeros((3, 3, 3, 8, 8))
    images[:, :, 0] = 0.8
    for write, name in ((write_grid, "grid.png"), (save_manifold, "manifold.png")):
        write(tmp_path / name, images)
        picture = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        assert (np.abs(picture - [204, 0, 0]).max(axis=2) <= 1).sum() > 1000


@pytest.mark.parametrize("side", [1, 2, 20, 21])
def test_manifold_codes_grow_right_and_upwards(side):
    codes = manifold_codes(side).numpy()
    quantiles = ndtri((np.arange(side) + 0.5) / side)
    assert codes.shape == (side, side, 2)
    for i in range(side):
        np.testing.assert_allclose(codes[i, :, 0], quantiles, atol=1e-6)
        np.testing.assert_allclose(codes[::-1, i, 1], quantiles, atol=1e-6)  # row 0 is the top of the picture
    assert (np.diff(codes[0, :, 0]) > 0).all()
    np.testing.assert_allclose(codes[-1, 0], ndtri([0.5 / side] * 2), atol=1e-6)
    np.testing.assert_allclose(codes, -codes[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "dtype"),
    [
        (VAE, torch.float32),
        (ConditionalVAE, torch.float32),
        (VAE, torch.float64),
    ],
)
def test_real_models_are_drawn_without_a_complaint_or_a_random_number(tmp_path, cls, dtype):
    model = cls(latent_dim=2).to(dtype)
    images = torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8)
    before = torch.get_rng_state()
    draw_all(tmp_path, model, ResidentImages(images, torch.arange(12) % 10), 0, [{"train_loss": 3.0, "test_loss": 4.0}])
    assert torch.equal(torch.get_rng_state(), before)
    assert {path.name for path in tmp_path.iterdir()} == ALWAYS | {"manifold.png", "loss_curves.png"}


# --- Where it ends up on the paper -----------------------------------------------------------------------------------


@pytest.fixture
def figure(monkeypatch):
    """A function that gives the figure written last, so that a test can ask for its axes."""
    written = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (written.append(self), save(self, *args, **kw)))
    return lambda: written[-1]


def row_names(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels() if label.get_text()]


def centre(picture, grey):
    """Where a grey value lies in a picture, as (x, y); the median, because letters leave strays of any grey."""
    y, x = np.nonzero(np.abs(picture.astype(int) - grey) <= 1)
    assert len(x) > 50, f"no area of grey {grey}"
    return np.median(x), np.median(y)


def quartered(greys):
    """One image per grey value: top left that grey, then 4 more to the right, 8 and 12 more in the lower half."""
    images = np.repeat(np.repeat(greys[..., None, None] + np.array([[0, 4], [8, 12]]), 14, axis=-2), 14, axis=-1)
    return images[..., None, :, :] / 255


def read_grey(path):
    return np.asarray(Image.open(path).convert("L"))


def write_grid(path, images):
    save_image_grid(path, images, "title", [f"row {i}" for i in range(len(images))])


@pytest.mark.parametrize(("write", "shape"), [(write_grid, (2, 5)), (write_grid, (3, 1)), (save_manifold, (3, 3))])
def test_each_image_is_in_its_row_and_column_and_upright(tmp_path, write, shape):
    greys = 20 + 20 * np.arange(np.prod(shape)).reshape(shape)
    write(tmp_path / "grid.png", quartered(greys))
    picture = read_grey(tmp_path / "grid.png")
    where = np.array([[[centre(picture, grey + more) for more in (0, 4, 8, 12)] for grey in row] for row in greys])
    x, y = where[..., 0], where[..., 1]  # (R, C, 4), in pixels, y downwards
    middle_x, middle_y = x.mean(axis=-1), y.mean(axis=-1)
    assert (np.diff(middle_x, axis=1) > 20).all()
    assert (np.diff(middle_y, axis=0) > 20).all()
    assert np.ptp(middle_x, axis=0).max() < 3
    assert np.ptp(middle_y, axis=1).max() < 3
    for left, right in ((0, 1), (2, 3)):
        assert (x[..., right] > x[..., left] + 8).all()
    for top, bottom in ((0, 2), (1, 3)):
        assert (y[..., bottom] > y[..., top] + 8).all()


def test_black_is_0_and_white_is_1_even_in_a_dim_image(tmp_path):
    save_image_grid(tmp_path / "dim.png", np.full((1, 3, 1, 28, 28), 0.2), "title")
    assert (np.abs(read_grey(tmp_path / "dim.png") - 51.0) <= 1).sum() > 3000


def test_row_names_stand_beside_their_rows(figure, tmp_path):
    save_image_grid(tmp_path / "grid.png", quartered(20 + 20 * np.arange(8).reshape(4, 2)), "title", list("abcd"))
    assert row_names(figure()) == list("abcd")
    axes = figure().axes[0]
    picture = read_grey(tmp_path / "grid.png")
    height = len(picture)
    for row, tick in enumerate(axes.get_yticks()):
        _, from_below = axes.transData.transform((0, tick))
        top, bottom = (centre(picture, 20 + 40 * row + more)[1] for more in (0, 8))
        # The figure may be measured at another resolution than the file was written at.
        scale = height / figure().bbox.height
        assert top < height - scale * from_below < bottom


def test_column_names_stand_above_their_columns(figure, tmp_path):
    upright = quartered(20 + 20 * np.arange(8).reshape(4, 2))[..., :14]  # 28 high, 14 wide
    save_image_grid(tmp_path / "grid.png", upright, "title", column_labels=["1.5", "0.5"])
    axes = figure().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.5", "0.5"]
    assert not row_names(figure())
    assert axes.xaxis.get_ticks_position() == "top"
    np.testing.assert_array_equal(axes.get_xticks(), [7, 7 + 14 + 2])  # with two pixels between


def test_the_manifolds_axes_tell_the_codes(figure, tmp_path):
    side = 20
    save_manifold(tmp_path / "manifold.png", np.zeros((side, side, 1, 4, 4)))
    axes = figure().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z[0]", "z[1]")
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)  # upwards is more
    for ticks, names in ((axes.get_xticks(), axes.get_xticklabels()), (axes.get_yticks(), axes.get_yticklabels())):
        assert len(ticks) == 7
        np.testing.assert_allclose(ndtri(ticks), [float(name.get_text()) for name in names], atol=1e-6)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_latent_space_shows_the_means_by_class(figure, tmp_path, latent_dim):
    rng = np.random.default_rng(0)
    mu = rng.standard_normal((60, latent_dim)) @ rng.standard_normal((latent_dim, latent_dim)) + 3
    labels = rng.integers(0, 4, 60)
    save_latent_space(tmp_path / "space.png", mu, labels, tuple("0123"))
    axes = figure().axes[0]
    points = {scatter.get_label(): scatter.get_offsets() for scatter in axes.collections}
    assert points.keys() == {"0", "1", "2", "3"}
    assert len({tuple(scatter.get_facecolor()[0]) for scatter in axes.collections}) == 4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list("0123")
    if latent_dim == 1:
        expected = np.column_stack([mu, np.zeros(60)])
    elif latent_dim == 2:
        expected = mu
    else:
        expected = PCA(2).fit_transform(mu)
    for label in range(4):
        shown, ours = points[str(label)], expected[labels == label]
        if latent_dim > 2:  # the sign of a principal component is free, but one for all classes
            signs = np.sign((points["0"] * expected[labels == 0]).sum(axis=0))
            ours = ours * signs
        np.testing.assert_allclose(shown, ours, atol=1e-6)


def test_latent_space_names_the_classes_as_they_are_called(figure, tmp_path):
    names = ("a", "never seen", "$x$ and \\$", "a long name of a class")
    save_latent_space(tmp_path / "space.png", np.eye(4)[[0, 2, 3]], np.array([0, 2, 3]), names)
    shown = [text.get_text() for text in figure().axes[0].get_legend().get_texts()]
    assert shown == ["a", r"\$x\$ and \\$", "a long name of …"]  # escaped: to matplotlib $...$ is a formula


def test_images_without_classes_have_one_colour_and_no_legend(figure, tmp_path):
    save_latent_space(tmp_path / "space.png", np.random.default_rng(0).standard_normal((30, 3)), np.zeros(30, int))
    (scatter,) = figure().axes[0].collections
    assert len(scatter.get_facecolor()) == 1
    assert figure().axes[0].get_legend() is None


@pytest.mark.parametrize(("latent_dim", "names"), [(1, ("z[0]", "")), (2, ("z[0]", "z[1]"))])
def test_latent_space_names_the_latents(figure, tmp_path, latent_dim, names):
    save_latent_space(tmp_path / "space.png", np.eye(3, latent_dim), np.arange(3))
    axes = figure().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == names


def test_latent_space_tells_the_variance_that_two_components_explain(figure, tmp_path):
    mu = np.random.default_rng(0).standard_normal((60, 5)) * [1, 4, 2, 3, 1] + 5
    save_latent_space(tmp_path / "space.png", mu, np.zeros(60, int))
    axes = figure().axes[0]
    shares = PCA().fit(mu).explained_variance_ratio_
    for i, name in enumerate((axes.get_xlabel(), axes.get_ylabel())):
        assert name == f"principal component {i + 1} ({shares[i]:.0%} of the variance)"


def test_loss_curves_keeps_train_and_test_apart():
    rows = [
        {"epoch": 1, "seconds": 0.1, "train_loss": 9, "train_kl": 1, "test_loss": 8, "test_kl": 2},
        {"epoch": 2, "seconds": 0.1, "train_loss": 7, "train_kl": 3, "test_loss": 6, "test_kl": 4},
    ]
    curves = loss_curves(rows)
    assert list(curves) == ["loss", "kl"]
    np.testing.assert_array_equal(curves["loss"], [[9, 8], [7, 6]])
    np.testing.assert_array_equal(curves["kl"], [[1, 2], [3, 4]])


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_loss_curves_are_drawn_over_the_epochs(figure, tmp_path, epochs):
    terms = {name: np.random.default_rng(0).random((epochs, 2)) for name in ("-ELBO", "reconstruction", "KL")}
    save_loss_curves(tmp_path / "curves.png", terms)
    assert [axes.get_title() for axes in figure().axes] == list(terms)
    for axes, values in zip(figure().axes, terms.values(), strict=True):
        for line, name, expected in zip(axes.get_lines(), ("train", "test"), values.T, strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_xdata(), np.arange(1, epochs + 1))
            np.testing.assert_array_equal(line.get_ydata(), expected)
            assert epochs > 1 or line.get_marker() not in (None, "None", "")  # a line of one point shows nothing
        assert "nats" in axes.get_ylabel()


def test_the_grid_is_level_scripts_own():
    """Levels 1 and 2 draw with the same function: what is tested here is what they write."""
    assert pictures.save_image_grid is level_script.save_image_grid


# --- Rate and distortion: what is refused ----------------------------------------------------------------------------


def finished_run(folder, rate=20.0, distortion=80.0, model=None, **changes):
    """The folder of a run, as far as the script reads it."""
    folder.mkdir()
    last = {"epoch": 3, "test_kl_divergence": rate, "test_reconstruction_nll": distortion}
    summary = {"last_epoch": last, "data": "digits", "binarisation": "none", "likelihood": "bernoulli"} | changes
    summary = {name: value for name, value in summary.items() if value is not None}
    (folder / "summary.json").write_text(json.dumps(summary))
    if model:
        (folder / "config.json").write_text(json.dumps({"model": {"class": "VAE"} | model}))
    return folder.name


@pytest.fixture
def refused(tmp_path):
    return partial(assert_refused, pictures.main, "pictures.py", cwd=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "mnist"}, "b has data mnist, a has digits"),
        ({"binarisation": "fresh"}, "b has binarisation fresh, a has none"),
        ({"likelihood": "gaussian"}, "b has likelihood gaussian, a has bernoulli"),
        ({"likelihood": None, "model": {"likelihood": "gaussian"}}, "b has likelihood gaussian, a has bernoulli"),
        ({"model": {"image_shape": [3, 28, 28]}}, "b has image_shape [3, 28, 28], a has [1, 28, 28]"),
    ],
    ids=["data", "binarisation", "likelihood", "an older summary", "size"],
)
def test_runs_whose_nats_do_not_compare_are_refused(refused, tmp_path, change, words):
    finished_run(tmp_path / "a", model={"image_shape": [1, 28, 28]})
    finished_run(tmp_path / "b", **{"model": {"image_shape": [1, 28, 28]}} | change)
    assert words in refused("--runs", "a", "b", "--out", "curve.png")


def test_runs_that_differ_in_what_makes_them_better_do_compare(tmp_path):
    finished_run(tmp_path / "a", model={"image_shape": [1, 28, 28], "beta": 4.0}, seed=1)
    finished_run(tmp_path / "b $\\frac$", 9.0, 110.0, model={"image_shape": [1, 28, 28], "latent_dim": 3}, seed=2)
    done = run_main(pictures.main, "--runs", "a", "b $\\frac$", "--out", "curve.png", cwd=tmp_path)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert read_grey(tmp_path / "curve.png").std() > 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("term", ["rate", "distortion"])
def test_a_run_that_diverged_is_refused(refused, tmp_path, term, number):
    finished_run(tmp_path / "a")
    finished_run(tmp_path / "b", **{term: number})
    assert "b/summary.json holds NaN or infinity" in refused("--runs", "a", "b", "--out", "curve.png")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"text", b"3", b"[]", b'"text"', b"\xff\xfe", 100_000 * b"["]
    + [b'{"last_epoch": %s}' % row for row in (b"3", b'"text"', b"[]", b"null", b'{"test_kl_divergence": 1}')]
    + [
        b'{"last_epoch": {"test_kl_divergence": %s, "test_reconstruction_nll": 1}}' % number
        for number in (b'"text"', b"null", b"[1]", b"1" + 400 * b"0", b"1" + 5000 * b"0")
    ],
    ids=lambda content: content[:40].decode(errors="replace"),
)
def test_a_damaged_summary_is_one_line(refused, tmp_path, content):
    finished_run(tmp_path / "a")
    (tmp_path / "a" / "summary.json").write_bytes(content)
    message = refused("--runs", "a", "--out", "curve.png")
    assert "a/summary.json is not that of a VAE" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"model": 3}', 100_000 * b"["], ids=["half", "list", "number", "deep"]
)
def test_a_damaged_config_is_one_line(refused, tmp_path, content):
    finished_run(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_bytes(content)
    assert "a/config.json" in refused("--runs", "a", "--out", "curve.png")


def test_numbers_written_as_text_are_numbers(tmp_path):
    finished_run(tmp_path / "a", rate="20.5", distortion="80")
    assert pictures.read_summary(tmp_path / "a")[0] == [20.5, 80.0]


@pytest.mark.parametrize("kind", ["nothing", "a file", "a folder in the place of the summary"])
def test_a_folder_that_holds_no_run_is_one_line(refused, tmp_path, kind):
    if kind == "a file":
        (tmp_path / "a").write_text("")
    elif kind != "nothing":
        (tmp_path / "a" / "summary.json").mkdir(parents=True)
    assert "no summary.json in a" in refused("--runs", "a", "--out", "curve.png")


@pytest.mark.parametrize("out", ["none/curve.png", "a/summary.json/curve.png", "curve.jpg", "curve", "", "taken.png"])
def test_a_picture_that_has_no_place_is_one_line(refused, tmp_path, out):
    finished_run(tmp_path / "a")
    (tmp_path / "taken.png").mkdir()
    assert "--out" in refused("--runs", "a", "--out", out)


def test_a_folder_that_may_not_be_written_to_is_one_line(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root, who may always
    finished_run(tmp_path / "a")
    assert "cannot write --out curve.png" in refused("--runs", "a", "--out", "curve.png")


def test_a_full_disk_leaves_nothing(refused, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    finished_run(tmp_path / "a")
    assert "No space left" in refused("--runs", "a", "--out", "curve.png")


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    """Also where no shell has expanded it, as in --out=~/x.png."""
    monkeypatch.setenv("HOME", str(tmp_path))
    finished_run(tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    done = run_main(pictures.main, "--runs", "~/a", "--out=~/curve.png", cwd=tmp_path / "elsewhere")
    assert done.code == 0, done.stderr
    assert (tmp_path / "curve.png").is_file()
    assert not any((tmp_path / "elsewhere").iterdir())
