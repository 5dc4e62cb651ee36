"""Checks of exercise 4. The references are PyTorch's, and for the ELBO log p(x) minus the gap."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import MultivariateNormal, Normal

from checking import Function, Special
from formulas import sums_and_means
from mistakes import total
from vae_numpy import sigmoid, softplus

# --- Inputs ----------------------------------------------------------------------------------------------------------


def grey_images(rng):
    h, w = rng.permutation(np.arange(2, 6))[:2]
    shape = (rng.integers(2, 6), 1, h, w)
    logits = 2 * rng.standard_normal(shape)
    logits[0] = rng.uniform(0.1, 0.9, shape[1:])  # what probabilities could be
    return {"logits": logits, "x": rng.uniform(size=shape)}


def sure_pixels(logit):
    """White, grey and black pixels: one image with logits that large, one with logits that small."""
    logits = logit * np.array([1.0, -1.0])[:, None, None, None] * np.ones((2, 1, 2, 3))
    return {"logits": logits, "x": np.full(logits.shape, [1.0, 0.3, 0.0])}


def one_sigma(rng, low):
    return float(rng.choice([rng.uniform(low, 0.8), rng.uniform(1.2, 2)]))


def vectors(rng):
    d = rng.integers(3, 7)
    n = rng.choice([n for n in range(2, 6) if n != d])
    return {"mean": rng.standard_normal((n, d)), "x": rng.standard_normal((n, d)), "sigma": one_sigma(rng, 0.3)}


def linear_models(rng):
    n, z, d = rng.choice([2, 3, 5]), rng.integers(2, 4), rng.choice([4, 6])
    return {
        "x": rng.standard_normal((n, d)),
        "mu": rng.standard_normal((n, z)),
        "logvar": rng.standard_normal((n, z)),
        "W": rng.standard_normal((d, z)),
        "b": rng.standard_normal(d),
        "sigma": one_sigma(rng, 0.5),
    }


def costs(rng):
    num_pixels = int(rng.integers(300, 500))
    return {"nats": num_pixels * rng.uniform(-1.4, 1.4, rng.integers(2, 6)), "num_pixels": num_pixels}


SMALL = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)
RNG = np.random.default_rng(4)
MODEL = linear_models(RNG)

# --- References ------------------------------------------------------------------------------------------------------


def binary_cross_entropy(logits, x):
    logits, x = torch.from_numpy(logits), torch.from_numpy(x)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3)).numpy()


def normal_nll(mean, x, sigma):
    return -Normal(torch.from_numpy(mean), float(sigma)).log_prob(torch.from_numpy(x)).sum(1).numpy()


def evidence_minus_gap(x, mu, logvar, W, b, sigma):
    """log p(x) - KL(q || p(z|x)), from two Gaussians with full covariance."""
    x, mu, logvar, W, b = (torch.from_numpy(array) for array in (x, mu, logvar, W, b))
    d, z = W.shape
    evidence = MultivariateNormal(b, W @ W.T + sigma**2 * torch.eye(d, dtype=W.dtype)).log_prob(x)
    precision = torch.eye(z, dtype=W.dtype) + W.T @ W / sigma**2
    posterior = MultivariateNormal(torch.linalg.solve(precision, W.T @ (x - b).T / sigma**2).T, precision.inverse())
    q = MultivariateNormal(mu, torch.diag_embed(torch.exp(logvar)))
    return (evidence - torch.distributions.kl_divergence(q, posterior)).numpy()


def log2_of_inverse_probability(nats, num_pixels):
    return np.log2(np.exp(nats / num_pixels))


# fmt: off
# --- What may be done instead: Bernoulli pixels ----------------------------------------------------------------------


def cross_entropy(x, p):
    return -x * np.log(p) - (1 - x) * np.log(1 - p)


def bernoulli_model(choose, logits, x):
    logit = choose(
        logits,
        ("sigmoid twice", sigmoid(logits),
         "a sigmoid is applied to what went through a sigmoid already. Is your formula for logits or for p?"),
        ("black and white exchanged", -logits,
         "try x = 1 and a large positive logit: that pixel was predicted well. What does yours cost?"),
    )
    limit = choose(np.inf, *(
        (f"logits cut off at {most}", most,
         "logits have no limits: a wrong pixel costs as much as its logit was sure, however sure that is.")
        for most in (3, 5, 6, 10, 15, 20, 30, 50, 80, 100, 500, 700)
    ))
    logit = np.minimum(np.maximum(logit, -limit), limit)
    stable = sigmoid(logit)
    p = choose(
        stable,
        ("logits taken for probabilities", logit,
         "you take logs of the logits themselves. They can be negative: what turns them into probabilities?"),
        ("tanh in place of the sigmoid", np.tanh(logit),
         "a hyperbolic tangent runs from -1 to 1. Probabilities do not."),
        ("the log of zero", stable + 0,
         "the formula is right, but p rounds to 0 or 1 for a sure decoder. Can you do without p?"),
    )
    limit = choose(0.0, *(
        (f"probabilities clipped at {small:g}", small,
         "clipping hides the infinity and makes a wrong pixel too cheap (and its gradient zero). Can you do without p?")
        for small in SMALL
    ))
    added = choose(0.0, *(
        (f"{small:g} added inside the logarithm", small,
         "a small number inside the logarithm changes every value a little, and a sure pixel a lot. Can you do "
         "without p?")
        for small in SMALL
    ))
    p = np.clip(p, limit, 1 - limit) if limit else p
    careless = limit or added or p is not stable
    log_p, log_black = (np.log(p + added), np.log(1 - p + added)) if careless else (-softplus(-logit), -softplus(logit))
    white = choose(
        log_p,
        ("log(1 - p) for all pixels", log_black,
         "your cost does not depend on x: white pixels pay with log(1 - p), too."),
        ("p for white, not its logarithm", p, "what a white pixel pays lacks its logarithm."),
        ("the sign for white", -log_p,
         "black pixels cost you something and white ones bring something in. Look at the signs."),
    )
    black = choose(
        log_black,
        ("log p for all pixels", log_p, "your cost does not depend on x: black pixels pay with log p, too."),
        ("1 - p for black, not its logarithm", 1 - p, "what a black pixel pays lacks its logarithm."),
        ("the sign for black", -log_black,
         "white pixels cost you something and black ones bring something in. Look at the signs."),
        ("the complement of a logarithm", 1 - log_p, "one minus a logarithm is not the logarithm of one minus."),
    )
    share_of_white = choose(
        x,
        ("only the black pixels", 0 * x,
         "a decoder that paints everything black would cost nothing. Who pays for the white pixels?"),
        ("white paid by every pixel", 1 + 0 * x,
         "black pixels pay for white as well: the factor of that term is missing."),
    )
    share_of_black = choose(
        1 - x,
        ("only the white pixels", 0 * x,
         "a decoder that paints everything white would cost nothing. Who pays for the black pixels?"),
        ("black paid by every pixel", 1 + 0 * x,
         "white pixels pay for black as well: the factor of that term is missing."),
        ("x where 1 - x belongs", x, "the black pixels have the factor of the white ones."),
    )
    cost = -share_of_white * white - share_of_black * black
    rest = np.log1p(np.exp(-np.abs(logit)))
    cost = choose(
        lambda: cost,
        ("the squared error", lambda: (x - p) ** 2,
         "this is a squared error of probabilities. A sure and wrong pixel must be able to cost more than 1."),
        ("the absolute error", lambda: np.abs(x - p),
         "this is an absolute error. A sure and wrong pixel must be able to cost more than 1."),
        ("white only where x is 1", lambda: softplus(np.where(x == 1, -logit, logit)),
         "a pixel that is not quite white costs as much as a black one. How white is a grey one?"),
        ("the squared error of the logits", lambda: (x - logit) ** 2,
         "this compares a logit with a grey value. A logit of 1000 may be just right."),
        ("the product added", lambda: softplus(logit) + x * logit,
         "try x = 1: a larger logit must be cheaper. Look at the sign of the term with x."),
        ("p in the product", lambda: softplus(logit) - x * p,
         "the term with x holds a probability where the log-odds belong."),
        ("the sign of l in one term", lambda: softplus(-logit) - x * logit,
         "of your two terms one is for white and one for black. Take x = 0 and a large positive logit: what does it"
         " cost?"),
        ("no logarithm left", lambda: np.maximum(logit, 0) - x * logit,
         "a logit of 0 costs nothing in yours. Even the fairest coin costs something."),
        ("the stable form without its maximum", lambda: rest - x * logit,
         "for large positive logits your first term goes to 0. It should grow like l."),
        ("the absolute value for the maximum", lambda: np.abs(logit) - x * logit + rest,
         "for large negative logits your first term grows. It should go to 0."),
        ("a growing exponential in the rest", lambda: np.maximum(logit, 0) - x * logit + softplus(np.abs(logit)),
         "the large part is counted twice: which sign has the exponent in the rest?"),
        ("1 is not e^1", lambda: np.logaddexp(1, logit) - x * logit,
         "logaddexp takes exponents. Of which number is 1 the exponential?"),
        ("base 2 inside", lambda: np.logaddexp2(0, logit) - x * logit,
         "your logarithm and your exponential have base 2, the logit has base e."),
        ("no 1 beside the exponential", lambda: logit - x * logit,
         "the log of e^l alone is l. What else stands inside the logarithm?"),
        ("the exponential without its logarithm", lambda: np.exp(logit) - x * logit,
         "your first term grows like e^l. Where is the logarithm?"),
        ("less the entropy of x", lambda: cost - cross_entropy(x, x),
         "grey pixels cost less than they should, by their own entropy: yours is a KL divergence."),
        ("the log of a mixture", lambda: -np.log(x * p + (1 - x) * (1 - p)),
         "you mix the two probabilities and take the log. That is the same for black and white only. Where does the"
         " log stand in the text?"),
        ("x and p exchanged", lambda: cross_entropy(p, x),
         "p and x have changed places: which of the two stands inside the logarithm in the text?"),
        ("a softmax over the pixels", lambda: x * (np.log(np.exp(logit).sum((1, 2, 3), keepdims=True)) - logit),
         "your probabilities of an image's pixels add up to 1. Each pixel is white or black for itself."),
        ("a continuous density", lambda: np.log(np.expm1(logit) / logit) - x * logit,
         "this is minus the log of a density on all the grey values, a continuous Bernoulli. The text's probability"
         " is one of black and white."),
        ("exp overflows", lambda: np.log(1 + np.exp(logit)) - x * logit,
         "the formula is right, but exp(1000) is no number any more. Which value should that term have there?"),
        ("exp overflows for black pixels", lambda: np.log(1 + np.exp(-logit)) + (1 - x) * logit,
         "the formula is right, but exp(1000) is no number any more. Which value should that term have at l = -1000?"),
        ("both exponentials overflow", lambda: x * np.log(1 + np.exp(-logit)) + (1 - x) * np.log(1 + np.exp(logit)),
         "the formula is right, but exp(1000) is no number any more. Can one of the two logarithms go?"),
        ("costs that are infinite left out", lambda: np.nan_to_num(cross_entropy(x, p), posinf=0.0),
         "a cost that became infinite or NaN on the way counts as 0 in yours. It is large, not free."),
    )()
    cost = choose(
        cost,
        ("without the last column", cost[..., :-1], "the last column of the image does not count."),
        ("without the first column", cost[..., 1:], "the first column of the image does not count."),
        ("without the last row", cost[:, :, :-1], "the last row of the image does not count."),
        ("without the first row", cost[:, :, 1:], "the first row of the image does not count."),
    )
    result = total(choose, cost, "pixels", (1, 2, 3))
    mean = cost.mean((1, 2, 3))
    return choose(
        result,
        ("784 times the mean", 784 * mean, "your images have 784 pixels, whatever their size."),
        ("one mean for all pixels", cost.mean(), "one number comes out, the mean over all pixels of all images."),
        ("multiplied by the number of pixels", mean * cost[0].size ** 2,
         "the sum is multiplied by the number of pixels."),
        ("averaged along one axis", mean * cost.shape[2],
         "along one axis of the image you add, along the other you average."),
        ("averaged along the other axis", mean * cost.shape[3],
         "along one axis of the image you add, along the other you average."),
        ("an axis left over", cost.sum((2, 3)), "an axis of length 1 is left over: the channel."),
        ("one axis summed", cost.sum(3), "only the last axis is summed. How many axes has an image?"),
        ("one column for each image", cost.sum((1, 2)), "one axis of the image is left over."),
        ("the probability", np.exp(-cost.sum((1, 2, 3))), "this is a probability, without its logarithm."),
        ("the log of the sum", -np.log(np.exp(-cost).sum((1, 2, 3))),
         "you add probabilities and take the log of that. Which of the two comes first?"),
    )


def bernoulli_terms(logits, x):
    logit, x = (array.reshape(len(x), -1) for array in (logits, x))
    p = sigmoid(logit)
    parts = {
        "log(1 + e^l)": softplus(logit), "x l": x * logit, "l": logit, "x": x, "p": p, "x p": x * p, "x^2": x**2,
        "|l|": np.abs(logit), "x log(1 + e^l)": x * softplus(logit), "x^2 l": x**2 * logit, "p^2": p**2,
        "log(1 + e^-|l|)": softplus(-np.abs(logit)),
        "l p": logit * p, "l^2": logit**2, "e^l": np.exp(logit), "e^-l": np.exp(-logit), "x log x": x * np.log(x),
        "(1 - x) log(1 - x)": (1 - x) * np.log(1 - x), "x e^l": x * np.exp(logit), "x |l|": x * np.abs(logit),
    }
    return sums_and_means(parts)


# --- Gaussian pixels -------------------------------------------------------------------------------------------------


def gaussian_model(choose, mean, x, sigma):
    d = x.shape[1]
    error = choose(
        x - mean,
        ("the sum of x and the mean", x + mean,
         "x = mean has to be the cheapest image. Is there a difference of the two?"),
        ("an error relative to the mean", (x - mean) / mean,
         "you divide the error by the mean. What measures it in the density?"),
    )
    width = choose(
        sigma,
        ("sigma taken for the variance", math.sqrt(sigma),
         "you use sigma as if it were a variance. It is the standard deviation."),
        ("the variance taken for sigma", sigma**2, "you use the variance as if it were the standard deviation."),
        ("log sigma taken for sigma", np.exp(sigma),
         "you take sigma for a logarithm. It is the standard deviation itself."),
        ("a sigma never above 1", min(sigma, 1), "sigma is never above 1 in yours."),
        ("a sigma never below 1", max(sigma, 1), "sigma is never below 1 in yours."),
    )
    square = choose(
        error**2,
        ("the absolute error", np.abs(error),
         "your cost grows in proportion to the error: the density is one with another exponent."),
        ("the error not squared", error, "an error below the mean makes your image cheaper than no error."),
        ("the error to the fourth power", error**4, "the error is squared twice."),
    )
    squares = square.sum(1, keepdims=True)
    square = choose(
        square,
        ("the squares averaged over the pixels", squares / d**2 + 0 * x,
         "the squared errors are averaged over the pixels, while the constants are added up."),
        ("the length of the error", np.sqrt(squares) / d + 0 * x,
         "in the place of the squared length of the error stands the length itself."),
        ("a sum squared", error.sum(1, keepdims=True) ** 2 / d + 0 * x,
         "you add the errors before squaring: those of different signs cancel."),
        ("the largest square", square.max(1, keepdims=True) / d + 0 * x, "only the pixel that is most wrong counts."),
        ("the median of the squares", np.median(square, 1, keepdims=True) + 0 * x,
         "the squared errors' median stands where their sum belongs."),
        ("the median square", np.median(square, 1, keepdims=True) / d + 0 * x,
         "the squared errors' median stands where their sum belongs."),
        ("the squares averaged over the batch", square.mean(0) + 0 * x,
         "the squared errors are averaged over the images. Keep them apart."),
        ("the squares summed over the batch", square.sum(0) + 0 * x,
         "the squared errors are summed over the images. Keep them apart."),
    )
    weight = choose(
        1 / (2 * width**2),
        ("the missing half", 1 / width**2,
         "the squared error weighs twice too much. Compare with the exponent of the density."),
        ("half too much", 1 / (4 * width**2), "the squared error weighs half of what it should."),
        ("sigma not squared", 1 / (2 * width),
         "the exponent has no unit: if x and sigma are both measured in something else, it must stay the same."),
        ("neither squared nor halved", 1 / width,
         "compare the factor of the squared error with the exponent of the density."),
        ("multiplied by the variance", width**2 / 2,
         "a wide Gaussian should forgive an error more easily. Is there a bracket missing?"),
        ("multiplied by sigma", width / 2,
         "a wide Gaussian should forgive an error more easily. Is there a bracket missing?"),
        ("an exponent without sigma", 0.5, "in the exponent sigma does not matter. In what is the error measured?"),
        ("a plain squared error", 1.0, "the squared error has no factor. Compare with the exponent of the density."),
        ("the sign of the exponent", -1 / (2 * width**2),
         "an error makes your image cheaper. Look at the sign of the exponent."),
        ("no error at all", 0.0, "your cost does not depend on x."),
    )
    height = choose(
        math.log(width),
        ("the forgotten log sigma", 0.0, "a wide Gaussian is a low one. Where does its height enter?"),
        ("log sigma subtracted", -math.log(width),
         "for x = mean a narrower Gaussian has to be cheaper. Yours is dearer."),
        ("half of log sigma", math.log(width) / 2,
         "the term with log sigma is half of what it should be: is it sigma or its square that stands below a root?"),
        ("log sigma twice", 2 * math.log(width),
         "the term with log sigma is twice too large: is it sigma or its square that stands below a root?"),
        ("sigma without its log", width,
         "sigma enters your constants without a logarithm. What is minus the log of a factor in the density?"),
        ("the variance without its log", width**2,
         "the variance enters your constants without a logarithm. What is minus the log of a factor in the density?"),
        ("the log sigma of another base", math.log10(width), "one logarithm has base 10. Nats need another one."),
        ("log sigma in bits", math.log2(width), "one logarithm has base 2. Nats need another one."),
    )
    log_2pi = math.log(2 * math.pi)
    constant = choose(
        log_2pi / 2,
        ("the forgotten pi", 0.0, "a constant is missing. Does your density integrate to one?"),
        ("2 pi without its root", log_2pi,
         "the constant is twice too large: in the density there is a root around 2 pi."),
        ("the constant subtracted", -log_2pi / 2,
         "the constant has the wrong sign: it makes a density lower, and its cost?"),
        ("pi without its 2", math.log(math.pi) / 2, "the constant is that of pi, not of 2 pi."),
        ("the root of pi only", math.log(2) + math.log(math.pi) / 2, "the 2 stands outside of your root."),
        ("the root of 2 only", math.log(2) / 2 + math.log(math.pi), "pi stands outside of your root."),
        ("the 2 divided away", math.log(math.pi / 2) / 2,
         "the constant is that of pi / 2. Look at what is divided by what."),
        ("2 pi without its log", math.pi, "2 pi enters your constants without a logarithm."),
        ("the root without its log", math.sqrt(2 * math.pi),
         "the root of 2 pi enters your constants without a logarithm."),
        ("a quarter of the constant", log_2pi / 4,
         "the constant is half of what it should be: the root is taken twice."),
        ("the constant in base 10", log_2pi / 2 / math.log(10), "one logarithm has base 10. Nats need another one."),
    )
    counted = choose(
        (1.0, 1.0),
        ("constants once for each image", (1 / d, 1 / d),
         "the terms without x stand outside the sum. Each pixel has a density of its own."),
        ("log sigma once for each image", (1 / d, 1.0), "log sigma is paid once. Each pixel has a density of its own."),
        ("pi once for each image", (1.0, 1 / d), "the constant is paid once. Each pixel has a density of its own."),
        ("constants counted twice over", (d, d),
         "the terms without x are both summed over the pixels and multiplied by their number."),
        ("constants of 784 pixels", (784 / d, 784 / d), "your images have 784 pixels, whatever their size."),
        ("constants of one pixel less", (1 - 1 / d, 1 - 1 / d), "the terms without x are those of one pixel too few."),
        ("constants once for each image of the batch", (len(x) / d, len(x) / d),
         "the terms without x are multiplied by the number of images. How many pixels pay them?"),
    )
    constants = counted[0] * height + counted[1] * constant
    cost = choose(
        square * weight + constants,
        ("the constants subtracted", square * weight - constants,
         "the terms without x have the wrong sign. What is minus the log of one over something?"),
        ("no constants", square * weight,
         "with a huge sigma everything would be free. What stands in front of the exponential in the density?"),
        ("the density itself", np.exp(-square * weight - constants), "this is the density, without its logarithm."),
        ("no density above 1", np.maximum(square * weight + constants, 0),
         "a density may be larger than 1, and a pixel's cost below 0."),
        ("vanishing densities", -np.log(np.exp(-square * weight - constants)),
         "the formula is right, but the density of a pixel may be too small for a float. Its logarithm is not."),
        ("an exponential density", np.abs(error) / width + math.log(2 * width),
         "this is the density of Laplace. A Gaussian has a square in its exponent."),
    )
    result = total(choose, cost, "pixels")
    nats = cost.sum(1)
    return choose(
        result,
        ("the density of the image", np.exp(-nats), "this is the density of the image, without its logarithm."),
        ("a product of densities", -np.log(np.exp(-cost).prod(1)),
         "the formula is right, but a product of many densities leaves the range of a float. A sum of logarithms "
         "does not."),
        ("multiplied by the number of pixels", d * nats, "the sum is multiplied by the number of pixels."),
        ("the log of summed densities", -np.log(np.exp(-cost).sum(1)),
         "you add the densities of the pixels. Densities of independent pixels do something else, their logs add."),
        ("a distance", np.sqrt(square.sum(1)),
         "this is the length of the error, a root of its square. Start from the density of one pixel."),
    )


def gaussian_terms(mean, x, sigma):
    error, one = x - mean, np.ones_like(x)
    powers = {"": 1, " / sigma": 1 / sigma, " / sigma^2": sigma**-2.0, " / sigma^4": sigma**-4.0, " sigma": sigma,
              " sigma^2": sigma**2}
    parts = {f"(x - mean)^2{words}": error**2 * power for words, power in powers.items()}
    parts |= {f"|x - mean|{words}": np.abs(error) * powers[words] for words in ("", " / sigma", " / sigma^2")}
    parts |= {f"(x - mean){words}": error * powers[words] for words in ("", " / sigma", " / sigma^2")}
    parts |= {f"x^2{words}": x**2 * powers[words] for words in ("", " / sigma^2")}
    numbers = {"log sigma": math.log(sigma), "sigma": sigma, "sigma^2": sigma**2, "1/sigma": 1 / sigma}
    parts |= {words: one * number for words, number in numbers.items()}
    return sums_and_means(parts)


# --- The ELBO --------------------------------------------------------------------------------------------------------


def elbo_model(choose, x, mu, logvar, W, b, sigma):
    (n, d), variance = x.shape, np.exp(logvar)
    code = choose(
        mu,
        ("a code one sigma off", mu + np.exp(logvar / 2),
         "you decode mu + sigma. The mean is over all codes, not at one of them."),
        ("mu plus the variance", mu + variance, "you decode mu plus a variance. Those have not even the same unit."),
        ("the code of the first image", mu[:1] + 0 * mu,
         "every image is compared with what the first one's code decodes to."),
        ("the mean code", mu.mean(0) + 0 * mu, "every image is compared with what the mean of all codes decodes to."),
    )
    decoded = choose(
        lambda: code @ W.T + b,
        ("no b", lambda: code @ W.T, "b is missing: what does the decoder say for z = 0?"),
        ("b subtracted", lambda: code @ W.T - b, "b has the wrong sign. What does the decoder say for z = 0?"),
        ("only b", lambda: b + 0 * x, "you compare x with b, whatever the code is. Where is W z?"),
    )()
    error = x - decoded
    squares = choose(
        lambda: (error**2).sum(1),
        ("squared errors averaged over the pixels", lambda: (error**2).mean(1),
         "the squared errors are averaged over the pixels, the other terms are sums."),
        ("absolute errors", lambda: np.abs(error).sum(1), "the errors are not squared."),
        ("no errors", lambda: np.zeros(n), "your bound does not depend on x."),
        ("latents apart", lambda: ((x - b) ** 2 - 2 * (x - b) * (mu @ W.T) + mu**2 @ (W**2).T).sum(1),
         "the square of a sum is not the sum of the squares: the latents meet in mu's part, if not in the variances."),
    )()
    spread_of_q = choose(
        lambda: variance,
        ("sigma where the variance belongs", lambda: np.sqrt(variance),
         "the spread enters with the wrong power. Variances of independent things add, sigmas do not."),
        ("logvar where the variance belongs", lambda: logvar,
         "the spread of the codes can be negative in yours. What is logvar the logarithm of?"),
        ("the variance squared in the spread", lambda: variance**2,
         "the spread of the codes squares what is a square already."),
        ("one over the variance", lambda: 1 / variance, "a vague q has a small spread in yours."),
        ("a q as wide as the prior", lambda: np.ones_like(variance),
         "the spread of the codes does not depend on logvar."),
        ("second moments", lambda: mu**2 + variance,
         "mu is in the squared error of the mean code already. What is left for the spread?"),
        ("variance and noise", lambda: variance + sigma**2, "the noise of the pixels is added to the codes' variance."),
        ("the spread of the first image", lambda: variance[:1] + 0 * mu,
         "every image is charged the spread of the first. Each has its own logvar."),
        ("the mean spread", lambda: variance.mean(0) + 0 * mu,
         "every image is charged the mean spread. Each has its own logvar."),
    )()
    squared_columns = (W**2).sum(0)
    lengths = choose(
        lambda: squared_columns,
        ("the spread before decoding", lambda: np.ones(len(W.T)),
         "you add the variance of the codes. What counts is how far apart they are once they are decoded."),
        ("W not squared", lambda: W.sum(0),
         "if a number is multiplied by w, its variance grows by something else than w."),
        ("the absolute values of W", lambda: np.abs(W).sum(0),
         "if a number is multiplied by w, its variance grows by something else than |w|."),
        ("a sum squared", lambda: W.sum(0) ** 2,
         "you add the entries of a column before squaring. Each pixel has a variance of its own."),
        ("the length of a column not squared", lambda: np.sqrt(squared_columns),
         "double W, and the decoded codes lie twice as far apart. By which factor does the squared error grow?"),
        ("columns averaged over the pixels", lambda: (W**2).mean(0),
         "the spread is averaged over the pixels. Every pixel has its own variance, and they all count."),
        ("all columns for each latent", lambda: np.full(len(W.T), (W**2).sum()),
         "every latent gets the whole of W. To which part of W does it belong?"),
        ("W to the fourth power", lambda: (W**4).sum(0), "W is squared twice."),
        ("columns mixed", lambda: (W.T @ W).sum(0),
         "your columns of W are multiplied with each other. The latents are independent: what do the products add?"),
        ("squared column lengths squared", lambda: squared_columns**2,
         "the squared length of a column is squared again."),
    )()
    weight = choose(
        1 / (2 * sigma**2),
        ("the missing half", 1 / sigma**2,
         "everything that is squared weighs twice too much. Compare with the exponent of the density."),
        ("sigma not squared", 1 / (2 * sigma),
         "the exponent has no unit: if x and sigma are both measured in something else, it must stay the same."),
        ("no sigma", 0.5, "in the exponent sigma does not matter. In what is the error measured?"),
    )
    factor = choose(
        1.0,
        ("only the mean code", 0.0,
         "you decode mu alone. That cost is too low: the codes are spread around mu, and the mean is over them."),
        ("the spread as a gain", -1.0,
         "vague codes make your reconstruction better. Which sign has the variance in a mean squared error?"),
        ("the spread twice", 2.0, "the spread weighs twice too much. It has the same factor as the squared error."),
        ("half of the spread", 0.5,
         "the spread weighs too little by a factor of 2. It has the same factor as the squared error."),
        ("the spread without sigma", sigma**2,
         "the spread is part of the squared error, and has to be weighed as the rest of it."),
        ("the spread without its factor", 2 * sigma**2,
         "the spread has no factor. It is part of the squared error, and has to be weighed as the rest of it."),
        ("the spread with sigma not squared", sigma,
         "the spread is part of the squared error, and has to be weighed as the rest of it."),
        ("the spread in every pixel", d,
         "the spread is already that of all the pixels, and you count it once more for each."),
    )
    spread = choose(
        lambda: spread_of_q @ lengths,
        ("sigmas of the pixels added", lambda: np.sqrt(spread_of_q @ (W**2).T).sum(1),
         "each pixel adds its sigma, not its variance."),
        ("errors and sigmas added", lambda: ((np.abs(error) + np.sqrt(spread_of_q @ (W**2).T)) ** 2 - error**2).sum(1),
         "you add a sigma to each error before squaring. The draws fall on both sides: what does their mean do?"),
        ("variances of the pixels squared", lambda: ((spread_of_q @ (W**2).T) ** 2).sum(1),
         "a variance of a pixel is squared. It is a square already."),
        ("the largest variance of a pixel", lambda: (spread_of_q @ (W**2).T).max(1),
         "only the pixel that varies most counts."),
        ("all latents moved together", lambda: ((np.sqrt(spread_of_q) @ W.T) ** 2).sum(1),
         "all latents move together in yours, as if they shared one noise. They are independent."),
        ("the largest share of a latent", lambda: (spread_of_q * lengths).max(1),
         "only the latent that adds most counts."),
        ("the spread averaged over the latents", lambda: spread_of_q @ lengths / len(lengths),
         "the spread is averaged over the latents. The variances of independent things add."),
        ("the spread summed over the batch", lambda: (spread_of_q @ lengths).sum(),
         "the spread of all images is charged to each of them."),
    )()
    constants = choose(
        d * (math.log(sigma) + math.log(2 * math.pi) / 2),
        ("no constants", 0.0, "the constants of the density are missing: this is no bound on log p(x)."),
        ("the forgotten pi", d * math.log(sigma),
         "the constant of the density is missing: this is no bound on log p(x)."),
        ("the forgotten log sigma", d * math.log(2 * math.pi) / 2,
         "a wide Gaussian is a low one. Where does its height enter?"),
        ("constants once for each image", math.log(sigma) + math.log(2 * math.pi) / 2,
         "the constants are paid once. Each pixel has a density of its own."),
        ("log sigma subtracted", d * (-math.log(sigma) + math.log(2 * math.pi) / 2),
         "for x = mean a narrower Gaussian has to be cheaper. Yours is dearer."),
        ("half of log sigma", d * math.log(2 * math.pi * sigma) / 2,
         "the term with log sigma is half of what it should be: is it sigma or its square that stands below a root?"),
        ("2 pi without its root", d * math.log(2 * math.pi * sigma),
         "the constant is twice too large: in the density there is a root around 2 pi."),
        ("the noise counted again", d * (math.log(sigma) + math.log(2 * math.pi) / 2 + 0.5),
         "the noise of a pixel is counted in the mean squared error. It is the codes that are averaged over, x is "
         "what it is."),
    )
    cost = weight * (squares + factor * spread) + constants
    cost = choose(
        lambda: cost,
        ("reconstruction averaged over the pixels", lambda: cost / d,
         "one term is a mean over pixels, the other a sum over latents. A sum of nats must not mix the two."),
        ("reconstruction averaged over the batch", lambda: cost.mean(),
         "every image gets the mean reconstruction. Keep the images apart."),
        ("reconstruction summed over the batch", lambda: cost.sum(),
         "every image gets the reconstruction of all. Keep the images apart."),
        ("pixels as wide as noise and spread", lambda: wide_cost(error, sigma**2 + spread_of_q @ (W**2).T),
         "your pixels are wider than sigma: that is the log of a mean density. The ELBO has the mean of the logs."),
        ("no reconstruction", lambda: np.zeros(n), "this is the KL alone. How well do the codes explain x?"),
        ("the cost as a gain", lambda: -cost,
         "the reconstruction term has the wrong sign: is a log probability a cost or a gain?"),
    )()
    kl = kl_of(mu, logvar)
    price = choose(
        lambda: kl,
        ("no KL", lambda: np.zeros(n), "this is the reconstruction term alone. What do the codes cost?"),
        ("the KL added", lambda: -kl, "your bound rises when q leaves the prior. Is the KL a gain or a price?"),
        ("half of the KL", lambda: kl / 2, "the KL is half of what it should be."),
        ("the KL twice", lambda: 2 * kl, "the KL is twice too large."),
        ("the KL averaged over the latents", lambda: kl / len(lengths),
         "the KL is a mean over the latents, the other term a sum over the pixels. A sum of nats must not mix the "
         "two."),
        ("the KL averaged over the pixels", lambda: kl / d,
         "the KL is divided by the number of pixels, and the other term is not."),
        ("the KL averaged over the batch", lambda: kl.mean(), "every image pays the mean KL. Keep the images apart."),
        ("the KL summed over the batch", lambda: kl.sum(), "every image pays the KL of all. Keep the images apart."),
        ("the KL the other way round", lambda: 0.5 * ((1 + mu**2) / variance - 1 + logvar).sum(1),
         "your KL is that of the prior from q. The mean has to be taken over q."),
        ("the KL of another width", lambda: kl_of(mu, logvar / 2), "the KL gets the log of sigma. What does it take?"),
        ("the KL of the variance", lambda: kl_of(mu, variance), "the KL gets the variance. What does it take?"),
        ("a prior of width sigma", lambda: kl_of(mu / sigma, logvar - 2 * math.log(sigma)),
         "your prior has the width of the pixels' noise. Its own is 1."),
        ("the KL of sigma", lambda: kl_of(mu, np.exp(logvar / 2)), "the KL gets sigma. What does it take?"),
        ("the KL of a doubled logvar", lambda: kl_of(mu, 2 * logvar), "the KL takes logvar for log sigma."),
        ("the KL with its arguments exchanged", lambda: kl_of(logvar, mu), "mu and logvar are exchanged in the KL."),
        ("the KL without mu", lambda: kl_of(0 * mu, logvar), "your KL does not depend on mu."),
        ("the KL of the first image", lambda: kl[:1] + 0 * kl,
         "every image pays the KL of the first. Keep the images apart."),
        ("no entropy of q", lambda: 0.5 * (mu**2 + variance + math.log(2 * math.pi)).sum(1),
         "log q is missing: this is the mean of log p(z) alone."),
        ("log p(z) at mu", lambda: 0.5 * (mu**2 + math.log(2 * math.pi)).sum(1),
         "in the place of the KL stands log p(z) at the mean code. What has become of q?"),
        ("only the entropy of q", lambda: -0.5 * (logvar + math.log(2 * math.pi) + 1).sum(1),
         "the price has no prior: it is the entropy of q alone."),
    )()
    def drawn(noise):
        errors = x - (mu + np.exp(logvar / 2) * noise) @ W.T - b
        return -weight * (errors**2).sum(1) - constants - price

    def noises():
        yield from ((f"one draw, seed {seed}", np.random.default_rng(seed).standard_normal) for seed in (0, 1, 42))
        yield "an old generator's draw", lambda shape: np.random.RandomState(0).standard_normal(shape)

    result = choose(
        lambda: -cost - price,
        *(
            (name, lambda draw=draw: drawn(draw(mu.shape)), "your codes are drawn. Their mean can be had exactly.")
            for name, draw in noises()
        ),
        ("divided by the number of pixels", lambda: (-cost - price) / d,
         "the bound is divided by the number of pixels."),
        ("the sign", lambda: cost + price, "this is the loss, minus the ELBO. Is yours a lower bound of log p(x)?"),
        ("log p(x) itself", lambda: evidence(x, W, b, sigma),
         "this is log p(x), whatever q is. The bound touches it for one q only."),
        ("the gap", lambda: evidence(x, W, b, sigma) + cost + price,
         "this is what the ELBO misses log p(x) by, not the ELBO itself."),
        ("a probability", lambda: np.exp(-cost - price), "this is the exponential of the bound. Nats are logarithms."),
    )()
    return choose(
        result,
        ("summed over the batch", result.sum(), "one number comes out for the whole batch. Keep the images apart."),
        ("averaged over the batch", result.mean(), "one number comes out, the mean over the images. Keep them apart."),
    )


def wide_cost(error, variance):
    return 0.5 * (error**2 / variance + np.log(2 * math.pi * variance)).sum(1)


def kl_of(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(1)


def evidence(x, W, b, sigma):
    """log p(x) of the linear model."""
    covariance = W @ W.T + sigma**2 * np.eye(len(W))
    distance = ((x - b) * np.linalg.solve(covariance, (x - b).T).T).sum(1)
    return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])


def elbo_terms(x, mu, logvar, W, b, sigma):
    d, variance = len(W), np.exp(logvar)
    z, errors, columns = len(W.T), ((x - mu @ W.T - b) ** 2).sum(1), (W**2).sum(0)
    errors_of = {"|x - W mu - b|^2": errors, "V": variance @ columns, "|x - b|^2": ((x - b) ** 2).sum(1)}
    quadratics = {
        f"{name}{words}": value * power
        for name, value in errors_of.items()
        for words, power in {" / sigma^2": sigma**-2.0, " / sigma": 1 / sigma, "": 1, " sigma^2": sigma**2}.items()
    }
    quadratics |= {f"{name} / (sigma^2 D)": value / sigma**2 / d for name, value in errors_of.items()}
    sums = {"mu^2": mu**2, "var": variance, "sigma of q": np.exp(logvar / 2), "logvar": logvar, "mu": mu}
    widths = {"sigma of q": np.exp(logvar / 2), "logvar": logvar}
    kl = kl_of(mu, logvar)
    return (
        quadratics
        | {"KL": kl, "KL / Z": kl / z, "KL / D": kl / d, "D log sigma": d * math.log(sigma), "D": d, "Z": z}
        | {"D sigma": d * sigma, "D sigma^2": d * sigma**2, "log sigma": math.log(sigma), "1": 1.0}
        | {f"sum({name})": array.sum(1) for name, array in sums.items()}
        | {f"sum({name} |W|^2) / sigma^2": array @ columns / sigma**2 for name, array in widths.items()}
        | {"sum(var) / sigma^2": variance.sum(1) / sigma**2}
    )


# --- Units -----------------------------------------------------------------------------------------------------------


LOG_OF_LOG = "the nats are logarithms already. To change the base of a logarithm, you need no second one."


def bits_model(choose, nats, num_pixels):
    base = choose(
        math.log(2),
        *((f"ln 2 with {n} digits", round(math.log(2), n), "ln 2 is rounded in yours.") for n in range(1, 7)),
        ("still nats", 1.0, "a fair coin costs one bit; how many nats? Yours are nats still."),
        ("the wrong way round", 1 / math.log(2),
         "a bit is less than a nat, so there must be more bits than nats. Yours are fewer."),
        ("base ten", math.log(10), "these are decimal digits. How many values has a bit?"),
        ("the decimal log of 2", math.log10(2), "nats are natural logarithms. Yours are taken for decimal ones."),
        ("divided by 2", 2.0, "you divide by 2. How many nats does a fair coin cost?"),
        ("multiplied by 2", 0.5, "you multiply by 2. How many nats does a fair coin cost?"),
        ("divided by e", math.e, "you divide by e. How many nats does a fair coin cost?"),
        ("the log2 of ten", math.log2(10),
         "your factor is that of decimal digits and bits. How many nats does a fair coin cost?"),
        ("256 values", math.log(256), "a grey value has 256 levels, a bit has fewer."),
        ("divided by 8", 8.0, "you divide by 8. How many nats does a fair coin cost?"),
        ("log of 1 + 2", math.log1p(2), "log1p(2) is the log of 3."),
    )
    amount = choose(
        nats,
        ("the binary logarithm of the nats", np.log2(nats), LOG_OF_LOG),
        ("the binary logarithm of |nats|", np.log2(np.abs(nats)), LOG_OF_LOG),
        ("the logarithm of the nats", np.log(nats), LOG_OF_LOG),
        ("the logarithm of |nats|", np.log(np.abs(nats)), LOG_OF_LOG),
        ("e to the power of all nats", np.log(np.exp(nats)),
         "e to the power of a whole image's nats leaves the range of a float. Both units are logarithms: do you "
         "need the number itself?"),
        ("the log of the pixels subtracted", nats - math.log(num_pixels),
         "you subtract the log of the number of pixels. What is the share of one of them?"),
        ("whole nats", np.trunc(nats), "the nats become whole numbers on the way."),
        ("whole bits for each image", np.ceil(nats / math.log(2)) * math.log(2),
         "the bits of an image become whole numbers on the way."),
    )
    share = choose(
        num_pixels,
        ("bits of the whole image", 1, "these are those of the image. What is the share of one pixel?"),
        ("multiplied by the pixels", 1 / num_pixels,
         "you multiply by the number of pixels. What is the share of one of them?"),
        ("divided by the images", len(nats), "you divide by the number of images. How many pixels are there?"),
        ("divided by images and pixels", len(nats) * num_pixels,
         "you divide by the number of images as well. Keep them apart."),
        ("the side of an image", math.sqrt(num_pixels),
         "you divide by the side of the image, the root of the number of its pixels."),
        ("the pixels twice", num_pixels**2, "you divide by the number of pixels twice."),
        ("the log of the pixels", math.log(num_pixels),
         "you divide by the log of the number of pixels. The pixels share the cost evenly."),
        ("the binary log of the pixels", math.log2(num_pixels),
         "you divide by the log of the number of pixels. The pixels share the cost evenly."),
        ("784 pixels", 784, "the number of pixels is that of this exercise, whatever is passed."),
        ("one pixel more", num_pixels + 1, "you count one pixel too many."),
        ("one pixel less", num_pixels - 1, "you count one pixel too few."),
        ("three channels", 3 * num_pixels, "you divide by 3 as well. num_pixels counts all that is to be counted."),
        ("28 pixels", 28, "the number of pixels is that of one side, whatever is passed."),
    )
    factor = choose(1.0, ("the sign", -1.0, "both are costs: changing the unit does not change the sign."))
    bits = factor * amount / (share * base)
    per_pixel = nats / num_pixels
    bits = choose(
        bits,
        ("the binary logarithm of the nats per pixel", np.log2(per_pixel), LOG_OF_LOG),
        ("the binary logarithm of |nats| per pixel", np.log2(np.abs(per_pixel)), LOG_OF_LOG),
        ("the logarithm of the nats per pixel", np.log(per_pixel), LOG_OF_LOG),
        ("2 to the power of the nats", 2**per_pixel,
         "you take a power of the nats. Both units are logarithms: one is a multiple of the other."),
        ("e to the power of the nats", np.exp(per_pixel),
         "you take a power of the nats. Both units are logarithms: one is a multiple of the other."),
        ("256 grey values on top", bits + 8,
         "8 bits are added to each pixel. Those are for a density that becomes grey values; not all nats are such."),
        ("256 grey values taken off", bits - 8, "8 bits are taken off each pixel. No grey values are asked for here."),
        ("whole bits", np.floor(bits), "you divide without a rest: bits per pixel are no whole numbers."),
        ("bits rounded up", np.ceil(bits), "bits per pixel are no whole numbers."),
        ("whole nats for each pixel", np.floor(per_pixel) / math.log(2),
         "what stands behind the point is lost on the way: a division without a rest?"),
        *((f"rounded to {n} decimals", np.round(bits, n), "the values are rounded.") for n in range(1, 7)),
        ("only the log subtracted", per_pixel - math.log(2), "a change of unit is a factor. You subtract something."),
    )
    return choose(
        bits,
        ("averaged over the batch", bits.mean(), "one number comes out for the whole batch. Keep the images apart."),
        ("summed over the batch", bits.sum(), "one number comes out for the whole batch. Keep the images apart."),
        ("the first image only", bits[0], "only the first image is left."),
    )


def bits_terms(nats, num_pixels):
    return {
        f"nats{below}{words}": nats * part * factor
        for below, part in {
            " / num_pixels": 1 / num_pixels, "": 1, " num_pixels": num_pixels, " / sqrt(num_pixels)": num_pixels**-0.5
        }.items()
        for words, factor in {"": 1, " / ln 2": 1 / math.log(2), " / ln 10": 1 / math.log(10)}.items()
    } | {"num_pixels": num_pixels, "1 / num_pixels": 1 / num_pixels, "1": 1.0}


FUNCTIONS = [
    Function(
        "bernoulli_nll",
        binary_cross_entropy,
        grey_images,
        bernoulli_model,
        special=[
            *(Special(f"logits of {size} and -{size}", sure_pixels(size),
                      "Does p round to 0 or 1 there, is one of your steps no number any more, or is something cut off?")
              for size in (40, 1000)),
            Special("logits of 0", sure_pixels(0.0), "a coin is a pixel, too: does one of your cases hold l = 0?"),
            Special("one image",
                    {"logits": np.array([[[[1.0, -2.0], [0.5, 3.0]]]]), "x": np.array([[[[1.0, 0.2], [0.0, 0.6]]]])},
                    "is an axis lost where it has length 1?"),
            Special("images of one pixel",
                    {"logits": np.array([0.5, -2.0, 3.0]).reshape(3, 1, 1, 1),
                     "x": np.array([0.0, 0.2, 1.0]).reshape(3, 1, 1, 1)},
                    "is an axis lost where it has length 1?"),
            Special("images of 28 x 28 pixels",
                    {"logits": 4 * RNG.standard_normal((2, 1, 28, 28)), "x": RNG.uniform(size=(2, 1, 28, 28))},
                    "does something vanish, or grow without limit, that is made of all pixels?"),
        ],
        terms=bernoulli_terms,
        probe="Put x = 1 and l = 0 into it, then l = 5: what should such pixels cost?",
    ),
    Function(
        "gaussian_nll",
        normal_nll,
        vectors,
        gaussian_model,
        special=[
            Special("one image of one pixel", {"mean": np.array([[0.5]]), "x": np.array([[1.5]]), "sigma": 0.7},
                    "is an axis lost where it has length 1?"),
            Special("an x that is the mean", {"mean": np.ones((2, 3)), "x": np.ones((2, 3)), "sigma": 0.1},
                    "a cost may be below 0 there: is it cut off, or do you divide by the error?"),
            Special("a sigma that is a whole number", {"mean": np.zeros((2, 3)), "x": np.ones((2, 3)), "sigma": 2},
                    "a number may be an int: what does your code do with it?"),
            Special("images far from the mean",
                    {"mean": np.zeros((2, 3)), "x": np.array([[50.0, -60.0, 70.0], [0.0, 1.0, -80.0]]), "sigma": 0.5},
                    "a density may be too small for a float; its logarithm is not. Is something cut off?"),
            Special("a tiny sigma",
                    {"mean": np.zeros((2, 3)), "x": np.array([[0.0, 1e-5, -1e-5], [0.1, 0.0, 0.0]]), "sigma": 1e-5},
                    "sigma has no lower limit but 0: is something cut off or added?"),
            Special("a large sigma",
                    {"mean": np.zeros((2, 3)), "x": np.array([[0.0, 100.0, -200.0], [0.1, 0.0, 0.0]]), "sigma": 1e3},
                    "sigma has no upper limit: is something cut off?"),
            Special("images of 784 pixels",
                    {"mean": RNG.standard_normal((2, 784)), "x": RNG.standard_normal((2, 784)), "sigma": 0.5},
                    "does something vanish, or grow without limit, that is made of all pixels?"),
        ],
        terms=gaussian_terms,
        probe="Compare it with minus the log of the density of one pixel, term by term.",
    ),
    Function(
        "elbo",
        evidence_minus_gap,
        linear_models,
        elbo_model,
        special=[
            Special("one image", MODEL | {name: MODEL[name][:1] for name in ("x", "mu", "logvar")},
                    "is an axis lost where it has length 1?"),
            Special("one latent", MODEL | {name: MODEL[name][:, :1] for name in ("mu", "logvar", "W")},
                    "is an axis lost where it has length 1?"),
            Special("as many latents as pixels",
                    MODEL | {"W": RNG.standard_normal((4, 4)), "b": np.ones(4)}
                     | {name: RNG.standard_normal((4, 4)) for name in ("x", "mu", "logvar")},
                    "which axis holds what? With sizes that differ it seems to be clear."),
            Special("codes that are very sure or very vague", MODEL | {"logvar": np.where(MODEL["mu"] > 0, 5.0, -12.0)},
                    "logvar has no limits: is something cut off, or added?"),
            Special("a tiny sigma", MODEL | {"sigma": 1e-3},
                    "sigma has no lower limit but 0: is something cut off or added?"),
            Special("a sigma that is a whole number", MODEL | {"sigma": 2},
                    "a number may be an int: what does your code do with it?"),
            Special("a decoder that ignores the code", MODEL | {"W": 0 * MODEL["W"]},
                    "W may be 0: do you divide by it?"),
        ],
        terms=elbo_terms,
        probe="D and Z count pixels and latents; V is the variance of the decoded codes, summed over the pixels.",
    ),
    Function(
        "bits_per_dim",
        log2_of_inverse_probability,
        costs,
        bits_model,
        special=[
            Special("one image", {"nats": np.array([543.0]), "num_pixels": 784},
                    "is an axis lost where it has length 1?"),
            Special("one pixel", {"nats": np.array([0.5, -3.0]), "num_pixels": 1},
                    "an image may have one pixel. What becomes of your formula?"),
            Special("many nats", {"nats": np.array([2000.0, -1500.0]), "num_pixels": 784},
                    "does a number leave the range of a float there, or is something cut off?"),
            Special("nats that are whole numbers", {"nats": np.array([543, -20]), "num_pixels": 100},
                    "an array of whole numbers cannot hold what stands behind the point."),
            Special("a cost of nothing", {"nats": np.zeros(2), "num_pixels": 4},
                    "a cost may be 0: do you divide by it, or take its log?"),
        ],
        terms=bits_terms,
        probe="A coin for each of 784 pixels costs 784 ln 2 nats: what does your formula say?",
    ),
]
