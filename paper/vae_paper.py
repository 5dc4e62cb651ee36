"""Level 3: the variational autoencoder as papers write it, with beta (beta-VAE) and with a condition (CVAE).

The same model as `numpy/vae_numpy.py` and `pytorch_lowlevel/vae_lowlevel.py`, number by number, as an `nn.Module`. The
parameters are now the module's own, so that `encode(params, x)` becomes `model.encode(x)`; everything else keeps its
name, its shape and its unit. The training loop is in `trainer.py`, the pictures in `pictures.py`.

    x       images in [0, 1]                                  (N, 1, 28, 28)
    mu      mean of q(z|x) = N(mu, diag(exp(logvar)))         (N, Z)
    logvar  its log variance, log sigma^2                     (N, Z)
    eps     standard normal noise, always passed in           (N, Z)
    z       latent code, mu + exp(logvar / 2) * eps           (N, Z)
    logits  log-odds that a pixel is white, under p(x|z)      (N, 1, 28, 28)
    c       class labels, for the conditional model           (N,) integers

Run it with

    python paper/vae_paper.py                                 train on the embedded digits
    python paper/vae_paper.py --beta 4                        a beta-VAE
    python paper/vae_paper.py --conditional                   a CVAE: one row of samples per class
    python paper/vae_paper.py --data mnist --epochs 10        on MNIST
    python paper/vae_paper.py --weights FILE.safetensors      only report, nothing is trained

Papers, cited below by their first author and year:
    Kingma & Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114
    Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR
    Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS
"""

import json
import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from trainer import (
    Interrupted,
    TrainingConfig,
    load_resident,
    parse_config,
    pick_device,
    prepare_resume,
    train,
    write_beside,
)

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


class MLPEncoder(nn.Module):
    """The fully connected encoder of the early papers: x (N, C, H, W) -> mu, logvar (N, Z)."""

    def __init__(self, image_shape, latent_dim, num_classes, hidden_dims):
        super().__init__()
        self.hidden = relu_layers(math.prod(image_shape) + num_classes, *hidden_dims)
        self.mu = nn.Linear(hidden_dims[-1], latent_dim)
        self.logvar = nn.Linear(hidden_dims[-1], latent_dim)

    def forward(self, x, c=None):
        h = self.hidden(append(x.flatten(1), c))
        return self.mu(h), self.logvar(h)


class MLPDecoder(nn.Module):
    """Its mirror image: z (N, Z) -> logits (N, C, H, W)."""

    def __init__(self, image_shape, latent_dim, num_classes, hidden_dims):
        super().__init__()
        self.image_shape = image_shape
        self.hidden = relu_layers(latent_dim + num_classes, *reversed(hidden_dims))
        self.logits = nn.Linear(hidden_dims[0], math.prod(image_shape))

    def forward(self, z, c=None):
        return self.logits(self.hidden(append(z, c))).unflatten(1, self.image_shape)


def relu_layers(*dims):
    return nn.Sequential(*(layer for a, b in pairwise(dims) for layer in (nn.Linear(a, b), nn.ReLU())))


def append(h, c):
    return h if c is None else torch.cat([h, c], dim=1)


# --- The models ------------------------------------------------------------------------------------------------------


class VAE(nn.Module):
    """p(z) = N(0, I), p(x|z) = Bernoulli(sigmoid(decoder(z))), q(z|x) = N(mu, diag(sigma^2)) of the encoder.

    latent_dim: Z. beta: weight of the KL in training (Higgins 2017); 1 is the VAE of Kingma & Welling 2013.
    architecture: "conv", or "mlp" with the encoder's `hidden_dims`, mirrored in the decoder.
    image_shape: (C, H, W); "conv" takes sides that are multiples of 4.

    As in torch.distributions, `validate` says whether inputs are looked at: their values, which makes a GPU wait, and
    their shapes. The trainer, whose images are in range by construction, turns it off. Raises ValueError for arguments
    out of range.
    """

    num_classes = 0
    validate = True

    def __init__(self, latent_dim=20, beta=1.0, architecture="conv", hidden_dims=(400, 400), image_shape=(1, 28, 28)):
        super().__init__()
        image_shape, hidden_dims = tuple(image_shape), tuple(hidden_dims)
        require_positive_ints(latent_dim=latent_dim)
        require(0 <= beta < math.inf, f"beta must be a finite number of at least 0, got {beta}")
        require(architecture in ("conv", "mlp"), f"architecture must be conv or mlp, got {architecture!r}")
        require(len(image_shape) == 3 and min(image_shape) >= 1, f"image_shape must be (C, H, W), got {image_shape}")
        self.latent_dim, self.beta, self.architecture = latent_dim, beta, architecture
        self.hidden_dims, self.image_shape = hidden_dims, image_shape
        if architecture == "conv":
            _, height, width = image_shape
            require(height % 4 == width % 4 == 0, f"conv needs sides that are multiples of 4, got {image_shape}")
            self.encoder = ConvEncoder(image_shape, latent_dim, self.num_classes)
            self.decoder = ConvDecoder(image_shape, latent_dim, self.num_classes)
        else:
            require(hidden_dims, "hidden_dims must name at least one hidden layer, got none")
            require_positive_ints(**{f"hidden_dims[{i}]": size for i, size in enumerate(hidden_dims)})
            self.encoder = MLPEncoder(image_shape, latent_dim, self.num_classes, hidden_dims)
            self.decoder = MLPDecoder(image_shape, latent_dim, self.num_classes, hidden_dims)

    def encode(self, x, c=None):
        """q(z|x), or q(z|x, c): x (N, C, H, W) in [0, 1], c (N,) labels -> mu, logvar, each (N, Z)."""
        self.check_images(x)
        return self.encoder(x, self.one_hot(c, x))

    def reparameterize(self, mu, logvar, eps):
        """z = mu + sigma * eps, a sample of q(z|x) that gradients pass through (Kingma 2013, section 2.4). (N, Z)."""
        self.check_latents(mu=mu, logvar=logvar, eps=eps)
        sigma = torch.exp(logvar / 2)  # the square root of the variance: hence the half
        self.check_finite("sigma = exp(logvar / 2)", sigma)
        return mu + sigma * eps

    def decode(self, z, c=None):
        """p(x|z), or p(x|z, c): z (N, Z), c (N,) labels -> logits (N, C, H, W)."""
        self.check_latents(z=z)
        return self.decoder(z, self.one_hot(c, z))

    def kl_divergence(self, mu, logvar):
        """KL(q(z|x) || N(0, I)): (N,) nats, summed over the latents (Kingma 2013, appendix B)."""
        self.check_latents(mu=mu, logvar=logvar)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)
        self.check_finite("the KL divergence", kl)
        return kl

    def reconstruction_nll(self, logits, x):
        """-log p(x|z): (N,) nats, summed over the pixels (Kingma 2013, equation 11), stable for any logit."""
        self.check_images(x)
        self.check_finite("logits", logits)
        require(logits.shape == x.shape, f"logits and x differ in shape: {tuple(logits.shape)}, {tuple(x.shape)}")
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(dim=1)

    def forward(self, x, eps, c=None):
        """x (N, C, H, W), eps (N, Z), c (N,) labels -> mu, logvar, z (N, Z) and logits (N, C, H, W)."""
        mu, logvar = self.encode(x, c)
        z = self.reparameterize(mu, logvar, eps)
        logits = self.decode(z, c)
        return mu, logvar, z, logits

    def terms(self, x, eps, c=None):
        """What training minimises and what it is made of, each (N,) nats per image; train and test use this alone.

        loss = reconstruction_nll + beta * kl_divergence: minus equation (4) of Higgins 2017; for beta = 1 it is minus
        the ELBO, estimated with one sample (Kingma 2013, equation 10); with c, minus Sohn 2015's bound.
        """
        mu, logvar, _, logits = self(x, eps, c)
        nll, kl = self.reconstruction_nll(logits, x), self.kl_divergence(mu, logvar)
        return {"loss": nll + self.beta * kl, "reconstruction_nll": nll, "kl_divergence": kl}

    def elbo(self, x, eps, beta=None, c=None):
        """E_q[log p(x|z)] - beta KL(q(z|x) || p(z)): (N,) nats (Kingma 2013, equation 3).

        beta defaults to the model's own. With beta = 1 it is the ELBO, a lower bound of log p(x).
        """
        terms = self.terms(x, eps, c)
        return -terms["reconstruction_nll"] - (self.beta if beta is None else beta) * terms["kl_divergence"]

    def sample(self, z, c=None):
        """The mean image of p(x|z), in [0, 1], which is what one looks at: (N, C, H, W)."""
        return torch.sigmoid(self.decode(z, c))

    # Checks: every mistake is told where it enters.

    def one_hot(self, c, batch):
        """Labels (N,) to the float matrix (N, num_classes) that the networks take; None for the unconditional model."""
        if self.num_classes == 0:
            require(c is None, f"a {type(self).__name__} takes no class labels c")
            return None
        require(c is not None, f"a {type(self).__name__} needs the class labels c, shape (N,)")
        if self.validate:
            integers = not (c.is_floating_point() or c.is_complex() or c.dtype == torch.bool)
            require(c.shape == batch.shape[:1] and integers, f"c must be {len(batch)} integers, got {tuple(c.shape)}")
            require(
                c.min() >= 0 and c.max() < self.num_classes,
                f"labels c must lie in 0..{self.num_classes - 1}, got {c.min()} to {c.max()}",
            )
        return torch.eye(self.num_classes, dtype=batch.dtype, device=batch.device)[c.long()]

    def check_images(self, x):
        if not self.validate:
            return
        require(
            x.ndim == 4 and tuple(x.shape[1:]) == self.image_shape and len(x) > 0,
            f"x must be at least one image, shape (N, {str(self.image_shape)[1:]}, got {tuple(x.shape)}",
        )
        least, most = torch.aminmax(x)
        require(
            x.is_floating_point() and least >= 0 and most <= 1,  # NaN fails every comparison
            f"x must be floats in [0, 1], got {x.dtype} from {least} to {most}: scale it, as x / 255",
        )

    def check_latents(self, **latents):
        if not self.validate:
            return
        shapes = {name: tuple(tensor.shape) for name, tensor in latents.items()}
        first = next(iter(shapes.values()))
        require(
            set(shapes.values()) == {first} and len(first) == 2 and first[1] == self.latent_dim and first[0] > 0,
            f"expected shape (N, {self.latent_dim}), got {', '.join(f'{k} {v}' for k, v in shapes.items())}",
        )
        for name, tensor in latents.items():
            self.check_finite(name, tensor)

    def check_finite(self, name, tensor):
        if self.validate and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{name} must be finite, got NaN or infinity: if training diverged, lower the learning rate"
            )

    # Weights and configuration, never pickled.

    def config(self):
        """The arguments that build this model again, with the name of its class."""
        names = ("latent_dim", "beta", "architecture", "hidden_dims", "image_shape")
        return {"class": type(self).__name__} | {name: getattr(self, name) for name in names}

    def save(self, folder, **more):
        """Write model.safetensors and config.json, which `load` reads; `more` goes into config.json too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_weights(folder / "model.safetensors")
        write_beside(folder / "config.json", json.dumps({"model": self.config()} | more, indent=2, default=str) + "\n")

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote into a folder, of the class named there (cls or one of its subclasses).

        Raises FileNotFoundError or ValueError, before anything is built, if a file is missing, damaged or another's.
        """
        model = cls.from_config(folder)
        model.load_weights(Path(folder) / "model.safetensors")
        return model

    @classmethod
    def from_config(cls, folder):
        """The model that a folder's config.json describes, with new random weights. Raises as `load` does."""
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"no config.json in {folder}: expected a folder that a training script wrote")
        classes = {known.__name__: known for known in (cls, *cls.__subclasses__())}
        try:
            config = dict(json.loads(path.read_text())["model"])
            return classes[config.pop("class")](**config)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not describe a {' or '.join(classes)}: {error!r}") from None

    def save_weights(self, path):
        """Write the parameters as one .safetensors file that every level reads; an older one stays until then."""
        from safetensors.torch import save

        write_beside(path, save({name: tensor.contiguous() for name, tensor in self.state_dict().items()}))

    def load_weights(self, path):
        """Read parameters that any level wrote, strictly: every name and shape must fit. Takes on the file's dtype."""
        weights = read_weights(path)
        expected = self.state_dict()
        if wrong := sorted(expected.keys() ^ weights.keys()):
            raise ValueError(f"{path} does not fit this {type(self).__name__}: {wrong[0]} is missing or unknown")
        for name, tensor in expected.items():
            got, want = tuple(weights[name].shape), tuple(tensor.shape)
            require(got == want, f"{path}: {name} has shape {got}, expected {want}")
            require(bool(torch.isfinite(weights[name]).all()), f"{path}: {name} holds NaN or infinity")
        self.to(next(iter(weights.values())).dtype).load_state_dict(weights)


class ConditionalVAE(VAE):
    """The conditional VAE (Sohn 2015, equation 4): both networks also see a condition, here the class label c.

        log p(x|c) >= E_q(z|x,c)[log p(x|z, c)] - KL(q(z|x, c) || p(z))

    Sohn 2015 writes y for the image and x for the condition and lets the prior p(z|x) depend on the condition; as that
    paper allows, and as Kingma et al. 2014 (M2, arXiv:1406.5298) do, the prior here is N(0, I) for every class. The
    latent code is then free of the class: it keeps what the label does not say, such as slant and stroke.
    """

    def __init__(self, num_classes=10, **options):
        require_positive_ints(num_classes=num_classes)
        self.num_classes = num_classes
        super().__init__(**options)

    def config(self):
        return super().config() | {"num_classes": self.num_classes}


def require(condition, message):
    if not condition:
        raise ValueError(message)


def require_positive_ints(**values):
    for name, value in values.items():
        require(isinstance(value, int) and value >= 1, f"{name} must be an integer of at least 1, got {value}")


def read_weights(path):
    """The tensors of a .safetensors file by name. Raises FileNotFoundError, or ValueError for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected a .safetensors file that a training script wrote")
    try:
        weights = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): train or copy it again") from None
    dtypes = {tensor.dtype for tensor in weights.values()}
    require(weights, f"{path} is empty: it holds no weights")
    require(
        len(dtypes) == 1 and next(iter(dtypes)).is_floating_point,
        f"{path} must hold floats of one dtype throughout, got {', '.join(sorted(map(str, dtypes)))}",
    )
    return weights


def load_model(path):
    """The model behind a .safetensors file: as config.json beside it says, or else the default convolutional VAE."""
    if Path(path).is_file() and Path(path).with_name("config.json").is_file():
        model = VAE.from_config(Path(path).parent)
    else:
        weights = read_weights(path)
        latent_dim = weights["encoder.mu.bias"].numel() if "encoder.mu.bias" in weights else 1
        model = VAE(latent_dim=max(latent_dim, 1))
    model.load_weights(path)
    return model


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class VaeConfig(TrainingConfig):
    """Train a VAE, a beta-VAE or a conditional VAE, or report on weights that any level wrote.

    Expect -ELBO near 193 nats per test image after 60 epochs of the digits (half a minute on two cores), near 101 after
    10 epochs of MNIST (two minutes).
    """

    beta: float = 1.0
    """Weight of the KL in training; 1 is the VAE, more asks for a simpler code. Reports always use 1."""
    conditional: bool = False
    """Give both networks the class label: the CVAE."""
    architecture: Literal["conv", "mlp"] = "conv"
    """Convolutions, or the fully connected network of the early papers."""
    hidden_dims: tuple[int, ...] = (400, 400)
    """Sizes of the hidden layers of --architecture mlp, encoder's order."""
    latent_dim: int | None = None
    """Size of z; by default 20, or that of --weights."""
    weights: Path | None = None
    """Report on this model.safetensors instead of training."""


MODEL_OPTIONS = ("beta", "conditional", "architecture", "hidden_dims")


def build_model(config):
    options = {name: getattr(config, name) for name in ("beta", "architecture", "hidden_dims")}
    with torch.random.fork_rng(devices=[]):  # the seed is the run's own and leaves the caller's random state alone
        torch.default_generator.manual_seed(config.seed)
        cls = ConditionalVAE if config.conditional else VAE
        return cls(latent_dim=20 if config.latent_dim is None else config.latent_dim, **options)


def main(argv=None):
    from level_script import new_run_folder, one_line_errors, report, report_noise
    from pictures import draw_all

    script = Path(__file__)
    with one_line_errors(script.name):
        config, state = parse_config(VaeConfig, argv, script.name)
        for name in MODEL_OPTIONS if config.weights else ():
            require(
                getattr(config, name) == getattr(VaeConfig, name),
                f"--weights names a model: leave out --{name.replace('_', '-')}",
            )
        device = pick_device(config.device)
        model = (load_model(config.weights) if config.weights else build_model(config)).to(device)
        require(
            config.latent_dim in (None, model.latent_dim), f"--latent-dim does not fit --weights: {model.latent_dim}"
        )
        test_images = load_resident(config.data, "test", device)
        train_images = None if config.weights else load_resident(config.data, "train", device)
        folder = config.resume
        if folder is None and (config.out or not config.weights):
            folder = new_run_folder(config.out, script.stem)

    rows = []
    if train_images:
        if state is not None:
            prepare_resume(state)
        try:
            rows = train(model, train_images, test_images, config, folder, state, script.name)
        except Interrupted as stopped:
            print(f"{script.name}: {stopped}; go on with: python {sys.argv[0]} --resume {folder}", file=sys.stderr)
            raise SystemExit(130) from None
        except (FloatingPointError, OSError) as error:  # a loss that diverged, a disk that is full
            print(f"{script.name}: error: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    dtype = next(model.parameters()).dtype
    x, labels = test_images.batch(slice(None))
    x, c = x.to(dtype), labels if model.num_classes else None
    with torch.no_grad():
        eps = torch.from_numpy(report_noise(config.seed, len(x), model.latent_dim)).to(x)
        mu, logvar, z, logits = model(x, eps, c)
        terms = model.reconstruction_nll(logits, x), model.kl_divergence(mu, logvar)
    print(report(config.data, config.seed, *(tensor.cpu().numpy() for tensor in (*terms, mu, logvar, z, logits))))
    if folder:
        draw_all(folder, model, test_images, config.seed, rows)
        print(f"{'weights and pictures' if rows else 'pictures'} in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
