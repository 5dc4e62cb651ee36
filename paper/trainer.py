"""One training loop for every paper: nothing is read from the device within an epoch, nothing is lost when it stops.

A `TrainableModel` says what an image costs, `terms(x, eps, c, step)`, and which optimiser lowers which of these terms.
The same method is evaluated on the test images, so that train and test can be compared.

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
import os
import pickle
import platform
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn
from tqdm import tqdm

from processes import agreed, copy_first, gathered, num_processes, own_part, rank, sum_gradients, summed


class TrainableModel(nn.Module):
    """What the loop asks of a model. A paper's model derives from it and adds its own networks and `terms`.

    noise_shape     the shape of the standard normal noise that one image needs in a step; eps is (N, *noise_shape)
    image_shape     (C, H, W)
    num_classes     0, or the number of classes of a model that wants the labels c
    couples_batch   whether an image's terms depend on the other images of its batch, of which another process may have
                    some (processes.gathered); such a model is evaluated in batches of the training size
    smallest_batch  the fewest images that `terms` makes sense for; a shorter last batch joins the one before it
    validate        as in torch.distributions, whether inputs are looked at, which makes a GPU wait; off while training
    elbo_terms      the terms whose sum is -ELBO in nats, if there are any
    fast            names of parameters that take ten times the step: Adam moves each by about lr, these have far to go
    units           {term: unit} of the terms that are not in nats per image
    """

    noise_shape = ()
    num_classes = 0
    couples_batch = False
    smallest_batch = 1
    validate = True
    elbo_terms = ("reconstruction_nll", "kl_divergence")
    fast = ()
    units = MappingProxyType({})

    def terms(self, x, eps, c=None, step=None):
        """Each term of the objective, (N,) nats per image, as {"loss": what is minimised, name: term, ...}.

        x (N, C, H, W), eps (N, *noise_shape), c (N,) or None. step: the training steps done so far, for schedules;
        None is their end.
        """
        raise NotImplementedError

    def optimizers(self, lr):
        """{term: the optimiser that lowers its mean}, in the order in which they take their step."""
        return {"loss": torch.optim.Adam(self.parameter_groups(lr), lr=lr, fused=True)}

    def parameter_groups(self, lr, without=()):
        """All parameters but `without`, as an optimiser takes them, the fast ones with their own step."""
        left = set(map(id, without))
        named = [(name, parameter) for name, parameter in self.named_parameters() if id(parameter) not in left]
        groups = [{"params": [parameter for name, parameter in named if name not in self.fast]}]
        return groups + [{"params": [parameter], "lr": 10 * lr} for name, parameter in named if name in self.fast]

    def config(self):
        """The arguments that build this model again, with the name of its class, as JSON takes them."""
        raise NotImplementedError

    # Weights and configuration, never pickled.

    def save(self, folder, **more):
        """Write model.safetensors and config.json, which `load` reads; `more` goes into config.json too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_weights(folder / "model.safetensors")
        write_beside(folder / "config.json", json.dumps({"model": self.config()} | more, indent=2, default=str) + "\n")

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote into a folder, of the class named there (cls or one that derives from it).

        Raises FileNotFoundError or ValueError, before anything is built, if a file is missing, damaged or another's.
        """
        return cls.load_file(Path(folder) / "model.safetensors")

    @classmethod
    def load_file(cls, path):
        """The model behind a .safetensors file, as config.json beside it describes it. Raises as `load` does."""
        model = cls.from_config(Path(path).parent)
        model.load_weights(path)
        return model

    @classmethod
    def from_config(cls, folder):
        """The model that a folder's config.json describes, with new random weights. Raises as `load` does."""
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"no config.json in {folder}: expected a folder that a training script wrote")
        classes = {known.__name__: known for known in family(cls)}
        try:
            config = dict(json.loads(path.read_text())["model"])
            return classes[config.pop("class")](**config)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not describe a {' or '.join(classes)}: {error!r}") from None

    def save_weights(self, path):
        """Write all parameters as a .safetensors file that every level reads; an older one stays until then."""
        from safetensors.torch import save

        write_beside(path, save({name: tensor.contiguous() for name, tensor in self.state_dict().items()}))

    def load_weights(self, path):
        """Read parameters that any level wrote, strictly: every name and shape must fit. Takes on the file's dtype."""
        weights = read_weights(path)
        expected = self.state_dict()
        if wrong := sorted(expected.keys() ^ weights.keys()):
            raise ValueError(f"{path} does not fit this {type(self).__name__}: {wrong[0]} is missing or unknown")
        for name, tensor in expected.items():
            got, want = tuple(weights[name].shape), tuple(tensor.shape)
            require(got == want, f"{path}: {name} has shape {got}, expected {want}")
            require(bool(torch.isfinite(weights[name]).all()), f"{path}: {name} holds NaN or infinity")
        self.to(next(iter(weights.values())).dtype).load_state_dict(weights)


def family(cls):
    """A class and all that derive from it."""
    return [cls, *(descendant for child in cls.__subclasses__() for descendant in family(child))]


def read_weights(path):
    """The tensors of a .safetensors file by name. Raises FileNotFoundError, or ValueError for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected a .safetensors file that a training script wrote")
    try:
        weights = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): train or copy it again") from None
    dtypes = {tensor.dtype for tensor in weights.values()}
    require(weights, f"{path} is empty: it holds no weights")
    require(
        len(dtypes) == 1 and next(iter(dtypes)).is_floating_point,
        f"{path} must hold floats of one dtype throughout, got {', '.join(sorted(map(str, dtypes)))}",
    )
    return weights


def require(condition, message):
    if not condition:
        raise ValueError(message)


def require_positive_ints(**values):
    for name, value in values.items():
        require(isinstance(value, int) and value >= 1, f"{name} must be an integer of at least 1, got {value}")


# --- The loop --------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """The process was asked to stop, and the run is saved."""


DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}  # of the parameters


def train(model, train_images, test_images, config, folder=None, state=None, script=None):
    """Lower the model's terms with its optimisers, in place, on the device where model and images are.

    train_images, test_images: anything with `len` and `batch`, such as experiment.ResidentImages. config: an
    experiment.TrainingConfig. With a folder the run is kept in it; with the `state` that a run left there, it goes on
    from where that one was.
    Returns one dict per epoch: its number, its seconds, and every term's mean per image (nats) on train and on test.
    Raises FloatingPointError if a term stops being finite, Interrupted if the process was asked to stop,
    LostProcessError if another one has ended, ValueError if the batches do not suit the model or the processes.
    """
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
            # Only the networks take bfloat16; the objective is added up in the precision of x.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                terms = self.model.terms(x, eps, c, (self.epoch - 1) * len(batches) + self.step)
            for name, optimizer in self.optimizers.items():
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
        return row | {f"test_{name}": mean for name, mean in test.means().items()}

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
            buffer = io.BytesIO()
            torch.save(state, buffer)
            try:
                write_beside(self.folder / RESUME_STATE, buffer.getvalue())
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
            "versions": versions(),
        }

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.order.set_state(state["order"])
        if state["device"] == self.noise.device.type:  # another device draws other noise: there it starts from the seed
            self.noise.set_state(state["noise"])
        for name in ("epoch", "step", "seconds", "permutation", "rows"):
            setattr(self, name, state[name])
        self.sums = Sums.from_state(state["sums"], self.device)


def draw_batch(model, images, index, generator, dtype):
    """This process's part of a batch, with its noise: x (n, C, H, W), eps (n, *noise_shape), c (n,) or None.

    index: positions of the whole batch, (N,). Whatever is random is drawn for the whole batch and then cut.
    """
    device = images.labels.device
    eps = torch.randn(len(index), *model.noise_shape, generator=generator, device=device, dtype=dtype)
    threshold = images.draw_thresholds(len(index), generator)
    index, eps, threshold = own_part(index), own_part(eps), None if threshold is None else own_part(threshold)
    x, c = images.batch(index, threshold)
    return x.to(dtype), eps, c if model.num_classes else None


def in_batches(index, size, smallest):
    """Cut (N,) positions into batches of `size`; a last one of fewer than `smallest` joins the one before it."""
    batches = list(index.split(size))
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

RESUME_STATE = "resume.pt"
NOT_OF_THE_RUN = ("out", "resume", "weights")  # options that say where files lie


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


def prepare_resume(state):
    """Use the run's number of threads, which the last digits depend on; say which version has changed."""
    torch.set_num_threads(state["threads"])
    now = versions() | {"processes": num_processes()}
    for name, was in (state["versions"] | {"processes": state["processes"]}).items():
        if was != now[name] and rank() == 0:
            print(
                f"note: the run was started with {name} {was}, this is {now[name]}: last digits may differ",
                file=sys.stderr,
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
    summary |= {name: state["config"][name] for name in ("data", "binarisation", "precision", "seed")}
    summary |= {name: state[name] for name in ("device", "threads", "processes", "versions")}
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
