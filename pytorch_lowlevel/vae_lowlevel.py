"""Level 2: the variational autoencoder in PyTorch's functions, with its parameters in a plain dict, and its training.

Side by side with `numpy/vae_numpy.py` this is the same file: the layers now come from `torch.nn.functional`, and
autograd gives the gradients that level 1 does not have. Nothing hides the parameters: no `nn.Module`, no `torch.nn`
layer. `paper/vae_paper.py` wraps the same functions in a module. Names, shapes and numbers agree at all three levels.

    x       images in [0, 1]                                  (N, 1, 28, 28)
    mu      mean of q(z|x) = N(mu, diag(exp(logvar)))         (N, Z)
    logvar  its log variance, log sigma^2                     (N, Z)
    eps     standard normal noise, always passed in           (N, Z)
    z       latent code, mu + exp(logvar / 2) * eps           (N, Z)
    logits  log-odds that a pixel is white, under p(x|z)      (N, 1, 28, 28)

Run it with

    python pytorch_lowlevel/vae_lowlevel.py                              train on the embedded digits
    python pytorch_lowlevel/vae_lowlevel.py --data mnist --epochs 10     train on MNIST
    python pytorch_lowlevel/vae_lowlevel.py --weights FILE.safetensors   only report, nothing is trained

The model is from Kingma & Welling, "Auto-Encoding Variational Bayes" (2013), arXiv:1312.6114.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import argparse
import contextlib
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from input_checks import check_beta, check_finite, check_images, check_latent_dim, check_latents, check_logits

# --- Parameters ------------------------------------------------------------------------------------------------------


def weight_shapes(latent_dim=20):
    """The shape of every weight, by the name of its layer. All levels use these names and this order."""
    return {
        "encoder.conv1": (32, 1, 3, 3),
        "encoder.conv2": (64, 32, 3, 3),
        "encoder.fc": (256, 3136),
        "encoder.mu": (latent_dim, 256),
        "encoder.logvar": (latent_dim, 256),
        "decoder.fc1": (256, latent_dim),
        "decoder.fc2": (3136, 256),
        "decoder.deconv1": (64, 32, 3, 3),
        "decoder.deconv2": (32, 1, 3, 3),
    }


def init_params(seed, latent_dim=20, dtype=torch.float32):
    """Random parameters by name, each from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), ready for gradients.

    fan_in is counted as `torch.nn` does, weight.shape[1] * k * k, for the transposed convolutions too. The numbers come
    from NumPy's generator: one seed gives levels 1 and 2 the same. Raises ValueError unless latent_dim is an integer of
    at least 1.
    """
    check_latent_dim(latent_dim, weight_shapes)
    rng = np.random.default_rng(seed)
    params = {}
    for layer, shape in weight_shapes(latent_dim).items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        num_outputs = shape[1] if "deconv" in layer else shape[0]
        params[f"{layer}.weight"] = torch.from_numpy(rng.uniform(-bound, bound, shape)).to(dtype)
        params[f"{layer}.bias"] = torch.from_numpy(rng.uniform(-bound, bound, num_outputs)).to(dtype)
    for tensor in params.values():
        tensor.requires_grad_()
    return params


# --- The model -------------------------------------------------------------------------------------------------------


def encode(params, x):
    """q(z|x): x (N, 1, 28, 28) in [0, 1] -> mu, logvar, each (N, Z). Raises ValueError for anything else."""
    weight, bias = by_layer(params)
    check_images(torch.Tensor, x, like=bias["encoder.mu"])
    h = F.relu(F.conv2d(x, weight["encoder.conv1"], bias["encoder.conv1"], stride=2, padding=1))  # (N, 32, 14, 14)
    h = F.relu(F.conv2d(h, weight["encoder.conv2"], bias["encoder.conv2"], stride=2, padding=1))  # (N, 64, 7, 7)
    h = h.flatten(1)  # (N, 3136), in (64, 7, 7) order
    h = F.relu(F.linear(h, weight["encoder.fc"], bias["encoder.fc"]))  # (N, 256)
    mu = F.linear(h, weight["encoder.mu"], bias["encoder.mu"])
    logvar = F.linear(h, weight["encoder.logvar"], bias["encoder.logvar"])
    return mu, logvar


def reparameterize(mu, logvar, eps):
    """z = mu + sigma * eps, a sample of q(z|x) (Kingma & Welling, section 2.4). All (N, Z).

    The randomness comes in through eps, so z is a differentiable function of mu and logvar.
    Raises ValueError for shapes that differ and for numbers so large that z overflows.
    """
    check_latents(torch.Tensor, mu=mu, logvar=logvar, eps=eps)
    sigma = torch.exp(logvar / 2)  # the square root of the variance: hence the half
    z = mu + sigma * eps
    check_finite("z = mu + exp(logvar / 2) * eps", z)
    return z


def decode(params, z):
    """p(x|z): z (N, Z) -> logits (N, 1, 28, 28). Raises ValueError if Z is not the weights' own, or logits overflow."""
    weight, bias = by_layer(params)
    check_latents(torch.Tensor, z=z, like=bias["encoder.mu"], latent_dim=len(bias["encoder.mu"]))
    up = {"stride": 2, "padding": 1, "output_padding": 1}
    h = F.relu(F.linear(z, weight["decoder.fc1"], bias["decoder.fc1"]))  # (N, 256)
    h = F.relu(F.linear(h, weight["decoder.fc2"], bias["decoder.fc2"]))  # (N, 3136)
    h = h.reshape(-1, 64, 7, 7)
    h = F.relu(F.conv_transpose2d(h, weight["decoder.deconv1"], bias["decoder.deconv1"], **up))  # (N, 32, 14, 14)
    logits = F.conv_transpose2d(h, weight["decoder.deconv2"], bias["decoder.deconv2"], **up)  # (N, 1, 28, 28)
    check_finite("logits", logits)
    return logits


def kl_divergence(mu, logvar):
    """KL(q(z|x) || N(0, I)) in closed form: (N,) nats, summed over the Z latents (Kingma & Welling, appendix B).

    Raises ValueError for shapes that differ and where mu or logvar is so large that the KL overflows.
    """
    check_latents(torch.Tensor, mu=mu, logvar=logvar)
    # KL = 1/2 sum_d (mu_d^2 + sigma_d^2 - 1 - log sigma_d^2)
    kl = 0.5 * torch.sum(mu**2 + torch.exp(logvar) - 1 - logvar, dim=1)
    check_finite("the KL divergence", kl)
    return kl


def reconstruction_nll(logits, x):
    """-log p(x|z) of a Bernoulli decoder: (N,) nats, summed over the pixels (Kingma & Welling, appendix C.1).

    logits, x: (N, 1, 28, 28), x in [0, 1]. For grey x this is the cross-entropy, whose least value is not zero.
    Raises ValueError for shapes that differ, logits that are not finite, x outside [0, 1] and a sum that overflows.
    """
    check_images(torch.Tensor, x)
    check_logits(torch.Tensor, logits, x)
    # With p = sigmoid(l): -x log p - (1 - x) log(1 - p) = softplus(l) - x l, which no large |l| can overflow.
    # (PyTorch's softplus gives up its log at l = 20 by default: good to 2e-9 a pixel, not to float64's last digits.)
    nll = torch.sum(F.softplus(logits, threshold=50) - x * logits, dim=(1, 2, 3))
    check_finite("the reconstruction's nll", nll)
    return nll


def forward(params, x, eps):
    """Encode, sample, decode: x (N, 1, 28, 28), eps (N, Z) -> mu, logvar, z (N, Z) and logits (N, 1, 28, 28)."""
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    logits = decode(params, z)
    return mu, logvar, z, logits


def elbo(params, x, eps, beta=1.0):
    """The evidence lower bound, log p(x) >= ELBO, estimated with one z per image: (N,) nats.

    ELBO = E_q[log p(x|z)] - beta KL(q(z|x) || p(z)), equation (3) of Kingma & Welling; beta = 1 is the bound itself,
    another beta the objective of Higgins et al. (2017), equation (4). Raises ValueError where it overflows.
    """
    check_beta(beta)
    mu, logvar, _, logits = forward(params, x, eps)
    bound = -reconstruction_nll(logits, x) - beta * kl_divergence(mu, logvar)
    check_finite("the ELBO", bound)
    return bound


def sample(params, z):
    """What one looks at: the mean image of p(x|z), in [0, 1]. z (N, Z) -> (N, 1, 28, 28)."""
    return torch.sigmoid(decode(params, z))


def by_layer(params):
    """The parameters as two dicts, weight and bias, by the name of the layer."""
    weight = {name.removesuffix(".weight"): tensor for name, tensor in params.items() if name.endswith(".weight")}
    bias = {name.removesuffix(".bias"): tensor for name, tensor in params.items() if name.endswith(".bias")}
    return weight, bias


# --- Weights ---------------------------------------------------------------------------------------------------------


def save_weights(path, params):
    """Write the parameters as one .safetensors file that every level reads; an older file stays until this is whole."""
    from safetensors.torch import save

    from run_files import default_model, weights_metadata, write_beside

    tensors = {name: tensor.detach().contiguous() for name, tensor in params.items()}
    write_beside(path, save(tensors, weights_metadata(default_model(len(params["encoder.mu.bias"])))))


def load_weights(path):
    """Read the parameters of the convolutional VAE, whichever level wrote them; dtype and latent size are the file's.

    Raises FileNotFoundError, or ValueError if the file is damaged or holds another model.
    """
    from safetensors.torch import load_file

    from run_files import read_params

    params = read_params(path, load_file, weight_shapes)
    return {name: tensor.requires_grad_() for name, tensor in params.items()}


# --- Training --------------------------------------------------------------------------------------------------------


def train(params, images, test_images, epochs, batch_size=128, lr=1e-3, seed=0):
    """Maximise the ELBO with Adam, changing `params` in place.

    images, test_images: uint8 (N, 1, 28, 28), the whole data set; a batch is cut out of it, no loader needed.
    Returns one row per epoch: the means per image, in nats, of [reconstruction, KL] on train and on test, (epochs, 4).
    """
    latent_dim = len(params["encoder.mu.bias"])
    optimizer = torch.optim.Adam(params.values(), lr=lr, fused=True)
    generator = torch.Generator().manual_seed(seed)
    history = []
    progress = tqdm(range(min(epochs, sys.maxsize)), desc="training", unit="epoch")
    for _ in progress:
        totals = torch.zeros(2, dtype=torch.float64)
        permutation = torch.randperm(len(images), generator=generator)
        for i in range(0, len(images), batch_size):
            x = images[permutation[i : i + batch_size]].float() / 255  # (n, 1, 28, 28), in [0, 1]
            eps = torch.randn(len(x), latent_dim, generator=generator)
            mu, logvar, _, logits = forward(params, x, eps)
            nll, kl = reconstruction_nll(logits, x), kl_divergence(mu, logvar)
            loss = (nll + kl).mean()  # -ELBO: a mean over images, of sums over pixels and latents
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals += torch.stack([nll.detach().sum(), kl.detach().sum()])
        row = (*(totals / len(images)).tolist(), *evaluate(params, test_images, seed))
        history.append(row)
        progress.set_postfix_str(f"-ELBO train {sum(row[:2]):.1f}, test {sum(row[2:]):.1f} nats")
    return history


@torch.no_grad()
def evaluate(params, images, seed, batch_size=1000):
    """Mean reconstruction and KL per image, in nats, over all of `images`: the same terms as in training."""
    generator = torch.Generator().manual_seed(seed)  # the same noise each time: the curve shows the model, not the dice
    totals = torch.zeros(2, dtype=torch.float64)
    for batch in images.split(batch_size):
        x = batch.float() / 255
        eps = torch.randn(len(x), len(params["encoder.mu.bias"]), generator=generator)
        mu, logvar, _, logits = forward(params, x, eps)
        totals += torch.stack([reconstruction_nll(logits, x).sum(), kl_divergence(mu, logvar).sum()])
    return (totals / len(images)).tolist()


# --- The script ------------------------------------------------------------------------------------------------------


def main(argv=None):
    from image_data import DATASETS, load_uint8_images
    from level_script import (
        note_undescribed,
        one_line_errors,
        positive_float,
        positive_int,
        report,
        report_noise,
        save_image_grid,
        save_loss_curves,
        seed,
        some_path,
    )
    from run_files import claim_run_folder, default_model, write_config, write_or_rescue

    parser = argparse.ArgumentParser(
        description="Level 2: train a VAE whose parameters are a plain dict, or report on weights of any level. Expect "
        "-ELBO near 193 nats per test image after 60 epochs of the digits, 102 after 10 epochs of MNIST.",
    )
    parser.add_argument(
        "--weights", type=some_path, metavar="FILE", help="report on this model.safetensors; nothing is trained"
    )
    parser.add_argument(
        "--data", choices=DATASETS, default="digits", help="the images (default: digits, which need no download)"
    )
    parser.add_argument("--epochs", type=positive_int, default=60, help="passes over the training images (default: 60)")
    parser.add_argument("--batch-size", type=positive_int, default=128, help="images per step (default: 128)")
    parser.add_argument("--lr", type=positive_float, default=1e-3, help="Adam's step size (default: 0.001)")
    parser.add_argument("--latent-dim", type=positive_int, help="size of z (default: 20, or that of --weights)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of parameters, data order and noise (default: 0)")
    parser.add_argument(
        "--out",
        type=some_path,
        metavar="DIR",
        help="the run's new folder (default: the next free runs/vae_lowlevel-NNN)",
    )
    args = parser.parse_args(argv)

    with one_line_errors("vae_lowlevel.py"), contextlib.ExitStack() as stack:
        if args.weights:
            params = load_weights(args.weights)
            note_undescribed(args.weights)
        else:
            params = init_params(args.seed, args.latent_dim or 20)
            images = torch.from_numpy(load_uint8_images(args.data, "train")[0])
        latent_dim, dtype = len(params["encoder.mu.bias"]), params["encoder.mu.bias"].dtype
        if args.latent_dim not in (None, latent_dim):
            raise ValueError(f"--latent-dim {args.latent_dim}, but {args.weights} has {latent_dim}")
        test_images = torch.from_numpy(load_uint8_images(args.data, "test")[0])
        folder = None
        if args.out or not args.weights:
            folder = stack.enter_context(claim_run_folder(args.out, "vae_lowlevel"))

        if not args.weights:
            path = folder / "model.safetensors"
            save_weights(path, params)  # is there room for them? Better asked before training
            path.unlink()
            try:  # a learning rate that is too large ends in NaN
                history = train(params, images, test_images, args.epochs, args.batch_size, args.lr, args.seed)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("nothing is kept, this level saves when its training is done") from None
            write_or_rescue(path, lambda path: save_weights(path, params))
            write_config(folder, "vae_lowlevel.py", default_model(latent_dim), vars(args))
            history = np.array(history)
            reconstruction, kl = history[:, [0, 2]], history[:, [1, 3]]  # columns: train, test
            terms = {"-ELBO": reconstruction + kl, "reconstruction": reconstruction, "KL": kl}
            save_loss_curves(folder / "loss_curves.png", terms)

        x = (test_images.float() / 255).to(dtype)
        eps = torch.from_numpy(report_noise(args.seed, len(x), latent_dim)).to(dtype)
        with torch.no_grad():
            mu, logvar, z, logits = forward(params, x, eps)
            terms = reconstruction_nll(logits, x), kl_divergence(mu, logvar)
        print(report(args.data, args.seed, *(tensor.numpy() for tensor in (*terms, mu, logvar, z, logits))))
        if folder:
            with torch.no_grad():
                pairs = torch.stack([x[:10], torch.sigmoid(logits[:10])])
                prior = torch.from_numpy(report_noise(args.seed + 1, 50, latent_dim)).to(dtype)  # z ~ p(z) = N(0, I)
                rows = sample(params, prior).reshape(5, 10, 1, 28, 28)
            save_image_grid(
                folder / "reconstructions.png", pairs, "Test images and their reconstructions", ["x", "decoded"]
            )
            save_image_grid(folder / "samples.png", rows, "Samples: z drawn from the prior N(0, I), decoded")
            print(f"{'pictures' if args.weights else 'weights and pictures'} in {folder}", file=sys.stderr)


if __name__ == "__main__":
    run_as_script(main)
