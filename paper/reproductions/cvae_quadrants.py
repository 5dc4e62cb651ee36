"""Completing digits: the conditional VAE with a learned prior (Sohn 2015), against a network and nearest neighbours.

A digit is cut into quadrants, of which one, two or three are observed. Of the observed pixels x a model predicts the
others, y. A network alone gives every pixel a probability, as if pixels were independent given x; the latent code z
lets them agree with each other on one of the many digits that x may belong to:

    z ~ p(z|x),  y ~ p(y|x, z)
    log p(y|x) >= E_q(z|x,y)[log p(y|x, z)] - KL(q(z|x, y) || p(z|x))                         (Sohn 2015, equation 4)

What one compares is -log p(y|x), nats of the unobserved pixels, estimated with S samples of the prior or, with fewer
of them wasted, of the recognition network (both in Sohn 2015):

    log 1/S sum_s p(y|x, z_s)                                z_s ~ p(z|x)         Monte Carlo
    log 1/S sum_s p(y|x, z_s) p(z_s|x) / q(z_s|x, y)         z_s ~ q(z|x, y)      importance sampling

Both lie below log p(y|x) in the mean.

    x       images in [0, 1], both parts                      (N, C, H, W)
    eps     standard normal noise                             (N, Z)
    logits  log-odds of all pixels, under p(y|x, z)           (N, C, H, W)

Run it with

    python paper/reproductions/cvae_quadrants.py                                   the embedded digits, one quadrant
    python paper/reproductions/cvae_quadrants.py --data mnist --quadrants-observed 2 --epochs 7

Paper: Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative Models"
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from experiment import TrainingConfig, run_script
from input_checks import check_images
from level_script import save_image_grid, save_loss_curves
from pictures import loss_curves
from reproduction import Claim, Reproduction, Run
from trainable import Options, TrainableModel, option, require_positive_ints
from trainer import unchecked
from training_images import spread
from vae_paper import MLPDecoder, MLPEncoder, log_normal

# --- The model -------------------------------------------------------------------------------------------------------


def observed_pixels(height, width, quadrants):
    """Which pixels are observed, (H, W) booleans: the bottom left quadrant, of two also the top left one, of three also
    the top right one (the order of Pyro's example).
    """
    observed = np.zeros((height, width), dtype=bool)
    observed[height // 2 :, : width // 2] = True
    if quadrants >= 2:
        observed[: height // 2, : width // 2] = True
    if quadrants >= 3:
        observed[: height // 2, width // 2 :] = True
    return observed


def gaussian_kl(mu_q, logvar_q, mu_p, logvar_p):
    """KL(N(mu_q, exp(logvar_q)) || N(mu_p, exp(logvar_p))): (N, Z) each -> (N,) nats, summed over the latents."""
    ratio = torch.exp(logvar_q - logvar_p)
    distance = (mu_q - mu_p).square() * torch.exp(-logvar_p)
    return 0.5 * (ratio + distance - 1 + logvar_p - logvar_q).sum(dim=1)


@dataclass
class QuadrantOptions(Options):
    """What is observed, and the networks: by default the sizes of Pyro's example."""

    quadrants_observed: Literal[1, 2, 3] = 1
    """Bottom left; and top left; and top right."""
    latent_dim: int = option(200, least=1)
    """Size of z."""
    hidden_dims: tuple[int, ...] = option((500, 500), least=1)
    """Sizes of the hidden layers, ReLU, of each of the four networks."""


class QuadrantCVAE(TrainableModel):
    """The conditional VAE of Sohn 2015 for the quadrants of an image: four networks.

        baseline     x -> p(y|x), pixel by pixel          the network alone, that the CVAE is compared with
        prior        p(z|x)                               sees x and the baseline's guess of y
        recognition  q(z|x, y)                            sees the whole image
        generation   p(y|x, z)                            sees z, x and the baseline's guess of y

    image_shape: (C, H, W). Its options are those of `QuadrantOptions`.
    """

    Options = QuadrantOptions

    def __init__(self, image_shape=(1, 28, 28), **options):
        super().__init__(image_shape, **options)
        hidden, latent_dim = self.options.hidden_dims, self.options.latent_dim
        pixels = math.prod(self.image_shape)
        observed = observed_pixels(*self.image_shape[1:], self.options.quadrants_observed)
        observed = np.broadcast_to(observed, self.image_shape)
        self.register_buffer("observed", torch.tensor(observed, dtype=torch.float32), persistent=False)
        where = torch.tensor(np.flatnonzero(~observed))  # the places of the others in a flat image
        self.register_buffer("unobserved", where, persistent=False)
        # A network that turns numbers into an image is a decoder; the image it starts from comes in as a vector.
        self.baseline = MLPDecoder(self.image_shape, pixels, 0, hidden, "relu")
        self.prior = MLPEncoder(self.image_shape, latent_dim, 0, hidden, "relu")
        self.recognition = MLPEncoder(self.image_shape, latent_dim, 0, hidden, "relu")
        self.generation = MLPDecoder(self.image_shape, latent_dim, pixels, hidden, "relu")

    @property
    def latent_dim(self):
        return self.options.latent_dim

    @property
    def noise_shape(self):
        return (self.latent_dim,)

    def guess(self, x):
        """The baseline's logits of all pixels, and x with its guess in place of what is not observed.

        (N, C, H, W) each. No gradient passes through the guess: the baseline learns from its own loss alone.
        """
        seen = x * self.observed
        logits = self.baseline(seen.flatten(1)).to(x.dtype)
        return logits, seen + (1 - self.observed) * torch.sigmoid(logits.detach())

    def unobserved_nll(self, logits, x):
        """-log p of the unobserved pixels, Bernoulli: (N, C, H, W) each -> (N,) nats, summed over them."""
        logits, y = (image.flatten(1).index_select(1, self.unobserved) for image in (logits, x))
        return torch.addcmul(F.softplus(logits, threshold=50), y, logits, value=-1).sum(dim=1)  # softplus(l) - y l

    def terms(self, x, eps, c=None, step=None):
        """Each (N,) nats per image: minus equation 4 of Sohn 2015, and beside it the loss of the network alone.

        loss = reconstruction_nll + kl_divergence + baseline_nll; the last has parameters of its own.
        """
        if self.validate:
            check_images(torch.Tensor, x, next(self.parameters()), self.image_shape, (0, 1))
        baseline, guess = self.guess(x)
        q, p = self.recognition(x), self.prior(guess)
        q, p = ([parameter.to(x.dtype) for parameter in each] for each in (q, p))  # from bfloat16
        z = q[0] + torch.exp(q[1] / 2) * eps
        logits = self.generation(z, guess.flatten(1)).to(x.dtype)
        nll, kl = self.unobserved_nll(logits, x), gaussian_kl(*q, *p)
        baseline_nll = self.unobserved_nll(baseline, x)
        loss = nll + kl + baseline_nll
        return {"loss": loss, "reconstruction_nll": nll, "kl_divergence": kl, "baseline_nll": baseline_nll}

    def log_weights(self, x, eps, proposal):
        """log w of S samples, E[w] = p(y|x): eps (N, S, Z) -> (N, S) nats.

        proposal: "prior", w = p(y|x, z) with z ~ p(z|x); "recognition", w = p(y|x, z) p(z|x) / q(z|x, y)
        with z ~ q(z|x, y).
        """
        n, s, _ = eps.shape
        guess = self.guess(x)[1]
        p = [parameter.unsqueeze(1) for parameter in self.prior(guess)]  # (N, 1, Z)
        q = [parameter.unsqueeze(1) for parameter in self.recognition(x)] if proposal == "recognition" else p
        z = q[0] + torch.exp(q[1] / 2) * eps  # (N, S, Z)
        repeated = guess.flatten(1).repeat_interleave(s, dim=0)
        nll = self.unobserved_nll(self.generation(z.flatten(0, 1), repeated), x.repeat_interleave(s, dim=0))
        log_p = -nll.view(n, s)
        if proposal == "recognition":
            log_p = log_p + (log_normal(z, *p) - log_normal(z, *q)).sum(dim=2)
        return log_p

    def complete(self, x, eps):
        """Draws of the whole image: eps (N, K, Z) -> (N, K, C, H, W) in [0, 1].

        Observed pixels as they are, the others' probabilities given x and z ~ p(z|x).
        """
        guess = self.guess(x)[1]
        mu, logvar = (parameter.unsqueeze(1) for parameter in self.prior(guess))
        z = mu + torch.exp(logvar / 2) * eps
        repeated = guess.flatten(1).repeat_interleave(eps.shape[1], dim=0)
        drawn = torch.sigmoid(self.generation(z.flatten(0, 1), repeated)).view(*eps.shape[:2], *x.shape[1:])
        return torch.where(self.observed.bool(), x.unsqueeze(1), drawn)


@torch.no_grad()
def conditional_nll(model, x, num_samples, generator, proposal, rows=2500):
    """-log p(y|x) with num_samples samples of z, an upper bound in the mean: x (N, C, H, W) -> (N,) nats.

    proposal: `QuadrantCVAE.log_weights`'s. rows: (image, sample) pairs at once, which bounds the memory.
    """
    require_positive_ints(num_samples=num_samples, rows=rows)
    parts = []
    with unchecked(model):
        for part in x.split(max(1, rows // num_samples)):
            shape = (len(part), num_samples, model.latent_dim)
            eps = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
            parts.append(math.log(num_samples) - torch.logsumexp(model.log_weights(part, eps, proposal), dim=1))
    return torch.cat(parts)


# --- Nearest neighbours ----------------------------------------------------------------------------------------------

NEIGHBOURS = (1, 2, 5, 10, 20, 50, 100)
PSEUDO_COUNTS = (0.01, 0.03, 0.1, 0.3, 1.0)


def nearest(queries, references, k):
    """The k nearest of the references (M, D) to each query (N, D), Euclidean: (N, k) integers, the nearest first."""
    squares = references.square().sum(dim=1)
    # |a - b|^2 without |a|^2, which is the same for all.
    found = [
        torch.topk(torch.addmm(squares, part, references.T, alpha=-2), k, dim=1, largest=False).indices
        for part in queries.split(200)
    ]
    return torch.cat(found)


def neighbours_nll(sums, y, k, pseudo_count):
    """-log p(y) where a pixel is white as often as in the k neighbours: (N, D) each -> (N,) nats, summed over pixels.

    sums: the neighbours' pixels, added up. pseudo_count: so many white and so many black neighbours more (Laplace's
    rule), without which one pixel that no neighbour has would cost infinitely much.
    """
    p = (sums + pseudo_count) / (k + 2 * pseudo_count)
    return -(y * torch.log(p) + (1 - y) * torch.log1p(-p)).sum(dim=1)


def choose_neighbours(x, y, held_out):
    """k and the pseudo-count that predict `held_out` of the training images best from all others.

    x (N, D), y (N, D'): observed and unobserved pixels.
    """
    left_out = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    left_out[spread(torch.arange(len(x)), held_out).to(x.device)] = True
    references = y[~left_out]
    candidates = [k for k in NEIGHBOURS if k <= len(references)]
    found = nearest(x[left_out], x[~left_out], max(candidates))
    costs = {}
    for k in candidates:
        sums = torch.stack([references[row].sum(dim=0) for row in found[:, :k]])
        for pseudo_count in PSEUDO_COUNTS:
            costs[k, pseudo_count] = neighbours_nll(sums, y[left_out], k, pseudo_count).mean().item()
    return min(costs, key=costs.get)


def split_pixels(images, observed):
    """All images as floats, flat: their observed (N, D) and their unobserved pixels (N, D'). observed: (C, H, W)."""
    x, where = images.batch(slice(None))[0].flatten(1), observed.flatten().bool()
    return x[:, where], x[:, ~where]


def measure_neighbours(train, test, observed):
    """The nearest neighbours' nll of the test images (N,) nats, with the k and the pseudo-count behind it."""
    x, y = split_pixels(train, observed)
    k, pseudo_count = choose_neighbours(x, y, min(1000, max(1, len(x) // 10)))
    test_x, test_y = split_pixels(test, observed)
    costs = []
    for queries, targets in zip(test_x.split(1000), test_y.split(1000), strict=True):
        sums = torch.stack([y[row].sum(dim=0) for row in nearest(queries, x, k)])
        costs.append(neighbours_nll(sums, targets, k, pseudo_count))
    return torch.cat(costs), k, pseudo_count


# --- Pictures --------------------------------------------------------------------------------------------------------

DRAWS = 6
COLUMNS = ["observed", "network", *[f"draw {i + 1}" for i in range(DRAWS)], "truth"]


@torch.no_grad()
def completions(model, x, seed):
    """What `COLUMNS` names, of images x (N, C, H, W): (N, columns, C, H, W) in [0, 1], what is missing in grey."""
    eps = torch.randn(len(x), DRAWS, model.latent_dim, generator=torch.Generator().manual_seed(seed)).to(x)
    missing = torch.where(model.observed.bool(), x, 0.4)
    columns = [missing.unsqueeze(1), model.guess(x)[1].unsqueeze(1), model.complete(x, eps), x.unsqueeze(1)]
    return torch.cat(columns, dim=1).cpu().numpy()


def draw_completions(folder, model, images, seed, rows=()):
    """The pictures of a run: its curves, and completions of the first ten test images."""
    parameter = next(model.parameters())
    x = images.batch(slice(0, 10), torch.Generator(parameter.device).manual_seed(seed))[0].to(parameter)
    if rows:
        save_loss_curves(folder / "loss_curves.png", loss_curves(rows))
    title = f"Test images completed: {in_words(model.options.quadrants_observed)} observed, z drawn from p(z|x)"
    save_image_grid(folder / "completions.png", completions(model, x, seed), title, None, COLUMNS)


def in_words(quadrants):
    return "1 quadrant" if quadrants == 1 else f"{quadrants} quadrants"


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class QuadrantConfig(QuadrantOptions, TrainingConfig):
    """Train a conditional VAE that completes images of which one, two or three quadrants are observed (Sohn 2015).

    All terms count the unobserved pixels alone. baseline_nll is that of a network without z, trained beside it.
    """


def build_model(config, train_images):
    return QuadrantCVAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, QuadrantConfig, build_model, QuadrantCVAE.load_file, argv, draw=draw_completions)


# --- The experiment --------------------------------------------------------------------------------------------------

QUADRANTS = (1, 2, 3)
EPOCHS = {"quick": 7, "full": 20}
SAMPLES = {"quick": 100, "full": 1000}
PYRO = {"network": (100.4, 61.9, 25.4), "minus_elbo": (71.8, 51.0, 24.2)}  # of its tutorial "cvae"
PREDICTORS = {  # by the name of the measure
    "neighbours": "nearest neighbours",
    "network": "network without z",
    "minus_elbo": "CVAE, -ELBO",
    "monte_carlo": "CVAE, Monte Carlo",
    "importance": "CVAE, importance sampling",
}


class CvaeQuadrants(Reproduction):
    """A part of a digit is seen, and the rest is to be predicted: -log p of the unobserved pixels, in nats per test
    image. A network that gives each pixel its own probability has to be vague wherever several digits are possible; the
    CVAE draws a code first, and with it one of the digits. The training images nearest in the observed pixels are a
    prediction that needs no training.

    -ELBO, Monte Carlo and importance sampling look at one trained CVAE, and all three are upper bounds in the mean of
    the same -log p(y|x), importance sampling the closest. The column of Pyro stands on its own code: what its table
    calls CVAE (Monte Carlo) is computed there with samples of the recognition network, as -ELBO, and what it calls NN
    (baseline) is a neural network.
    """

    name = "cvae-quadrants"
    title = "digits completed from 1, 2 and 3 quadrants of MNIST"
    source = "Sohn 2015, the quadrants of MNIST; Pyro's example cvae"

    def protocol(self, budget):
        return (
            f"{EPOCHS[budget]} epochs, where Pyro trains up to 50 and keeps the epoch that is best on the test images; "
            "grey MNIST with a Bernoulli likelihood, as there, batches of 128, Adam 1e-3, 500-500 ReLU, 200 latents; "
            "observed are the bottom left quadrant, of two also the top left, of three also the top right; the "
            "generation network sees the network's guess too, in Pyro's z alone; the network without z is trained at "
            "the same time and not before, and counts with its best epoch on the test images, the CVAE with its last; "
            f"{SAMPLES[budget]} samples for Monte Carlo and for importance sampling; nearest neighbours in the "
            "Euclidean distance of the observed pixels, a pixel white as often as in the k nearest (Laplace's rule), "
            "k and the pseudo-count chosen on 1,000 training images that are left out; the paper's own table is not "
            "quoted, as we had no copy of it to read"
        )

    def runs(self, budget):
        minutes = {"quick": 2.7, "full": 27.0}[budget]
        return {
            in_words(n): Run(
                "reproductions.cvae_quadrants",
                f"--data mnist --quadrants-observed {n} --epochs {EPOCHS[budget]}",
                minutes,
            )
            for n in QUADRANTS
        }

    def measure(self, trained):
        model = QuadrantCVAE.load(trained.folder).to(trained.device).eval()
        train, test = trained.images("train"), trained.images("test")
        generator = torch.Generator(trained.device).manual_seed(trained.seed)
        x, samples = test.batch(slice(None), generator)[0], SAMPLES[trained.budget]
        estimates = {
            name: conditional_nll(model, x, samples, generator, proposal).double().mean().item()
            for name, proposal in (("monte_carlo", "prior"), ("importance", "recognition"))
        }
        neighbours, k, pseudo_count = measure_neighbours(train, test, model.observed)
        last = trained.rows[-1]
        return estimates | {
            "minus_elbo": last["test_reconstruction_nll"] + last["test_kl_divergence"],
            "network": min(trained.column("test_baseline_nll")),
            "neighbours": neighbours.double().mean().item(),
            "k": k,
            "pseudo_count": pseudo_count,
        }

    def claims(self, results):
        gaps = [results.mean(label, "network") - results.mean(label, "minus_elbo") for label in results.runs]
        elbo = [results.mean(label, "minus_elbo") for label in results.runs]
        reached = all(ours <= theirs for ours, theirs in zip(elbo, PYRO["minus_elbo"], strict=True))
        fully = results.content["budget"] == "full"
        return [
            Claim(
                "The CVAE predicts the unobserved pixels better than a network without z (Monte Carlo)",
                f"{slashed(PYRO['network'])} to {slashed(PYRO['minus_elbo'])} (Pyro's example, its bound)",
                f"{self.means(results, 'network')} to {self.means(results, 'monte_carlo')}",
                all(always_below(results, label, "monte_carlo", "network") for label in results.runs),
            ),
            Claim(
                "And better than nearest neighbours (Monte Carlo)",
                "no number",
                f"{self.means(results, 'neighbours')} to {self.means(results, 'monte_carlo')}",
                all(always_below(results, label, "monte_carlo", "neighbours") for label in results.runs),
            ),
            Claim(
                "The less is observed, the more the code is worth: -ELBO below the network's nats",
                "28.6 / 10.9 / 1.2 (Pyro's example)",
                slashed(gaps),
                gaps[0] > gaps[1] > gaps[2],
            ),
            Claim(
                "-ELBO is as low as in Pyro's example",
                slashed(PYRO["minus_elbo"]),
                slashed(elbo),
                reached if fully else None,
                "" if fully else f"it trains up to 50 epochs, this budget {EPOCHS[results.content['budget']]}",
            ),
        ]

    def means(self, results, name):
        return slashed([results.mean(label, name) for label in results.runs])

    def table(self, results):
        rows = []
        for name, words in PREDICTORS.items():
            ours = [results.text(label, name) for label in results.runs]
            rows.append([words, *ours, slashed(PYRO[name]) if name in PYRO else ""])
        return ["-log p(y|x), nats", *results.runs, "Pyro's example"], rows

    @torch.no_grad()
    def draw(self, results, trained, path):
        """Three digits in three ways: what is observed, the nearest training image, the network, draws, the truth."""
        rows, names = [], []
        for label, [first, *_] in trained.items():
            model = QuadrantCVAE.load(first.folder).to(first.device).eval()
            test, train = first.images("test"), first.images("train")
            x = test.batch(spread(torch.arange(len(test)), 4).to(first.device))[0]
            where = model.observed.flatten().bool()
            neighbour = nearest(x.flatten(1)[:, where], split_pixels(train, model.observed)[0], 1).squeeze(1)
            neighbour = train.batch(neighbour)[0]
            neighbour = torch.where(model.observed.bool(), x, neighbour).cpu().numpy()
            rows.append(np.insert(completions(model, x, first.seed), 1, neighbour, axis=1))
            names += [f"{label[0]} of 4"] * len(x)
        title = "Test digits completed from 1, 2 and 3 of their 4 quadrants"
        save_image_grid(path, np.concatenate(rows), title, names, [COLUMNS[0], "nearest", *COLUMNS[1:]])


def slashed(values):
    return " / ".join(f"{value:.1f}" for value in values)


def always_below(results, label, lower, higher):
    """Whether one measure of a run is below another with every seed."""
    return all(a < b for a, b in zip(results[label, lower], results[label, higher], strict=True))


REPRODUCTION = CvaeQuadrants()

if __name__ == "__main__":
    from reproductions import cvae_quadrants  # by its own name, so that its classes are those that other files import

    run_as_script(cvae_quadrants.main)
