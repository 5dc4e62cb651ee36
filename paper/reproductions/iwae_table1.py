"""Burda et al. 2015, table 1: what a bound of k samples buys on MNIST, with one stochastic layer (arXiv:1509.00519)."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from level_script import save_figure
from likelihood import active_units, log_likelihood, posteriors
from reproduction import Claim, Reproduction, Run

PUBLISHED = {"VAE, k=1": (86.76, 19), "VAE, k=5": (86.47, 20), "VAE, k=50": (86.35, 20)}
PUBLISHED |= {"IWAE, k=5": (85.54, 22), "IWAE, k=50": (84.78, 25)}  # nats, active units
RERUNS = {"VAE, k=1": 86.35, "IWAE, k=5": 85.18, "IWAE, k=50": 84.59}  # nbip/IWAE, with 100 latents instead of 50
SHARED = "--data mnist --binarisation fresh"
# Burda's own: batches of 20, eight step sizes over 3,280 epochs.
RECIPE = f"{SHARED} --batch-size 20 --lr 1e-3 --lr-schedule staircase --epochs 3280"


class IwaeTable1(Reproduction):
    """784-200-200-50 and back, tanh, a pixel is black or white and drawn anew for every batch. The rows differ in what
    was trained: the mean of k one-sample bounds (VAE), or the bound of k samples (IWAE). All are judged by the same
    estimate of -log p(x), from importance samples over all 10,000 test images. A latent is active if its mean moves
    with the image: the variance of E_q[z_d] over the test images is above 0.01.
    """

    name = "iwae-table1"
    title = "log p(x) of VAE and IWAE with one stochastic layer"
    source = "Burda 2015, table 1"
    budgets = ("quick", "own", "full")

    def seeds(self, budget):
        return 1

    def protocol(self, budget):
        recipe = {
            "quick": "batches of 100, step size 3e-3 along a cosine, 30 epochs instead of 3,280; 1,000 importance "
            "samples instead of 5,000",
            "own": "a schedule of ours: step size 3e-3 along a cosine, k = 1 in batches of 200 alone on two cores, "
            "k = 5 in batches of 100 on one; the same bounds with doubly reparameterised gradients (Tucker 2018), "
            "which are less noisy",
            "full": "nothing: batches of 20, eight step sizes over 3,280 epochs, 5,000 importance samples",
        }
        return f"{recipe[budget]}; the test images were made black and white once, with seed 0, for all rows"

    def runs(self, budget):
        if budget == "own":
            own, step = f"{SHARED} --objective dreg --batch-size", "--lr 3e-3 --lr-schedule cosine"
            return {  # in batches of 100 and one code, two threads gain little
                "VAE, k=1": Run("iwae", f"{own} 200 {step} --k 1 --epochs 950", 45, threads=2),
                "IWAE, k=5": Run("iwae", f"{own} 100 {step} --k 5 --epochs 340", 60, threads=1),
            }
        if budget == "quick":
            quick = f"{SHARED} --batch-size 100 --lr 3e-3 --lr-schedule cosine --epochs 30"
            return {
                "VAE, k=1": Run("iwae", f"{quick} --k 1", 2.5),
                "VAE, k=5": Run("iwae", f"{quick} --objective vae --k 5", 6),
                "IWAE, k=5": Run("iwae", f"{quick} --k 5", 6),
            }
        return {
            label: Run("iwae", f"{RECIPE} --k {k} --objective {kind.lower()}", 3280 * (0.08 + 0.03 * int(k)))
            for label in PUBLISHED
            for kind, k in [label.split(", k=")]
        }

    def measure(self, trained):
        generator = torch.Generator(trained.device).manual_seed(0)  # the same pixels and draws for every row
        x, _ = trained.images("test").batch(slice(None), generator)
        samples = 1000 if trained.budget == "quick" else 5000
        log_p = log_likelihood(trained.model, x, samples, generator).double()
        return {
            "nll": -log_p.mean(),
            "standard_error": log_p.std() / math.sqrt(len(x)),
            "samples": samples,
            "active_units": int(active_units(posteriors(trained.model, x)[0]).sum()),
            "minus_elbo": trained.rows[-1]["test_reconstruction_nll"] + trained.rows[-1]["test_kl_divergence"],
            "train_loss": trained.rows[-1]["train_loss"],
            "test_loss": trained.rows[-1]["test_loss"],
            "minutes": np.cumsum(trained.column("seconds")) / 60,
            "curve": trained.column("test_loss"),
        }

    def claims(self, results):
        there = [label for label in PUBLISHED if label in results.runs]
        found = {label: results.mean(label, "nll") for label in there}
        paper = ", ".join(f"{PUBLISHED[label][0]} ({label})" for label in there) + " nats"
        ours = ", ".join(f"{value:.2f} ({label})" for label, value in found.items()) + " nats"
        claims = []
        iwae = [label for label in there if label.startswith("IWAE")]
        if iwae:
            better = all(found[label] < found["VAE, k=1"] for label in iwae)
            claims.append(Claim("Trained on the bound of k samples, -log p(x) is lower", paper, ours, better))
            active = {label: results.mean(label, "active_units") for label in there}
            claims.append(
                Claim(
                    "and more active units",
                    ", ".join(f"{PUBLISHED[label][1]} ({label})" for label in there),
                    ", ".join(f"{value:.0f} ({label})" for label, value in active.items()),
                    all(active[label] > active["VAE, k=1"] for label in iwae),
                )
            )
        if results.content["budget"] != "quick":
            for label, nll in found.items():
                mark, epochs = PUBLISHED[label][0], len(results[label, "curve"][0])
                claims.append(
                    Claim(
                        f"-log p(x), {label}",
                        f"{mark} nats",
                        f"{nll:.2f} nats (standard error over the images {results.mean(label, 'standard_error'):.2f})",
                        nll <= mark + 0.05,
                        f"{epochs:,} epochs instead of 3,280" if epochs < 3280 else "",
                    )
                )
        return claims

    def table(self, results):
        header = ["model", "paper: -log p(x), nats (active units)", "nbip/IWAE on GitHub, 100 latents"]
        header += ["ours (active units)", "-ELBO or bound, train / test", "epochs", "minutes of training"]
        rows = []
        for label in results.runs:
            nll, active = PUBLISHED[label]
            loss = " / ".join(results.text(label, f"{split}_loss") for split in ("train", "test"))
            rows.append(
                [
                    label,
                    f"{nll} ({active})",
                    RERUNS.get(label, "-"),
                    f"{results.text(label, 'nll')} ({results.text(label, 'active_units', digits=0)})",
                    loss,
                    len(results[label, "curve"][0]),
                    f"{np.mean([minutes[-1] for minutes in results[label, 'minutes']]):.0f}",
                ]
            )
        return header, rows

    def draw(self, results, trained, path):
        figure = Figure(figsize=(6.5, 4.2), layout="constrained")
        axes = figure.add_subplot(
            title="MNIST, black and white: the bound that was trained, on test images",
            xlabel="minutes of training",
            ylabel="minus the bound, nats per image",
        )
        for place, label in enumerate(results.runs):
            for seed, (minutes, curve) in enumerate(
                zip(results[label, "minutes"], results[label, "curve"], strict=True)
            ):
                axes.plot(minutes, curve, color=f"C{place}", linewidth=1, label=label if seed == 0 else None)
                axes.plot(minutes[-1], results[label, "nll"][seed], "o", color=f"C{place}", markersize=5)
            axes.axhline(PUBLISHED[label][0], color=f"C{place}", linestyle=":", linewidth=1)
        lowest = min(min(curve) for label in results.runs for curve in results[label, "curve"])
        axes.set_ylim(min(lowest, 84) - 1, lowest + 25)
        axes.legend(title="point: -log p(x); dotted: the paper's")
        save_figure(figure, path)


REPRODUCTION = IwaeTable1()
