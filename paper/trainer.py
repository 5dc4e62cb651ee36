"""One training loop for every paper: nothing is read from the device within an epoch, nothing is lost when it stops.

A model (`trainable.TrainableModel`) says what an image costs, `terms(x, eps, c, step)`, and which optimiser lowers
which of these terms. The same method is evaluated on the test images, so that train and test can be compared.

A run owns one folder. The resume state in it is the only file that counts: the model, the optimisers, the random
states, the data order and the place in it, the sums of the running epoch and the rows of the table. config.json,
model.safetensors, metrics.csv and summary.json follow from it and are written again on resume. Every file is written
beside its place and renamed into it, so the machine may die at any moment.

Under `torchrun` every process does its part of each batch. Data order and noise are drawn for the whole batch by each
of them and then cut, so that two processes give one process's numbers.
"""

import contextlib
import csv
import hashlib
import io
import json
import pickle
import platform
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from level_script import note, write_beside
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
    Raises FloatingPointError if a term stops being finite, Interrupted if the process was asked to stop, ValueError if
    the options, the batches or the state do not suit the model, the images or the processes.
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
    """Raises ValueError if the batches do not suit the model or the processes."""
    size = min(config.batch_size, len(train_images))
    smallest = min(size, len(test_images))
    require(
        smallest >= model.smallest_batch,
        f"a {type(model).__name__} needs batches of at least {model.smallest_batch} images, got {smallest}",
    )
    require(
        processes() == 1 or not model.couples_batch,
        f"the loss of this {type(model).__name__} couples the whole batch: train it in one process, not {processes()}",
    )
    require(
        processes() <= size,
        f"{processes()} processes cannot share batches of {size} images: start fewer, or give a larger --batch-size",
    )


class Run:
    """A training run: everything that its next step depends on, and the folder in which that survives."""

    def __init__(self, model, train_images, test_images, config, folder, script):
        check_trainable(model, train_images, test_images, config)
        self.device, self.dtype = train_images.labels.device, DTYPES[config.precision]
        self.model = model.to(self.dtype)
        if processes() == 1:
            model.to(memory_format=torch.channels_last)  # a tenth less time in convolutions
        self.objective = Objective(model)
        if processes() > 1:  # averages the gradients of all processes; what it sees is what goes through forward
            self.objective = DistributedDataParallel(self.objective)
        self.train_images, self.test_images = train_images, test_images
        self.config, self.folder, self.script = config, folder, script
        self.optimizers = model.optimizers(config.lr)
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
        batches = list(self.permutation.to(self.device).split(self.config.batch_size))
        if len(batches) > 1 and len(batches[-1]) < self.model.smallest_batch:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

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
            # Only the networks take bfloat16; the objective is added up in the precision of x.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                terms = self.objective(x, eps, c, (self.epoch - 1) * len(batches) + self.step)
            for name, optimizer in self.optimizers.items():
                optimizer.zero_grad()
                # The mean over the batch of all processes, whose gradients are averaged: a mean of sums.
                (terms[name].sum() * (processes() / len(index))).backward()
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
        row |= {f"train_{name}": mean for name, mean in self.sums.over_all_processes().means().items()}
        size = self.config.batch_size if self.model.couples_batch else 1000
        # With the schedules where they stand: the test images advance nothing.
        test = evaluate(self.model, self.test_images, self.config.seed, size, self.epoch * len(self.batches()))
        return row | {f"test_{name}": mean for name, mean in test.means().items()}

    def check_finite(self):
        """Raises FloatingPointError that names the first step and term which were not finite."""
        if bad := self.sums.over_all_processes().first_bad():
            step, name = bad
            kept = f"; the last good state is in {self.folder}" if self.folder else ""
            raise FloatingPointError(
                f"{name} became NaN or infinite in step {step} of epoch {self.epoch}: try a smaller --lr{kept}"
            )

    # What survives.

    def save_if_due(self, stop, or_if=False):
        due = or_if or time.monotonic() - self.saved_at > self.config.save_seconds
        due, stop = agreed(due, bool(stop))
        if stop or due:
            self.save()
        if stop:
            raise Interrupted(f"stopped in epoch {min(self.epoch, self.config.epochs)}")

    def save(self):
        """Commit the state, unless it is spoiled, then write what follows from it."""
        self.check_finite()
        self.saved_at = time.monotonic()
        state = self.state()
        if self.folder is None or rank() > 0:
            return
        write_state(self.folder, state)
        write_derived(self.folder, self.model, state)

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
            "sums": self.sums.over_all_processes().state(),
            "rows": self.rows,
            "threads": torch.get_num_threads(),
            "processes": processes(),
            "images": [images.fingerprint for images in (self.train_images, self.test_images)],
            "versions": versions(),
        }

    def restore(self, state):
        """Go on from a state that `read_state` gave. Raises ValueError for that of another model or other images."""
        if state["images"] != [images.fingerprint for images in (self.train_images, self.test_images)]:
            raise ValueError(
                f"the images of --data {self.config.data} are not those that the run was started with: put them back, "
                "or start a new run"
            )
        try:
            self.model.load_state_dict(state["model"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.order.set_state(state["order"])
            if state["device"] == self.noise.device.type:  # another device draws other noise: there the seed's anew
                self.noise.set_state(state["noise"])
            self.sums = Sums(**state["sums"]).to(self.device)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the saved state does not fit this model ({reason}): start a new run") from None
        for name in ("epoch", "step", "seconds", "permutation", "rows"):
            setattr(self, name, state[name])
        if rank() > 0 and self.sums.totals is not None:
            self.sums.totals.zero_()  # the first process carries them


class Objective(nn.Module):
    """The model's terms as a forward pass."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, eps, c, step):
        return self.model.terms(x, eps, c, step)


def draw_batch(model, images, index, generator, dtype):
    """This process's part of a batch, with its noise: x (n, C, H, W), eps (n, *noise_shape), c (n,) or None.

    index: positions of the whole batch, (N,). Whatever is random is drawn for the whole batch and then cut.
    """
    device = images.labels.device
    eps = torch.randn(len(index), *model.noise_shape, generator=generator, device=device, dtype=dtype)
    x, c = images.batch(index, generator, own_part)
    return x.to(dtype), own_part(eps), c if model.num_classes else None


class Sums:
    """Every term of the objective, added up over the images, and the first step in which it was not finite.

    All stay on the device: reading a number makes a GPU wait, so nothing is read until someone asks for it.
    """

    def __init__(self, names=(), totals=None, bad=None, count=0):
        self.names, self.totals, self.bad, self.count = list(names), totals, bad, count

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
        self.count += len(terms["loss"])

    def over_all_processes(self):
        """The sums of all processes together; every process must ask at the same time."""
        if processes() == 1 or self.totals is None:
            return self
        totals, count = self.totals.clone(), torch.tensor(self.count)
        bad = torch.where(self.bad == 0, torch.inf, self.bad)
        dist.all_reduce(totals)
        dist.all_reduce(count)
        dist.all_reduce(bad, dist.ReduceOp.MIN)
        return Sums(self.names, totals, torch.where(bad == torch.inf, 0, bad), count.item())

    def means(self):
        return {
            name: round(total / self.count, 4) for name, total in zip(self.names, self.totals.tolist(), strict=True)
        }

    def first_bad(self):
        """(step, name) of the term that was the first not to be finite, or None."""
        steps = [] if self.bad is None else self.bad.tolist()
        return min(((int(step), name) for step, name in zip(steps, self.names, strict=True) if step), default=None)

    def state(self):
        return {"names": self.names, "totals": self.totals, "bad": self.bad, "count": self.count}


@torch.no_grad()
def evaluate(model, images, seed, batch_size=1000, step=None):
    """The `Sums` of every term of the objective over all of `images`, with noise from `seed`, in evaluation mode."""
    training, parameter = model.training, next(model.parameters())
    noise = torch.Generator(parameter.device).manual_seed(seed)  # the same each time: the curve shows the model
    sums = Sums()
    model.eval()
    try:
        batches = list(torch.arange(len(images), device=parameter.device).split(batch_size))
        if len(batches) > 1 and len(batches[-1]) < model.smallest_batch:
            batches[-2:] = [torch.cat(batches[-2:])]
        for index in batches:
            sums.add(model.terms(*draw_batch(model, images, index, noise, parameter.dtype), step), step=1)
    finally:
        model.train(training)
    return sums.over_all_processes()


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


# --- Many processes --------------------------------------------------------------------------------------------------


def processes():
    """How many processes train together, 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """This process's number; 0 writes the files and the report."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_part(batch):
    """This process's rows of a tensor that covers the whole batch."""
    return batch.tensor_split(processes())[rank()]


def agreed(*flags):
    """Each flag, set if it is set in any process; a message between the CPUs that no GPU waits for."""
    if processes() == 1:
        return flags
    flags = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return tuple(flags.bool().tolist())


# --- The folder of a run ---------------------------------------------------------------------------------------------

RESUME_STATE = "resume.pt"
NOT_OF_THE_RUN = ("out", "resume", "weights")  # options that say where files lie
STATE = {  # what a resume state holds, and of which type
    "script": str,
    "config": dict,
    "model": dict,
    "optimizers": dict,
    "order": torch.Tensor,
    "noise": torch.Tensor,
    "device": str,
    "epoch": int,
    "step": int,
    "seconds": float,
    "permutation": torch.Tensor,
    "sums": dict,
    "rows": list,
    "threads": int,
    "processes": int,
    "images": list,
    "versions": dict,
}


def write_state(folder, state):
    """Commit a run's state: its bytes and behind them their checksum, since a flipped bit would train on unnoticed."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_beside(folder / RESUME_STATE, content + hashlib.sha256(content).digest())


def read_state(folder, script):
    """The resume state of a run that `script` left in a folder.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or another script's.
    """
    path = Path(folder) / RESUME_STATE
    if not path.is_file():
        raise FileNotFoundError(f"no {RESUME_STATE} in {folder}: --resume expects the folder of a run that was saved")
    content = path.read_bytes()
    content, checksum = content[:-32], content[-32:]
    try:
        require(hashlib.sha256(content).digest() == checksum, "its checksum does not fit")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        require(isinstance(state, dict), f"it is a {type(state).__name__}")
        for name, kind in STATE.items():
            require(isinstance(state.get(name), kind), f"its {name!r} is missing or damaged")
        require(min(state["epoch"], state["threads"], state["processes"]) >= 1, "its counters are damaged")
        require(all(isinstance(row, dict) for row in state["rows"]), "its 'rows' are damaged")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not the whole state of a run ({reason}): start a new one") from None
    if state["script"] != script:
        raise ValueError(f"{path} was left by {state['script']}: go on with that script, not with {script}")
    return state


def prepare_resume(state):
    """Use the run's number of threads, which the last digits depend on; say which version or machine has changed."""
    torch.set_num_threads(state["threads"])
    now = versions() | {"processes": processes()}
    for name, was in (state["versions"] | {"processes": state["processes"]}).items():
        if was != now.get(name):
            note(f"the run was started with {name} {was}, this is {now.get(name)}: last digits may differ")


def write_derived(folder, model, state):
    """Every file of a run that follows from its resume state."""
    model.save(folder, state["script"], state["config"])
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


def versions():
    """What the last digits depend on beside the seed: the versions, and the type of the CPU."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "cpu": cpu_type()}


def cpu_type():
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
