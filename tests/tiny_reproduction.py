"""A reproduction of seconds, as a script of its own: `python tests/tiny_reproduction.py [what reproduce.py takes]`.

How long it takes is set by TINY_EPOCHS in the environment.
"""

from level_script import run_as_script

# isort: split

import os

import reproduce
from pictures import save_rate_distortion
from reproduction import Claim, Reproduction, Run

BETAS = ("beta=1", "beta=4")


class Tiny(Reproduction):
    """Two runs that train and one that does not."""

    name = "tiny"
    title = "two betas on a few digits"
    source = "nobody"

    def seeds(self, budget):
        return 2

    def protocol(self, budget):
        return "a few epochs of a few digits"

    def runs(self, budget):
        epochs = int(os.environ.get("TINY_EPOCHS", "2"))
        small = (
            "--architecture mlp --hidden-dims 8 --latent-dim 2 --train-images 128 --batch-size 64 --save-seconds 0.2"
        )
        trained = {label: Run("vae_paper", f"{small} --epochs {epochs} --{label}", 0.1) for label in BETAS}
        return trained | {"no model": Run(None, minutes=0.01, seeds=1)}

    def measure(self, trained):
        if trained.label == "no model":
            return {"rate": 0.0, "distortion": 300.0}
        assert trained.model.options.latent_dim == 2
        assert len(trained.images("test")) == 357
        last = trained.rows[-1]
        return {"rate": last["test_kl_divergence"], "distortion": last["test_reconstruction_nll"]}

    def claims(self, results):
        rates = [results.mean(label, "rate") for label in BETAS]
        return [Claim("beta lowers the rate", "1 | 2", f"{rates[0]:.2f}, {rates[1]:.2f}", rates[1] < rates[0])]

    def table(self, results):
        return ["run", "rate"], [[label, results.text(label, "rate", digits=4)] for label in results.runs]

    def draw(self, results, trained, path):
        rate, distortion = ([results.mean(label, name) for label in results.runs] for name in ("rate", "distortion"))
        save_rate_distortion(path, rate, distortion, list(results.runs))


def main(argv=None):
    reproduce.main(argv, known={"tiny": Tiny()})


if __name__ == "__main__":
    import tiny_reproduction  # by its own name: the processes that train import it

    run_as_script(tiny_reproduction.main)
