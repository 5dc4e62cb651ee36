"""FactorVAE (Kim & Mnih 2018): pay for dependence between the latents, and for nothing else.

The KL of a VAE contains what the code says about the image, which one wants, and the total correlation of the codes of
all images together, TC = KL(q(z) || prod_d q(z_d)), which says how far the latents are from independent. beta-VAE
presses on both; FactorVAE on the second alone,

    loss = reconstruction_nll + KL(q(z|x) || p(z)) + gamma * TC                            (Kim & Mnih 2018, equation 2)

q(z) has no closed form, but one can draw from it (encode a random image) and from prod_d q(z_d) (permute each latent
across a batch, every latent by its own permutation). A discriminator D learns to tell the two apart, and its logit is
the log density ratio:

    TC = E_q(z)[ log q(z) / prod_d q(z_d) ]  ~  E_q(z)[ log D(z) / (1 - D(z)) ]            (Kim & Mnih 2018, equation 3)

    eps     of each image: the noise of z, and random numbers whose order is the permutation    (N, 2, Z)

Run it with

    python paper/factor_vae.py                                on the embedded digits
    python paper/factor_vae.py --data sprites32 --train-images 50000 --epochs 30 --gamma 35

Paper: Kim & Mnih 2018, "Disentangling by Factorising", arXiv:1802.05983
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from experiment import TrainingConfig, run_script
from processes import gathered, own_part
from trainable import option, require
from vae_paper import BaseVAE, NetworkOptions


def permute_dims(z, keys):
    """Draws from prod_d q(z_d): every latent permuted across the batch, by itself (Kim & Mnih 2018, algorithm 1).

    z: (N, Z). keys: (N, Z) random numbers; the order of a column is its permutation. Returns (N, Z). Raises ValueError
    for no code at all, which is what one image leaves to permute.
    """
    require(len(z) > 0, "one image says nothing about the others: expected a batch of at least 2")
    return z.gather(0, keys.argsort(dim=0))


class Discriminator(nn.Module):
    """z (N, Z) -> (N,) logits of "drawn from q(z)" against "from prod_d q(z_d)"; 6 layers of 1000 in the paper."""

    def __init__(self, latent_dim, width, depth):
        super().__init__()
        dims = (latent_dim, *depth * [width])
        hidden = (part for a, b in pairwise(dims) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2)))
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, z):
        return self.layers(z).squeeze(1).to(z.dtype)


@dataclass
class FactorVAEOptions(NetworkOptions):
    """The weight of the total correlation, and the size of the discriminator that estimates it."""

    gamma: float = option(35.0, least=0)
    """Weight of the total correlation; the paper's best for dSprites is 35."""
    discriminator_width: int = option(1000, least=1)
    """Units in each of the discriminator's hidden layers."""
    discriminator_depth: int = option(6, least=1)
    """Its hidden layers."""
    latent_dim: int = option(10, least=1)
    """Size of z."""


class FactorVAE(BaseVAE):
    """A VAE with a penalty on the total correlation of its codes. Its options are those of `FactorVAEOptions`."""

    Options = FactorVAEOptions
    couples_batch = True
    units = MappingProxyType({"discriminator_nll": "nats per decision"})
    smallest_batch = 4  # two codes are the least that can be permuted

    def __init__(self, **options):
        super().__init__(**options)
        self.discriminator = Discriminator(
            self.latent_dim, self.options.discriminator_width, self.options.discriminator_depth
        )

    @property
    def noise_shape(self):
        return (2, self.latent_dim)

    def optimizers(self, lr):
        """Two players, one lr (the paper: 1e-4): the VAE takes a step, then the discriminator on the same codes."""
        theirs = list(self.discriminator.parameters())
        ours = self.parameter_groups(lr, without=theirs)
        return {
            "loss": torch.optim.Adam(ours, lr=lr, fused=True),
            "discriminator_nll": torch.optim.Adam(theirs, lr=lr, betas=(0.5, 0.9), fused=True),
        }

    def terms(self, x, eps, c=None, step=None):
        """Each (N,) nats per image, but for the discriminator's, which is nats per decision.

        loss = reconstruction_nll + kl_divergence + gamma * total_correlation (equation 2). The discriminator judges
        codes of one half of the batch as they are, and those of the other half permuted: the paper's second batch.
        """
        eps, keys = eps.unbind(dim=1)  # (N, Z) each
        mu, logvar, z, logits = self(x, eps, c)
        nll, kl = self.reconstruction_nll(logits, x), self.kl_divergence(mu, logvar)
        # The VAE sees the discriminator as it stands: gradients reach z, not the discriminator's parameters.
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        total_correlation = functional_call(self.discriminator, fixed, (z,))  # log D - log(1 - D) is D's logit

        # Of many processes, each judges its part of the batch's two halves.
        joint, other = gathered(z.detach()).tensor_split(2)
        product = permute_dims(other, gathered(keys)[len(joint) :])
        judged = self.discriminator(own_part(torch.cat([joint, product])))
        is_joint = own_part(torch.cat([torch.ones(len(joint)), torch.zeros(len(product))])).to(judged)
        return {
            "loss": nll + kl + self.options.gamma * total_correlation,
            "reconstruction_nll": nll,
            "kl_divergence": kl,
            "total_correlation": total_correlation,
            "discriminator_nll": F.binary_cross_entropy_with_logits(judged, is_joint, reduction="none"),
        }


@dataclass
class FactorConfig(FactorVAEOptions, TrainingConfig):
    """Train a FactorVAE (Kim & Mnih 2018): a VAE and a discriminator that tells it how dependent its latents are.

    Expect -ELBO near 204 and KL near 9 nats per test image after 60 epochs of the digits (a minute and a half on two
    cores), near 112 and 16 after 10 epochs of MNIST (ten minutes).
    """


def build_model(config, train_images):
    return FactorVAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, FactorConfig, build_model, FactorVAE.load_file, argv)


if __name__ == "__main__":
    import factor_vae  # by its own name, so that its classes are those that other files import

    run_as_script(factor_vae.main)
