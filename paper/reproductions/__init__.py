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
        "every epoch has its -ELBO; the prior's gradient stops at the codes, but it lags while they move: `vq-vae`",
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

# The papers that the experiments name, by first author and year: authors, title, arXiv number or venue.
REFERENCES = {
    "Alemi 2018": (
        "A. A. Alemi, B. Poole, I. Fischer, J. V. Dillon, R. A. Saurous, K. Murphy",
        "Fixing a Broken ELBO",
        "arXiv:1711.00464",
    ),
    "Bowman 2016": (
        "S. R. Bowman, L. Vilnis, O. Vinyals, A. M. Dai, R. Jozefowicz, S. Bengio",
        "Generating Sentences from a Continuous Space",
        "arXiv:1511.06349",
    ),
    "Burda 2015": (
        "Y. Burda, R. Grosse, R. Salakhutdinov",
        "Importance Weighted Autoencoders",
        "arXiv:1509.00519",
    ),
    "Burgess 2018": (
        "C. P. Burgess, I. Higgins, A. Pal, L. Matthey, N. Watters, G. Desjardins, A. Lerchner",
        "Understanding disentangling in beta-VAE",
        "arXiv:1804.03599",
    ),
    "Chen 2017": (
        "X. Chen, D. P. Kingma, T. Salimans, Y. Duan, P. Dhariwal, J. Schulman, I. Sutskever, P. Abbeel",
        "Variational Lossy Autoencoder",
        "arXiv:1611.02731",
    ),
    "Chen 2018": (
        "R. T. Q. Chen, X. Li, R. Grosse, D. Duvenaud",
        "Isolating Sources of Disentanglement in Variational Autoencoders",
        "arXiv:1802.04942",
    ),
    "Fu 2019": (
        "H. Fu, C. Li, X. Liu, J. Gao, A. Celikyilmaz, L. Carin",
        "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing",
        "arXiv:1903.10145",
    ),
    "Higgins 2017": (
        "I. Higgins, L. Matthey, A. Pal, C. Burgess, X. Glorot, M. Botvinick, S. Mohamed, A. Lerchner",
        "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework",
        "ICLR",
    ),
    "Kim 2018": (
        "H. Kim, A. Mnih",
        "Disentangling by Factorising",
        "arXiv:1802.05983",
    ),
    "Kingma 2013": (
        "D. P. Kingma, M. Welling",
        "Auto-Encoding Variational Bayes",
        "arXiv:1312.6114",
    ),
    "Kingma 2016": (
        "D. P. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever, M. Welling",
        "Improving Variational Inference with Inverse Autoregressive Flow",
        "arXiv:1606.04934",
    ),
    "Roeder 2017": (
        "G. Roeder, Y. Wu, D. Duvenaud",
        "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference",
        "arXiv:1703.09194",
    ),
    "Sohn 2015": (
        "K. Sohn, H. Lee, X. Yan",
        "Learning Structured Output Representation using Deep Conditional Generative Models",
        "NeurIPS 28",
    ),
    "Sonderby 2016": (
        "C. K. Sønderby, T. Raiko, L. Maaløe, S. K. Sønderby, O. Winther",
        "Ladder Variational Autoencoders",
        "arXiv:1602.02282",
    ),
    "Tucker 2018": (
        "G. Tucker, D. Lawson, S. Gu, C. J. Maddison",
        "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives",
        "arXiv:1810.04152",
    ),
    "van den Oord 2017": (
        "A. van den Oord, O. Vinyals, K. Kavukcuoglu",
        "Neural Discrete Representation Learning",
        "arXiv:1711.00937",
    ),
}
