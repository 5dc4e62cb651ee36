"""How large a codebook, learned how, and when to train its prior (van den Oord 2017, equation 3 and appendix A.1).

`vq_vae.py` trains the prior over the codes together with the codes. The paper trains the two one after the other, which
the model here does: for the first `code_steps` training steps the encoder, the codebook and the decoder learn and the
prior stays as it is; from then on they stay as they are and the prior learns.

    python paper/reproductions/vq_vae_codebooks.py            on the embedded digits, 60 epochs of each stage

All runs and their figure: `python paper/reproduce.py vq-vae`.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiment import TrainingConfig, run_script
from level_script import save_figure
from reproduction import Claim, Reproduction, Run, spread_text
from trainable import option
from vq_vae import VQVAE, VQVAEOptions, code_counts, draw, perplexity, report

# --- The model -------------------------------------------------------------------------------------------------------


@dataclass
class TwoStageOptions(VQVAEOptions):
    """The codebook, and when the prior's turn comes."""

    code_steps: int = option(720, least=1)
    """Training steps of the encoder, the codebook and the decoder; from then on the prior alone learns."""


class TwoStageVQVAE(VQVAE):
    """A VQ-VAE whose prior is trained on finished codes, as in the paper. Its options are those of `TwoStageOptions`.

    One run has both stages, with the terms of `VQVAE` in either: what does not learn gets no gradient, and Adam leaves
    it alone, with moments that start with its own stage. Codes pass no gradient, so that up to `code_steps` everything
    but the prior is, number by number, what a `VQVAE` of the same seed is.
    """

    Options = TwoStageOptions

    def terms(self, x, eps, c=None, step=None):
        """As `VQVAE.terms`; the step says who gets a gradient. None is the end: the prior."""
        codes_learn = step is not None and step < self.options.code_steps
        for part in (self.encoder, self.codebook, self.decoder):
            part.requires_grad_(codes_learn)
        self.prior.requires_grad_(not codes_learn)
        self.codebook.train(self.training and codes_learn)  # its running means and its dead entries
        return super().terms(x, eps, c, step)


@dataclass
class TwoStageConfig(TwoStageOptions, TrainingConfig):
    """Train a VQ-VAE, and then the prior over its codes (van den Oord 2017): on the digits half of the time each."""

    epochs: int = option(120, least=1)
    """Passes over the training images, of both stages together."""


def build_model(config, train_images):
    return TwoStageVQVAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, TwoStageConfig, build_model, TwoStageVQVAE.load_file, argv, report, draw)


# --- The experiment --------------------------------------------------------------------------------------------------

SIZES = (8, 32, 128, 512)
BATCH = 64
BUDGETS = {  # epochs of each stage, the training images, and the sizes with a prior trained afterwards
    "quick": (3, 16_000, (32, 512)),
    "full": (30, 60_000, SIZES),
}


class VQVAECodebooks(Reproduction):
    """An image as 49 words from a codebook of 8, 32, 128 or 512 entries: how well it is decoded from them
    (reconstruction), what the words cost under the prior (prior), and their sum, -ELBO. The entries follow the encoder
    as running means or by gradients. The prior is trained along with the codes, as vq_vae.py does, or afterwards on
    the finished codes, as the paper does. Codes pass no gradient to the encoder: both have the same codes (on a CPU to
    the last digit, on a GPU as far as it repeats itself), and their priors as many training steps.

    Bits per code are to be compared with log2 of the codebook's size, which is what a code costs without a prior; the
    perplexity is how many entries, used equally often, would be as hard to guess as the test images' codes are.
    """

    name = "vq-vae"
    title = "codebook size, codebook learning and the prior's turn, MNIST"
    source = "van den Oord 2017, equation 3 and appendix A.1"

    def protocol(self, budget):
        epochs, images, _ = BUDGETS[budget]
        return (
            f"{images:,} images of MNIST, binarised once, {epochs} epochs (afterwards: as many again for the prior "
            f"alone), batch {BATCH}, Adam 1e-3; a small PixelCNN; entries that nobody chooses are put onto vectors of "
            "the batch; entries that learn by gradients take ten times the step; the paper has no numbers for MNIST, "
            "the claims are directions"
        )

    def runs(self, budget):
        epochs, images, sizes_afterwards = BUDGETS[budget]
        shared = f"--data mnist --binarisation fixed --batch-size {BATCH} --decay 0.99"
        if images < 60_000:
            shared += f" --train-images {images}"
        minutes = epochs * (0.95 * images / 60_000 + 0.05) + 0.13
        runs = {
            label(size, kind): Run(
                "vq_vae", f"{shared} --epochs {epochs} --num-codes {size} --codebook {kind}", minutes
            )
            for kind in ("ema", "gradient")
            for size in SIZES
        }
        steps = epochs * math.ceil(images / BATCH)
        return runs | {
            label(size, "afterwards"): Run(
                "reproductions.vq_vae_codebooks",
                f"{shared} --epochs {2 * epochs} --num-codes {size} --codebook ema --code-steps {steps}",
                1.6 * minutes,
            )
            for size in sizes_afterwards
        }

    def measure(self, trained):
        """On the test images: the two terms of -ELBO in nats per image, and the use of the codebook over all of them.

        epochs: of training.
        """
        last, model = trained.rows[-1], VQVAE.load(trained.folder).to(trained.device).eval()
        counts = code_counts(model, trained.images("test"), trained.seed).double()
        return {
            "reconstruction": last["test_reconstruction_nll"],
            "prior": last["test_prior_nll"],
            "total": last["test_reconstruction_nll"] + last["test_prior_nll"],
            "bits per code": last["test_prior_nll"] / math.log(2) / math.prod(model.grid),
            "perplexity": perplexity(counts).item(),
            "used": int((counts > 0).sum()),
        }

    def claims(self, results):
        def series(name, kind):
            return np.array([results.mean(label(size, kind), name) for size in SIZES])

        def falls(name, sign=1):
            """From each size to the next, for both kinds of codebook, by more than the seeds differ."""
            kinds = [sign * series(name, kind) for kind in ("ema", "gradient")]
            return bool(all(np.all(np.diff(values) < -spread(results, name)) for values in kinds))

        ema, gradient = (series("total", kind) for kind in ("ema", "gradient"))
        apart = gradient - ema
        later = {
            size: results.mean(label(size, "ema"), "prior") - results.mean(label(size, "afterwards"), "prior")
            for size in SIZES
            if label(size, "afterwards") in results.runs
        }
        sizes = " to ".join(map(str, (SIZES[0], SIZES[-1])))
        return [
            Claim(
                "More codes reconstruct better, at every size, with either codebook",
                "direction only",
                f"{between(series('reconstruction', 'ema'))} (running means), "
                f"{between(series('reconstruction', 'gradient'))} nats (gradients) from {sizes} codes",
                falls("reconstruction"),
            ),
            Claim(
                "and cost the prior more",
                "direction only",
                f"{between(series('prior', 'ema'))} (running means), "
                f"{between(series('prior', 'gradient'))} nats (gradients)",
                falls("prior", sign=-1),
            ),
            Claim(
                "Running means and gradients learn codebooks equally good: -ELBO within 2 % at every size",
                "its two ways to learn one (equation 3, appendix A.1)",
                "gradients minus running means: " + ", ".join(f"{each:+.1f}" for each in apart) + " nats",
                bool(np.all(np.abs(apart) <= 0.02 * ema)),
                "running means settle late, and a prior trained along lags behind: see the next row",
            ),
            Claim(
                "A prior trained along with the codes ends within 1 nat of one trained afterwards on the same codes",
                "ours; the paper trains it afterwards",
                "along minus afterwards: "
                + ", ".join(f"{gap:+.2f} nats ({size} codes)" for size, gap in later.items()),
                all(abs(gap) <= 1 for gap in later.values()),
                "while the codes move, the prior learns what no longer holds",
            ),
        ]

    def table(self, results):
        digits = {"reconstruction": 1, "prior": 1, "total": 1, "bits per code": 2, "perplexity": 1, "used": 0}
        rows = [
            [run, *(spread_text(results[run, name], number) for name, number in digits.items())] for run in results.runs
        ]
        names = ["reconstruction (nats)", "prior (nats)", "-ELBO (nats)", "bits per code", "perplexity", "entries used"]
        return ["codebook", *names], rows

    def draw(self, results, trained, path):
        figure = Figure(figsize=(10, 8), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).flatten()
        titles = {
            "reconstruction": ("Reconstruction", "-log p(x|codes) (nats per image)"),
            "prior": ("Prior", "-log p(codes) (nats per image)"),
            "total": ("Their sum", "-ELBO (nats per image)"),
            "perplexity": ("Use of the codebook", "perplexity of all test codes"),
        }
        styles = {"ema": ("C0", "o-"), "gradient": ("C1", "s--"), "afterwards": ("C2", "^")}
        for axes, (name, (title, unit)) in zip(panels, titles.items(), strict=True):
            for order, (kind, (colour, style)) in enumerate(styles.items(), start=2):
                if kind == "afterwards" and name in ("reconstruction", "perplexity"):
                    continue  # the codes of the running means, which are there already
                sizes = [size for size in SIZES if label(size, kind) in results.runs]
                means = [results.mean(label(size, kind), name) for size in sizes]
                deviations = [results.deviation(label(size, kind), name) for size in sizes]
                axes.errorbar(
                    sizes, means, deviations, fmt=style, color=colour, capsize=3, label=WORDS[kind], zorder=order
                )
            axes.set_title(title)
            axes.set_ylabel(unit)
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, list(map(str, SIZES)))
            axes.grid(color="0.92")
        panels[3].plot(SIZES, SIZES, ":", color="0.6", label="all entries alike")
        panels[3].set_yscale("log", base=2)
        panels[3].yaxis.set_major_formatter("{x:g}")
        for axes in panels[2:]:
            axes.set_xlabel("entries in the codebook")
        for axes in panels:
            axes.legend()
        save_figure(figure, path)


WORDS = {"ema": "running means", "gradient": "gradients", "afterwards": "running means, prior afterwards"}


def label(size, kind):
    return f"{size} codes, {WORDS[kind]}"


def between(values):
    return f"{values[0]:.1f} to {values[-1]:.1f}"


def spread(results, name):
    """The largest standard deviation over the seeds that any run has."""
    return max(results.deviation(run, name) for run in results.runs)


REPRODUCTION = VQVAECodebooks()


if __name__ == "__main__":
    from reproductions import vq_vae_codebooks  # by its own name, so that its classes are those that others import

    run_as_script(vq_vae_codebooks.main)
