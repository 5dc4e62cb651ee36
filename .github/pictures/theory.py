"""Draws the pictures of the README's theory: what a Gaussian q can and cannot be, what that costs, and the trick.

The model has one code and one pixel, so that everything can be computed on a grid:

    z ~ N(0, 1)        x | z ~ N(g(z), 0.2^2)        g(z) = z + z^2 / 2

The decoder's mean g is a parabola, so that two codes explain the same x: those at equal distances from -1. For x = 1.5
the prior makes one of them improbable, for x = -0.2 it does not. Nothing is random.

    .venv/bin/python .github/pictures/theory.py        writes posterior.png, gap.png, reparameterisation.png beside it
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.stats import norm

HERE = Path(__file__).resolve().parent
SIGMA = 0.2  # of the decoder's noise
CASES = (1.5, -0.2)  # the x of the two panels
GRID = np.linspace(-8, 8, 4001)
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"  # told apart without red and green
STEPS = (
    "E[log p(x|z)] under q, from 0",
    "minus KL(q || p(z)), down to the ELBO",
    "the gap KL(q || p(z|x)), up to log p(x)",
)


def decoder_mean(z):
    return z + z**2 / 2


def log_likelihood(x, z):
    return norm.logpdf(x, decoder_mean(z), SIGMA)


def mean_over(density, values):
    """The integral of density times values over the grid, by the trapezoidal rule."""
    return np.trapezoid(density * values, GRID)


def log_evidence(x):
    """log p(x), nats."""
    return np.log(mean_over(norm.pdf(GRID), np.exp(log_likelihood(x, GRID))))


def log_posterior(x):
    """log p(z|x) on the grid."""
    return log_likelihood(x, GRID) + norm.logpdf(GRID) - log_evidence(x)


def elbo(x, mu, sigma):
    """E_q[log p(x, z) - log q(z)] for q = N(mu, sigma^2), nats, as one integral."""
    ratio = log_likelihood(x, GRID) + norm.logpdf(GRID) - norm.logpdf(GRID, mu, sigma)
    return mean_over(norm.pdf(GRID, mu, sigma), ratio)


def terms(x, mu, sigma):
    """The numbers of x and q = N(mu, sigma^2), nats. Each is computed by itself: no identity is put in."""
    q, log_q = norm.pdf(GRID, mu, sigma), norm.logpdf(GRID, mu, sigma)
    return {
        "log p(x)": log_evidence(x),
        "E[log p(x|z)]": mean_over(q, log_likelihood(x, GRID)),
        "KL(q || p(z))": (mu**2 + sigma**2 - 1 - 2 * np.log(sigma)) / 2,
        "ELBO": elbo(x, mu, sigma),
        "KL(q || p(z|x))": mean_over(q, log_q - log_posterior(x)),
    }


def best_q(x):
    """(mu, sigma) of the Gaussian with the largest ELBO: the better of those found from either side of -1."""

    def loss(v):
        return -elbo(x, v[0], np.exp(v[1]))

    found = [minimize(loss, (start, -1.5), method="Nelder-Mead", options={"xatol": 1e-6}) for start in (-2, 0)]
    mu, log_sigma = min(found, key=lambda result: result.fun).x
    return float(mu), float(np.exp(log_sigma))


def draw_posterior(path, best):
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, (x, (mu, sigma)) in zip(panels, best.items(), strict=True):
        likelihood, posterior, q = np.exp(log_likelihood(x, GRID)), np.exp(log_posterior(x)), norm.pdf(GRID, mu, sigma)
        scaled = likelihood * posterior.max() / likelihood.max()
        axes.fill_between(GRID, norm.pdf(GRID), color=GREY, alpha=0.3, linewidth=0, label="prior p(z)")
        axes.plot(GRID, scaled, ":", color=GREY, linewidth=1.8, label="p(x|z), scaled to the posterior's height")
        axes.plot(GRID, posterior, color=BLUE, linewidth=2.5, label="posterior p(z|x)")
        axes.plot(GRID, q, "--", color=ORANGE, linewidth=2, label="the best Gaussian q(z|x)")
        axes.set_title(f"x = {x:g}: the gap is {terms(x, mu, sigma)['KL(q || p(z|x))']:.2f} nats", fontsize=11)
        axes.set(xlim=(-4.2, 3.2), ylim=(0, 1.08 * max(posterior.max(), q.max())), xlabel="code z")
    panels[0].set_ylabel("density")
    save(figure, path, panels[0], columns=4)


def draw_gap(path, best):
    """Each q as three steps: from 0 to E[log p(x|z)], down by one KL to the ELBO, up by the other to log p(x)."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (x, (mu, sigma)) in zip(panels, best.items(), strict=True):
        names = []
        for first, words, q in ((0, "the best q", (mu, sigma)), (4, "twice as wide", (mu, 2 * sigma))):
            values = terms(x, *q)
            evidence, fit, rate, bound, gap = values.values()
            assert abs(fit - rate - bound) < 1e-6
            assert abs(bound + gap - evidence) < 1e-6
            print(f"x = {x:g}, {words}:", *(f"{name} {value:.4f}" for name, value in values.items()), sep="  ")
            names.append(f"{words}\nELBO {bound:.2f}")
            starts, heights = (0, fit, bound), (fit, -rate, gap)
            for i, (start, height, colour) in enumerate(zip(starts, heights, (GREEN, BLUE, ORANGE), strict=True)):
                axes.bar(first + i, height, 0.8, start, color=colour, label=None if first else STEPS[i])
                axes.annotate(
                    f"{height:+.2f}", (first + i, max(start, start + height)), (0, 3),
                    textcoords="offset points", ha="center", fontsize=9,
                )  # fmt: skip
            axes.hlines(bound, first + 0.6, first + 2.4, color="black", label=None if first else "ELBO")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.axhline(evidence, color="black", linewidth=1.2, linestyle="--", label="log p(x)")
        axes.set_title(f"x = {x:g}: log p(x) = {evidence:.2f} nats", fontsize=11)
        axes.set_xticks([1, 5], names, fontsize=10)
        axes.set_ylim(-3.3, 0.6)
    panels[0].set_ylabel("nats")
    save(figure, path, panels[0], columns=3)


def draw_reparameterisation(path):
    """Black: what is computed, from left to right. Orange: the gradient's way back, from the loss to the parameters."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    without, with_it = figure.subplots(1, 2)
    without.set_title("a draw: the gradient ends", fontsize=11)
    with_it.set_title("noise from outside: the gradient arrives", fontsize=11)
    for axes in (without, with_it):
        axes.set(xlim=(0, 9), ylim=(0, 5.2))
        axes.axis("off")
        for words, place in {"μ": (0.8, 4.3), "σ": (0.8, 1.7), "loss": (8.2, 3)}.items():
            draw_node(axes, words, place)
        for start, end in (((1.4, 4), (3, 3.4)), ((1.4, 1.7), (3, 2.3)), ((6.1, 2.85), (7.4, 2.85))):
            draw_arrow(axes, start, end, "black", "-")
        draw_arrow(axes, (7.4, 3.15), (6.1, 3.15), ORANGE, "--", "∂loss/∂z", (6.75, 3.6))
    draw_node(without, "z ~ N(μ, σ²)", (4.4, 3))
    for start, end in (((3, 3.7), (2.2, 4)), ((3, 2.6), (2.2, 2.3))):
        draw_arrow(without, start, end, ORANGE, "--")
        without.plot(*end, "x", color=ORANGE, markersize=10, markeredgewidth=2.5)
    draw_node(with_it, "z = μ + σ ε", (4.4, 3))
    draw_node(with_it, "ε ~ N(0, 1)", (4.4, 0.6))
    draw_arrow(with_it, (4.4, 1.2), (4.4, 2.4), "black", "-")
    draw_arrow(with_it, (3, 3.7), (1.4, 4.3), ORANGE, "--", "∂z/∂μ = 1", (2.75, 4.5))
    draw_arrow(with_it, (3, 2.6), (1.4, 2), ORANGE, "--", "∂z/∂σ = ε", (2.75, 1.5))
    save(figure, path)


def draw_node(axes, words, place):
    """A box, or a grey ellipse for what is drawn at random."""
    shape = {"boxstyle": "round,pad=0.5", "facecolor": "white"}
    if "~" in words:
        shape = {"boxstyle": "ellipse,pad=0.3", "facecolor": "#dddddd"}
    axes.text(*place, words, ha="center", va="center", fontsize=11, bbox=shape | {"edgecolor": "black"})


def draw_arrow(axes, start, end, colour, style, words="", place=(0, 0)):
    line = {"arrowstyle": "-|>", "color": colour, "linestyle": style, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=line)
    axes.text(*place, words, color=colour, ha="center", va="center", fontsize=10)


def save(figure, path, legend_of=None, columns=1):
    if legend_of:
        lines = legend_of.get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    figure.savefig(path, dpi=100, facecolor="white")


def main(folder=HERE):
    best = {x: best_q(x) for x in CASES}
    draw_posterior(Path(folder) / "posterior.png", best)
    draw_gap(Path(folder) / "gap.png", best)
    draw_reparameterisation(Path(folder) / "reparameterisation.png")


if __name__ == "__main__":
    main()
