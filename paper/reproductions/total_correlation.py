"""To press on the whole KL or on the total correlation alone? VAE, beta-VAE, FactorVAE and beta-TCVAE side by side.

FactorVAE's discriminator estimates a number that is known exactly for a finite set of images: q(z) is then the mean of
their posteriors. Of training images that are a sample of more, this is more than the number that counts: their codes
lie apart where those of all images would meet, and knowing one latent tells much of the others. Minibatch stratified
sampling with all training images as the batch (Chen 2018, appendix C.2) errs to the other side, as a mean's logarithm
is estimated, and seldom meets a neighbour where the codes are precise. What lies between the two is the truth, as well
as it can be told. The model here is a FactorVAE that writes them down after every epoch, and what its discriminator
says; the experiment then lets the discriminator learn on while the encoder stands still.

    python paper/reproductions/total_correlation.py --data sprites --train-images 50000 --epochs 5 --gamma 5

Papers: Kim & Mnih 2018, "Disentangling by Factorising", arXiv:1802.05983; Chen, Li, Grosse & Duvenaud 2018, "Isolating
Sources of Disentanglement in VAEs", arXiv:1802.04942
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import copy
import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from beta_tcvae import exact_kl_decomposition, kl_decomposition
from disentanglement import GIVEN, encode_all, factor_vae_score, mig_of_samples
from experiment import TrainingConfig, run_script
from factor_vae import FactorVAE, FactorVAEOptions, permute_dims
from level_script import save_figure
from reproduction import Claim, Reproduction, Run, spread_text
from sprites import NUM_SPRITES, visible_factors_of
from trainable import option
from training_images import RenderedSprites
from vae_paper import log_normal

# --- A FactorVAE whose discriminator is watched ----------------------------------------------------------------------


def posteriors(model, images):
    """mu, logvar of a ResidentImages, tensors (N, Z) each on the model's device."""
    device = next(model.parameters()).device
    return tuple(torch.from_numpy(array).to(device) for array in encode_all(model, images))


def draw_codes(mu, logvar, count, seed):
    """Codes z (count, Z) of `count` random images among N, or of all, and which images these are, (count,)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(mu), generator=generator)[:count]
    eps = torch.randn(len(rows), mu.shape[1], generator=generator).to(mu)
    rows = rows.to(mu.device)
    return mu[rows] + torch.exp(logvar[rows] / 2) * eps, rows


def total_correlation(z, rows, mu, logvar, population):
    """The total correlation of all images, of which there are `population`, from a sample of N: a scalar, nats.

    Minibatch stratified sampling (Chen 2018, appendix C.2) with the whole sample as the batch: z_i's own image counts
    1 / population, the N - 1 others share the rest; for population = N it is exact. z: (B, Z), z_i drawn from the
    posterior of image rows[i], (B,); mu, logvar: (N, Z). Chunked over z, so that memory stays at about 10^7 numbers.
    """
    summands = []
    others = math.log1p(-1 / population) - math.log(len(mu) - 1)
    for part, own in zip(*(each.split(max(1, 10_000_000 // mu.numel())) for each in (z, rows)), strict=True):
        pairwise = log_normal(part.unsqueeze(1), mu, logvar)  # (b, N, Z)
        log_weights = torch.full(pairwise.shape[:2], others, dtype=z.dtype, device=z.device)
        log_weights[torch.arange(len(own), device=z.device), own] = -math.log(population)
        log_q_z = torch.logsumexp(log_weights + pairwise.sum(dim=2), dim=1)
        log_prod_q_zd = torch.logsumexp(log_weights.unsqueeze(2) + pairwise, dim=1).sum(dim=1)
        summands.append(log_q_z - log_prod_q_zd)
    return torch.cat(summands).mean()


def judged_when_frozen(model, mu, logvar, z, looks, batch_size, lr, seed):
    """The total correlation of z as a FactorVAE's discriminator has it while it learns on and the encoder stands still.

    mu, logvar: of the images whose codes it learns from, (N, Z). z: (B, Z). looks: numbers of further steps, rising.
    batch_size: fresh codes in every step, one half of them permuted. lr: Adam's step size, for a discriminator that has
    none of its own. Returns a value in nats for each look; the model itself is left as it is.
    """
    model, found = copy.deepcopy(model), []
    optimizer = model.optimizers(lr)["discriminator_nll"]
    generator = torch.Generator().manual_seed(seed)
    half = batch_size // 2
    is_joint = torch.cat([torch.ones(half), torch.zeros(half)]).to(mu)
    for step in range(1, looks[-1] + 1):
        rows = torch.randint(len(mu), (2 * half,), generator=generator).to(mu.device)
        eps = torch.randn(2 * half, mu.shape[1], generator=generator).to(mu)
        keys = torch.rand(half, mu.shape[1], generator=generator).to(mu)
        joint, other = (mu[rows] + torch.exp(logvar[rows] / 2) * eps).split(half)
        judged = model.discriminator(torch.cat([joint, permute_dims(other, keys)]))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(judged, is_joint).backward()
        optimizer.step()
        if step in looks:
            with torch.no_grad():
                found.append(model.discriminator(z).mean().item())
    return found


@dataclass
class WatchedFactorVAEOptions(FactorVAEOptions):
    """The discriminator's step, and how closely it is watched."""

    discriminator_lr: float | None = option(None, above=0)
    """Adam's step size for the discriminator, if another than --lr."""
    watched: int = option(500, least=1)
    """Codes on which the total correlations are compared after every epoch."""
    population: int = option(NUM_SPRITES, least=2)
    """Images of which the training images are a sample; by default as many as there are sprites."""


class WatchedFactorVAE(FactorVAE):
    """A FactorVAE that says after every epoch what its discriminator is worth. Options: `WatchedFactorVAEOptions`."""

    Options = WatchedFactorVAEOptions

    def optimizers(self, lr):
        found = super().optimizers(lr)
        if self.options.discriminator_lr is not None:
            for group in found["discriminator_nll"].param_groups:
                group["lr"] = self.options.discriminator_lr
        return found

    @torch.no_grad()
    def after_epoch(self, train_images, seed):
        """The total correlation of the codes as the discriminator has it, and between which two it is, nats.

        All are means over the same codes, of training images: "judged_", the discriminator's (Kim & Mnih 2018, equation
        3); "least_", of the whole population; "exact_", of the training images.
        """
        mu, logvar = posteriors(self, train_images)
        z, rows = draw_codes(mu, logvar, self.options.watched, seed)
        found = {
            "judged": self.discriminator(z).mean(),
            "least": total_correlation(z, rows, mu, logvar, max(self.options.population, len(mu))),
            "exact": total_correlation(z, rows, mu, logvar, len(mu)),
        }
        return {f"{name}_total_correlation": round(value.item(), 4) for name, value in found.items()}


@dataclass
class WatchedConfig(WatchedFactorVAEOptions, TrainingConfig):
    """Train a FactorVAE and compare its discriminator's total correlation with the exact one after every epoch."""


def build_model(config, train_images):
    return WatchedFactorVAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, WatchedConfig, build_model, WatchedFactorVAE.load_file, argv)


# --- The experiment --------------------------------------------------------------------------------------------------

SHARED = {
    "quick": "--data sprites32 --architecture mlp --hidden-dims 256 256 --latent-dim 10 --train-images 50000 "
    "--epochs 8 --batch-size 64",
    "full": "--data sprites --latent-dim 10 --epochs 26 --batch-size 64 --lr 1e-4",
}
DISCRIMINATOR = {"quick": "--discriminator-width 256 --discriminator-depth 4", "full": ""}
FROZEN_STEPS = {"quick": 2_000, "full": 40_000}  # of the discriminator alone
FROZEN_LR = {"quick": 1e-3, "full": 1e-4}
FROZEN_BATCH = 512
LOOKS = 10  # within these steps
NUM_IMAGES = 20_000  # that the scores are of
NUM_CODES = 1_024  # that the total correlation is averaged over
BATCH = 64  # of the estimate from a batch

VAE_LABEL, BETA_3, BETA_6 = "VAE", "beta-VAE, beta = 3", "beta-VAE, beta = 6"
TC_6, GAMMA_5, GAMMA_35 = "beta-TCVAE, beta = 6", "FactorVAE, gamma = 5", "FactorVAE, gamma = 35"
FASTER = "FactorVAE, gamma = 5, discriminator x 4"  # with four times the step of the VAE
PRESS_ON_ALL, WATCHED = (VAE_LABEL, BETA_3, BETA_6), (GAMMA_5, FASTER, GAMMA_35)
CURVES = ("judged", "least", "exact")
COLOURS = dict(zip((*PRESS_ON_ALL, TC_6, *WATCHED), ("0.4", "C9", "C0", "C2", "C1", "C4", "C3"), strict=True))
AXES = {
    "mig": "MIG",
    "factor_vae_score": "FactorVAE score",
    "distortion": "distortion: -log p(x|z) of test images (nats)",
}


WITHIN_SEEDS = "the seeds differ by more"


def verdict(difference, spread):
    """Whether a difference that should be positive is: None if it is within the spread of the seeds."""
    return bool(difference > 0) if abs(difference) > spread else None


def all_hold(verdicts):
    """Of several claims at once: one that fails is enough, and so is one, otherwise, that cannot be told."""
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts or not verdicts else True


def caught_up_from(judged, least, exact):
    """The epoch, counted from 1, from which on a curve stays between two others, give or take 10 % and 0.1 nats.

    None if it is elsewhere in the end.
    """
    judged, low, high = map(np.asarray, (judged, least, exact))
    low, high = low - np.maximum(0.1, 0.1 * np.abs(low)), high + np.maximum(0.1, 0.1 * np.abs(high))
    near = (low <= judged) & (judged <= high)
    far = np.flatnonzero(~near)
    return None if not near[-1] else int(far[-1]) + 2 if len(far) else 1


def of_seeds_that_caught_up(found):
    """In words, and whether all did: {label: [step from which on, or None, for each seed]}."""
    texts = []
    for label, steps in found.items():
        there = [f"{step:,}" for step in steps if step is not None]
        when = f", from step {' / '.join(there)} on" if there else ""
        texts.append(f"{label}: {len(there)} of {len(steps)} seeds{when}")
    return "; ".join(texts), all(None not in steps for steps in found.values())


class TotalCorrelation(Reproduction):
    """beta-VAE penalises the whole KL, and with it what the code says about the image. FactorVAE and beta-TCVAE
    penalise the total correlation TC alone, the part of the KL that says how dependent the latents are: the one asks a
    discriminator for it (here also one with four times the VAE's step size), the other the batch. gamma = beta - 1, so
    that beta = 6 and gamma = 5 are the same weight; gamma = 35 is the weight of the paper. All of them pay in
    reconstruction, so that scores are compared at the same reconstruction.

    For a finite set of images q(z) is known, as the mean of their posteriors, and TC is a mean over codes from it. That
    of training images, which are a sample, is as a rule more than that of all sprites, for which the table has an
    estimate that errs to the other side. A discriminator's TC should be between the two. Beside them stands the
    estimate from batches of 64, on which beta-TCVAE is trained. MI, of the training images, is what a code says about
    which of them it is from: at most the logarithm of their number.
    """

    name = "total-correlation"
    title = "what a penalty on the total correlation buys"
    source = "Kim & Mnih 2018 and Chen 2018, the experiments on dSprites"

    def seeds(self, budget):
        return 3

    def protocol(self, budget):
        words = (
            "sprites drawn by this repository, whose pixels are not those of dSprites; in the scores orientation "
            "counts as far as it can be seen; MIG is from samples of q(z|x), of shape and orientation each given the "
            f"other; scores of {NUM_IMAGES:,} images; "
        )
        if budget == "quick":
            return words + (
                "images of 32x32 pixels instead of 64x64, in which an edge has half the pixels, so that the same "
                "weight weighs more; 8 epochs of 50,000 sprites, 6,256 steps of 64 images, instead of 300,000 steps; "
                "Adam's step 1e-3 instead of 1e-4; fully connected networks of 256-256 units, the discriminator of 4 "
                "layers of 256 instead of 6 of 1000; when the encoder stands still, the discriminator takes "
                f"{FROZEN_STEPS[budget]:,} steps of {FROZEN_BATCH} codes"
            )
        return words + (
            "26 epochs, 297,492 steps; the networks of Burgess 2018 throughout; when the encoder stands still, the "
            f"discriminator takes {FROZEN_STEPS[budget]:,} steps of {FROZEN_BATCH} codes"
        )

    def runs(self, budget):
        shared, discriminator = SHARED[budget], DISCRIMINATOR[budget]
        minutes = {"quick": (0.8, 0.9, 1.7), "full": (220.0, 240.0, 440.0)}[budget]
        watched = f"{shared} {discriminator}".strip()
        faster = {"quick": "4e-3", "full": "4e-4"}[budget]
        return {
            VAE_LABEL: Run("vae_paper", shared, minutes[0]),
            BETA_3: Run("vae_paper", f"{shared} --beta 3", minutes[0]),
            BETA_6: Run("vae_paper", f"{shared} --beta 6", minutes[0]),
            TC_6: Run("beta_tcvae", f"{shared} --beta 6", minutes[1]),
            GAMMA_5: Run("reproductions.total_correlation", f"{watched} --gamma 5", minutes[2]),
            FASTER: Run(
                "reproductions.total_correlation", f"{watched} --gamma 5 --discriminator-lr {faster}", minutes[2]
            ),
            GAMMA_35: Run("reproductions.total_correlation", f"{watched} --gamma 35", minutes[2]),
        }

    def measure(self, trained):
        model, train_images = trained.model, trained.images("train")
        with torch.no_grad():
            mu, logvar = posteriors(model, train_images)
            z, rows = draw_codes(mu, logvar, NUM_CODES, trained.seed)
            codes = (z, mu[rows], logvar[rows])
            information, exact, _ = exact_kl_decomposition(*codes, mu, logvar)
            least = total_correlation(z, rows, mu, logvar, NUM_SPRITES)
            batches = zip(*(part.split(BATCH) for part in codes), strict=True)
            in_batches = statistics.mean(kl_decomposition(*batch, len(mu))[1].item() for batch in batches)
        rng = np.random.default_rng(trained.seed)
        numbers = rng.choice(NUM_SPRITES, NUM_IMAGES, replace=False)
        scored = encode_all(model, RenderedSprites(numbers, model.image_shape[-1], trained.device))
        factors, last = visible_factors_of(numbers), trained.rows[-1]
        measures = {
            "mig": mig_of_samples(*scored, factors, rng, GIVEN),
            "factor_vae_score": factor_vae_score(scored[0], factors, rng),
            "distortion": last["test_reconstruction_nll"],
            "kl": last["test_kl_divergence"],
            "mutual_information": information.item(),
            "exact_total_correlation": exact.item(),
            "least_total_correlation": least.item(),
            "batch_total_correlation": in_batches,
        }
        if trained.label in WATCHED:
            measures |= {name: trained.column(f"{name}_total_correlation") for name in CURVES}
            measures["steps_per_epoch"] = -(-len(train_images) // BATCH)
            looks = [FROZEN_STEPS[trained.budget] * (i + 1) // LOOKS for i in range(LOOKS)]
            measures["frozen_steps"] = looks
            measures["frozen"] = judged_when_frozen(
                model, mu, logvar, z, looks, FROZEN_BATCH, FROZEN_LR[trained.budget], trained.seed
            )
        return measures

    # Claims.

    def claims(self, results):
        return [
            self.in_order(results, "mig", (VAE_LABEL, BETA_6, TC_6), "0.10 < 0.21 < 0.45 (Chen 2018, dSprites)"),
            self.in_order(results, "factor_vae_score", (BETA_6, GAMMA_35), "0.63 < 0.82 (Kim & Mnih 2018, dSprites)"),
            self.at_equal_distortion(results, "mig", (TC_6,), "Chen 2018"),
            self.at_equal_distortion(results, "factor_vae_score", WATCHED, "Kim & Mnih 2018"),
            self.in_order(results, "mutual_information", (BETA_6, TC_6), "direction only (Chen 2018)"),
            self.catches_up(results),
            self.catches_up_when_frozen(results),
        ]

    def in_order(self, results, name, labels, paper):
        """That these runs have ever more of something, each step beyond the spread of the seeds of both."""
        what = {**AXES, "mutual_information": "Mutual information of image and code"}[name]
        holds = all_hold(
            verdict(results.mean(more, name) - results.mean(less, name), spread(results, name, less, more))
            for less, more in pairwise(labels)
        )
        steps = results[GAMMA_5, "steps_per_epoch"][0] * len(results[GAMMA_5, "judged"][0])
        few_steps = f"{steps:,} steps instead of 300,000" if results.content["budget"] == "quick" else ""
        return Claim(
            f"{what}: {' < '.join(labels)}",
            paper,
            ", ".join(results.text(label, name) for label in labels),
            holds,
            WITHIN_SEEDS if holds is None else few_steps,
        )

    def at_equal_distortion(self, results, name, labels, source):
        """That pressing on TC alone has the better score than a beta-VAE of the same distortion.

        A beta-VAE between those that were trained is read off the straight lines between their points. Of a distortion
        outside of theirs nothing is said.
        """
        points = sorted((results.mean(label, "distortion"), results.mean(label, name)) for label in PRESS_ON_ALL)
        known, scores = zip(*points, strict=True)
        verdicts, outside, texts = [], [], []
        for label in labels:
            distortion, ours = results.mean(label, "distortion"), results.mean(label, name)
            if not known[0] <= distortion <= known[-1]:
                outside.append(None)
                texts.append(f"{label}: no beta-VAE here has {distortion:.1f} nats")
                continue
            theirs = float(np.interp(distortion, known, scores))
            verdicts.append(verdict(ours - theirs, spread(results, name, label, *PRESS_ON_ALL)))
            texts.append(f"{label}: {ours:.2f} against {theirs:.2f} at {distortion:.1f} nats")
        holds = all_hold(verdicts + outside)
        models = " and ".join(dict.fromkeys(label.partition(",")[0] for label in labels))
        return Claim(
            f"At the same reconstruction {models} has a higher {AXES[name]} than beta-VAE",
            f"direction only ({source})",
            "; ".join(texts),
            holds,
            WITHIN_SEEDS if holds is None and None in verdicts else "",
        )

    def catches_up(self, results):
        found = {label: [] for label in WATCHED}
        for label, steps in found.items():
            names = (*CURVES, "steps_per_epoch")
            for judged, least, exact, in_epoch in zip(*(results[label, name] for name in names), strict=True):
                epoch = caught_up_from(judged, least, exact)
                steps.append(epoch and epoch * in_epoch)
        return Claim(
            "FactorVAE's discriminator catches up: its TC ends between the two estimates, within 10 % or 0.1 nats",
            "what it is for (Kim & Mnih 2018, equation 3)",
            *of_seeds_that_caught_up(found),
            "the encoder moves on while it learns: see the next row",
        )

    def catches_up_when_frozen(self, results):
        found = {label: [] for label in WATCHED}
        for label, steps in found.items():
            names = ("frozen", "least_total_correlation", "exact_total_correlation", "frozen_steps")
            for judged, least, exact, looks in zip(*(results[label, name] for name in names), strict=True):
                look = caught_up_from(judged, [least] * len(looks), [exact] * len(looks))
                steps.append(look and looks[look - 1])
        return Claim(
            f"It does so once the encoder is frozen, within {results[GAMMA_5, 'frozen_steps'][0][-1]:,} steps more",
            "no claim of the paper's",
            *of_seeds_that_caught_up(found),
            "where it does not, its estimate rises and falls again",
        )

    # The table and the figure.

    def table(self, results):
        columns = {
            "MIG": ("mig", 2),
            "FactorVAE score": ("factor_vae_score", 2),
            "distortion (nats)": ("distortion", 1),
            "KL (nats)": ("kl", 1),
            "MI (nats)": ("mutual_information", 2),
            "TC, all sprites, at least": ("least_total_correlation", 2),
            "TC, training images": ("exact_total_correlation", 2),
            "TC, batches of 64": ("batch_total_correlation", 2),
        }
        rows = []
        for label in results.runs:
            cells = [results.text(label, name, digits) for name, digits in columns.values()]
            ends = [curve[-1] for curve in results[label, "judged"]] if label in WATCHED else []
            rows.append([label, *cells, spread_text(ends) if ends else ""])
        return ["run", *columns, "TC, discriminator"], rows

    def draw(self, results, trained, path):
        figure = Figure(figsize=(14, 4.8), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for axes, name in ((left, "mig"), (middle, "factor_vae_score")):
            for label in results.runs:
                axes.plot(results[label, "distortion"], results[label, name], "o", color=COLOURS[label], label=label)
            line = sorted((results.mean(label, "distortion"), results.mean(label, name)) for label in PRESS_ON_ALL)
            axes.plot(*zip(*line, strict=True), color="0.8", zorder=0, label="between the means of VAE and beta-VAE")
            axes.set(xlabel=AXES["distortion"], ylabel=AXES[name], title=f"{AXES[name]}, a point for each seed")
        for label in WATCHED:
            steps = results[label, "steps_per_epoch"][0]
            at = steps * np.arange(1, len(results[label, "judged"][0]) + 1)
            least, exact = np.mean(results[label, "least"], axis=0), np.mean(results[label, "exact"], axis=0)
            right.fill_between(at, least, exact, color=COLOURS[label], alpha=0.15)
            for judged, frozen, looks in zip(
                *(results[label, name] for name in ("judged", "frozen", "frozen_steps")), strict=True
            ):
                right.plot(at, judged, ".-", color=COLOURS[label], linewidth=1)
                right.plot(at[-1] + np.array(looks), frozen, ".:", color=COLOURS[label], linewidth=1)
            bounds = [np.mean(results[label, f"{name}_total_correlation"]) for name in ("least", "exact")]  # at the end
            right.fill_between([at[-1], at[-1] + looks[-1]], *bounds, color=COLOURS[label], alpha=0.15, linewidth=0)
        right.fill_between([], [], color="0.5", alpha=0.4, label="between its two estimates, mean")
        right.plot([], [], "k.-", linewidth=1, label="the discriminator's")
        right.plot([], [], "k.:", linewidth=1, label="with the encoder frozen")
        right.set(
            xlabel="training steps",
            ylabel="total correlation (nats)",
            title="Total correlation of FactorVAE, each seed",
        )
        low, high = right.get_ylim()
        right.set(xlim=(0, None), ylim=(low, high + 0.35 * (high - low)))  # room for the legend
        right.legend(loc="upper center")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save_figure(figure, path)


def spread(results, name, *labels):
    """The largest standard deviation over the seeds that one of these runs has; 0 of one seed."""
    return max(results.deviation(label, name) for label in labels)


REPRODUCTION = TotalCorrelation()

if __name__ == "__main__":
    from reproductions import total_correlation  # by its own name, so that its classes are those others import

    run_as_script(total_correlation.main)
