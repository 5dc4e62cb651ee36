"""One training loop for every paper: nothing is read from the device within an epoch, nothing is lost when it stops.

A model that wants to be trained here has a `latent_dim`, a `num_classes` (0 without a condition) and a method

    terms(x, eps, c) -> {"loss": (N,), "name of a term": (N,), ...}      nats per image

whose "loss" is minimised. The same method is evaluated on the test images, so that train and test can be compared.

A run owns one folder. The resume state in it is the only file that counts: the model, the optimiser, the random states,
the data order and the place in it, the sums of the running epoch and the rows of the table. config.json,
model.safetensors, metrics.csv and summary.json follow from it and are written again on resume. Every file is written
beside its place and renamed into it, so the machine may die at any moment.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import pickle
import platform
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from image_data import load_uint8_images


@dataclass
class TrainingConfig:
    """What every paper's script takes on its command line; a paper adds its own fields."""

    data: Literal["digits", "mnist", "fashion"] = "digits"
    """The images; digits come with the code, the others are downloaded once."""
    epochs: int = 60
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step."""
    lr: float = 1e-3
    """Adam's step size."""
    seed: int = 0
    """Seed of the initial weights, the data order and the noise."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    out: Path | None = None
    """The run's new folder; by default the next free runs/<script>-NNN."""
    save_seconds: float = 30.0
    """Seconds of training between two saves of the state that --resume goes on from."""
    resume: Path | None = None
    """Go on with the run in this folder, with its own options; only more --epochs and another --device may be given."""

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr must be a positive number, got {self.lr}")
        if not self.save_seconds >= 0:
            raise ValueError(f"--save-seconds must be at least 0, got {self.save_seconds}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie in 0 .. 2^63 - 1, got {self.seed}")


def pick_device(name):
    """The torch.device called `name`; "auto" takes cuda, else mps, else cpu. Raises ValueError if it is not there."""
    available = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if name == "auto":
        return torch.device([kind for kind, there in available.items() if there][-1])
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


@dataclass
class ResidentImages:
    """A data set that lies on the device whole: images uint8 (N, 1, H, W), labels int64 (N,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.images)

    def batch(self, index):
        """The chosen images as floats in [0, 1] and their labels; index is a slice or a tensor of positions."""
        return self.images[index].float() / 255, self.labels[index]


def load_resident(data, split, device):
    """The images of one split of a data set, on the device. Raises what `image_data.load_images` raises."""
    images, labels = load_uint8_images(data, split)
    return ResidentImages(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))


# --- The loop --------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """The process was asked to stop, and the run is saved."""


def train(model, train_images, test_images, config, folder=None, state=None, script=None):
    """Minimise the mean of model.terms()["loss"] with Adam, in place, on the device where model and images are.

    With a folder the run is kept in it; with the `state` that a run left there, it goes on from where that one was.
    Returns one dict per epoch: its number, its seconds, and every term's mean per image (nats) on train and on test.
    Raises FloatingPointError if a term stops being finite, Interrupted if the process was asked to stop.
    """
    run = Run(model, train_images, test_images, config, folder, script)
    if state is not None:
        run.restore(state)
    run.save()
    model.train()
    model.validate = False  # uint8 / 255 is in range, and looking at the values would make a GPU wait in every step
    try:
        with stop_requests() as stop:
            run.train(stop)
    finally:
        model.validate = True
        model.eval()
    return run.rows


class Run:
    """A training run: everything that its next step depends on, and the folder in which that survives."""

    def __init__(self, model, train_images, test_images, config, folder, script):
        device = train_images.images.device
        self.model = model.to(memory_format=torch.channels_last)  # a tenth less time in convolutions
        self.train_images, self.test_images = train_images, test_images
        self.config, self.folder, self.script = config, folder, script
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
        self.order = torch.Generator().manual_seed(config.seed)
        self.noise = torch.Generator(device).manual_seed(config.seed)
        self.rows = []
        self.start_epoch(1)

    def start_epoch(self, epoch):
        self.epoch, self.step, self.seconds = epoch, 0, 0.0  # of this epoch: the steps done, the time they took
        self.permutation = torch.randperm(len(self.train_images), generator=self.order)
        self.sums = Sums()

    def train(self, stop):
        progress = tqdm(total=self.config.epochs, initial=self.epoch - 1, desc="training", unit="epoch")
        with progress:
            while self.epoch <= self.config.epochs:
                self.train_epoch(stop)
                self.rows.append(self.finished_row())
                self.start_epoch(self.epoch + 1)
                progress.update()
                test = {name: mean for name, mean in self.rows[-1].items() if name.startswith("test")}
                progress.set_postfix_str(", ".join(f"{name} {mean:.1f}" for name, mean in test.items()))
                self.save_if_due(stop, or_if=self.epoch > self.config.epochs)

    def train_epoch(self, stop):
        """What is left of the running epoch."""
        start = time.perf_counter() - self.seconds
        batches = self.permutation.to(self.noise.device).split(self.config.batch_size)
        for index in batches[self.step :]:
            x, c = self.train_images.batch(index)
            eps = torch.randn(len(x), self.model.latent_dim, generator=self.noise, device=x.device)
            terms = self.model.terms(x, eps, c if self.model.num_classes else None)
            self.optimizer.zero_grad()
            terms["loss"].mean().backward()
            self.optimizer.step()
            self.step += 1
            self.sums.add(terms, self.step)
            self.seconds = time.perf_counter() - start
            if self.step < len(batches):
                self.save_if_due(stop)
        self.check_finite()
        self.seconds = time.perf_counter() - start  # now that the sums were read, the device is done

    def finished_row(self):
        row = {"epoch": self.epoch, "seconds": round(self.seconds, 3)}
        row |= {f"train_{name}": mean for name, mean in self.sums.means(len(self.train_images)).items()}
        test = evaluate(self.model, self.test_images, self.config.seed)
        return row | {f"test_{name}": mean for name, mean in test.means(len(self.test_images)).items()}

    def check_finite(self):
        """Raises FloatingPointError that names the first step and term which were not finite."""
        if bad := self.sums.first_bad():
            step, name = bad
            kept = f"; the last good state is in {self.folder}" if self.folder else ""
            raise FloatingPointError(
                f"{name} became NaN or infinite in step {step} of epoch {self.epoch}: try a smaller --lr{kept}"
            )

    # What survives.

    def save_if_due(self, stop, or_if=False):
        if stop or or_if or time.monotonic() - self.saved_at > self.config.save_seconds:
            self.save()
        if stop:
            raise Interrupted(f"stopped in epoch {min(self.epoch, self.config.epochs)}")

    def save(self):
        """Commit the state, unless it is spoiled, then write what follows from it."""
        self.check_finite()
        self.saved_at = time.monotonic()
        if self.folder is None:
            return
        state = self.state()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_beside(self.folder / RESUME_STATE, buffer.getvalue())
        write_derived(self.folder, self.model, state)

    def state(self):
        """All of it, as tensors, numbers and text."""
        return {
            "script": self.script,
            "config": {name: value for name, value in asdict(self.config).items() if name not in NOT_OF_THE_RUN},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "noise": self.noise.get_state(),
            "device": str(self.noise.device.type),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "permutation": self.permutation,
            "sums": self.sums.state(),
            "rows": self.rows,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        if state["device"] == self.noise.device.type:  # another device draws other noise: there it starts from the seed
            self.noise.set_state(state["noise"])
        for name in ("epoch", "step", "seconds", "permutation", "rows"):
            setattr(self, name, state[name])
        self.sums = Sums(**state["sums"]).to(self.noise.device)


class Sums:
    """Every term of the objective, added up over the images, and the first step in which it was not finite.

    Both stay on the device: reading a number makes a GPU wait, so nothing is read until someone asks for it.
    """

    def __init__(self, names=(), totals=None, bad=None):
        self.names, self.totals, self.bad = list(names), totals, bad

    def to(self, device):
        if self.totals is not None:
            self.totals, self.bad = self.totals.to(device), self.bad.to(device)
        return self

    def add(self, terms, step):
        """Add the terms of a batch, {name: (N,)}."""
        sums = torch.stack([term.detach().sum() for term in terms.values()])
        if self.totals is None:
            self.names, self.totals, self.bad = list(terms), torch.zeros_like(sums), torch.zeros_like(sums)
        self.totals += sums
        self.bad = torch.where((self.bad == 0) & ~torch.isfinite(sums), step, self.bad)

    def means(self, num_images):
        totals = self.totals.tolist()
        return {name: round(total / num_images, 4) for name, total in zip(self.names, totals, strict=True)}

    def first_bad(self):
        """(step, name) of the term that was the first not to be finite, or None."""
        steps = [] if self.bad is None else self.bad.tolist()
        return min(((int(step), name) for step, name in zip(steps, self.names, strict=True) if step), default=None)

    def state(self):
        return {"names": self.names, "totals": self.totals, "bad": self.bad}


@torch.no_grad()
def evaluate(model, images, seed, batch_size=1000):
    """The `Sums` of every term of the objective over all of `images`, with noise from `seed`."""
    noise = torch.Generator(images.images.device).manual_seed(seed)  # the same each time: the curve shows the model
    sums = Sums()
    for i in range(0, len(images), batch_size):
        x, c = images.batch(slice(i, i + batch_size))
        eps = torch.randn(len(x), model.latent_dim, generator=noise, device=x.device)
        sums.add(model.terms(x, eps, c if model.num_classes else None), step=1)
    return sums


@contextlib.contextmanager
def stop_requests():
    """A list that SIGINT and SIGTERM are put into, so that the running step can end; a second one stops at once."""
    stop, before = [], {}

    def request(number, frame):
        if stop:
            raise KeyboardInterrupt
        stop.append(number)

    if threading.current_thread() is threading.main_thread():  # only there does Python take handlers
        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- The folder of a run ---------------------------------------------------------------------------------------------

RESUME_STATE = "resume.pt"
NOT_OF_THE_RUN = ("out", "resume", "weights")  # options that say where files lie
MAY_CHANGE = ("epochs", "device", "save_seconds", "resume")  # on resume


def read_state(folder, script):
    """The resume state of a run that `script` left in a folder.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or another script's.
    """
    path = Path(folder) / RESUME_STATE
    if not path.is_file():
        raise FileNotFoundError(f"no {RESUME_STATE} in {folder}: --resume expects the folder of a run that was saved")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        owner = state["script"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the whole state of a run ({type(error).__name__}): start a new one") from None
    if owner != script:
        raise ValueError(f"{path} was left by {owner}: go on with that script, not with {script}")
    return state


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


def prepare_resume(state):
    """Use the run's number of threads, which the last digits depend on; say which library version has changed."""
    torch.set_num_threads(state["threads"])
    for name, now in versions().items():
        if (was := state["versions"].get(name)) != now:
            print(
                f"note: the run was started with {name} {was}, this is {now}: last digits may differ", file=sys.stderr
            )


def write_derived(folder, model, state):
    """Every file of a run that follows from its resume state."""
    model.save(folder, script=state["script"], training=state["config"])
    if not (rows := state["rows"]):
        return
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_beside(folder / "metrics.csv", table.getvalue())
    summary = {"last_epoch": rows[-1], "seconds": round(sum(row["seconds"] for row in rows), 1)}
    summary |= {"binarisation": "none (grey values)"} | {
        name: state[name] for name in ("device", "threads", "versions")
    }
    write_beside(folder / "summary.json", json.dumps(summary, indent=2) + "\n")


def versions():
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def write_beside(path, content):
    """Write text or bytes so that `path` is always either the old file or the whole new one."""
    beside = Path(f"{path}.tmp")
    with beside.open("wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
