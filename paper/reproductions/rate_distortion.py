"""Rate against distortion: what beta buys (Higgins 2017, equation 4; Alemi et al. 2018, arXiv:1711.00464)."""

import numpy as np

from pictures import save_rate_distortion
from reproduction import Claim, Reproduction, Run, spread_text

BETAS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
EPOCHS = {"quick": 10, "full": 100}


class RateDistortion(Reproduction):
    """One model, trained with seven weights of the KL. Each becomes a point: its rate, the nats that its code spends
    on an image, against its distortion, the nats that are still missing to the image once the code is known. -ELBO is
    their sum, so points of equal ELBO lie on lines of slope -1. beta is the exchange rate at which training stops
    trading one for the other; only at 1 are both counted as the ELBO counts them.
    """

    name = "rate-distortion"
    title = "beta from 0.1 to 10 on MNIST"
    source = "Higgins 2017, equation 4; Alemi 2018"

    def protocol(self, budget):
        epochs = EPOCHS[budget]
        return (
            f"{epochs} epochs of MNIST, binarised once, an MLP of 400-400 units, 20 latents; "
            "no paper has these numbers, the claims are about their order"
        )

    def runs(self, budget):
        shared = f"--data mnist --binarisation fixed --architecture mlp --epochs {EPOCHS[budget]}"
        minutes = 0.08 * EPOCHS[budget]
        return {f"beta={beta}": Run("vae_paper", f"{shared} --beta {beta}", minutes) for beta in BETAS}

    def measure(self, trained):
        last = trained.rows[-1]
        return {"rate": last["test_kl_divergence"], "distortion": last["test_reconstruction_nll"]}

    def claims(self, results):
        rates = [results.mean(label, "rate") for label in results.runs]
        distortions = [results.mean(label, "distortion") for label in results.runs]
        totals = [rate + distortion for rate, distortion in zip(rates, distortions, strict=True)]
        best = BETAS[int(np.argmin(totals))]
        return [
            Claim(
                "A larger beta makes the code cheaper and the images worse",
                "direction only (Higgins 2017)",
                f"KL {rates[0]:.1f} to {rates[-1]:.1f}, distortion {distortions[0]:.1f} to {distortions[-1]:.1f} nats",
                bool(np.all(np.diff(rates) < 0) and np.all(np.diff(distortions) > 0)),
            ),
            Claim(
                "-ELBO of test images is lowest at beta = 1", "what it trains", f"lowest at beta = {best}", best == 1
            ),
        ]

    def table(self, results):
        rows = []
        for label in results.runs:
            pairs = zip(results[label, "rate"], results[label, "distortion"], strict=True)
            total = [rate + distortion for rate, distortion in pairs]
            rows.append([label, results.text(label, "rate"), results.text(label, "distortion"), spread_text(total)])
        return ["run", "rate (KL, nats)", "distortion (nats)", "-ELBO (nats)"], rows

    def draw(self, results, trained, path):
        rates, distortions = ([results.mean(label, name) for label in results.runs] for name in ("rate", "distortion"))
        save_rate_distortion(path, rates, distortions, list(results.runs))


REPRODUCTION = RateDistortion()
