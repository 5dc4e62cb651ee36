"""Checks of exercise 16. Each mend is compared with torch.distributions or with NumPy, each diagnosis with its sign."""

import itertools

import numpy as np
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from checking import Function, Special
from clinic import patient
from formulas import sums_and_means
from mistakes import advised

# --- The diagnoses ---------------------------------------------------------------------------------------------------

RIGHT = dict(zip("ABCDEFGH", (7, 3, 6, 2, 11, 8, 4, 10), strict=True))

# What each fault would do, sign by sign, for the seeds 0, 1 and 2: in this order the signs tell the faults apart.
SIGNS = {
    1: ("negative", "huge", "together", "", "", ""),
    2: ("low", "alive", "apart", "", "", ""),
    3: ("low", "alive", "together", "equal", "worse", ""),
    4: ("low", "alive", "together", "equal", "ruined", "equal"),
    5: ("low", "alive", "together", "equal", "ruined", "worse"),
    6: ("floor", "alive", "together", "equal", "", ""),
    7: ("tiny", "gone", "together", "equal", "", ""),
    8: ("low", "alive", "together", "twice", "equal", ""),
    9: ("mean digit", "gone", "together", "equal", "equal", ""),
    10: ("huge", "huge", "together", "", "", ""),
    11: ("mean digit", "still", "together", "equal", "equal", ""),
    12: ("mean digit", "alive", "together", "equal", "", ""),
    13: ("mean digit", "alive", "together", "equal", "", ""),
    14: ("low", "alive", "together", "equal", "better", ""),
}
WORDS = (
    {
        "negative": "would end with an own nll far below zero",
        "low": "would let the nll of the training images fall below 220 nats",
        "floor": "would keep the own nll above 500 nats, but far from a thousand",
        "tiny": "would make the own nll less than 1",
        "mean digit": "would end with an nll of 250 to 300 nats on the training images (or with NaN)",
        "huge": "would make the own nll explode",
    },
    {
        "huge": "would make the KL explode",
        "alive": "would end with a KL of more than a nat on the training images (or with NaN)",
        "gone": "would let the KL fall below 0.01 nats",
        "still": "would keep the KL where it was before the training",
    },
    {
        "together": "would treat training and test images alike",
        "apart": "would part the curve of the test images from that of the training images",
    },
    {
        "equal": "would leave the own KL as the second opinion finds it",
        "twice": "would make the own KL twice what the second opinion finds",
    },
    {
        "equal": "would leave the own nll as the second opinion finds it",
        "worse": "would make the nll of a draw some ten nats worse in the second opinion, and not by a hundred",
        "better": "would make the nll of a draw better in the second opinion",
        "ruined": "would make the nll of a draw more than a hundred nats worse in the second opinion",
    },
    {
        "equal": "would make the own nll and the nll at mu the same",
        "worse": "would make the nll at mu fifty nats worse than the own nll",
    },
)
LOOK = (
    "the nll curve of {}", "the KL curve of {}", "both curves of {}", "the two KLs of {} in the table",
    "the own nll of {} and that of a draw", "the own nll of {} and that at mu",
)  # fmt: skip


def contradiction(letter, fault):
    """What tells a wrong diagnosis: the first sign that the fault would give otherwise than the patient shows it."""
    for words, look, mine, shown in zip(WORDS, LOOK, SIGNS[fault], SIGNS[RIGHT[letter]], strict=True):
        if mine and shown and mine != shown:
            return f"that {words[mine]}. Look at {look.format(letter)}."
    raise ValueError(f"nothing tells fault {fault} from that of {letter}")


def diagnoses_model(choose):
    return {
        letter: choose(
            right,
            (f"nothing yet for {letter}", 0, "which of its numbers is farthest from the healthy one?"),
            *((f"{fault} for {letter}", fault, contradiction(letter, fault)) for fault in SIGNS if fault != right),
        )
        for letter, right in RIGHT.items()
    }


# --- Inputs ----------------------------------------------------------------------------------------------------------


def sizes(rng):
    return rng.permutation(np.arange(2, 7))[:3]


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def images(rng):
    n, d, _ = sizes(rng)
    return {"logits": 2 * normal(rng, n, d), "x": torch.from_numpy(rng.uniform(size=(n, d)))}


def layers(rng):
    n, d, h = sizes(rng)
    return {"h": normal(rng, n, h), "weight": normal(rng, d, h), "bias": normal(rng, d)}


def stored(rng):
    return {"pixels": torch.from_numpy(rng.integers(0, 250, sizes(rng)[:2], dtype=np.uint8))}


def of_names(rng):
    last = 2 * int(rng.integers(1, 4))
    parts = [f"{i}.{kind}" for i in range(0, last + 1, 2) for kind in ("weight", "bias")]
    return {"names": [f"{half}.{part}" for half in ("encoder", "decoder") for part in parts]}


def posteriors(rng):
    n, z, _ = sizes(rng)
    return {"mu": normal(rng, n, z), "logvar": normal(rng, n, z)}


def log_variances(rng):
    return {"logvar": posteriors(rng)["logvar"]}


def draws(rng):
    n, z, _ = sizes(rng)
    return {"mu": normal(rng, n, z), "sigma": torch.exp(normal(rng, n, z)), "eps": 1.5 * normal(rng, n, z)}


def costs(rng):
    n = int(rng.integers(3, 8))
    return {"nll": 100 * normal(rng, n).abs(), "kl": 10 * normal(rng, n).abs()}


def tensors(**arrays):
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in arrays.items()}


def grey(*images):
    return {"pixels": torch.tensor(images, dtype=torch.uint8)}


# --- What may be done instead ----------------------------------------------------------------------------------------


LITTLE = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # what may be added to be safe
STILL = "this is what the patient's own program does. Where does it part from what the docstring says?"


def still(letter, *arguments):
    """A slip: the patient's own piece, handed in again."""
    [piece] = patient(letter).values()
    return f"still the piece of {letter}", piece(*arguments), STILL


def learning(choose, **tensors):
    """The tensors, or one of them cut off from its gradient."""
    return [
        choose(each, (f"{name} without a gradient", each.detach(), f"no gradient reaches {name} in yours."))
        for name, each in tensors.items()
    ]


def summed(choose, parts, what, *slips):
    """The sum over axis 1, one number for each image, and other things to do with it."""
    return choose(
        parts.sum(1),
        *slips,
        ("the wrong axis", parts.sum(0), f"you sum over the images. Which axis holds the {what}?"),
        ("summed over everything", parts.sum(), "one number comes out for the batch. Keep the images apart."),
        ("averaged over the batch", parts.sum(1).mean(), "one number comes out for the batch. Keep the images apart."),
        ("averaged over everything", parts.mean(), "the mean of all is no price of an image."),
        ("not summed", parts, f"there is still one number for each of the {what}."),
        ("kept as a column", parts.sum(1, keepdim=True), "the sums are right, their shape is not: (N,)."),
        ("without the last", parts[:, :-1].sum(1), f"the last of the {what} does not count."),
        ("without the first", parts[:, 1:].sum(1), f"the first of the {what} does not count."),
        ("the largest alone", parts.amax(1), f"each of the {what} has its price, not only the dearest."),
    )


def nll_model(choose, logits, x):
    logits = choose(
        logits,
        ("a sigmoid before the loss", torch.sigmoid(logits), "the loss squashes the logits, and so do you before it."),
        ("logits taken for probabilities", torch.logit(logits), "logits are no probabilities: they may have any sign."),
        ("logits cut off", logits.clamp(-2, 2), "logits have no limits."),
    )
    likely = torch.nn.functional.logsigmoid(logits)
    unlikely = torch.nn.functional.logsigmoid(-logits)
    nats = -(x * likely + (1 - x) * unlikely)
    each = choose(
        nats,
        ("the sign", -nats, "this is the log likelihood. Nll begins with an n."),
        ("white pixels only", -x * likely, "a black pixel costs something, too, if the model thinks it is white."),
        ("black pixels only", -(1 - x) * unlikely, "a white pixel costs something, too, if the model thinks it black."),
        ("black and white exchanged", -(x * unlikely + (1 - x) * likely), "a pixel that is sure and right costs most."),
        *advised("pixels are Bernoulli here, not Gaussian.", {
            "the squared error": (torch.sigmoid(logits) - x) ** 2,
            "half the squared error": (torch.sigmoid(logits) - x) ** 2 / 2,
        }),
        ("less the entropy of x", nats + torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x),
         "a grey pixel that is met exactly costs nothing in yours. Must it?"),
        ("the images rounded", -torch.where(x > 0.5, likely, unlikely), "you make black and white of the grey pixels."),
    )  # fmt: skip
    return summed(
        choose,
        each,
        "pixels",
        ("still the piece of A", each.mean(1), STILL),
        ("784 pixels always", 784 * each.mean(1), "how many pixels do these images have?"),
    )


def spread_model(choose, logvar):
    return choose(
        torch.exp(logvar / 2),
        still("B", logvar),
        ("logvar itself", logvar, "a standard deviation is never negative. Logvar may be."),
        ("half of logvar", logvar / 2, "this is the log of the answer."),
        ("one over sigma", torch.exp(-logvar / 2), "a large logvar should be a wide q."),
        ("halved after exp", torch.exp(logvar) / 2, "half of the variance is not its root."),
        *advised("logvar is a logarithm: something has to be undone first.", {
            "the root of logvar": torch.sqrt(logvar), "the root of |logvar|": torch.sqrt(logvar.abs()),
        }),
        ("halved twice", torch.exp(logvar / 4), "this is the root of sigma. Square your result: is it the variance?"),
        ("doubled", torch.exp(2 * logvar), "this is the square of the variance."),
        ("softplus", torch.nn.functional.softplus(logvar), "softplus is another way to be positive. Logvar is a log."),
        *advised("the logarithm is the natural one.", {
            "in powers of 2": 2 ** (logvar / 2), "in powers of 10": 10 ** (logvar / 2),
        }),
        *advised("is half of 1 the half that you get?", {
            "half of logvar rounded down": torch.exp(logvar // 2),
            "half of logvar rounded": torch.exp((logvar / 2).round()),
        }),
        *advised("nothing has to be added or cut off.", {
            "at most 1": torch.exp(logvar / 2).clamp(max=1),
            "at least 1": torch.exp(logvar / 2).clamp(min=1),
            **{f"{some} added": torch.exp(logvar / 2) + some for some in LITTLE},
            **{f"{some} added to the variance": torch.sqrt(torch.exp(logvar) + some) for some in LITTLE},
        }),
    )  # fmt: skip


def logits_model(choose, h, weight, bias):
    h, weight, bias = learning(choose, h=h, weight=weight, bias=bias)
    bias = choose(
        bias,
        ("no bias", 0 * bias, "what becomes of the bias?"),
        ("the bias subtracted", -bias, "the bias comes with the wrong sign."),
    )
    h = choose(
        h,
        *advised("the hidden layer is ready: h goes into the last layer as it is.", {
            "a sigmoid of h": torch.sigmoid(h), "a tanh of h": torch.tanh(h), "a relu of h": torch.relu(h),
        }),
    )  # fmt: skip
    products = h @ weight.T
    logits = products + bias
    return choose(
        logits,
        still("C", h, weight, bias),
        ("the weight reshaped", h @ weight.reshape(h.shape[1], -1) + bias, "do the rows of the weight become columns?"),
        *advised("the sum over the hidden units is divided by something. Does a layer do that?", {
            "divided by H": products / h.shape[1] + bias, "divided by the root of H": products / h.shape[1]**0.5 + bias,
        }),
        *advised("a logit may be negative: how would a pixel get black?", {
            "a relu": logits.relu(), "a softplus": torch.nn.functional.softplus(logits),
        }),
        *advised("logits have no limits: how sure can a pixel get with yours?", {
            "a tanh": torch.tanh(logits), "a sigmoid from -1 to 1": 2 * torch.sigmoid(logits) - 1,
        }),
        ("a logit of the logits", torch.logit(logits), "the inverse of a sigmoid is one step too much."),
        ("the logarithm of the sigmoid", torch.nn.functional.logsigmoid(logits), "the loss takes that log itself."),
        ("a softmax", torch.softmax(logits, 1), "pixels do not share a probability of 1, and these are to be logits."),
    )  # fmt: skip


def pixels_model(choose, pixels):
    p = pixels.double()
    x = p / 255
    return choose(
        x,
        still("D", pixels),
        ("as they are stored", p, "these are still 0 to 255."),
        *advised("white should be 1. What is it in yours?", {
            f"divided by {some}": p / some for some in (100, 127, 127.5, 128, 254, 256, 1000)
        }),
        ("one added before the division by 256", (pixels + 1) / 256, "what do 0 and 255 become in yours?"),
        ("by way of int8", pixels.to(torch.int8).double() / 255, "which pixels fit into the type that you go through?"),
        ("from -1 to 1", p / 127.5 - 1, "black should be 0."),
        ("white for black", 1 - x, "black and white are exchanged."),
        *advised("another batch would get another scale.", {
            "the batch stretched": (p - p.min()) / (p.max() - p.min()), "the brightest is white": p / p.max(),
        }),
        ("each image stretched", p / p.amax(1, keepdim=True), "every image gets a scale of its own."),
        ("standardised", (p - p.mean()) / p.std(), "the training images are not standardised."),
        ("centred", x - x.mean(), "the training images keep their mean."),
        ("standardised as MNIST", (x - 0.1307) / 0.3081, "are the training images standardised?"),
        ("black or white", (x > 0.5).double(), "the grey values are lost."),
        ("divided as integers", (p // 255), "an integer division leaves only 0 and 1."),
    )  # fmt: skip


def trainable_model(choose, names):
    kinds = {"": "parameters", "weight": "weights", "bias": "biases"}
    halves = {"": "", "encoder": " of the encoder", "decoder": " of the decoder"}
    last = f".{names[-1].split('.')[1]}."
    layers = {"any": "", ".0.": " in the first layer", ".2.": " in layer 2", "last": " in the last layer"}
    without, alone = {}, {}
    for kind, half, layer in itertools.product(kinds, halves, layers):
        parts = (kind, half, {"any": "", "last": last}.get(layer, layer))
        some = np.array([all(part in name for part in parts) for name in names])
        words = f"the {kinds[kind]}{halves[half]}{layers[layer]}"
        if (kind, half, layer) not in (("", "", "any"), ("", "encoder", "any")):  # nobody; the piece of E
            without[f"without {words}"] = ~some
        if layer != "any" or (kind and half):  # one half alone, or one kind, is without the other
            alone[f"{words} alone"] = some
    return choose(
        np.ones(len(names), bool),
        still("E", names),
        *advised("how many names are there?", {
            "four of them": np.ones(4, bool), "eight of them": np.ones(8, bool),
            "one fewer": np.ones(len(names) - 1, bool), "one more": np.ones(len(names) + 1, bool),
        }),
        ("nobody", np.zeros(len(names), bool), "nothing learns anything in yours. True is for those that do."),
        *advised("what you leave out learns nothing.", without),
        *advised("nothing else learns in yours.", alone),
    )  # fmt: skip


def kl_model(choose, mu, logvar):
    mu, logvar = learning(choose, mu=mu, logvar=logvar)
    true = torch.exp(logvar)
    variance = choose(
        true,
        ("sigma for its square", torch.exp(logvar / 2), "one term holds sigma where the variance belongs."),
        ("no variance", 0 * logvar, "a term is missing: how large is the mean of z^2 when mu is 0?"),
    )
    square = choose(
        mu**2,
        ("mu not squared", mu, "a code at -3 is as far from the prior as one at 3."),
        ("no mu", 0 * mu, "your price does not depend on mu."),
        ("|mu|", mu.abs(), "being twice as far away costs more than twice as much."),
    )
    whole = choose(
        square + variance - 1 - logvar,
        ("no constant", square + variance - logvar, "what must the KL be where mu = 0 and sigma = 1?"),
        ("the sign of the logarithm", square + variance - 1 + logvar, "a KL is never below zero."),
        ("no logarithm", square + variance - 1, "what does a code of no width cost in yours?"),
        ("the other way round", (1 + mu**2) / true - 1 + logvar, "this is KL(prior || q)."),
        *advised("is the half in front of each of the terms?", {
            "half of mu's term only": square + 2 * (variance - 1 - logvar),
            "half of the variance only": variance + 2 * (square - 1 - logvar),
            "half of mu's term and the variance only": square + variance - 2 - 2 * logvar,
            "half of all but the logarithm": square + variance - 1 - 2 * logvar,
            "half of the logarithm only": 2 * (square + variance - 1) - logvar,
        }),
        *advised("nothing has to be added, not even for safety.", {
            f"{some} in the logarithm": square + variance - 1 - torch.log(true + some) for some in LITTLE
        }),
    )  # fmt: skip
    half = choose(
        0.5,
        ("still the piece of F", 1.0, STILL),
        ("the sign", -0.5, "yours is minus the KL."),
        ("a quarter", 0.25, "every value is half of what it should be."),
    )
    each = half * whole
    return summed(
        choose,
        each,
        "latents",
        ("averaged over the latents", each.mean(1), "nats add up."),
        *advised("a latent may cost less than that. Where does the formula say so?", {
            f"at least {some} nats for each latent": each.clamp(min=some).sum(1) for some in (0.1, 0.25, 0.5, 1)
        }),
    )  # fmt: skip


def kl_terms(mu, logvar):
    mu, logvar = mu.numpy(), logvar.numpy()
    parts = {
        "mu": mu, "mu^2": mu**2, "sigma": np.exp(logvar / 2), "sigma^2": np.exp(logvar), "log sigma^2": logvar,
        "sigma^4": np.exp(2 * logvar), "1/sigma^2": np.exp(-logvar), "mu^2/sigma^2": mu**2 * np.exp(-logvar),
    }  # fmt: skip
    return sums_and_means(parts) | {"(sum of mu)^2": mu.sum(1) ** 2}


def codes_model(choose, mu, sigma, eps):
    mu, sigma = learning(choose, mu=mu, sigma=sigma)
    width = choose(
        sigma,
        *advised("sigma is a standard deviation already: your draws have another spread.", {
            "the variance": sigma**2, "the root of sigma": sigma.sqrt(),
        }),
        *advised("sigma is no logarithm. That was undone by another piece.", {
            "sigma taken for logvar": torch.exp(sigma / 2), "exp(sigma)": torch.exp(sigma),
        }),
        ("noise of width 1", torch.ones_like(sigma), "what is sigma for?"),
        ("divided by sigma", 1 / sigma, "a large sigma should make a wide cloud."),
    )  # fmt: skip
    noise = choose(
        eps,
        ("the first row of noise for all", eps[:1].expand(eps.shape), "every image has its own noise."),
        ("the first number of noise for all", eps[:, :1].expand(eps.shape), "every latent has its own noise."),
        ("no sign in the noise", eps.abs(), "the noise goes both ways."),
        ("the noise subtracted", -eps, "as good a draw, but not that of this eps."),
        *advised("noise has no limits, and this eps is to be used as it is.", {
            f"the noise cut off at {some}": eps.clamp(-some, some) for some in (1, 2, 3)
        }),
    )  # fmt: skip
    return choose(
        mu + width * noise,
        still("G", mu, sigma, eps),
        ("draws around zero", width * noise, "where does q have its middle?"),
        *advised("without noise a draw should be mu. What is it in yours?", {
            "mu scaled by sigma as well": width * (mu + noise), "mu scaled by the noise as well": (mu + width) * noise,
            "mu times the noise": mu * width * noise,
        }),
        ("sigma alone", mu + width, "what is eps for?"),
        ("averaged over the images", (mu + width * noise).mean(0), "each image has its own code."),
    )  # fmt: skip


def loss_model(choose, nll, kl):
    nll, kl = learning(choose, nll=nll, kl=kl)
    weight = choose(
        1.0,
        ("no KL", 0.0, "what keeps the codes near the prior?"),
        ("half of the KL", 0.5, "the KL has its half already."),
        *advised("minus the ELBO has weight 1 for both.", {
            "the KL a hundred times": 100.0, "a tenth of the KL": 0.1,
            "the KL divided by the latents": 1 / 8, "the KL divided by the pixels": 1 / 784,
        }),
        ("the KL summed over the batch", float(len(kl)), "one term is averaged, the other summed."),
    )  # fmt: skip
    sign = choose(
        1.0,
        ("the sign of the nll", -1.0, "what is minimised would reward bad reconstructions."),
        ("no nll", 0.0, "what asks for good reconstructions?"),
        ("the nll divided by the pixels", 1 / 784, "is the KL divided by them, too?"),
        ("the nll summed over the batch", float(len(nll)), "one term is averaged, the other summed."),
    )
    kl = choose(
        kl,
        *advised("a KL may be smaller than that. Is it cut off in yours?", {
            f"a KL of at least {some}": kl.clamp(min=some) for some in (0.5, 1, 2)
        }),
    )  # fmt: skip
    costs, price = sign * nll, weight * kl
    each = choose(
        costs + price,
        ("still the piece of H", nll - kl, STILL),
        ("the ELBO", -nll - kl, "this is the ELBO. It is to be made large, and an optimiser makes things small."),
        *advised("both terms are costs: costs add up.", {
            "the product": costs * price, "the difference without its sign": (costs - price).abs(),
            "the larger of the two": torch.maximum(costs, price), "the root of the squares": torch.hypot(costs, price),
        }),
    )  # fmt: skip
    return choose(
        each.mean(),
        ("summed over the images", each.sum(), "is it twice as large for twice as many images?"),
        *advised("how many images are there, and what do you divide by?", {
            "divided by 100": each.sum() / 100, "divided by one image fewer": each.sum() / max(len(each) - 1, 1),
            "divided by one image more": each.sum() / (len(each) + 1),
        }),
        ("not averaged", each, "one number is minimised."),
        *advised("every image counts.", {
            "the dearest image": each.max(), "the cheapest image": each.min(), "the first image": each[0],
            "without the first image": each[1:].mean(), "without the last image": each[:-1].mean(),
        }),
        ("the median", each.median(), "the ELBO of a data set is a mean."),
    )  # fmt: skip


def cost_terms(nll, kl):
    parts = {"nll": nll.numpy(), "kl": kl.numpy()}
    return {f"{how}({name})": getattr(part, how)() for how in ("mean", "sum") for name, part in parts.items()}


# --- The functions ---------------------------------------------------------------------------------------------------


def bernoulli(logits, x):
    return -Independent(Bernoulli(logits=logits, validate_args=False), 1).log_prob(x)


def divergence(mu, logvar):
    return kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(torch.zeros_like(mu), 1.0)).sum(1)


GREYS = "What do pixels of 0, 1 and 255 become, whatever the others are?"
AXES = "Which axis of the weight is which? What do you do if they are of one length?"
ALONE = "Is an axis lost where it has length 1?"
LIMITS = "Is something added, cut off, rounded, or too large for a float?"
SQUARE = tensors(h=[[1, 2], [0, 1], [3, 0]], weight=[[3, 1], [-2, 1]], bias=[1, 2])
MANY = tensors(h=[[100, 1, 0], [0, 1, 9]], weight=[[3, 1, 0], [-2, 1, 9]], bias=[1, 2])
WIDE = tensors(mu=[[9, -7], [0, 3]], logvar=[[12, -30], [-12, 9]])
FUNCTIONS = [
    Function(
        "diagnoses", lambda: RIGHT, lambda rng: {}, diagnoses_model,
        outputs=tuple(f"patient {letter}" for letter in RIGHT),
        shrink=False,
    ),
    Function(
        "mend_a", bernoulli, images, nll_model,
        special=[
            Special("very sure logits", tensors(logits=[[900, -900], [-900, 900]], x=[[1, 0.3], [0.7, 0]]), LIMITS),
            Special("one image", tensors(logits=[[1, -2, 3]], x=[[1, 0.3, 0]]), ALONE),
            Special("images of one pixel", tensors(logits=[[1], [-2]], x=[[1], [0.3]]), ALONE),
        ],
        gradient=("logits",),
    ),
    Function(
        "mend_b", lambda logvar: torch.pow(torch.exp(logvar), 0.5), log_variances, spread_model,
        special=[
            Special("a logvar of 40", tensors(logvar=[[40]]), LIMITS),
            Special("a logvar of -40", tensors(logvar=[[-40]]), LIMITS),
            Special("a logvar of 0", tensors(logvar=[[0, 0]]), "Logvar may be 0: do you divide by it?"),
        ],
        gradient=("logvar",),
    ),
    Function(
        "mend_c", lambda h, weight, bias: torch.einsum("nh,dh->nd", h, weight) + bias, layers, logits_model,
        special=[
            Special("logits of some hundreds", MANY, LIMITS),
            Special("as many pixels as hidden units", SQUARE, AXES),
            Special("one image", tensors(h=[[1, 2]], weight=[[3, 1], [-2, 1], [0, 4]], bias=[1, 2, 0]), ALONE),
            Special("one hidden unit", tensors(h=[[2], [0.5]], weight=[[3], [-2], [1]], bias=[1, 2, 0]), ALONE),
        ],
        gradient=("h", "weight", "bias"),
    ),
    Function(
        "mend_d", lambda pixels: pixels.double() / 255, stored, pixels_model,
        special=[
            Special("dark images, pixels of 0 and 1", grey([0, 1, 1], [1, 0, 0]), GREYS),
            Special("black images", grey([0, 0, 0], [0, 0, 0]), GREYS),
            Special("white images", grey([255, 255, 255], [255, 255, 255]), GREYS),
            Special("one image", grey([0, 7, 200]), ALONE),
        ],
        shrink=False,
    ),
    Function("mend_e", lambda names: np.full(len(names), True), of_names, trainable_model, shrink=False),
    Function(
        "mend_f", divergence, posteriors, kl_model,
        special=[
            Special("codes equal to the prior", tensors(mu=[[0, 0]] * 2, logvar=[[0, 0]] * 2), "What must the KL be?"),
            Special("codes far from the prior", WIDE, LIMITS),
            Special("one latent", tensors(mu=[[1], [2]], logvar=[[0.5], [-1]]), ALONE),
            Special("one image", tensors(mu=[[1, 2]], logvar=[[0.5, -1]]), ALONE),
        ],
        terms=kl_terms,
        probe="Put mu = (1, 3), sigma = (1, 2) into it and into the formula of exercise 3: which term disagrees?",
        gradient=("mu", "logvar"),
    ),
    Function(
        "mend_g", lambda mu, sigma, eps: torch.addcmul(mu, sigma, eps), draws, codes_model,
        special=[
            Special("no noise", tensors(mu=[[1, -2]], sigma=[[1, 2]], eps=[[0, 0]]), "Without noise a draw is mu."),
            Special("noise far from 0", tensors(mu=[[1, -2]], sigma=[[1, 2]], eps=[[-6, 5]]), LIMITS),
            Special("a very wide q", tensors(mu=[[1, -2]], sigma=[[1e5, 1e6]], eps=[[-3, 2]]), LIMITS),
            Special("a sigma of 0", tensors(mu=[[1, -2]], sigma=[[0, 0]], eps=[[-3, 2]]), "Is a draw mu there?"),
        ],
        gradient=("mu", "sigma"),
    ),
    Function(
        "mend_h", lambda nll, kl: torch.cat([nll, kl]).sum() / len(nll), costs, loss_model,
        special=[
            Special("one image", tensors(nll=[200], kl=[10]), "What is the mean over one image?"),
            Special("codes equal to the prior", tensors(nll=[200, 300], kl=[0, 0]), "What does a KL of 0 cost?"),
        ],
        terms=cost_terms,
        probe="Is this -ELBO, as a mean over the images?",
        gradient=("nll", "kl"),
    ),
]  # fmt: skip
