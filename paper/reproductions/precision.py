"""What fewer bits cost, and what they save: float32, bf16 and float64 on each device that is there.

No paper: bfloat16 keeps float32's range and 8 of its 24 bits of precision. The networks run in it, parameters and
objective stay in float32 (trainer.py).
"""

import statistics

import torch
from matplotlib.figure import Figure

from level_script import save_figure
from reproduction import Claim, Reproduction, Run, spread_text

MODELS = {  # each: the script, its options, training minutes of an epoch in float32 on one thread of a CPU
    "VAE, convolutions": ("vae_paper", "--data mnist", 0.3),
    "IWAE, MLP": ("iwae", "--data mnist --k 5 --batch-size 128", 0.15),
}
COST = {"float64": 2.0, "float32": 1.0, "bf16": 1.0}  # of an epoch, about, on a CPU without units of its own for bf16
SEEDS = 3


class Precision(Reproduction):
    """The same training in three precisions. Rounding is a noise of its own, and it goes where every noise in training
    goes: into another run of the same kind. So a precision is good enough where it moves the bound by less than another
    seed does. What it saves depends on the machine: a processor without units for bfloat16 gains nothing or loses. The
    speed is the median over the epochs, training steps alone; it means something where nothing else was running.
    """

    name = "precision"
    title = "float32, bf16 and float64, in nats and in images per second"
    source = "no paper; trainer.py's own choice"
    alone = True

    def seeds(self, budget):
        return SEEDS

    def protocol(self, budget):
        epochs, images = size(budget)
        which = f"{images} images of MNIST" if images else "MNIST"
        return (
            f"no paper has these numbers; {epochs} epochs of {which}, grey values as they are; the seeds of float32 "
            "are the yardstick"
        )

    def runs(self, budget):
        epochs, images = size(budget)
        part = images / 60_000 if images else 1
        runs = {}
        for model, (script, options, minutes) in MODELS.items():
            typed = f"{options} --epochs {epochs}" + (f" --train-images {images}" if images else "")
            for device, threads in places():
                for precision in precisions(device):
                    # Two threads are there for the speed alone, which the first seed shows.
                    expected = minutes * epochs * part * COST[precision] / (threads or 4)
                    seeds = 1 if threads == 2 or precision == "float64" else None
                    line = f"{typed} --precision {precision}"
                    runs[label(model, device, threads, precision)] = Run(
                        script, line, max(0.1, expected), seeds, device, threads
                    )
        return runs

    def measure(self, trained):
        rows = trained.rows
        images = len(trained.images("train"))
        speed = images / statistics.median(row["seconds"] for row in rows)
        elbo = rows[-1]["test_reconstruction_nll"] + rows[-1]["test_kl_divergence"]
        threads = torch.get_num_threads() if trained.device.type == "cpu" else 1
        return {"loss": rows[-1]["test_loss"], "-ELBO": elbo, "images/s": speed, "images/s per thread": speed / threads}

    def claims(self, results):
        claims = []
        for model in MODELS:
            base = results[label(model, "cpu", 1, "float32"), "loss"]
            for name in results.runs:
                if not name.startswith(model) or "bf16" not in name or "2 threads" in name:
                    continue
                differences = [ours - theirs for ours, theirs in zip(results[name, "loss"], base, strict=True)]
                spread = statistics.stdev(base) if len(base) > 1 else None
                words = f"{spread_text(differences)} nats against the same seed in float32; " + (
                    f"its seeds spread by {spread:.2f}" if spread else "one seed has no spread"
                )
                claims.append(
                    Claim(
                        f"{name}: loses less than another seed would",
                        "none: a rule of thumb of this code",
                        words,
                        None if spread is None else statistics.mean(differences) < spread,
                    )
                )
        return claims

    def table(self, results):
        rows = []
        for name in results.runs:
            nats = [results.text(name, measure) for measure in ("loss", "-ELBO")]
            speeds = [spread_text(results[name, each][:1], 0) for each in ("images/s", "images/s per thread")]
            rows.append([name, *nats, *speeds])
        return ["run", "loss (nats)", "-ELBO (nats)", "images/s (seed 0)", "per thread"], rows

    def draw(self, results, trained, path):
        """For each model: the loss of every seed, and the speed."""
        figure = Figure(figsize=(9.5, 0.5 + 0.36 * len(results.runs)), layout="constrained")
        panels = figure.subplots(len(MODELS), 2, squeeze=False)
        for row, model in zip(panels, MODELS, strict=True):
            names = [name for name in results.runs if name.startswith(model)]
            words = [name.removeprefix(f"{model}: ") for name in names]
            for place, name in enumerate(names):
                row[0].plot(results[name, "loss"], [place] * len(results[name, "loss"]), "o", color="C0", alpha=0.7)
            row[1].barh(range(len(names)), [results[name, "images/s"][0] for name in names], color="C1")
            for axes, xlabel in zip(row, ("test loss of each seed (nats)", "images per second, seed 0"), strict=True):
                axes.set(title=model, xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
                axes.set_yticks(range(len(names)), words)
                axes.locator_params(axis="x", nbins=5)
            row[1].set_yticks([])
        save_figure(figure, path)


def size(budget):
    """Epochs, and how many of MNIST's images, None for all of them."""
    return (4, 10_000) if budget == "quick" else (20, None)


def places():
    """The devices of this machine, and the threads to compare on them (None: those that are asked for)."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [("cpu", 1), ("cpu", 2), *((name, None) for name, available in there.items() if available)]


def precisions(device):
    return ["float32", "bf16"] if device == "mps" else ["float32", "bf16", "float64"]  # mps has no float64


def label(model, device, threads, precision):
    words = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    return f"{model}: {precision}, {device}{words}"


REPRODUCTION = Precision()
