"""Level 1: the forward pass of a variational autoencoder, in NumPy alone.

Read it from top to bottom, in the order of the math: layers, parameters, encoder, reparameterisation, decoder, the two
terms of the ELBO, the script. `pytorch_lowlevel/vae_lowlevel.py` is the same file in tensors, with gradients;
`paper/vae_paper.py` the same model as papers write it. Names, shapes and numbers agree at all three.

    x       images in [0, 1]                                  (N, 1, 28, 28)
    mu      mean of q(z|x) = N(mu, diag(exp(logvar)))         (N, Z)
    logvar  its log variance, log sigma^2                     (N, Z)
    eps     standard normal noise, always passed in           (N, Z)
    z       latent code, mu + exp(logvar / 2) * eps           (N, Z)
    logits  log-odds that a pixel is white, under p(x|z)      (N, 1, 28, 28)

Arrays may be float32 or float64: the results follow their inputs. Run it with

    python numpy/vae_numpy.py                                            random parameters
    python numpy/vae_numpy.py --weights FILE.safetensors --out DIR       trained ones, with pictures

The model is from Kingma & Welling, "Auto-Encoding Variational Bayes" (2013), arXiv:1312.6114.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import argparse
import contextlib
import math
import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from input_checks import check_beta, check_finite, check_images, check_latent_dim, check_latents, check_logits

# --- Layers ----------------------------------------------------------------------------------------------------------
# Shapes are PyTorch's, (N, C, H, W). In memory the channels lie last: a patch of an image is then a few long runs of
# numbers, and every convolution is one matrix product. Transposing only relabels the axes, it moves no number.


def conv2d(x, weight, bias, stride=2, padding=1):
    """Cross-correlate images with k x k kernels, what deep learning calls a convolution.

    x (N, C, H, W), weight (O, C, k, k), bias (O,) -> (N, O, H', W') with H' = (H + 2 padding - k) // stride + 1.
    """
    n, c, h, w = x.shape
    o, _, k, _ = weight.shape
    padded = np.zeros((n, h + 2 * padding, w + 2 * padding, c), x.dtype)
    padded[:, padding : padding + h, padding : padding + w] = x.transpose(0, 2, 3, 1)
    # im2col: the k x k patch under each output pixel becomes one row of a matrix.
    patches = sliding_window_view(padded, (k, k), axis=(1, 2))[:, ::stride, ::stride]  # (N, H', W', C, k, k)
    rows = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, k * k * c)  # (N H' W', k k C)
    y = rows @ weight.transpose(2, 3, 1, 0).reshape(-1, o) + bias  # (N H' W', O)
    return y.reshape(n, *patches.shape[1:3], o).transpose(0, 3, 1, 2)


def conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1):
    """The transpose of `conv2d` as a linear map: every input pixel stamps its k x k kernel onto the output.

    x (N, C, H, W), weight (C, O, k, k), bias (O,) -> (N, O, H', W')
    with H' = (H - 1) stride - 2 padding + k + output_padding.
    """
    n, c, h, w = x.shape
    _, o, k, _ = weight.shape
    pixels = x.transpose(0, 2, 3, 1).reshape(-1, c)  # (N H W, C)
    stamps = (pixels @ weight.transpose(0, 2, 3, 1).reshape(c, -1)).reshape(n, h, w, k, k, o)
    full_h, full_w = ((size - 1) * stride + k + output_padding for size in (h, w))
    y = np.zeros((n, full_h, full_w, o), stamps.dtype)
    for i in range(k):
        for j in range(k):  # entry (i, j) of all stamps at once: their pixels lie `stride` apart
            y[:, i : i + stride * h : stride, j : j + stride * w : stride] += stamps[:, :, :, i, j]
    y = y[:, padding : full_h - padding, padding : full_w - padding] + bias
    return y.transpose(0, 3, 1, 2)


def linear(x, weight, bias):
    """x (N, I), weight (O, I), bias (O,) -> (N, O)."""
    return x @ weight.T + bias


def relu(x):
    return np.maximum(x, 0)


def softplus(x):
    """log(1 + exp(x)), without overflow for large |x|."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    """1 / (1 + exp(-x)), written so that exp never overflows: log sigmoid(x) = -softplus(-x)."""
    return np.exp(-softplus(-x))


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


def init_params(seed, latent_dim=20, dtype=np.float32):
    """Random parameters by name, each from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default.

    fan_in is counted as PyTorch does, weight.shape[1] * k * k, for the transposed convolutions too. One seed gives
    levels 1 and 2 the same numbers. Raises ValueError unless latent_dim is an integer of at least 1.
    """
    check_latent_dim(latent_dim, weight_shapes)
    rng = np.random.default_rng(seed)
    params = {}
    for layer, shape in weight_shapes(latent_dim).items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        num_outputs = shape[1] if "deconv" in layer else shape[0]
        params[f"{layer}.weight"] = rng.uniform(-bound, bound, shape).astype(dtype)
        params[f"{layer}.bias"] = rng.uniform(-bound, bound, num_outputs).astype(dtype)
    return params


# --- The model -------------------------------------------------------------------------------------------------------

CHUNK = 64  # images at a time: their patches stay in the cache, and any N takes bounded memory
without_warnings = np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by name, where it matters


@without_warnings
def encode(params, x):
    """q(z|x): x (N, 1, 28, 28) in [0, 1] -> mu, logvar, each (N, Z). Raises ValueError for anything else."""
    weight, bias = by_layer(params)
    check_images(np.ndarray, x, like=bias["encoder.mu"])
    mu = np.empty((len(x), len(bias["encoder.mu"])), np.result_type(x, bias["encoder.mu"]))
    logvar = np.empty_like(mu)
    for i in range(0, len(x), CHUNK):
        chunk = slice(i, i + CHUNK)
        h = relu(conv2d(x[chunk], weight["encoder.conv1"], bias["encoder.conv1"]))  # (n, 32, 14, 14)
        h = relu(conv2d(h, weight["encoder.conv2"], bias["encoder.conv2"]))  # (n, 64, 7, 7)
        h = h.reshape(len(h), -1)  # (n, 3136), in (64, 7, 7) order
        h = relu(linear(h, weight["encoder.fc"], bias["encoder.fc"]))  # (n, 256)
        mu[chunk] = linear(h, weight["encoder.mu"], bias["encoder.mu"])
        logvar[chunk] = linear(h, weight["encoder.logvar"], bias["encoder.logvar"])
    return mu, logvar


@without_warnings
def reparameterize(mu, logvar, eps):
    """z = mu + sigma * eps, a sample of q(z|x) (Kingma & Welling, section 2.4). All (N, Z).

    Raises ValueError for shapes that differ and for numbers so large that z overflows.
    """
    check_latents(np.ndarray, mu=mu, logvar=logvar, eps=eps)
    sigma = np.exp(logvar / 2)  # the square root of the variance: hence the half
    z = mu + sigma * eps
    check_finite("z = mu + exp(logvar / 2) * eps", z)
    return z


@without_warnings
def decode(params, z):
    """p(x|z): z (N, Z) -> logits (N, 1, 28, 28). Raises ValueError if Z is not the weights' own, or logits overflow."""
    weight, bias = by_layer(params)
    check_latents(np.ndarray, z=z, like=bias["encoder.mu"], latent_dim=len(bias["encoder.mu"]))
    logits = np.empty((len(z), 1, 28, 28), np.result_type(z, bias["decoder.deconv2"]))
    for i in range(0, len(z), CHUNK):
        chunk = slice(i, i + CHUNK)
        h = relu(linear(z[chunk], weight["decoder.fc1"], bias["decoder.fc1"]))  # (n, 256)
        h = relu(linear(h, weight["decoder.fc2"], bias["decoder.fc2"]))  # (n, 3136)
        h = h.reshape(-1, 64, 7, 7)
        h = relu(conv_transpose2d(h, weight["decoder.deconv1"], bias["decoder.deconv1"]))  # (n, 32, 14, 14)
        logits[chunk] = conv_transpose2d(h, weight["decoder.deconv2"], bias["decoder.deconv2"])  # (n, 1, 28, 28)
    check_finite("logits", logits)
    return logits


@without_warnings
def kl_divergence(mu, logvar):
    """KL(q(z|x) || N(0, I)) in closed form: (N,) nats, summed over the Z latents (Kingma & Welling, appendix B).

    Raises ValueError for shapes that differ and where mu or logvar is so large that the KL overflows.
    """
    check_latents(np.ndarray, mu=mu, logvar=logvar)
    # KL = 1/2 sum_d (mu_d^2 + sigma_d^2 - 1 - log sigma_d^2)
    kl = 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)
    check_finite("the KL divergence", kl)
    return kl


@without_warnings
def reconstruction_nll(logits, x):
    """-log p(x|z) of a Bernoulli decoder: (N,) nats, summed over the pixels (Kingma & Welling, appendix C.1).

    logits, x: (N, 1, 28, 28), x in [0, 1]. For grey x this is the cross-entropy, whose least value is not zero.
    Raises ValueError for shapes that differ, logits that are not finite, x outside [0, 1] and a sum that overflows.
    """
    check_images(np.ndarray, x)
    check_logits(np.ndarray, logits, x)
    # With p = sigmoid(l): -x log p - (1 - x) log(1 - p) = softplus(l) - x l, which no large |l| can overflow.
    nll = np.sum(softplus(logits) - x * logits, axis=(1, 2, 3))
    check_finite("the reconstruction's nll", nll)
    return nll


def forward(params, x, eps):
    """Encode, sample, decode: x (N, 1, 28, 28), eps (N, Z) -> mu, logvar, z (N, Z) and logits (N, 1, 28, 28)."""
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    logits = decode(params, z)
    return mu, logvar, z, logits


@without_warnings
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
    return sigmoid(decode(params, z))


def by_layer(params):
    """The parameters as two dicts, weight and bias, by the name of the layer."""
    weight = {name.removesuffix(".weight"): array for name, array in params.items() if name.endswith(".weight")}
    bias = {name.removesuffix(".bias"): array for name, array in params.items() if name.endswith(".bias")}
    return weight, bias


# --- Weights ---------------------------------------------------------------------------------------------------------


def save_weights(path, params):
    """Write the parameters as one .safetensors file that every level reads; an older file stays until this is whole."""
    from safetensors.numpy import save

    from run_files import default_model, weights_metadata, write_beside

    arrays = {name: np.ascontiguousarray(array) for name, array in params.items()}
    write_beside(path, save(arrays, weights_metadata(default_model(len(params["encoder.mu.bias"])))))


def load_weights(path):
    """Read the parameters of the convolutional VAE, whichever level wrote them; dtype and latent size are the file's.

    Raises FileNotFoundError, or ValueError if the file is damaged or holds another model.
    """
    from safetensors.numpy import load_file

    from run_files import read_params

    return read_params(path, load_file, weight_shapes)


# --- The script ------------------------------------------------------------------------------------------------------


def main(argv=None):
    from image_data import DATASETS, load_images
    from level_script import note_undescribed, one_line_errors, report, report_noise, save_image_grid, seed, some_path
    from run_files import claim_run_folder

    parser = argparse.ArgumentParser(
        description="Level 1: run a VAE forward in NumPy and report its ELBO on the test images. Nothing is trained. "
        "Expect -ELBO near 784 ln 2 = 543 nats per image from random parameters, and from trained ones the number "
        "that their training reported.",
    )
    parser.add_argument(
        "--weights", type=some_path, metavar="FILE", help="a model.safetensors of any level; without it, random ones"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of noise and random parameters (default: 0)")
    parser.add_argument(
        "--data", choices=DATASETS, default="digits", help="the images (default: digits, which need no download)"
    )
    parser.add_argument(
        "--out", type=some_path, metavar="DIR", help="write reconstructions.png and samples.png into this new folder"
    )
    args = parser.parse_args(argv)

    with one_line_errors("vae_numpy.py"), contextlib.ExitStack() as stack:
        if args.weights:
            params = load_weights(args.weights)
            note_undescribed(args.weights)
        else:
            params = init_params(args.seed)
        x, _ = load_images(args.data, "test", params["encoder.mu.bias"].dtype)
        folder = stack.enter_context(claim_run_folder(args.out, "vae_numpy")) if args.out else None

        latent_dim = len(params["encoder.mu.bias"])
        eps = report_noise(args.seed, len(x), latent_dim, x.dtype)
        mu, logvar, z, logits = forward(params, x, eps)
        nll, kl = reconstruction_nll(logits, x), kl_divergence(mu, logvar)
        print(report(args.data, args.seed, nll, kl, mu, logvar, z, logits))
        if not args.weights:
            # Measured on the digits: 498 to 622 nats over seeds 0 to 29, mean 559, standard deviation 38.
            print(
                "\nThese parameters are random, so the decoder knows nothing: every logit is near 0 and every pixel a "
                "coin toss that costs ln 2\nnats. Expect -ELBO near 784 ln 2 = 543 nats (roughly 500 to 620: the last "
                "layer's random bias shifts all pixels at once)\nand a KL near 0, because mu and logvar are. Training "
                "brings -ELBO down, and the KL up.",
                file=sys.stderr,
            )
        if folder:
            pairs = np.stack([x[:10], sigmoid(logits[:10])])
            save_image_grid(
                folder / "reconstructions.png", pairs, "Test images and their reconstructions", ["x", "decoded"]
            )
            prior = report_noise(args.seed + 1, 50, latent_dim, x.dtype)  # z ~ p(z) = N(0, I)
            rows = sample(params, prior).reshape(5, 10, 1, 28, 28)
            save_image_grid(folder / "samples.png", rows, "Samples: z drawn from the prior N(0, I), decoded")
            print(f"pictures in {folder}", file=sys.stderr)


if __name__ == "__main__":
    run_as_script(main)
