"""beta-TCVAE (Chen 2018): take the KL apart, and weigh the part that measures dependence between the latents.

Averaged over the N images of the data set, with q(z) = 1/N sum_n q(z|x_n), the KL is exactly (Chen 2018, equation 2)

    E_n KL(q(z|x_n) || p(z)) =   KL(q(z, n) || q(z) p(n))          index-code mutual information, MI
                               + KL(q(z) || prod_d q(z_d))         total correlation, TC
                               + sum_d KL(q(z_d) || p(z_d))        dimension-wise KL

and the loss is reconstruction_nll + alpha * MI + beta * TC + gamma * dimension-wise KL (Chen 2018, equation 4).

All three need log q(z), a sum over the whole data set, of which a step sees B images. Two estimators:

    "mws"   minibatch weighted sampling: every image of the batch counts 1/(N B)              (Chen 2018, appendix C.1)
    "mss"   minibatch stratified sampling: z's own image stands for itself alone, 1/N, and the B - 1 others for the rest
            of the data set, so that the weights sum to one                                   (Chen 2018, appendix C.2)

The own image is the one on the diagonal of the B x B matrix: it alone explains z, so a weight that is off by a column
costs nats. And a weight belongs to an image, so it enters once per image, never once per latent.

Run it with

    python paper/beta_tcvae.py                                on the embedded digits
    python paper/beta_tcvae.py --data sprites32 --train-images 50000 --epochs 30

Paper: Chen, Li, Grosse & Duvenaud 2018, "Isolating Sources of Disentanglement in VAEs", arXiv:1802.04942
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass
from typing import Literal

import torch

from experiment import TrainingConfig, run_script
from processes import gathered, own_part
from trainable import option, require, require_positive_ints
from vae_paper import BaseVAE, NetworkOptions, log_normal


def stratified_log_weights(batch_size, dataset_size, like=None):
    """log of the weights of minibatch stratified sampling (Chen 2018, appendix C.2): (B, B), rows sum to one.

    Row i is for the code of image i. With M = B - 1 others: 1/N for its own image, on the diagonal; 1/M for M - 1 of
    the others; what is left, (N - M) / (N M), for the last one.
    """
    require(batch_size >= 2, "one image says nothing about the others: expected a batch of at least 2")
    others = batch_size - 1
    row = torch.arange(batch_size)
    weights = torch.full((batch_size, batch_size), 1 / others, dtype=torch.float64)
    weights[row, row] = 1 / dataset_size
    weights[row, (row + 1) % batch_size] = (dataset_size - others) / (dataset_size * others)
    return weights.log() if like is None else weights.log().to(like)


def log_densities(z, mu, logvar, dataset_size, estimator="mss"):
    """log q(z|x), log q(z), sum_d log q(z_d), log p(z) of a batch: four times (B,) nats.

    z, mu, logvar: (B, Z), z_i drawn from q(z|x_i). dataset_size: N, or B if that is more. estimator: "mss" or "mws".
    With many processes, these are this one's part of the batch, and b <= B of them.
    """
    all_mu, all_logvar = gathered(mu), gathered(logvar)  # (B, Z)
    batch_size = len(all_mu)
    require(batch_size >= 2, "one image says nothing about the others: expected a batch of at least 2")
    dataset_size = max(dataset_size, batch_size)
    pairwise = log_normal(z.unsqueeze(1), all_mu, all_logvar)  # (b, B, Z): code i under image j
    if estimator == "mss":
        log_weights = own_part(stratified_log_weights(batch_size, dataset_size, like=z))  # (b, B)
    else:
        log_weights = torch.full((), -math.log(dataset_size * batch_size), dtype=z.dtype, device=z.device)
    log_q_z = torch.logsumexp(log_weights + pairwise.sum(dim=2), dim=1)
    log_prod_q_zd = torch.logsumexp(log_weights.unsqueeze(-1) + pairwise, dim=1).sum(dim=1)
    return log_normal(z, mu, logvar).sum(dim=1), log_q_z, log_prod_q_zd, log_normal(z).sum(dim=1)


def kl_decomposition(z, mu, logvar, dataset_size, estimator="mss"):
    """Estimates of (mutual information, total correlation, dimension-wise KL) from a batch: scalars, nats.

    z, mu, logvar: (B, Z) with z_i drawn from q(z|x_i), B >= 2. dataset_size: the N images the batch was drawn from.
    estimator: "mss" (stratified) or "mws" (weighted). Raises ValueError for sizes or an estimator that cannot be.
    """
    check_batch(z, mu, logvar, dataset_size, estimator)
    return tuple(term.mean() for term in decompose(*log_densities(z, mu, logvar, dataset_size, estimator)))


def exact_kl_decomposition(z, mu, logvar, all_mu, all_logvar):
    """The same three with the exact q(z) = 1/N sum_n q(z|x_n) of a small data set; only the mean over z is sampled.

    z, mu, logvar: (B, Z) with z_i drawn from N(mu_i, exp(logvar_i)); all_mu, all_logvar: (N, Z), every image's
    posterior. Chunked over z, so that memory stays at about 10^7 numbers.
    """
    log_q_z, log_prod_q_zd = [], []
    for part in z.split(max(1, 10_000_000 // all_mu.numel())):
        pairwise = log_normal(part.unsqueeze(1), all_mu, all_logvar)  # (b, N, Z)
        log_q_z.append(torch.logsumexp(pairwise.sum(dim=2), dim=1) - math.log(len(all_mu)))
        log_prod_q_zd.append((torch.logsumexp(pairwise, dim=1) - math.log(len(all_mu))).sum(dim=1))
    log_q_z_given_x, log_p_z = log_normal(z, mu, logvar).sum(dim=1), log_normal(z).sum(dim=1)
    terms = decompose(log_q_z_given_x, torch.cat(log_q_z), torch.cat(log_prod_q_zd), log_p_z)
    return tuple(term.mean() for term in terms)


def decompose(log_q_z_given_x, log_q_z, log_prod_q_zd, log_p_z):
    """The summands of the three terms (Chen 2018, equation 2): MI, TC and dimension-wise KL of each code, (B,) nats."""
    return log_q_z_given_x - log_q_z, log_q_z - log_prod_q_zd, log_prod_q_zd - log_p_z


def check_batch(z, mu, logvar, dataset_size, estimator):
    shapes = {tuple(tensor.shape) for tensor in (z, mu, logvar)}
    require(len(shapes) == 1 and z.ndim == 2, f"z, mu and logvar must be (B, Z) alike, got {sorted(shapes)}")
    require(dataset_size >= len(z), f"dataset_size {dataset_size} is smaller than the batch of {len(z)}")
    require(estimator in ("mss", "mws"), f"estimator must be mss or mws, got {estimator!r}")


@dataclass
class BetaTCVAEOptions(NetworkOptions):
    """The weights of the three parts, all 1 in the VAE, and how log q(z) is estimated."""

    beta: float = option(6.0, least=0)
    """Weight of the total correlation."""
    alpha: float = option(1.0, least=0)
    """Weight of the mutual information between an image and its code."""
    gamma: float = option(1.0, least=0)
    """Weight of the dimension-wise KL."""
    estimator: Literal["mss", "mws"] = "mss"
    """Of log q(z) from a batch: minibatch stratified or weighted sampling."""
    latent_dim: int = option(10, least=1)
    """Size of z."""


class BetaTCVAE(BaseVAE):
    """A VAE whose KL is weighed in three parts.

    dataset_size: N, the number of training images. Its options are those of `BetaTCVAEOptions`.
    """

    Options = BetaTCVAEOptions
    from_data = (*BaseVAE.from_data, "dataset_size")
    couples_batch = True
    smallest_batch = 2

    def __init__(self, dataset_size, **options):
        require_positive_ints(dataset_size=dataset_size)
        super().__init__(**options)
        self.dataset_size = dataset_size

    def terms(self, x, eps, c=None, step=None):
        """Each (N,) nats per image: the loss, the VAE's two terms (closed-form KL), and the three parts of the KL."""
        mu, logvar, z, logits = self(x, eps, c)
        nll = self.reconstruction_nll(logits, x)
        weights = self.options
        densities = log_densities(z, mu, logvar, self.dataset_size, weights.estimator)
        mutual_information, total_correlation, dimension_wise_kl = decompose(*densities)
        penalty = (
            weights.alpha * mutual_information + weights.beta * total_correlation + weights.gamma * dimension_wise_kl
        )
        return {
            "loss": nll + penalty,
            "reconstruction_nll": nll,
            "kl_divergence": self.kl_divergence(mu, logvar),
            "mutual_information": mutual_information,
            "total_correlation": total_correlation,
            "dimension_wise_kl": dimension_wise_kl,
        }


@dataclass
class BetaTCConfig(BetaTCVAEOptions, TrainingConfig):
    """Train a beta-TCVAE (Chen 2018): the KL taken apart into mutual information, total correlation and the rest.

    Expect -ELBO near 200 and KL near 6 nats per test image after 60 epochs of the digits (half a minute on two cores),
    near 117 and 9 after 10 epochs of MNIST (four minutes).
    """


def build_model(config, train_images):
    return BetaTCVAE.from_options(config, dataset_size=len(train_images), image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, BetaTCConfig, build_model, BetaTCVAE.load_file, argv)


if __name__ == "__main__":
    import beta_tcvae  # by its own name, so that its classes are those that other files import

    run_as_script(beta_tcvae.main)
