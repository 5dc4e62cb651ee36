"""What each trick of training is worth to Burda 2015's one-layer VAE on MNIST, in nats against minutes.

The paper trains for 3,280 epochs. Whoever has less time changes how the steps are taken, and keeps the model, its
likelihood and the black and white pixels that are drawn anew for every batch.

    python paper/reproductions/iwae_tricks.py --average 0.999         on the digits, with a mean of the weights

All of them, and their figure: `python paper/reproduce.py iwae-tricks`.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from experiment import TrainingConfig, run_script
from iwae import IWAE, IWAEOptions
from level_script import save_figure
from reproduction import Claim, Reproduction, Run
from schedules import linear
from trainable import option

# --- The model -------------------------------------------------------------------------------------------------------


@dataclass
class TricksOptions(IWAEOptions):
    """The paper's model with one sample, and three tricks that are no option of `iwae.py`."""

    k: int = option(1, least=1)
    """Samples of z per image and step."""
    average: float = option(0.0, least=0, below=1)
    """Evaluate a running mean of the weights with this decay per step instead of the last weights; 0 does not."""
    warm_up: int = option(0, least=0)
    """Training steps over which the weight of the KL rises from 0 to 1."""
    zero_bias: bool = False
    """Start the output's bias at zero instead of the training images' mean."""


class TricksIWAE(IWAE):
    """Burda's model with tricks. Its options are those of `TricksOptions`.

    average: the running mean of each parameter is a buffer of the same shape. In evaluation mode parameters and means
    have changed places, so that everything that evaluates, draws or loads the model sees the means. The first steps
    weigh more, as if the mean had begun with them: step n by at least 1 / (n + 1).
    """

    Options = TricksOptions

    def __init__(self, **options):
        super().__init__(**options)
        self.means = nn.Module()
        if self.options.average:
            self.means.register_buffer("steps", torch.zeros(()))
            for name, parameter in self.named_parameters():
                self.means.register_buffer(name.replace(".", "_"), parameter.detach().clone())

    def pairs(self):
        """Each parameter with its mean."""
        means = dict(self.means.named_buffers())
        return [(parameter, means[name.replace(".", "_")]) for name, parameter in self.named_parameters()]

    def train(self, mode=True):
        if self.options.average and mode != self.training:
            for parameter, mean in self.pairs():
                kept = parameter.data.clone()
                parameter.data.copy_(mean)
                mean.copy_(kept)
        return super().train(mode)

    @torch.no_grad()
    def update_means(self, *_):
        weight = 1 - torch.minimum(torch.tensor(self.options.average), self.means.steps / (self.means.steps + 1))
        parameters, means = zip(*self.pairs(), strict=True)
        torch._foreach_lerp_(means, parameters, weight.item())
        self.means.steps += 1

    def optimizers(self, lr):
        optimizers = super().optimizers(lr)
        if self.options.average:
            optimizers["loss"].register_step_post_hook(self.update_means)
        return optimizers

    def start_from(self, images, generator):
        if not self.options.zero_bias:
            super().start_from(images, generator)

    def terms(self, x, eps, c=None, step=None):
        """As `IWAE.terms`, each (N,) nats; while the KL warms up, the training loss is nll + weight * (loss - nll)."""
        terms = super().terms(x, eps, c, step)
        if self.training and self.options.warm_up and step is not None:
            nll = terms["reconstruction_nll"]
            terms["loss"] = nll + linear(step, self.options.warm_up) * (terms["loss"] - nll)
        return terms


@dataclass
class TricksConfig(TricksOptions, TrainingConfig):
    """Train Burda's one-layer VAE with one of the tricks that may save time."""

    batch_size: int = option(100, least=1)
    """Images per step."""


def build_model(config, train_images):
    return TricksIWAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, TricksConfig, build_model, TricksIWAE.load_file, argv)


# --- The experiment --------------------------------------------------------------------------------------------------

BASE = "none: batches of 100, step size 1e-3"
TRICKS = {  # against the first row
    BASE: "",
    "batches of 20": "--batch-size 20",
    "batches of 250": "--batch-size 250",
    "step size 3e-3": "--lr 3e-3",
    "step size along a cosine": "--lr-schedule cosine",
    "running mean of the weights": "--average 0.999",
    "KL warm-up over a fifth of the steps": "--warm-up {warm_up}",
    "output bias from zero": "--zero-bias",
    "doubly reparameterised gradients": "--objective dreg",
    "step size 3e-3 along a cosine": "--lr 3e-3 --lr-schedule cosine",
    "step size 3e-3, running mean of the weights": "--lr 3e-3 --average 0.999",
    "step size 3e-3 along a cosine, doubly reparameterised": "--lr 3e-3 --lr-schedule cosine --objective dreg",
}
EPOCHS = {"quick": 20, "full": 100}


class IwaeTricks(Reproduction):
    """The paper's model with k = 1, trained for the same number of epochs with one thing changed at a time, and with
    some of them together at the end. -ELBO is that of all test images, one sample of z each, with pixels drawn anew.
    The minutes are those of training alone. Doubly reparameterised gradients (Tucker 2018) are less noisy for the same
    bound; with k = 1 they leave out the score of q, which is zero on average (Roeder 2017).
    """

    name = "iwae-tricks"
    title = "nats against minutes for each trick of training"
    source = "Burda 2015, table 1, k = 1"
    alone = True

    def seeds(self, budget):
        return 1

    def protocol(self, budget):
        return (
            f"{EPOCHS[budget]} epochs where the paper takes 3,280, in batches of 20 with a step size that falls in "
            "eight stairs; short runs favour whatever is fast at first, and an order may change with their length"
        )

    def runs(self, budget):
        epochs = EPOCHS[budget]
        shared = f"--data mnist --binarisation fresh --epochs {epochs}"
        steps = epochs * 600 // 5
        return {
            label: Run(
                "reproductions.iwae_tricks",
                f"{shared} {trick.format(warm_up=steps)}".strip(),
                (0.14 if label == "batches of 20" else 0.06) * epochs + 0.1,
            )
            for label, trick in TRICKS.items()
        }

    def measure(self, trained):
        terms = [trained.column(f"test_{name}") for name in ("reconstruction_nll", "kl_divergence")]
        curve = np.sum(terms, axis=0)
        return {
            "minus_elbo": curve[-1],
            "kl": terms[1][-1],
            "curve": curve,
            "minutes": np.cumsum(trained.column("seconds")) / 60,
        }

    def claims(self, results):
        """No paper's claims: what pays is what the own schedule of `iwae-table1` takes."""
        ends = {label: results.mean(label, "minus_elbo") for label in results.runs}
        best = min(ends, key=ends.get)
        gain = ends[BASE] - ends["step size 3e-3 along a cosine"]
        return [
            Claim(
                "A larger step that falls along a cosine is worth more than a nat",
                "ours; the paper lowers its step in eight stairs",
                f"{gain:.2f} nats; the best is: {best} ({ends[best]:.2f})",
                gain > 1,
            )
        ]

    def table(self, results):
        header = ["changed", "-ELBO, test (nats)", "against the first", "KL (nats)", "minutes of training"]
        first = results.mean(BASE, "minus_elbo")
        return header, [
            [
                label,
                results.text(label, "minus_elbo"),
                f"{results.mean(label, 'minus_elbo') - first:+.2f}",
                results.text(label, "kl"),
                f"{np.mean([minutes[-1] for minutes in results[label, 'minutes']]):.1f}",
            ]
            for label in results.runs
        ]

    def draw(self, results, trained, path):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        axes = figure.add_subplot(
            title="MNIST, black and white, one sample: test images", xlabel="minutes of training", ylabel="-ELBO (nats)"
        )
        lowest = np.inf
        for place, label in enumerate(results.runs):
            minutes, curve = results[label, "minutes"][0], results[label, "curve"][0]
            line = "-" if place < 10 else "--"  # there are ten colours
            axes.plot(minutes, curve, line, color=f"C{place}", linewidth=1.2, label=label)
            lowest = min(lowest, *curve)
        axes.set(xlim=(0, None), ylim=(lowest - 0.5, lowest + 15))
        axes.grid(color="0.92")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", title="changed", fontsize="small")
        save_figure(figure, path)


REPRODUCTION = IwaeTricks()


if __name__ == "__main__":
    from reproductions import iwae_tricks  # by its own name, so that its classes are those that other files import

    run_as_script(iwae_tricks.main)
