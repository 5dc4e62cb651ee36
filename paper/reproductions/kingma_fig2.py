"""How many latents a VAE can take, and the plane that two of them make (Kingma & Welling 2013, figures 2 and 4).

The paper's model of MNIST: one hidden layer of 500 tanh units in the encoder and one in the decoder, a Bernoulli
decoder, all parameters drawn from N(0, 0.01), Adagrad, one sample of z per image, batches of 100 images.

Run one of its trainings with

    python paper/reproductions/kingma_fig2.py --data mnist --epochs 10 --latent-dim 20

and all of them, with the figure, with `python paper/reproduce.py kingma-fig2`.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from experiment import TrainingConfig, run_script
from level_script import save_figure
from likelihood import active_units, posteriors
from pictures import draw_manifold, manifold_codes
from reproduction import Claim, Reproduction, Run
from trainable import option
from trainer import evaluate
from vae_paper import VAE, VAEOptions

# --- The model -------------------------------------------------------------------------------------------------------


@dataclass
class KingmaOptions(VAEOptions):
    """By default the network of the paper: 500 tanh units."""

    architecture: Literal["conv", "mlp"] = "mlp"
    """The fully connected network of the paper, or convolutions."""
    hidden_dims: tuple[int, ...] = option((500,), least=1)
    """Sizes of the hidden layers of --architecture mlp, encoder's order; with none given it is linear."""
    activation: Literal["relu", "tanh"] = "tanh"
    """Of those hidden layers."""


class KingmaVAE(VAE):
    """The VAE as it was first trained: parameters from N(0, 0.01), and Adagrad.

    Its options are those of `KingmaOptions`. The 0.01 is read as the variance, as in the paper's N(mu, sigma^2): a
    standard deviation of 0.1, for weights and biases alike.
    """

    Options = KingmaOptions

    def __init__(self, **options):
        super().__init__(**options)
        for network in (self.encoder, self.decoder):
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.1)

    def optimizers(self, lr):
        return {"loss": torch.optim.Adagrad(self.parameter_groups(lr), lr=lr)}


@dataclass
class KingmaConfig(KingmaOptions, TrainingConfig):
    """Train a VAE as Kingma & Welling did in 2013: 500-500 tanh units, parameters from N(0, 0.01), Adagrad."""

    batch_size: int = option(100, least=1)
    """Images per step."""
    lr: float = option(0.02, above=0)
    """Adagrad's step size; the paper chose among 0.01, 0.02 and 0.1."""


def build_model(config, train_images):
    return KingmaVAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, KingmaConfig, build_model, KingmaVAE.load_file, argv)


# --- The experiment --------------------------------------------------------------------------------------------------

LATENTS = (3, 5, 10, 20, 200)  # of figure 2
PLANE = 2  # of figure 4
EPOCHS = {"quick": 20, "full": 1667}  # the figure ends at 10^8 images: 1667 passes over 60,000
STEP = 0.02


class KingmaFigure2(Reproduction):
    """The bound on log p(x), of training and of test images, as a model with few or many latents sees more and more
    images. A code of three numbers can hardly say what tells one image from another, and should end lower. Ten times
    more latents than are needed are more parameters, with which a network could learn the training images by heart;
    the paper finds that they do not overfit. Each latent pays for what it says, and the last column counts those that
    say anything (the variance of their mean over the test images is above 0.01). Beside it the images of a model with
    two latents, decoded from equally probable places of the plane.
    """

    name = "kingma-fig2"
    title = "the bound against the number of latents, MNIST"
    source = "Kingma & Welling 2013, figures 2 and 4"

    def protocol(self, budget):
        words = (
            "grey values as they are, whose Bernoulli log-likelihood is its mean over all ways to binarise them (we "
            "found no word on binarisation); N(0, 0.01) read as variance 0.01, for weights and biases; Adagrad's step "
            f"is {STEP} throughout: of 0.01, 0.02 and 0.1 the best bound on training images after 2,000 steps on "
            "10,000 of them with 20 latents (-127.0, -126.5 and -188.0 nats, one seed); "
            "in the figure the training curve is the mean over each epoch as it goes, in the table it is evaluated at "
            "the end; a model of two latents is added to the table"
        )
        images = EPOCHS[budget] * 60_000
        return words if budget == "full" else f"{images / 1e6:.1f} million images seen instead of 100; {words}"

    def runs(self, budget):
        shared = f"--data mnist --epochs {EPOCHS[budget]} --lr {STEP}"
        minutes = 0.08 * EPOCHS[budget]
        return {
            label(latents): Run("reproductions.kingma_fig2", f"{shared} --latent-dim {latents}", minutes)
            for latents in (PLANE, *LATENTS)
        }

    def measure(self, trained):
        """The bounds in nats per image (minus the loss), with one sample of z; the curves at 100 epochs at most.

        train and test are at the end, with the same noise seed; best is the test bound's highest of all epochs.
        """
        train_images, test_images = trained.images("train"), trained.images("test")
        train, test = (
            -evaluate(trained.model, images, trained.seed).means()["loss"] for images in (train_images, test_images)
        )
        mu, _ = posteriors(trained.model, test_images.batch(slice(None))[0])
        shown = np.unique(np.geomspace(1, len(trained.rows), 100).round().astype(int)) - 1  # even on a log axis
        curves = {split: -np.array(trained.column(f"{split}_loss")) for split in ("train", "test")}
        return {
            "train": train,
            "test": test,
            "best": curves["test"].max(),
            "active": int(active_units(mu).sum()),
            "images seen": (shown + 1) * len(train_images),
            "train curve": curves["train"][shown],
            "test curve": curves["test"][shown],
        }

    def claims(self, results):
        few = LATENTS[: LATENTS.index(20) + 1]
        ends = [results.mean(label(latents), "test") for latents in few]
        spread = max(results.deviation(label(latents), "test") for latents in few)
        seen = results[label(200), "images seen"][0][-1]
        pairs = zip(results[label(200), "best"], results[label(200), "test"], strict=True)
        fall = max(best - test for best, test in pairs)
        below = results.mean(label(20), "test") - results.mean(label(200), "test")
        # A bound that has not begun to fall says nothing before there was time to learn images by heart.
        kept = False if fall > 1 else True if seen >= 1e7 else None
        return [
            Claim(
                "Up to 20 latents, more of them give a better bound",
                "figure 2: the order of its curves",
                f"{', '.join(f'{end:.1f}' for end in ends)} nats with {', '.join(map(str, few))} latents",
                bool(np.all(np.diff(ends) > spread)),
            ),
            Claim(
                "200 latents do not overfit: the test bound ends within 1 nat of its best",
                "more latents do not overfit (figure 2)",
                f"{fall:.2f} nats below its best after {seen / 1e6:.1f} million images",
                kept,
                "fewer than 10 million images were seen" if kept is None else "",
            ),
            Claim(
                "200 latents cost nothing: they end at most 2 nats below 20",
                "more latents do not overfit (figure 2)",
                f"{abs(below):.2f} nats {'below' if below > 0 else 'above'} 20 latents; in the last epoch they rose by "
                f"{last_gain(results, 200):.2f} nats, 20 latents by {last_gain(results, 20):.2f}",
                below <= 2,
                "" if seen >= 1e7 else "after so few images; the step size was chosen with 20 latents",
            ),
        ]

    def table(self, results):
        rows = []
        for run in results.runs:
            pairs = zip(results[run, "train"], results[run, "test"], strict=True)
            gap = np.mean([train - test for train, test in pairs])
            bounds = [results.text(run, name) for name in ("test", "train")]
            rows.append([run, *bounds, f"{gap:.2f}", results.text(run, "best"), results.text(run, "active", digits=0)])
        header = ["latents", "test bound (nats)", "training bound", "training - test", "best test bound", "active"]
        return header, rows

    def draw(self, results, trained, path):
        figure = Figure(figsize=(13, 6), layout="constrained")
        curves, plane = figure.subplots(1, 2, width_ratios=(1.15, 1))
        curves.set(
            title=f"The bound on MNIST, {LATENTS[0]} to {LATENTS[-1]} latents",
            xlabel="training images seen",
            ylabel="lower bound on log p(x) (nats per image)",
            xscale="log",
        )
        for colour, latents in enumerate(LATENTS):
            for split, line in (("train", "--"), ("test", "-")):
                seen = results[label(latents), "images seen"][0]
                bound = np.mean(results[label(latents), f"{split} curve"], axis=0)
                name = f"{latents} latents" if split == "test" else None
                curves.plot(seen, bound, line, color=f"C{colour}", label=name, linewidth=1.5)
        # The training bound of the first epoch, of random parameters too, would take most of the height.
        bounds = [bound for latents in LATENTS for curve in results[label(latents), "test curve"] for bound in curve]
        curves.set_ylim(min(bounds) - 10, max(bounds) + 10)
        curves.plot([], [], "-", color="0.4", label="test")
        curves.plot([], [], "--", color="0.4", label="train (epoch's mean)")
        curves.grid(color="0.92")
        curves.legend(loc="lower right", ncols=2)
        model = trained[label(PLANE)][0].model
        codes = manifold_codes(20)
        with torch.no_grad():
            images = model.sample(codes.flatten(0, 1).to(next(model.parameters()))).cpu().numpy()
        draw_manifold(plane, images.reshape(*codes.shape[:2], *images.shape[1:]))
        plane.set_title("The decoded plane of 2 latents")
        save_figure(figure, path)


def label(latents):
    return f"N_z = {latents}"


def last_gain(results, latents):
    """By how much the test bound still rose in the last epoch, nats, the mean over the seeds."""
    return float(np.mean([curve[-1] - curve[-2] for curve in results[label(latents), "test curve"]]))


REPRODUCTION = KingmaFigure2()


if __name__ == "__main__":
    from reproductions import kingma_fig2  # by its own name, so that its classes are those that other files import

    run_as_script(kingma_fig2.main)
