"""One training loop for every paper: the data on the device, the losses read once an epoch, one folder per run.

A model that wants to be trained here has a `latent_dim`, a `num_classes` (0 without a condition) and a method

    terms(x, eps, c) -> {"loss": (N,), "name of a term": (N,), ...}      nats per image

whose "loss" is minimised. The same method is evaluated on the test images, so that train and test can be compared.
A run's folder holds config.json, model.safetensors, metrics.csv (one row per epoch), summary.json and the pictures.
"""

import csv
import io
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
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

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr must be a positive number, got {self.lr}")
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


def train(model, train_images, test_images, config):
    """Minimise the mean of model.terms()["loss"] with Adam, in place, on the device where model and images are.

    Returns one dict per epoch: its number, its seconds, and every term's mean per image (nats) on train and on test.
    """
    device = train_images.images.device
    model.to(memory_format=torch.channels_last)  # convolutions take about a tenth less time than in the default layout
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = torch.Generator().manual_seed(config.seed)
    noise = torch.Generator(device).manual_seed(config.seed)
    rows = []
    model.train()
    model.validate = False  # uint8 / 255 is in range, and looking at the values would make a GPU wait in every step
    try:
        progress = tqdm(range(1, config.epochs + 1), desc="training", unit="epoch")
        for epoch in progress:
            start = time.perf_counter()
            sums = {}  # of each term over the epoch, kept on the device: reading one would make the device wait
            permutation = torch.randperm(len(train_images), generator=order).to(device)
            for index in permutation.split(config.batch_size):
                x, c = train_images.batch(index)
                eps = torch.randn(len(x), model.latent_dim, generator=noise, device=device)
                terms = model.terms(x, eps, c if model.num_classes else None)
                optimizer.zero_grad()
                terms["loss"].mean().backward()
                optimizer.step()
                add_to(sums, terms)
            row = {"epoch": epoch, "seconds": 0.0} | means("train", sums, len(train_images))
            row["seconds"] = round(time.perf_counter() - start, 3)  # now that the sums are read, the device is done
            rows.append(row | means("test", evaluate(model, test_images, config.seed), len(test_images)))
            progress.set_postfix_str(", ".join(f"{k} {v:.1f}" for k, v in rows[-1].items() if k.startswith("test")))
    finally:
        model.validate = True
        model.eval()
    return rows


@torch.no_grad()
def evaluate(model, images, seed, batch_size=1000):
    """Every term of the objective, summed over all of `images`, with noise from `seed`: {name: scalar tensor, nats}."""
    noise = torch.Generator(images.images.device).manual_seed(seed)  # the same each time: the curve shows the model
    sums = {}
    for i in range(0, len(images), batch_size):
        x, c = images.batch(slice(i, i + batch_size))
        eps = torch.randn(len(x), model.latent_dim, generator=noise, device=x.device)
        add_to(sums, model.terms(x, eps, c if model.num_classes else None))
    return sums


def add_to(sums, terms):
    for name, term in terms.items():
        sums[name] = sums.get(name, 0) + term.detach().sum()


def means(split, sums, num_images):
    return {f"{split}_{name}": round(total.item() / num_images, 4) for name, total in sums.items()}


def save_run(folder, model, config, rows, script):
    """Write model.safetensors, config.json, metrics.csv and summary.json of a finished run into its folder."""
    model.save(folder, script=script, training=asdict(config))
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_beside(folder / "metrics.csv", table.getvalue())
    summary = {
        "last_epoch": rows[-1],
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "binarisation": "none (grey values)",
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    write_beside(folder / "summary.json", json.dumps(summary, indent=2) + "\n")


def write_beside(path, content):
    """Write text or bytes so that `path` is always either the old file or the whole new one."""
    beside = Path(f"{path}.tmp")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.replace(beside, path)
