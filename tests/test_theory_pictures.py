"""The pictures of the README's theory: their numbers against adaptive quadrature, and that they are drawn."""

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from course import load_module
from script_runs import assert_is_a_picture

theory = load_module(Path(__file__).resolve().parent.parent / ".github" / "pictures" / "theory.py")
X, MU, SIGMA = -0.2, -0.5, 0.4


def log_joint(z):
    """Of the model that the script's docstring tells."""
    return -0.5 * (z**2 + ((X - z - z**2 / 2) / 0.2) ** 2) - np.log(2 * np.pi * 0.2)


def integral(function):
    return quad(function, -8, 8, points=[-2, -1, 0], epsabs=1e-10, limit=200)[0]


def test_every_number_is_that_of_an_adaptive_quadrature():
    q = norm(MU, SIGMA)
    evidence = np.log(integral(lambda z: np.exp(log_joint(z))))
    expected = {
        "log p(x)": evidence,
        "E[log p(x|z)]": integral(lambda z: q.pdf(z) * (log_joint(z) - norm.logpdf(z))),
        "KL(q || p(z))": integral(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z))),
        "ELBO": integral(lambda z: q.pdf(z) * (log_joint(z) - q.logpdf(z))),
        "KL(q || p(z|x))": integral(lambda z: q.pdf(z) * (q.logpdf(z) - log_joint(z) + evidence)),
    }
    assert theory.terms(X, MU, SIGMA) == pytest.approx(expected, abs=1e-7)


def test_the_best_q_is_better_than_its_neighbours_and_than_one_on_the_other_bump():
    mu, sigma = theory.best_q(X)
    best = theory.elbo(X, mu, sigma)
    for other in ((mu + 0.02, sigma), (mu - 0.02, sigma), (mu, 1.05 * sigma), (mu, sigma / 1.05), (-1.7, sigma)):
        assert theory.elbo(X, *other) < best


def test_the_pictures_are_drawn(tmp_path):
    theory.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"posterior.png", "gap.png", "reparameterisation.png"}
    for path in tmp_path.iterdir():
        assert_is_a_picture(path)
        assert path.stat().st_size < 80_000
