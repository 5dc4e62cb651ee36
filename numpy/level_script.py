"""What the scripts of the three levels share, so that their output can be compared with `diff`.

Not the model: that is written at each level. Here are the report that every level prints, the pictures it draws, the
single line a user reads after a mistake, and how a script begins and ends.

A script imports this module before all others, so that Ctrl-C is told in one line from then on.
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

# --- How a script begins and ends ------------------------------------------------------------------------------------


def run_as_script(main):
    """Call `main()` as a process of its own, under `if __name__ == "__main__":`; what it returns is the exit status.

    - Ctrl-C is one line on stderr and exit status 130.
    - A reader of stdout that has gone (`script | head -1`) is no error: the script goes on without a word, what is to
      be saved is saved, and the exit status is 0. A stdout that cannot be written to for another reason, such as a
      full disk, is one line and exit status 1.
    - Nothing that happens to stderr stops a script: progress is for who wants to read it.
    - A closed stdout or stderr is as good as /dev/null.
    - What the encoding of stdout or stderr cannot express is printed as `?`.
    """
    _open_closed_streams()
    for name, goes_on_after in (("stdout", BrokenPipeError), ("stderr", OSError)):
        setattr(sys, name, _lasting(getattr(sys, name), goes_on_after))
    try:
        raise SystemExit(main())
    except KeyboardInterrupt as interrupt:
        _tell_interrupt(KeyboardInterrupt, interrupt, None)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: Python's own end is not worth a traceback
        sys.stdout.flush()  # here, where a failure can be told


def _lasting(stream, goes_on_after):
    """A standard stream as one that neither a character nor a reader that has gone can stop."""
    if stream.isatty():  # on Windows a console is no plain file
        stream.reconfigure(errors="replace")
        return stream
    binary = io.BufferedWriter(_LastingFile(stream.fileno(), goes_on_after))
    at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(binary, stream.encoding, "replace", line_buffering=at_once)


class _LastingFile(io.FileIO):
    """A file that is written to until that fails, and from then on to nowhere. Other failures end the script."""

    def __init__(self, descriptor, goes_on_after):
        super().__init__(descriptor, "w", closefd=False)
        self.goes_on_after, self.failed = goes_on_after, False

    def write(self, data):
        try:
            return len(data) if self.failed else super().write(data)
        except OSError as error:
            self.failed = True
            if not isinstance(error, self.goes_on_after):
                raise SystemExit(f"{_script()}: error: cannot write to stdout ({error.strerror})") from None
            return len(data)


def _open_closed_streams():
    """Give a closed stdin, stdout and stderr to /dev/null: a file opened later must not become one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - never closed


def _tell_interrupt(kind, error, traceback):
    """A sys.excepthook: Ctrl-C is one line, with the words of the KeyboardInterrupt, if any."""
    if not issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, traceback)
    _say(": ".join(filter(None, [_script(), "interrupted", str(error)])))
    raise SystemExit(130) from None


def note(message):
    """Tell the user something on stderr that is no mistake; once for all processes that torchrun started."""
    _say(f"note: {message}")


def _say(message):
    # Without a stderr there is nobody to tell, and print would take stdout instead.
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:
        print(message, file=sys.stderr)


def _script():
    return Path(sys.argv[0]).name


def _is_run_as_script():
    """Whether the process is one of this repository's scripts: nobody else's Ctrl-C and streams are our business."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main and Path(main).resolve().parents[1] == Path(__file__).resolve().parents[1]


if _is_run_as_script() and not sys.flags.interactive:
    sys.excepthook = _tell_interrupt
    _open_closed_streams()
    try:
        os.getcwd()
    except OSError:  # PyTorch would end the process later, in words of its own
        raise SystemExit(f"{_script()}: error: the current directory is gone: change to one that exists") from None

import numpy as np  # noqa: E402 - it takes long enough to be interrupted

from input_checks import in_gib, total_memory  # noqa: E402
from run_files import read_weights_metadata, write_beside  # noqa: E402

# --- The report ------------------------------------------------------------------------------------------------------


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


# --- Pictures --------------------------------------------------------------------------------------------------------


def save_figure(figure, path):
    """Write a matplotlib figure as a PNG, whole or not at all. Raises OSError as `write_beside` does."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_beside(path, picture.getvalue())


def save_image_grid(path, rows, title, row_labels=None, column_labels=None):
    """Draw images as a labelled grid, black 0 and white 1, and write it as a PNG.

    rows: (R, C, 1, H, W), grey, or (R, C, 3, H, W), colour, in [0, 1].
    row_labels: R texts, column_labels: C short ones.
    """
    from matplotlib.figure import Figure

    num_rows, num_columns, channels, height, width = np.shape(rows)
    gap = 2
    images = np.clip(np.moveaxis(np.asarray(rows), 2, 4), 0, 1)  # (R, C, H, W, 1 or 3)
    tiles = np.pad(images, [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=1)  # white, as the paper
    mosaic = tiles.swapaxes(1, 2).reshape(num_rows * (height + gap), -1, channels)[:-gap, :-gap]
    # Wide enough for the title, which is centred above labels and images together.
    figure = Figure(
        figsize=(max(0.5 * num_columns + 1.0, 0.095 * len(title)), 0.5 * num_rows + 0.5), layout="constrained"
    )
    figure.suptitle(title, fontsize="large")
    axes = figure.add_subplot()
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize="x-small")
    for set_ticks, labels, count, side in (
        (axes.set_yticks, row_labels, num_rows, height),
        (axes.set_xticks, column_labels, num_columns, width),
    ):
        set_ticks(np.arange(count) * (side + gap) + side / 2 if labels else [], labels)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


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
        if len(values) == 1:
            axes.set_xticks([1])
        axes.legend(loc="best" if len(values) > 1 else "center right")
    save_figure(figure, path)


# --- What is told to the user ----------------------------------------------------------------------------------------


def typed(script, *words):
    """A line that works when it is typed here: the interpreter that runs, a script's path, and the words."""
    words = [_shortest(sys.executable), _shortest(str(script)), *map(str, words)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _shortest(path):
    """A file's path from the current folder or from the root, whichever is shorter; never a bare name."""
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive, or the current folder is gone
        return path
    relative = relative if os.path.dirname(relative) else os.path.join(os.curdir, relative)
    return min(relative, path, key=len)


def note_undescribed(path):
    """Tell the user where a file of weights does not say which model it is of: its shapes alone may mislead."""
    if read_weights_metadata(path) is None:
        note(f"{path} does not say which model it is of: read as a VAE's, with a Bernoulli likelihood")


@contextlib.contextmanager
def one_line_errors(script):
    """Around whatever can be the user's mistake: one line on stderr and exit status 2 instead of a traceback.

    For the first part of a script, where it reads its input, for training, which a bad setting can make diverge, and
    for writing files. Memory that is not there is a mistake too. What fails elsewhere is our bug and keeps its
    traceback.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        message = _memory_message(error) if isinstance(error, MemoryError | RuntimeError) else str(error)
        if message is None:
            raise
        _say(f"{script}: error: {' '.join(message.split())}")
        raise SystemExit(2) from None


NO_MEMORY = "can't allocate memory|out of memory|not enough memory|calculation overflowed|multiplication overflow"


def _memory_message(error):
    """The line for memory that is not there, in NumPy's words or PyTorch's; None for any other RuntimeError."""
    text = str(error).partition("\n")[0]
    if isinstance(error, RuntimeError) and not re.search(NO_MEMORY, text):
        return None
    if wanted := re.search(r"tried to allocate (\d+) bytes", text):
        text = f"PyTorch asked for {in_gib(int(wanted[1]))} more"
    there = f"; this machine has {in_gib(total_memory())}" if total_memory() and "this machine has" not in text else ""
    return f"not enough memory: {text or 'the system gave no more'}{there}"


# --- argparse types --------------------------------------------------------------------------------------------------


def some_path(text):
    """An argparse type: a path, with ~ as the home folder even where no shell expanded it (--out=~/x)."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing")
    return os.path.expanduser(text)


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
