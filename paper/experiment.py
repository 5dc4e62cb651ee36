"""What every paper's script does around its model: the command line, the images, the run's folder, the report.

A script gives `run_script` its options (a dataclass that adds fields to TrainingConfig) and a function that builds its
model from them; it gets training, resuming, one-line errors, a report and pictures.
"""

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from level_script import one_line_errors, report_terms, typed
from processes import LostProcessError, from_first, rank
from resume import prepare_resume, read_options, read_state
from run_files import claim_run_folder, lock_run_folder
from trainable import built, flag, option, parse_options, require
from trainer import Interrupted, check_trainable, evaluate, train
from training_images import NAMES, ImageOptions, describe, load_resident


@dataclass
class TrainingConfig(ImageOptions):
    """What every paper's script takes on its command line; a paper adds its model's options."""

    epochs: int = option(60, least=1)
    """Passes over the training images."""
    batch_size: int = option(128, least=1)
    """Images per step."""
    lr: float = option(1e-3, above=0)
    """Adam's step size."""
    lr_schedule: Literal["constant", "cosine", "staircase"] = "constant"
    """How --lr falls over the epochs: not; to 0 along half a cosine; to a tenth in 8 stairs, each 3 times as long."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Of the arithmetic; bf16 keeps parameters and sums in float32, float64 is for checks."""
    out: Path | None = None
    """The run's new folder; by default the next free runs/<script>-NNN."""
    save_seconds: float = option(30.0, least=0)
    """Seconds of training between two saves of the state that --resume goes on from."""
    resume: Path | None = None
    """Go on with the run in this folder; --epochs may be more, --device another, and the same --data elsewhere."""
    weights: Path | None = None
    """Report on this model.safetensors instead of training."""


SHARED = {each.name for each in fields(TrainingConfig)}  # by all scripts; what a paper adds describes its model
MAY_CHANGE = ("epochs", "device", "save_seconds", "resume")  # on resume


def parse_config(config_class, argv, script, load_model):
    """The command line as (config, the resume state it goes on from or None, the model behind --weights or None).

    With --resume the options are the run's own, with --weights those of the model are; whatever else is given and
    differs is refused by name (ValueError).
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--resume", "--weights", "--out", "--data"):
        finder.add_argument(name, nargs="?")
    given = finder.parse_known_args(argv)[0]
    for name, value in vars(given).items():
        require(value != "", f"--{name} is empty: expected a path, or leave it out")
    state = model = None
    known = {each.name for each in fields(config_class)}
    ours = config_class()
    if given.resume:
        folder = Path(given.resume).expanduser()
        state = read_state(folder, script)
        ours = read_options(state, config_class, folder)
    elif given.weights:
        model = load_model(Path(given.weights).expanduser())
        ours = config_class(**{name: value for name, value in vars(model.options).items() if name in known})
    config = parse_options(config_class, argv, script, default=ours)
    for name in ("out", "resume", "weights"):
        if (path := getattr(config, name)) is not None:
            setattr(config, name, path.expanduser())
    own = os.path.expanduser(config.data)
    if config.data not in NAMES and os.path.exists(own):  # so that a run goes on from any folder
        config.data = os.path.abspath(own)
    for name in sorted(known):
        was, now = getattr(ours, name), getattr(config, name)
        moved = name == "data" and not {was, now} & set(NAMES)  # whether the images are the same is seen on loading
        if state and name not in MAY_CHANGE and was != now and not moved:
            raise ValueError(f"--resume goes on with the run as it was: {flag(name)} was {was}, cannot become {now}")
        if model and name not in SHARED and was != now:
            raise ValueError(f"--weights names a model: leave out {flag(name)}, which is {was} there")
    config.check(flags=True)
    if state and config.epochs != ours.epochs:
        require(
            config.lr_schedule == "constant",
            f"--lr-schedule {config.lr_schedule} falls over the {ours.epochs} epochs of the run: leave out --epochs",
        )
    if state and config.epochs < len(state["rows"]):
        raise ValueError(f"--epochs {config.epochs}, but the run in {config.resume} already has {len(state['rows'])}")
    return config, state, model


def pick_device(name):
    """The torch.device called `name`; "auto" takes cuda, else mps, else cpu. Raises ValueError if it is not there.

    Under torchrun, "cuda" is the process's own card.
    """
    available = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if name == "auto":
        name = [kind for kind, there in available.items() if there][-1]
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available:
        raise ValueError(f"unknown --device {name}: expected auto, cpu, cuda, cuda:N or mps")
    too_high = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available[device.type] or too_high:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise ValueError(f"--device {name} is not on this machine: it has {here}; --device auto takes the best")
    return device


# --- A script --------------------------------------------------------------------------------------------------------


def run_script(path, config_class, build_model, load_model, argv=None, report=None, draw=None):
    """All that a paper's main() does: read the options, train or load, print the report, draw the pictures.

    path: the script's own file. build_model(config, train_images): a new model; raises ValueError for bad options.
    load_model(file): the model behind --weights. report(model, test_images, config): the text for stdout; by default
    the mean of every term. draw(folder, model, test_images, seed, rows): by default pictures.draw_all.
    """
    script = Path(path)
    with one_line_errors(script.name):
        config, state, model = parse_config(config_class, argv, script.name, load_model)
        device = pick_device(config.device)
        require(device.type != "mps" or config.precision != "float64", "mps has no float64: use --device cpu")
    with contextlib.ExitStack() as owned:  # the folder, until the last picture is in it
        with process_group(device):
            with one_line_errors(script.name):
                test_images = load_resident(config, "test", device)
                train_images = None
                if model is None:
                    train_images = load_resident(config, "train", device)
                    model = initialised(build_model, config, train_images)
                    check_trainable(model, train_images, test_images, config)
                if model.class_names:
                    test_images = test_images.in_classes(model.class_names)
                require(
                    test_images.image_shape == model.image_shape,
                    f"--data {config.data} has images {test_images.image_shape}, the model takes {model.image_shape}",
                )
                folder = config.resume
                if rank() == 0 and folder is not None:
                    owned.enter_context(lock_run_folder(folder))
                elif rank() == 0 and (config.out or not config.weights):
                    folder = owned.enter_context(claim_run_folder(config.out, script.stem))
                folder = from_first(folder)
            model.to(device)
            rows = []
            if train_images:
                if state is not None:
                    prepare_resume(state)
                rows = train_or_exit(script.name, model, train_images, test_images, config, folder, state)
            if rank() > 0:
                return
        print((report or report_of_terms)(model, test_images, config))
        if folder:
            if draw is None:
                from pictures import draw_all as draw
            with one_line_errors(script.name):
                draw(folder, model, test_images, config.seed, rows)
            say(f"{'weights and pictures' if rows else 'pictures'} in {folder}")


def train_or_exit(script, model, train_images, test_images, config, folder, state):
    """`train`; whatever stops it is one line with the way to go on, and an exit status."""
    again = typed(sys.argv[0], "--resume", folder)
    try:
        with one_line_errors(script):
            try:
                return train(model, train_images, test_images, config, folder, state, script)
            except LostProcessError as error:  # the first may be the one that is lost: whoever is left says so
                print(f"{script}: error: {error}; go on with: {again}", file=sys.stderr)
                raise SystemExit(1) from None
    except Interrupted as stopped:
        say(f"{script}: {stopped}; go on with: {again}")
        raise SystemExit(130) from None
    except FloatingPointError as error:
        say(f"{script}: error: {error}")
        raise SystemExit(1) from None


def initialised(build_model, config, train_images):
    """The new model, with initial weights from the run's own seed; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = built(lambda: build_model(config, train_images), copies=4)  # gradients, Adam's two moments
    model.start_from(train_images, torch.Generator(train_images.labels.device).manual_seed(config.seed))
    return model


def say(message):
    """On stderr, once for all processes; stdout belongs to the report."""
    if rank() == 0:
        print(message, file=sys.stderr)


TIMEOUT = timedelta(minutes=10)  # for an answer: a slow download or disk of one process is not to end the others


@contextlib.contextmanager
def process_group(device):
    """Joins the processes that torchrun started; alone, does nothing.

    Whoever ends takes the others along at once; whoever falls silent (its machine, its network) after TIMEOUT.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    # Before there is a group: its functions take the one there is as a default argument. Imported later, as Adam does,
    # they would keep the group and its threads beyond the end, and Python's own end then sometimes aborts.
    import torch.distributed.nn.functional  # noqa: F401

    # Tensors on a card go through nccl, the others, such as a request to stop, through gloo.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def report_of_terms(model, test_images, config):
    """The mean of every term of the objective over the test images, with noise from the run's seed."""
    size = config.batch_size if model.couples_batch else 1000
    means = evaluate(model, test_images, config.seed, size).means()
    values = {"-ELBO": sum(means[name] for name in model.elbo_terms)} if model.elbo_terms else {}
    return report_terms(header(config, test_images, config.seed), values | means, model.units)


def header(options, images, noise_seed, count=None):
    """The first line of a report: which images and how many, what was made of them, and the noise."""
    count, words = count or len(images), describe(options, images)
    return f"{options.data}, {images.split}: {count} images, {words}, noise seed {noise_seed}"
