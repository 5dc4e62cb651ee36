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

from image_data import load_uint8_images
from level_script import new_run_folder, one_line_errors, report_terms
from processes import LostProcessError, from_first, rank
from sprites import FACTORS, NUM_SPRITES, factors_of, render
from trainer import Interrupted, check_trainable, evaluate, prepare_resume, read_state, require, train


@dataclass
class TrainingConfig:
    """What every paper's script takes on its command line; a paper adds its own fields."""

    data: Literal["digits", "mnist", "fashion", "sprites", "sprites32"] = "digits"
    """The images; digits and sprites (64x64, or 32x32 for laptops) come with the code, the others are downloaded."""
    train_images: int | None = None
    """Train on this many images only, the same ones each time; by default on all."""
    binarisation: Literal["none", "fixed", "fresh"] = "none"
    """Grey values as they are; or black and white, drawn once with the seed; or drawn anew for every batch."""
    epochs: int = 60
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step."""
    lr: float = 1e-3
    """Adam's step size."""
    seed: int = 0
    """Seed of the initial weights, the data order, the noise and the binarisation."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Of the arithmetic; bf16 keeps parameters and sums in float32, float64 is for checks."""
    out: Path | None = None
    """The run's new folder; by default the next free runs/<script>-NNN."""
    save_seconds: float = 30.0
    """Seconds of training between two saves of the state that --resume goes on from."""
    resume: Path | None = None
    """Go on with the run in this folder, with its own options; only more --epochs and another --device may be given."""
    weights: Path | None = None
    """Report on this model.safetensors instead of training."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "train_images"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr must be a positive number, got {self.lr}")
        if not self.save_seconds >= 0:
            raise ValueError(f"--save-seconds must be at least 0, got {self.save_seconds}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie in 0 .. 2^63 - 1, got {self.seed}")


MAY_CHANGE = ("epochs", "device", "save_seconds", "resume")  # on resume


def parse_config(config_class, argv, script):
    """The command line as a config, and the resume state it goes on from, if any.

    With --resume the options are the run's own; whatever else is given and differs is refused by name (ValueError).
    """
    import tyro

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--resume")
    folder = finder.parse_known_args(argv)[0].resume
    if folder is None:
        return tyro.cli(config_class, args=argv, prog=script), None
    state = read_state(folder, script)
    known = {field.name for field in fields(config_class)}
    saved = config_class(**{name: value for name, value in state["config"].items() if name in known})
    config = tyro.cli(config_class, args=argv, prog=script, default=saved)
    for name in known - set(MAY_CHANGE):
        if (was := getattr(saved, name)) != (now := getattr(config, name)):
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"--resume goes on with the run as it was: {flag} was {was}, cannot become {now}")
    if config.epochs < len(state["rows"]):
        raise ValueError(f"--epochs {config.epochs}, but the run in {folder} already has {len(state['rows'])}")
    return config, state


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


# --- The images ------------------------------------------------------------------------------------------------------


@dataclass
class ResidentImages:
    """A data set that lies on the device whole: images uint8 (N, 1, H, W), labels int64 (N,).

    binarisation: "none"; "fixed", the images are already black and white; "fresh", every batch is drawn anew.
    """

    images: torch.Tensor
    labels: torch.Tensor
    binarisation: str = "none"

    def __len__(self):
        return len(self.labels)

    @property
    def image_shape(self):
        return tuple(self.images.shape[1:])

    def draw_thresholds(self, count, generator):
        """For "fresh": uniform numbers (count, C, H, W); a pixel is white where its grey value is above. Else None."""
        if self.binarisation != "fresh":
            return None
        return torch.rand(count, *self.image_shape, generator=generator, device=self.labels.device)

    def batch(self, index, thresholds=None):
        """The chosen images as floats in [0, 1] and their labels; index is a slice or a tensor of positions."""
        x = self.pixels(index).float() / 255
        return x if thresholds is None else (thresholds < x).float(), self.labels[index]

    def pixels(self, index):
        return self.images[index]


class RenderedSprites(ResidentImages):
    """The sprites with the given numbers, drawn batch by batch: all of them would fill 3 GB. The label is the shape."""

    def __init__(self, numbers, size, device, binarisation="none"):
        self.numbers, self.size, self.binarisation = numbers, size, binarisation
        self.labels = torch.from_numpy(factors_of(numbers)[:, 0]).to(device)

    @property
    def image_shape(self):
        return (1, self.size, self.size)

    def pixels(self, index):
        index = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
        return torch.from_numpy(render(self.numbers[index], self.size)).to(self.labels.device)


NUM_TEST_SPRITES = 5_000  # drawn at random among all; the rest is for training


def load_resident(data, split, device, binarisation="none", seed=0, limit=None):
    """One split of a data set, on the device (training sprites are drawn on demand).

    binarisation: "none", "fixed" (black and white, each pixel white with its grey value's probability, drawn with
    `seed`) or "fresh" (drawn so in every batch). limit: keep this many images, spread evenly over the set.
    Raises what `image_data.load_images` raises, ValueError if the limit is larger than the set.
    """
    if data in ("sprites", "sprites32"):
        numbers = torch.randperm(NUM_SPRITES, generator=torch.Generator().manual_seed(0)).numpy()
        numbers = numbers[:NUM_TEST_SPRITES] if split == "test" else numbers[NUM_TEST_SPRITES:]
        images = RenderedSprites(spread(numbers, limit), 64 if data == "sprites" else 32, device, binarisation)
        if split == "test":
            images = ResidentImages(images.pixels(slice(None)), images.labels, binarisation)
        return images  # black and white already, so that drawing them changes nothing
    images, labels = (torch.from_numpy(spread(array, limit)) for array in load_uint8_images(data, split))
    if binarisation == "fixed":
        generator = torch.Generator().manual_seed(seed)
        white = torch.rand(images.shape, generator=generator) < images / 255
        images = 255 * white.to(torch.uint8)
    return ResidentImages(images.to(device), labels.to(device), binarisation)


def spread(array, count):
    """`count` entries of an array at equal distances, or all of it."""
    if count is None:
        return array
    require(count <= len(array), f"--train-images {count}: there are {len(array)}")
    return array[torch.arange(count).mul(len(array)).div(count, rounding_mode="floor").numpy()]


def num_classes(data):
    return FACTORS["shape"] if data.startswith("sprites") else 10


def describe(data, binarisation, seed):
    """The binarisation in a report's words: its numbers compare only with those of the same one."""
    if data.startswith("sprites"):
        return "black and white"
    return {
        "none": "grey (not binarised)",
        "fixed": f"binarised once with seed {seed}",
        "fresh": f"binarised for this report with seed {seed}",
    }[binarisation]


# --- A script --------------------------------------------------------------------------------------------------------


def run_script(path, config_class, build_model, argv=None, load_model=None, report=None, draw=None):
    """All that a paper's main() does: read the options, train or load, print the report, draw the pictures.

    path: the script's own file. build_model(config, train_images): a new model; raises ValueError for bad options.
    load_model(file): the model behind --weights. report(model, test_images, config): the text for stdout; by default
    the mean of every term. draw(folder, model, test_images, seed, rows): by default pictures.draw_all.
    """
    script = Path(path)
    with one_line_errors(script.name):
        config, state = parse_config(config_class, argv, script.name)
        device = pick_device(config.device)
        require(device.type != "mps" or config.precision != "float64", "mps has no float64: use --device cpu")
    with process_group(device):
        with one_line_errors(script.name):
            test_images = load_resident(config.data, "test", device, config.binarisation, config.seed)
            if config.weights:
                train_images, model = None, load_chosen(config, config_class, load_model)
            else:
                train_images = load_resident(
                    config.data, "train", device, config.binarisation, config.seed, config.train_images
                )
                model = initialised(build_model, config, train_images)
                check_trainable(model, train_images, test_images, config)
            require(
                test_images.image_shape == model.image_shape,
                f"--data {config.data} has images {test_images.image_shape}, the model takes {model.image_shape}",
            )
            folder = config.resume
            if folder is None and (config.out or not config.weights) and rank() == 0:
                folder = new_run_folder(config.out, script.stem)
            folder = from_first(folder)
        model.to(device)
        rows = []
        if train_images:
            if state is not None:
                prepare_resume(state)
            try:
                rows = train(model, train_images, test_images, config, folder, state, script.name)
            except Interrupted as stopped:
                say(f"{script.name}: {stopped}; go on with: python {sys.argv[0]} --resume {folder}")
                raise SystemExit(130) from None
            except LostProcessError as error:  # the first may be the one that is lost: whoever is left says so
                print(f"{script.name}: error: {error}; go on with --resume {folder}", file=sys.stderr)
                raise SystemExit(1) from None
            except (FloatingPointError, OSError) as error:  # a loss that diverged, a disk that is full
                say(f"{script.name}: error: {error}")
                raise SystemExit(1) from None
        if rank() > 0:
            return
    print((report or report_of_terms)(model, test_images, config))
    if folder:
        if draw is None:
            from pictures import draw_all as draw
        draw(folder, model, test_images, config.seed, rows)
        say(f"{'weights and pictures' if rows else 'pictures'} in {folder}")


def initialised(build_model, config, train_images=None):
    """The new model, with initial weights from the run's own seed; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return build_model(config, train_images)


def say(message):
    """On stderr, once for all processes; stdout belongs to the report."""
    if rank() == 0:
        print(message, file=sys.stderr)


def load_chosen(config, config_class, load_model):
    """The model behind --weights; refuses options that would make it another one."""
    shared = {field.name for field in fields(TrainingConfig)}
    own = [field for field in fields(config_class) if field.name not in shared]
    for field in own:
        require(
            field.name == "latent_dim" or getattr(config, field.name) == field.default,
            f"--weights names a model: leave out --{field.name.replace('_', '-')}",
        )
    model = load_model(config.weights)
    if hasattr(model, "latent_dim"):
        default = {field.name: field.default for field in own}["latent_dim"]
        require(
            config.latent_dim in (default, model.latent_dim),
            f"--latent-dim does not fit --weights: {model.latent_dim}",
        )
    return model


TIMEOUT = timedelta(minutes=10)  # for an answer: a slow download or disk of one process is not to end the others


@contextlib.contextmanager
def process_group(device):
    """Joins the processes that torchrun started; alone, does nothing.

    Whoever ends takes the others along at once; whoever falls silent (its machine, its network) after TIMEOUT.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
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
    words = describe(config.data, config.binarisation, config.seed)
    header = f"{config.data}, test set: {len(test_images)} images, {words}, noise seed {config.seed}"
    return report_terms(header, values | means, model.units)
