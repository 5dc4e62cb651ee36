"""The importance weighted autoencoder (Burda 2015): the same model, a bound that k samples make tighter.

    log p(x) >= L_k = E[ log 1/k sum_i w_i ],   w_i = p(x, z_i) / q(z_i|x),   z_i ~ q(z|x)      (Burda 2015, equation 8)

L_1 is the ELBO; L_k grows with k towards log p(x). Its gradient weighs the samples by how well they explain x,

    grad L_k = E[ sum_i w~_i grad log w_i ],   w~_i = w_i / sum_j w_j                            (Burda 2015, section 3)

so that the encoder may propose codes broadly: one good guess among k is enough. The price: for the encoder's parameters
the signal of this gradient fades as k grows (Rainforth et al. 2018). The doubly reparameterised estimator has the same
mean and does not suffer from that: the parameters of q are held fixed inside log w, and what reaches them through z_i
is weighted by w~_i^2 (Tucker 2018, section 3). With k = 1 it leaves out the score of q alone, whose mean is zero and
whose noise is not (Roeder et al. 2017): the VAE gains too, as `reproduce.py iwae-tricks` measures.

    eps     standard normal noise, k draws for every image    (N, k, Z)
    log w   log importance weights                            (N, k) nats

Run it with

    python paper/iwae.py                                      50 samples on the embedded digits
    python paper/iwae.py --objective vae                      the comparison: the mean of 50 one-sample bounds
    python paper/iwae.py --objective dreg                     doubly reparameterised gradients
    python paper/iwae.py --data mnist --binarisation fresh --k 5 --epochs 10

and measure log p(x) with `python paper/likelihood.py log-likelihood --run DIR`.

Papers, cited by their first author and year:
    Burda, Grosse & Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv:1509.00519
    Rainforth et al. 2018, "Tighter Variational Bounds are Not Necessarily Better", arXiv:1802.04537
    Roeder, Wu & Duvenaud 2017, "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational
        Inference", arXiv:1703.09194
    Tucker et al. 2018, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", arXiv:1810.04152
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from experiment import TrainingConfig, run_script
from trainable import option
from vae_paper import BaseVAE, NetworkOptions, log_prior_over_posterior


def importance_weighted_bound(log_weights):
    """log 1/k sum_i w_i: (N, k) -> (N,) nats (Burda 2015, equation 8), stable for any weights."""
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])


@dataclass
class IWAEOptions(NetworkOptions):
    """By default the network of the paper's one-layer model: 200-200-50, tanh."""

    k: int = option(50, least=1)
    """Samples of z per image and step."""
    objective: Literal["iwae", "dreg", "vae"] = "iwae"
    """The k-sample bound; the same with doubly reparameterised gradients; or the mean of k one-sample bounds."""
    latent_dim: int = option(50, least=1)
    """Size of z."""
    architecture: Literal["conv", "mlp"] = "mlp"
    """The fully connected network of the paper, or convolutions."""
    hidden_dims: tuple[int, ...] = option((200, 200), least=1)
    """Sizes of the hidden layers of --architecture mlp, encoder's order; with none given it is linear."""
    activation: Literal["relu", "tanh"] = "tanh"
    """Of those hidden layers."""


class IWAE(BaseVAE):
    """A VAE that is trained on the bound of k samples.

    Its options are those of `IWAEOptions`. objective: "iwae", the bound L_k; "dreg", the same bound with doubly
    reparameterised gradients; "vae", the mean of k one-sample bounds, which is the VAE with less noise in its gradient
    (Burda 2015, section 2).
    """

    Options = IWAEOptions

    def __init__(self, **options):
        super().__init__(**options)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)  # "the heuristic of Glorot & Bengio" (Burda 2015, section 5)
                nn.init.zeros_(layer.bias)

    @property
    def noise_shape(self):
        return (self.options.k, self.latent_dim)

    def optimizers(self, lr):
        return {
            "loss": torch.optim.Adam(self.parameter_groups(lr), lr=lr, eps=1e-4, fused=True)
        }  # Burda 2015, section 5

    @torch.no_grad()
    def start_from(self, images, generator):
        """The output's bias is the training images' mean (of at most 60,000): the first thing any decoder learns."""
        if (self.options.architecture, self.options.likelihood) == ("mlp", "bernoulli"):  # one bias for each pixel
            parts = torch.arange(min(len(images), 60_000), device=images.labels.device).split(1000)
            total = sum(images.batch(index, generator)[0].sum(dim=0) for index in parts)
            mean = (total / sum(map(len, parts))).flatten()
            self.decoder.logits.bias.copy_(torch.logit(mean, eps=1e-3))

    def terms(self, x, eps, c=None, step=None):
        """loss: -L_k, or for objective "vae" the mean of k one-sample bounds; and what a one-sample bound is made of.

        Each (N,) nats per image. reconstruction_nll is the mean over the k samples, kl_divergence the closed form, so
        that their sum is -ELBO, with less noise than from one sample.
        """
        mu, logvar, z, log_likelihood = self.posterior_samples(x, eps, c)
        # For "dreg" q's parameters are held fixed here, and reach the bound through z alone ...
        q = [parameter.detach() if self.options.objective == "dreg" else parameter for parameter in (mu, logvar)]
        log_w = log_likelihood + log_prior_over_posterior(z, *q)  # (N, k)
        if self.options.objective == "dreg" and z.requires_grad:
            # ... whose gradient carries one normalised weight, from the log-sum-exp, and takes the second here.
            weights = torch.softmax(log_w.detach(), dim=1).unsqueeze(2)  # (N, k, 1)
            z.register_hook(lambda gradient: weights * gradient)
        loss = -log_w.mean(dim=1) if self.options.objective == "vae" else -importance_weighted_bound(log_w)
        nll, kl = -log_likelihood.mean(dim=1), self.kl_divergence(mu, logvar)
        return {"loss": loss, "reconstruction_nll": nll, "kl_divergence": kl}


@dataclass
class IwaeConfig(IWAEOptions, TrainingConfig):
    """Train an importance weighted autoencoder (Burda 2015): 200-200-50, tanh, on the bound of k samples.

    Expect a loss (minus the bound) near 189 nats per test image after 60 epochs of the digits, with -ELBO near 205 and
    KL near 10 (a minute and a half on two cores); after 10 epochs of MNIST with --binarisation fresh --batch-size 128,
    99, 112 and 20 (10 to 15 minutes).
    """

    batch_size: int = option(20, least=1)
    """Images per step."""


def build_model(config, train_images):
    return IWAE.from_options(config, image_shape=train_images.image_shape)


def main(argv=None):
    run_script(__file__, IwaeConfig, build_model, IWAE.load_file, argv)


if __name__ == "__main__":
    import iwae  # by its own name, so that its classes are those that other files import

    run_as_script(iwae.main)
