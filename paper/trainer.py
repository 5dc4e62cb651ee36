"""One training loop for every paper: nothing is read from the device within an epoch, nothing is lost when it stops.

A model (`trainable.TrainableModel`) says what an image costs, `terms(x, eps, c, step)`, and which optimiser lowers
which of these terms. The same method is evaluated on the test images, so that train and test can be compared.

A run owns one folder. The resume state in it is the only file that counts: the model, the optimisers, the random
states, the data order and the place in it, the sums of the running epoch and the rows of the table. config.json,
model.safetensors, metrics.csv and summary.json follow from it and are written again on resume. Every file is written
beside its place and renamed into it, so the machine may die at any moment.

Under `torchrun` every process does its part of each batch. Data order and noise are drawn for the whole batch by each
of them and then cut, and a term that looks at the whole batch asks the others for their part (processes.py), so that
two processes give one process's numbers.
"""

import contextlib
import csv
import io
import json
import math
import signal
import threading
import time
from dataclasses import asdict

import torch
from tqdm import tqdm

from input_checks import require_memory
from processes import agreed, copy_first, gathered, num_processes, own_part, rank, sum_gradients, summed
from resume import DAMAGES, check_fits, versions, write_state
from run_files import write_beside
from schedules import LR_SCHEDULES
from trainable import require

# --- The loop --------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """The process was asked to stop, and the run is saved."""


DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}  # of the parameters


def train(model, train_images, test_images, config, folder=None, state=None, script=None):
    """Lower the model's terms with its optimisers, in place, on the device where model and images are.

    train_images, test_images: a training_images.ResidentImages each. config: an experiment.TrainingConfig. With a
    folder the run is kept in it; with the `state` that a run left there, it goes on from where that one was.
    Returns one dict per epoch: its number, its seconds, and every term's mean per image (nats) on train and on test.
    Raises FloatingPointError if a term stops being finite, Interrupted if the process was asked to stop,
    LostProcessError if another one has ended, ValueError if the options, the batches or the state do not suit the
    model, the images or the processes.
    """
    config.check()
    run = Run(model, train_images, test_images, config, folder, script)
    if state is not None:
        run.restore(state)
    run.save()
    model.train()
    try:
        with unchecked(model), stop_requests() as stop:  # uint8 / 255 is in range
            run.train(stop)
    finally:
        model.eval()
    return run.rows


@contextlib.contextmanager
def unchecked(model):
    """For inputs known to be good: to look at their values would make a GPU wait in every step."""
    model.validate = False
    try:
        yield
    finally:
        model.validate = True


def check_trainable(model, train_images, test_images, config):
    """Raises ValueError if the batches do not suit the model or the processes, MemoryError if they are too large."""
    size = min(config.batch_size, len(train_images))
    # At the least: the pixels, their logits and their nll, of every sample that an image has.
    decoded = size // num_processes() * math.prod(model.noise_shape[:-1])
    pixels = 3 * math.prod(model.image_shape) * DTYPES[config.precision].itemsize
    require_memory(decoded * pixels, f"a step with {decoded} decoded images")
    smallest = min(size, len(test_images))
    require(
        smallest >= model.smallest_batch,
        f"a {type(model).__name__} needs batches of at least {model.smallest_batch} images, got {smallest}",
    )
    require(
        num_processes() <= size,
        f"{num_processes()} processes cannot share batches of {size} images: "
        "start fewer, or give a larger --batch-size",
    )


class Run:
    """A training run: everything that its next step depends on, and the folder in which that survives."""

    def __init__(self, model, train_images, test_images, config, folder, script):
        check_trainable(model, train_images, test_images, config)
        self.device, self.dtype = train_images.labels.device, DTYPES[config.precision]
        self.model = model.to(self.dtype)
        copy_first(model.state_dict().values())  # whoever built the models: all start from the same weights
        model.to(memory_format=torch.channels_last)  # a tenth less time in convolutions
        self.train_images, self.test_images = train_images, test_images
        self.fingerprints = [images.fingerprint for images in (train_images, test_images)]
        self.config, self.folder, self.script = config, folder, script
        self.optimizers = model.optimizers(config.lr)
        self.step_sizes = {name: [group["lr"] for group in each.param_groups] for name, each in self.optimizers.items()}
        self.order = torch.Generator().manual_seed(config.seed)
        self.noise = torch.Generator(self.device).manual_seed(config.seed)
        self.rows = []
        self.start_epoch(1)

    def start_epoch(self, epoch):
        self.epoch, self.step, self.seconds = epoch, 0, 0.0  # of this epoch: the steps done, the time they took
        self.permutation = torch.randperm(len(self.train_images), generator=self.order)
        self.sums = Sums()

    def batches(self):
        """The running epoch's image numbers, batch by batch."""
        return in_batches(self.permutation.to(self.device), self.config.batch_size, self.model.smallest_batch)

    def train(self, stop):
        quiet = {"disable": True} if rank() > 0 else {}
        progress = tqdm(total=self.config.epochs, initial=self.epoch - 1, desc="training", unit="epoch", **quiet)
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
        batches = self.batches()
        for index in batches[self.step :]:
            x, eps, c = draw_batch(self.model, self.train_images, index, self.noise, self.dtype)
            step = (self.epoch - 1) * len(batches) + self.step
            # Only the networks take bfloat16; the objective is added up in the precision of x.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                terms = self.model.terms(x, eps, c, step)
            factor = LR_SCHEDULES[self.config.lr_schedule](step / (self.config.epochs * len(batches)))
            for name, optimizer in self.optimizers.items():
                for group, lr in zip(optimizer.param_groups, self.step_sizes[name], strict=True):
                    group["lr"] = factor * lr
                optimizer.zero_grad()
                (terms[name].sum() * (1 / len(index))).backward()  # this process's part of the whole batch's mean
                # By ourselves: DistributedDataParallel wants one backward pass for each forward pass, where here every
                # optimiser has its own, and its own memory layout.
                sum_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
                optimizer.step()
            self.step += 1
            self.sums.add(terms, self.step)
            self.seconds = time.perf_counter() - start
            if self.step < len(batches):
                self.save_if_due(stop)
        self.check_finite()
        self.seconds = time.perf_counter() - start  # now that the sums were read, the device is done

    def finished_row(self):
        row = {"epoch": self.epoch, "seconds": round(self.seconds, 3)}
        row |= {f"train_{name}": mean for name, mean in self.sums.means().items()}
        size = self.config.batch_size if self.model.couples_batch else 1000
        # With the schedules where they stand: the test images advance nothing.
        test = evaluate(self.model, self.test_images, self.config.seed, size, self.epoch * len(self.batches()))
        row |= {f"test_{name}": mean for name, mean in test.means().items()}
        return row | self.model.after_epoch(self.train_images, self.config.seed)

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
        """Save if the last time is long ago, or if asked to. Raises Interrupted, once that is done, if `stop` says so.

        stop: what `stop_requests` gives, not empty if the process was asked to stop. Processes save and stop together.
        """
        due = or_if or time.monotonic() - self.saved_at > self.config.save_seconds
        due, stop = agreed(due, bool(stop))
        if stop or due:
            self.save()
        if stop:
            raise Interrupted(f"stopped in epoch {min(self.epoch, self.config.epochs)}")

    def save(self):
        """Commit the state, unless it is spoiled, then write what follows from it.

        Raises FloatingPointError if it is spoiled, OSError, in every process, if the first cannot write it.
        """
        self.check_finite()
        self.saved_at = time.monotonic()
        state = self.state()
        failure = None
        if self.folder is not None and rank() == 0:
            try:
                write_state(self.folder, state)
                write_derived(self.folder, self.model, state)
            except OSError as error:
                failure = error
        if agreed(failure is not None)[0]:
            raise failure or OSError("the first process could not save the run")

    def state(self):
        """All of it, as tensors, numbers and text."""
        return {
            "script": self.script,
            "config": {name: value for name, value in asdict(self.config).items() if name not in NOT_OF_THE_RUN},
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
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
            "processes": num_processes(),
            "images": self.fingerprints,
            "versions": versions(),
        }

    def restore(self, state):
        """Go on from a state that `read_state` gave. Raises ValueError for that of another model or other images."""
        if state["images"] != self.fingerprints:
            raise ValueError(
                f"the images of --data {self.config.data} are not those that the run was started with: put them back, "
                "or start a new run"
            )
        for name in ("epoch", "step", "seconds", "permutation", "rows"):
            setattr(self, name, state[name])
        try:
            self.model.load_state_dict(state["model"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.order.set_state(state["order"])
            if state["device"] == self.noise.device.type:  # another device draws other noise: there the seed's anew
                self.noise.set_state(state["noise"])
            check_fits(state, self.optimizers, len(self.train_images), len(self.batches()))
            self.sums = Sums.from_state(state["sums"], self.device)
        except DAMAGES as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the saved state does not fit this model ({reason}): start a new run") from None


def draw_batch(model, images, index, generator, dtype):
    """This process's part of a batch, with its noise: x (n, C, H, W), eps (n, *noise_shape), c (n,) or None.

    index: positions of the whole batch, (N,). Whatever is random is drawn for the whole batch and then cut.
    """
    device = images.labels.device
    eps = torch.randn(len(index), *model.noise_shape, generator=generator, device=device, dtype=dtype)
    x, c = images.batch(index, generator, own_part)
    return x.to(dtype), own_part(eps), c if model.num_classes else None


def in_batches(index, size, smallest):
    """Cut (N,) positions into batches of `size`; a last one of fewer than `smallest` joins the one before it."""
    batches = list(index.split(min(size, max(len(index), 1))))
    if len(batches) > 1 and len(batches[-1]) < smallest:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


class Sums:
    """Every term of the objective, added up over the images, and the first step in which it was not finite.

    All stay on the device: reading a number makes a GPU wait, so nothing is read until someone asks for it. Each
    process adds up its own part.
    """

    def __init__(self):
        self.names, self.count = [], 0
        self.totals = self.first_bad_step = None  # (terms,) each, the steps from 1 on, 0 for none

    def add(self, terms, step_of_epoch=0):
        """Add the terms of a batch, {name: (N,)}; if one is not finite, this is the step to name (0: nobody asks)."""
        sums = torch.stack([term.detach().sum() for term in terms.values()])
        if self.totals is None:
            self.names, self.totals, self.first_bad_step = list(terms), torch.zeros_like(sums), torch.zeros_like(sums)
        self.totals += sums
        bad = (self.first_bad_step == 0) & ~torch.isfinite(sums)
        self.first_bad_step = torch.where(bad, step_of_epoch, self.first_bad_step)
        self.count += len(terms["loss"])

    def means(self):
        """{name: mean per image}, over all processes; all must ask at the same time."""
        totals, count = summed(self.totals), summed(torch.tensor(self.count)).item()
        return {name: round(total / count, 4) for name, total in zip(self.names, totals.tolist(), strict=True)}

    def first_bad(self):
        """(step, name) of the term that was the first not to be finite, or None; all processes must ask together."""
        if self.totals is None:
            return None
        steps = gathered(self.first_bad_step.unsqueeze(0)).tolist()  # of every process
        found = [(int(step), name) for row in steps for step, name in zip(row, self.names, strict=True) if step]
        return min(found, default=None)

    def state(self):
        """The sums of all processes, a row for each; all must ask at the same time."""
        totals = None if self.totals is None else gathered(self.totals.unsqueeze(0))
        return {"names": self.names, "totals": totals, "counts": gathered(torch.tensor([self.count]))}

    @classmethod
    def from_state(cls, state, device):
        """This process's part of what `state` gave: its own row, whatever the number of processes is now."""
        sums = cls()
        sums.names, sums.count = state["names"], int(own_part(state["counts"]).sum())
        if state["totals"] is not None:
            sums.totals = own_part(state["totals"]).sum(dim=0).to(device)
            sums.first_bad_step = torch.zeros_like(sums.totals)  # else nothing would have been saved
        return sums


@torch.no_grad()
def evaluate(model, images, seed, batch_size=1000, step=None):
    """The `Sums` of every term of the objective over all of `images`, with noise from `seed`, in evaluation mode."""
    training, parameter = model.training, next(model.parameters())
    noise = torch.Generator(parameter.device).manual_seed(seed)  # the same each time: the curve shows the model
    sums = Sums()
    model.eval()
    try:
        positions = torch.arange(len(images), device=parameter.device)
        for index in in_batches(positions, batch_size, model.smallest_batch):
            sums.add(model.terms(*draw_batch(model, images, index, noise, parameter.dtype), step))
    finally:
        model.train(training)
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

NOT_OF_THE_RUN = ("out", "resume", "weights")  # options that say where files lie


def write_derived(folder, model, state):
    """Every file of a run that follows from its resume state."""
    model.save(folder, state["script"], state["config"] | {"images": state["images"]})
    if not (rows := state["rows"]):
        return
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_beside(folder / "metrics.csv", table.getvalue())
    summary = {"last_epoch": rows[-1], "seconds": round(sum(row["seconds"] for row in rows), 1)}
    summary |= {name: state["config"][name] for name in ("data", "binarisation", "precision", "seed")}
    summary |= {"likelihood": model.config().get("likelihood", "bernoulli")}
    summary |= {name: state[name] for name in ("device", "threads", "processes", "versions")}
    write_beside(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
