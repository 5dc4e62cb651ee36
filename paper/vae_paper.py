"""Level 3: the variational autoencoder as papers write it, with beta (beta-VAE) and with a condition (CVAE).

The same model as `numpy/vae_numpy.py` and `pytorch_lowlevel/vae_lowlevel.py`, number by number, as an `nn.Module`. The
parameters are now the module's own, so that `encode(params, x)` becomes `model.encode(x)`; everything else keeps its
name, its shape and its unit. The training loop is in `trainer.py`, the pictures in `pictures.py`.

    x       images in [0, 1]                                  (N, 1, 28, 28)
    mu      mean of q(z|x) = N(mu, diag(exp(logvar)))         (N, Z)
    logvar  its log variance, log sigma^2                     (N, Z)
    eps     standard normal noise, always passed in           (N, Z)
    z       latent code, mu + exp(logvar / 2) * eps           (N, Z)
    logits  log-odds that a pixel is white, under p(x|z)      (N, 1, 28, 28)    (of a Gaussian p(x|z): its mean)
    c       class labels, for the conditional model           (N,) integers

Run it with

    python paper/vae_paper.py                                 train on the embedded digits
    python paper/vae_paper.py --beta 4                        a beta-VAE
    python paper/vae_paper.py --conditional                   a CVAE: one row of samples per class
    python paper/vae_paper.py --autoencoder                   neither noise nor KL: why the V matters
    python paper/vae_paper.py --likelihood gaussian --sigma learned
    python paper/vae_paper.py --kl-schedule cyclical --kl-steps 500
    python paper/vae_paper.py --data sprites32 --latent-dim 10 --capacity 25 --kl-steps 10000 --epochs 5
    python paper/vae_paper.py --data mnist --epochs 10        on MNIST
    python paper/vae_paper.py --weights FILE.safetensors      only report, nothing is trained

Papers, cited below by their first author and year:
    Kingma & Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114
    Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR
    Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS
    Burgess et al. 2018, "Understanding disentangling in beta-VAE", arXiv:1804.03599
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from experiment import TrainingConfig, report_of_terms, run_script
from input_checks import check_beta, check_finite, check_images, check_labels, check_latents, check_logits
from schedules import KLSchedule
from trainable import (
    Options,
    TrainableModel,
    flag,
    option,
    read_description,
    read_weights,
    require,
    require_positive_ints,
)
from training_images import describe

# --- The networks ----------------------------------------------------------------------------------------------------
# c is None, or the one-hot class (N, num_classes), which every network appends to the vector it starts from.


class ConvEncoder(nn.Module):
    """x (N, C, H, W) -> mu, logvar (N, Z)."""

    def __init__(self, image_shape, latent_dim, num_classes):
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.fc = nn.Linear(64 * (height // 4) * (width // 4) + num_classes, 256)
        self.mu = nn.Linear(256, latent_dim)
        self.logvar = nn.Linear(256, latent_dim)

    def forward(self, x, c=None):
        h = F.relu(self.conv1(x))  # (N, 32, 14, 14)
        # Flattened before the ReLU, not after: then neither ReLU's input nor its gradient mixes two memory layouts.
        h = F.relu(self.conv2(h).flatten(1))  # (N, 3136), in (64, 7, 7) order
        h = F.relu(self.fc(append(h, c)))  # (N, 256)
        return self.mu(h), self.logvar(h)


class ConvDecoder(nn.Module):
    """z (N, Z) -> logits (N, C, H, W)."""

    def __init__(self, image_shape, latent_dim, num_classes):
        super().__init__()
        channels, height, width = image_shape
        self.start = (64, height // 4, width // 4)
        self.fc1 = nn.Linear(latent_dim + num_classes, 256)
        self.fc2 = nn.Linear(256, math.prod(self.start))
        self.deconv1 = nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, channels, 3, stride=2, padding=1, output_padding=1)

    def forward(self, z, c=None):
        h = F.relu(self.fc1(append(z, c)))  # (N, 256)
        h = F.relu(self.fc2(h))  # (N, 3136)
        h = h.unflatten(1, self.start)  # (N, 64, 7, 7)
        h = F.relu(self.deconv1(h))  # (N, 32, 14, 14)
        return self.deconv2(h)  # (N, 1, 28, 28)


class BurgessEncoder(nn.Module):
    """The encoder for 64x64 images (Burgess 2018): x (N, C, 64, 64) -> mu, logvar (N, Z)."""

    def __init__(self, image_shape, latent_dim, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(image_shape[0], 32, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 4, stride=2, padding=1)
        self.conv4 = nn.Conv2d(32, 32, 4, stride=2, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4 + num_classes, 256)
        self.fc2 = nn.Linear(256, 256)
        self.mu = nn.Linear(256, latent_dim)
        self.logvar = nn.Linear(256, latent_dim)

    def forward(self, x, c=None):
        h = F.relu(self.conv1(x))  # (N, 32, 32, 32)
        h = F.relu(self.conv2(h))  # (N, 32, 16, 16)
        h = F.relu(self.conv3(h))  # (N, 32, 8, 8)
        h = F.relu(self.conv4(h).flatten(1))  # (N, 512), in (32, 4, 4) order
        h = F.relu(self.fc1(append(h, c)))  # (N, 256)
        h = F.relu(self.fc2(h))  # (N, 256)
        return self.mu(h), self.logvar(h)


class BurgessDecoder(nn.Module):
    """Its mirror image: z (N, Z) -> logits (N, C, 64, 64)."""

    def __init__(self, image_shape, latent_dim, num_classes):
        super().__init__()
        self.fc1 = nn.Linear(latent_dim + num_classes, 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc3 = nn.Linear(256, 32 * 4 * 4)
        self.deconv1 = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1)
        self.deconv3 = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1)
        self.deconv4 = nn.ConvTranspose2d(32, image_shape[0], 4, stride=2, padding=1)

    def forward(self, z, c=None):
        h = F.relu(self.fc1(append(z, c)))  # (N, 256)
        h = F.relu(self.fc2(h))  # (N, 256)
        h = F.relu(self.fc3(h)).unflatten(1, (32, 4, 4))
        h = F.relu(self.deconv1(h))  # (N, 32, 8, 8)
        h = F.relu(self.deconv2(h))  # (N, 32, 16, 16)
        h = F.relu(self.deconv3(h))  # (N, 32, 32, 32)
        return self.deconv4(h)  # (N, C, 64, 64)


class MLPEncoder(nn.Module):
    """The fully connected encoder of the early papers: x (N, C, H, W) -> mu, logvar (N, Z)."""

    def __init__(self, image_shape, latent_dim, num_classes, hidden_dims, activation):
        super().__init__()
        dims = (math.prod(image_shape) + num_classes, *hidden_dims)
        self.hidden = hidden_layers(dims, activation)
        self.mu = nn.Linear(dims[-1], latent_dim)
        self.logvar = nn.Linear(dims[-1], latent_dim)

    def forward(self, x, c=None):
        h = self.hidden(append(x.flatten(1), c))
        return self.mu(h), self.logvar(h)


class MLPDecoder(nn.Module):
    """Its mirror image: z (N, Z) -> logits (N, C, H, W)."""

    def __init__(self, image_shape, latent_dim, num_classes, hidden_dims, activation):
        super().__init__()
        dims = (latent_dim + num_classes, *reversed(hidden_dims))
        self.image_shape = image_shape
        self.hidden = hidden_layers(dims, activation)
        self.logits = nn.Linear(dims[-1], math.prod(image_shape))

    def forward(self, z, c=None):
        return self.logits(self.hidden(append(z, c))).unflatten(1, self.image_shape)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def hidden_layers(dims, activation):
    layers = ((nn.Linear(a, b), ACTIVATIONS[activation]()) for a, b in pairwise(dims))
    return nn.Sequential(*(part for layer in layers for part in layer))


def append(h, c):
    return h if c is None else torch.cat([h, c], dim=1)


# --- The models ------------------------------------------------------------------------------------------------------


@dataclass
class NetworkOptions(Options):
    """What every model of this family chooses: its networks, the size of z and the likelihood of a pixel."""

    latent_dim: int = option(20, least=1)
    """Size of z."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Convolutions, or the fully connected network of the early papers."""
    hidden_dims: tuple[int, ...] = option((400, 400), least=1)
    """Sizes of the hidden layers of --architecture mlp, encoder's order; with none given it is linear."""
    activation: Literal["relu", "tanh"] = "relu"
    """Of those hidden layers."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of a pixel given z: on or off, or a grey value with squared error."""
    sigma: float | Literal["learned"] = option(1.0, above=0)
    """Standard deviation of the gaussian likelihood, in units of the grey value (0 to 1), or learned."""

    def check(self, flags=False):
        super().check(flags)
        name = flag if flags else str
        given = (self.hidden_dims, self.activation) != (type(self).hidden_dims, type(self).activation)
        require(
            self.architecture == "mlp" or not given,
            f"{name('hidden_dims')} and {name('activation')} belong to {name('architecture')} mlp: choose that too",
        )
        require(
            self.likelihood == "gaussian" or self.sigma == 1,
            f"{name('sigma')} belongs to the gaussian {name('likelihood')}: choose that too",
        )


class EncoderDecoder(TrainableModel):
    """The two networks and the likelihood p(x|z) of a pixel, which is what VAEs and the autoencoder share.

    image_shape: (C, H, W). The networks "conv" take sides that are multiples of 4, and for 64x64 are those of Burgess
    2018; "mlp" has `hidden_dims` in the encoder, mirrored in the decoder. likelihood: "bernoulli", of pixels in [0, 1],
    or "gaussian", N(decoder(z), sigma^2) for each pixel; with sigma fixed, minimising its nll is minimising squared
    error / (2 sigma^2); sigma="learned" is one more parameter, exp(log_sigma). options: the fields of `Options`.

    Raises ValueError for arguments out of range, TypeError for an option that the class does not have.
    """

    Options = NetworkOptions
    far_to_go = ("log_sigma",)

    def __init__(self, image_shape=(1, 28, 28), **options):
        super().__init__(image_shape, **options)
        options, (_, height, width) = self.options, self.image_shape
        shared = (self.image_shape, options.latent_dim, self.num_classes)
        if options.architecture == "mlp":
            self.encoder = MLPEncoder(*shared, options.hidden_dims, options.activation)
            self.decoder = MLPDecoder(*shared, options.hidden_dims, options.activation)
        elif (height, width) == (64, 64):
            self.encoder, self.decoder = BurgessEncoder(*shared), BurgessDecoder(*shared)
        else:
            require(height % 4 == width % 4 == 0, f"conv needs sides that are multiples of 4, got {self.image_shape}")
            self.encoder, self.decoder = ConvEncoder(*shared), ConvDecoder(*shared)
        learned = options.sigma == "learned"
        self.log_sigma = nn.Parameter(torch.zeros(())) if learned else math.log(options.sigma)

    @property
    def latent_dim(self):
        return self.options.latent_dim

    def encode(self, x, c=None):
        """q(z|x), or q(z|x, c): x (N, C, H, W) in [0, 1], c (N,) labels -> mu, logvar, each (N, Z)."""
        self.check_images(x, next(self.parameters()))
        mu, logvar = self.encoder(x, self.one_hot(c, x))
        return mu.to(x.dtype), logvar.to(x.dtype)  # from bfloat16, where the networks run in it

    def embed(self, x, c=None):
        """The point of latent space that stands for an image, nothing drawn: the posterior's mean, (N, Z)."""
        return self.encode(x, c)[0]

    def decode(self, z, c=None):
        """p(x|z), or p(x|z, c): z (N, Z), c (N,) labels -> logits (N, C, H, W), of a Gaussian the mean."""
        if self.validate:
            check_latents(torch.Tensor, next(self.parameters()), self.latent_dim, z=z)
        return self.decoder(z, self.one_hot(c, z)).to(z.dtype)

    def reconstruction_nll(self, logits, x):
        """-log p(x|z): (N,) nats, summed over the pixels.

        Bernoulli (Kingma 2013, equation 11), stable for any logit, or Gaussian with its constants:
        sum of (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2.
        """
        self.check_images(x)
        if self.validate:
            check_logits(torch.Tensor, logits, x)
        if self.options.likelihood == "bernoulli":
            # softplus(l) - x l; binary_cross_entropy_with_logits is the same in twice as many passes over the memory.
            nll = torch.addcmul(F.softplus(logits, threshold=50), x, logits, value=-1)
        else:
            log_sigma = torch.as_tensor(self.log_sigma, dtype=x.dtype, device=x.device)
            nll = ((x - logits) * torch.exp(-log_sigma)).square() / 2 + log_sigma + math.log(2 * math.pi) / 2
        return nll.flatten(1).sum(dim=1)

    def sample(self, z, c=None):
        """The mean image of p(x|z), in [0, 1], which is what one looks at: (N, C, H, W)."""
        logits = self.decode(z, c)
        return torch.sigmoid(logits) if self.options.likelihood == "bernoulli" else logits.clamp(0, 1)

    # Checks: every mistake is told where it enters, in the words of all levels.

    def one_hot(self, c, batch):
        """Labels (N,) to the float matrix (N, num_classes) that the networks take; None for the unconditional model."""
        if self.num_classes == 0:
            require(c is None, f"a {type(self).__name__} takes no class labels c")
            return None
        require(c is not None, f"a {type(self).__name__} needs the class labels c, shape (N,)")
        if self.validate:
            check_labels(torch.Tensor, c, len(batch), self.num_classes)
        return torch.eye(self.num_classes, dtype=batch.dtype, device=batch.device)[c.long()]

    def check_images(self, x, like=None):
        if self.validate:
            bounds = None if self.options.likelihood == "gaussian" else (0, 1)
            check_images(torch.Tensor, x, like, self.image_shape, bounds)

    def check_latents(self, **latents):
        if self.validate:
            check_latents(torch.Tensor, latent_dim=self.latent_dim, **latents)

    def check_finite(self, name, tensor):
        if self.validate:
            check_finite(name, tensor)


class BaseVAE(EncoderDecoder):
    """p(z) = N(0, I), p(x|z) of the decoder, q(z|x) = N(mu, diag(sigma^2)) of the encoder, and the bounds they give.

    What is minimised, `terms`, is a paper's own: `VAE` below, and the files beside this one.
    """

    @property
    def noise_shape(self):
        return (self.latent_dim,)

    def reparameterize(self, mu, logvar, eps):
        """z = mu + sigma * eps, a sample of q(z|x) that gradients pass through (Kingma 2013, section 2.4). (N, Z)."""
        self.check_latents(mu=mu, logvar=logvar, eps=eps)
        sigma = torch.exp(logvar / 2)  # the square root of the variance: hence the half
        self.check_finite("sigma = exp(logvar / 2)", sigma)
        return mu + sigma * eps

    def kl_divergence(self, mu, logvar):
        """KL(q(z|x) || N(0, I)): (N,) nats, summed over the latents (Kingma 2013, appendix B)."""
        return self.kl_per_latent(mu, logvar).sum(dim=1)

    def kl_per_latent(self, mu, logvar):
        """Its summands, (N, Z) nats."""
        self.check_latents(mu=mu, logvar=logvar)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
        self.check_finite("the KL divergence", kl)
        return kl

    def forward(self, x, eps, c=None):
        """x (N, C, H, W), eps (N, Z), c (N,) labels -> mu, logvar, z (N, Z) and logits (N, C, H, W)."""
        mu, logvar = self.encode(x, c)
        z = self.reparameterize(mu, logvar, eps)
        logits = self.decode(z, c)
        return mu, logvar, z, logits

    def elbo(self, x, eps, beta=1.0, c=None):
        """E_q[log p(x|z)] - beta KL(q(z|x) || p(z)): (N,) nats (Kingma 2013, equation 3).

        With beta = 1, whatever the model was trained with, it is the ELBO, a lower bound of log p(x).
        """
        check_beta(beta)
        mu, logvar, _, logits = self(x, eps, c)
        return -self.reconstruction_nll(logits, x) - beta * self.kl_divergence(mu, logvar)

    def posterior_samples(self, x, eps, c=None):
        """K samples of q(z|x) for each image, and how well each explains it.

        eps (N, K, Z) -> mu, logvar (N, Z), z (N, K, Z), log p(x|z) (N, K) nats.
        """
        n, k, _ = eps.shape
        mu, logvar = self.encode(x, c)

        def k_times(tensor):  # (N, ...) -> (N K, ...), without a copy where there is one image
            return None if tensor is None else tensor.unsqueeze(1).expand(n, k, *tensor.shape[1:]).flatten(0, 1)

        z = self.reparameterize(k_times(mu), k_times(logvar), eps.flatten(0, 1)).view(eps.shape)
        log_likelihood = -self.reconstruction_nll(self.decode(z.flatten(0, 1), k_times(c)), k_times(x))
        return mu, logvar, z, log_likelihood.view(n, k)

    def log_weights(self, x, eps, c=None):
        """log w = log p(x|z) + log p(z) - log q(z|x) of K samples z of q(z|x): eps (N, K, Z) -> (N, K) nats.

        E_q[w] = p(x), so that their log-mean-exp over K bounds log p(x) from below (Burda et al. 2015,
        arXiv:1509.00519, equation 8), the tighter the larger K.
        """
        mu, logvar, z, log_likelihood = self.posterior_samples(x, eps, c)
        return log_likelihood + log_prior_over_posterior(z, mu, logvar)


def log_prior_over_posterior(z, mu, logvar):
    """log p(z) - log q(z|x): K samples z (N, K, Z), mu, logvar (N, Z) -> (N, K) nats, summed over the latents."""
    return (log_normal(z) - log_normal(z, mu.unsqueeze(1), logvar.unsqueeze(1))).sum(dim=-1)


def log_normal(z, mu=None, logvar=None):
    """log N(z_d; mu_d, exp(logvar_d)), or log N(z_d; 0, 1), per latent: nats, of the shape that all broadcast to."""
    if mu is None:
        return -0.5 * (z.square() + math.log(2 * math.pi))
    return -0.5 * ((z - mu).square() * torch.exp(-logvar) + logvar + math.log(2 * math.pi))


@dataclass
class VAEOptions(KLSchedule, NetworkOptions):
    """The networks, and how the KL enters the loss."""

    def check(self, flags=False):
        super().check(flags)
        require(
            self.latent_dim % self.group_size == 0,
            f"{self.latent_dim} latents do not make groups of {self.group_size}",
        )


class VAE(BaseVAE):
    """The VAE of Kingma & Welling 2013, and with another beta that of Higgins 2017.

    Its options are those of `KLSchedule` (beta, annealing, free bits, capacity) and of `EncoderDecoder`.
    """

    Options = VAEOptions

    @property
    def couples_batch(self):
        return self.options.couples_batch

    def terms(self, x, eps, c=None, step=None):
        """What training minimises and what it is made of, each (N,) nats per image; train and test use this alone.

        loss = reconstruction_nll + beta * kl_divergence: minus equation (4) of Higgins 2017; for beta = 1 it is minus
        the ELBO, estimated with one sample (Kingma 2013, equation 10); with c, minus Sohn 2015's bound. A KL schedule
        may put another penalty in the place of beta * kl_divergence, which depends on the training `step`.
        """
        mu, logvar, _, logits = self(x, eps, c)
        nll, kl = self.reconstruction_nll(logits, x), self.kl_per_latent(mu, logvar)
        loss = nll + self.options.penalty(kl, step)
        return {"loss": loss, "reconstruction_nll": nll, "kl_divergence": kl.sum(dim=1)}

    @classmethod
    def family(cls):
        """`VAE.load` reads the run of any relative: an IWAE or a FactorVAE is a VAE in the field's language."""
        return EncoderDecoder if cls is VAE else cls


class ConditionalVAE(VAE):
    """The conditional VAE (Sohn 2015, equation 4): both networks also see a condition, here the class label c.

        log p(x|c) >= E_q(z|x,c)[log p(x|z, c)] - KL(q(z|x, c) || p(z))

    Sohn 2015 writes y for the image and x for the condition and lets the prior p(z|x) depend on the condition; as that
    paper allows, and as Kingma et al. 2014 (M2, arXiv:1406.5298) do, the prior here is N(0, I) for every class. The
    latent code is then free of the class: it keeps what the label does not say, such as slant and stroke.
    """

    from_data = (*VAE.from_data, "num_classes", "class_names")

    def __init__(self, num_classes=10, class_names=(), **options):
        """class_names: of the labels in their order, where they have names; they are kept with the weights."""
        require_positive_ints(num_classes=num_classes)
        require(len(class_names) in (0, num_classes), f"{num_classes} classes cannot have {len(class_names)} names")
        self.num_classes, self.class_names = num_classes, tuple(class_names)
        super().__init__(**options)


class Autoencoder(EncoderDecoder):
    """The same networks without the V: z = mu, no noise, and no KL in the loss.

    It reconstructs better than the VAE, and its codes lie where they like: draws from N(0, I) decode to nothing. A
    point is no distribution, so there is no bound: an autoencoder has neither `elbo` nor `log_weights`.
    """

    elbo_terms = ()

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder.logvar.requires_grad_(False)  # nothing uses it

    def forward(self, x, c=None):
        """x (N, C, H, W) -> z (N, Z) and logits (N, C, H, W)."""
        z = self.embed(x, c)
        return z, self.decode(z, c)

    def terms(self, x, eps, c=None, step=None):
        nll = self.reconstruction_nll(self(x, c)[-1], x)
        return {"loss": nll, "reconstruction_nll": nll}


def load_model(path):
    """The model behind a .safetensors file: as the file says, or config.json beside it, or else the default VAE."""
    weights = read_weights(path)
    try:
        model = VAE.from_config(*read_description(path))
    except FileNotFoundError:  # an older file, alone
        latent_dim = weights["encoder.mu.bias"].numel() if "encoder.mu.bias" in weights else 1
        model = VAE(latent_dim=max(latent_dim, 1))
    model.load_tensors(weights, path)
    return model


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class VaeConfig(VAEOptions, TrainingConfig):
    """Train a VAE, a beta-VAE, a conditional VAE or an autoencoder, or report on weights that any level wrote.

    Expect -ELBO near 193 nats per test image after 60 epochs of the digits (half a minute on two cores), near 101 after
    10 epochs of MNIST (three minutes).
    """

    conditional: bool = False
    """Give both networks the class label: the CVAE."""
    autoencoder: bool = False
    """Train without noise and without the KL: the baseline that shows why the V matters."""

    def check(self, flags=False):
        super().check(flags)
        require(not (self.autoencoder and self.conditional), "--autoencoder and --conditional: choose one")
        default = KLSchedule()
        require(
            not self.autoencoder or all(getattr(self, name) == value for name, value in vars(default).items()),
            "an autoencoder has no KL: leave out --beta and its schedule",
        )


def build_model(config, train_images):
    """A new model as the options ask, for the images' shape and classes. Raises ValueError."""
    if config.conditional:
        names = train_images.class_names
        require(names, f"--conditional needs classes, and --data {config.data} has none: put them in sub-folders")
        data = {"num_classes": len(names), "class_names": names, "image_shape": train_images.image_shape}
        return ConditionalVAE.from_options(config, **data)
    kind = Autoencoder if config.autoencoder else VAE
    return kind.from_options(config, image_shape=train_images.image_shape)


def report_first_values(model, test_images, config):
    """The report of every level: the ELBO's terms and the first values, so that levels can be compared with `diff`."""
    from level_script import report, report_noise

    if not model.elbo_terms:
        return report_of_terms(model, test_images, config)
    parameter = next(model.parameters())
    eps = torch.from_numpy(report_noise(config.seed, len(test_images), model.latent_dim))
    generator = torch.Generator(parameter.device).manual_seed(config.seed)
    parts = []
    with torch.no_grad():
        for index in torch.arange(len(test_images)).split(1000):
            x, c = test_images.batch(index, generator)
            x, c = x.to(parameter.dtype), c if model.num_classes else None
            mu, logvar, z, logits = model(x, eps[index].to(x), c)
            nll, kl = model.reconstruction_nll(logits, x), model.kl_divergence(mu, logvar)
            parts.append([tensor.cpu().numpy() for tensor in (nll, kl, mu, logvar, z, logits[:1])])
    arrays = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return report(config.data, config.seed, *arrays, binarisation=describe(config, test_images))


def main(argv=None):
    run_script(__file__, VaeConfig, build_model, load_model, argv, report_first_values)


if __name__ == "__main__":
    import vae_paper  # by its own name, so that its classes are those that other files import

    run_as_script(vae_paper.main)
