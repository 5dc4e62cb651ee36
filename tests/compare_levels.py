"""The three levels on the same weights, images and noise, side by side in one table.

python tests/compare_levels.py --weights runs/vae_lowlevel-001/model.safetensors
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import argparse
import statistics
import time

import numpy as np
import torch

import vae_lowlevel
import vae_numpy
from image_data import DATASETS, load_images
from level_script import note_undescribed, one_line_errors, report_noise, seed, some_path
from vae_paper import VAE


def run_levels(weights, x, eps):
    """Each level's (mu, logvar, z, logits, reconstruction_nll, kl_divergence) as arrays, and its ms per image."""
    params1, params2 = vae_numpy.load_weights(weights), vae_lowlevel.load_weights(weights)
    model = VAE(latent_dim=eps.shape[1])
    model.load_weights(weights)
    tx, teps = torch.from_numpy(x), torch.from_numpy(eps)

    def all_outputs(level, outputs, x):
        mu, logvar, _, logits = outputs
        return *outputs, level.reconstruction_nll(logits, x), level.kl_divergence(mu, logvar)

    runs = {
        "1  numpy/vae_numpy.py": lambda: all_outputs(vae_numpy, vae_numpy.forward(params1, x, eps), x),
        "2  pytorch_lowlevel/vae_lowlevel.py": lambda: all_outputs(
            vae_lowlevel, vae_lowlevel.forward(params2, tx, teps), tx
        ),
        "3  paper/vae_paper.py": lambda: all_outputs(model, model(tx, teps), tx),
    }
    results = {}
    with torch.no_grad():
        for name, run in runs.items():
            outputs = [np.asarray(output) for output in run()]
            seconds = []
            for _ in range(9):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            results[name] = outputs, 1e3 * statistics.median(seconds) / len(x)
    return results


def main(argv=None):
    parser = argparse.ArgumentParser(description="Compare the three levels on one set of weights.")
    parser.add_argument(
        "--weights", type=some_path, metavar="FILE", required=True, help="a model.safetensors of any level"
    )
    parser.add_argument("--data", choices=DATASETS, default="digits", help="the images (default: digits)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the noise (default: 0)")
    args = parser.parse_args(argv)
    with one_line_errors("compare_levels.py"):
        params = vae_numpy.load_weights(args.weights)
        note_undescribed(args.weights)
        x, _ = load_images(args.data, "test", params["encoder.mu.bias"].dtype)
        eps = report_noise(args.seed, len(x), len(params["encoder.mu.bias"]), x.dtype)
        results = run_levels(args.weights, x, eps)

    reference = next(iter(results.values()))[0]
    print(f"{args.data}, test set: {len(x)} images, {x.dtype}, grey (not binarised), noise seed {args.seed}")
    print(
        "nats per image; the difference is the largest max|a - b| / max|b| over mu, logvar, z, logits and both terms\n"
    )
    print(f"{'level':<36}{'-ELBO':>10}{'reconstruction':>16}{'KL':>9}{'difference from 1':>20}{'ms per image':>14}")
    for name, (outputs, milliseconds) in results.items():
        nll, kl = (output.mean(dtype=np.float64) for output in outputs[-2:])
        difference = max(map(scaled_difference, outputs, reference))
        print(f"{name:<36}{nll + kl:>10.3f}{nll:>16.3f}{kl:>9.3f}{difference:>20.1e}{milliseconds:>14.3f}")


def scaled_difference(a, b):
    """max|a - b| / max|b|, also where both are zero throughout."""
    return np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(b.dtype).tiny)


if __name__ == "__main__":
    run_as_script(main)
