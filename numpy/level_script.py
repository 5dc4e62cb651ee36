"""What the scripts of the three levels share, so that their output can be compared with `diff`.

Not the model: that is written at each level. Here are the report that every level prints, the grid of images it
draws, the folder a run owns and the single line a user reads after a mistake.
"""

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from pathlib import Path

import numpy as np


def report_noise(noise_seed, num_images, latent_dim, dtype=np.float32):
    """The noise eps (num_images, latent_dim) behind a report: the same numbers at every level and in every dtype."""
    return np.random.default_rng(noise_seed).standard_normal((num_images, latent_dim)).astype(dtype)


def report(
    data, noise_seed, reconstruction_nll, kl_divergence, mu, logvar, z, logits, binarisation="grey (not binarised)"
):
    """The text every level prints: the two terms of the ELBO in nats per image, and where they came from.

    reconstruction_nll, kl_divergence: (N,) nats. mu, logvar, z: (N, Z). logits: (N, 1, 28, 28). All np.ndarray.
    """
    reconstruction = reconstruction_nll.mean(dtype=np.float64)
    kl = kl_divergence.mean(dtype=np.float64)
    header = f"{data}, test set: {len(mu)} images, {binarisation}, noise seed {noise_seed}"
    lines = [
        report_terms(header, {"-ELBO": reconstruction + kl, "reconstruction": reconstruction, "KL": kl}),
        "the first values",
        f"  mu[0, :5]            {_row(mu[0, :5])}",
        f"  logvar[0, :5]        {_row(logvar[0, :5])}",
        f"  z[0, :5]             {_row(z[0, :5])}",
        f"  logits[0, 0, 0, :5]  {_row(logits[0, 0, 0, :5])}",
    ]
    return "\n".join(lines)


def report_terms(header, means, units=None):
    """A header and the mean of each term, {name: number}, as lines of text. units: of the terms that are not nats."""
    width = max(14, *map(len, means))
    units = {name: f" {unit}" for name, unit in (units or {}).items()}
    lines = [f"  {name:<{width}}{mean:12.3f}{units.get(name, '')}" for name, mean in means.items()]
    return "\n".join([header, "mean over the images, in nats per image", *lines])


def _row(values):
    # Adding 0.0 after rounding turns -0.0 into 0.0, so that a sign of nothing is no difference between two levels.
    return " ".join(f"{value + 0.0:9.4f}" for value in np.round(values.astype(np.float64), 4))


def save_image_grid(path, rows, title, row_labels=None):
    """Draw images as a labelled grid, black 0 and white 1. rows: (R, C, 1, H, W) in [0, 1]; written as a PNG."""
    from matplotlib.figure import Figure

    num_rows, num_columns, _, height, _ = np.shape(rows)
    gap = 2
    tiles = np.pad(np.asarray(rows)[:, :, 0], [(0, 0), (0, 0), (0, gap), (0, gap)], constant_values=np.nan)
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(num_rows * (height + gap), -1)[:-gap, :-gap]
    figure = Figure(figsize=(0.5 * num_columns + 1.0, 0.5 * num_rows + 0.5), layout="constrained")
    axes = figure.add_subplot(title=title, xticks=[])
    axes.imshow(np.ma.masked_invalid(mosaic), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    centres = np.arange(num_rows) * (height + gap) + height / 2
    axes.set_yticks(centres if row_labels else [], row_labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def save_loss_curves(path, terms, units=None):
    """Draw each term of the objective over the epochs. terms: {name: (epochs, 2)}, train and test.

    units: {name: unit} of those that are not in nats per image.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(len(terms), 3)
    rows = -(-len(terms) // columns)
    figure = Figure(figsize=(2.8 * columns, 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(terms) :]:
        axes.set_visible(False)
    for axes, (name, values) in zip(panels, terms.items(), strict=False):
        epochs = range(1, len(values) + 1)
        axes.plot(epochs, values, marker="." if len(values) < 10 else None, label=["train", "test"])
        axes.set(title=name, xlabel="epoch", ylabel=(units or {}).get(name, "nats per image"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.savefig(path, dpi=120)


def new_run_folder(out, script):
    """Make the folder that one run owns: `out`, or the next free `runs/<script>-NNN`.

    Raises FileExistsError if `out` already holds something (nothing is ever overwritten), OSError if it cannot be
    written to.
    """
    if out is None:
        out = next(p for n in itertools.count(1) if not (p := Path("runs", f"{script}-{n:03d}")).exists())
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"--out {out} is not empty and nothing in it is overwritten: choose a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"cannot write to --out {out} ({error.strerror}): choose a folder you may write to") from None
    return out


@contextlib.contextmanager
def one_line_errors(script):
    """Around whatever can be the user's mistake: one line on stderr and exit status 2 instead of a traceback.

    For the first part of a script, where it reads its input, and for training, which a bad setting can make diverge.
    What fails elsewhere is our bug and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("RANK", "0") == "0":  # under torchrun all processes make the same mistake: said once
            print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def positive_int(text):
    """An argparse type: an integer of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return value


def positive_float(text):
    """An argparse type: a finite number above 0."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def seed(text):
    """An argparse type: a seed that NumPy's and PyTorch's generators both take."""
    if not 0 <= (value := int(text)) < 2**63:
        raise argparse.ArgumentTypeError(f"expected a seed from 0 to 2^63 - 1, got {text}")
    return value
