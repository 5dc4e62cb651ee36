"""The papers' experiments, one file each: which claim, which runs, which measure, which figure."""

from importlib import import_module

REPRODUCTIONS = {  # what one types: the file of its class
    "kingma-fig2": "kingma_fig2",
    "iwae-table1": "iwae_table1",
    "iwae-tricks": "iwae_tricks",
    "beta-vae-score": "beta_vae_score",
    "total-correlation": "total_correlation",
    "rate-distortion": "rate_distortion",
    "cvae-quadrants": "cvae_quadrants",
    "collapse": "collapse",
    "vq-vae": "vq_vae_codebooks",
    "precision": "precision",
    "readme": "readme_tables",
}


def find(name):
    """The `Reproduction` of that name. Raises KeyError."""
    return import_module(f"reproductions.{REPRODUCTIONS[name]}").REPRODUCTION


# Where a paper's file does otherwise than the paper, on purpose: file, what, why.
DEPARTURES = [
    [
        "`vae_paper.py`",
        "convolutions, Adam and ReLU by default, where Kingma 2013 has one tanh layer and Adagrad",
        "one model for all three levels; `kingma-fig2` has the paper's",
    ],
    [
        "`vae_paper.py --conditional`",
        "the prior is N(0, I) for every class, where Sohn 2015 learns p(z given the condition)",
        "a class is all that is given; the paper allows it, and `cvae-quadrants` learns the prior",
    ],
    [
        "`vae_paper.py --beta`",
        "beta multiplies a KL that is summed over latents, beside a sum over pixels",
        "beta = 1 is the ELBO; Higgins 2017's normalised beta is beta Z / D, for Z latents and D pixels",
    ],
    [
        "`vae_paper.py --capacity`",
        "C grows over as many steps as one says, where Burgess 2018 takes 100,000",
        "the digits are trained for 700 steps",
    ],
    [
        "`iwae.py`",
        "one step size, where Burda 2015 lowers it in eight stairs over 3,280 epochs",
        "60 epochs by default; `--lr-schedule staircase` is the paper's",
    ],
    [
        "`beta_tcvae.py`",
        "the weights of minibatch stratified sampling stand on the diagonal of the batch's matrix",
        "in widely copied code they fill a column of it, and the estimates are wrong by several nats",
    ],
    [
        "`factor_vae.py`",
        "the discriminator judges the two halves of one batch, where Kim 2018 draws a second batch",
        "every image is encoded once; the permuted codes still come from images of their own",
    ],
    [
        "`factor_vae.py`",
        "one step size for both players, 1e-3 by default, where the paper has 1e-4",
        "the paper takes 300,000 steps",
    ],
    [
        "`vq_vae.py`",
        "the prior is trained together with the codes, where van den Oord 2017 trains it afterwards",
        "every epoch has its -ELBO; the codes do not notice, but while they move the prior runs after them: `vq-vae`",
    ],
    [
        "`vq_vae.py`",
        "an entry that nobody chooses is put onto a vector of the batch",
        "else one that falls behind gets no update, and stays behind",
    ],
    [
        "`vq_vae.py`",
        "running means with a decay of 0.95, where the paper has 0.99",
        "0.99 settles after several hundred steps, and the digits have 700 in all",
    ],
    [
        "`disentanglement.py`",
        "orientation counts as far as it can be seen, and shape and orientation each given the other",
        "a square repeats after a quarter turn: no code of the picture knows more",
    ],
    [
        "`disentanglement.py`",
        "DCI's importances come from a random forest that sees all latents at each branch",
        "a forest that must choose among a few finds even a perfect code's other latents important",
    ],
]
