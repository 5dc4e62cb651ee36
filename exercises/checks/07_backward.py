"""Checks of exercise 7. The references are autograd's gradients of PyTorch's own forward functions."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from checking import Function, Special
from vae_numpy import linear, relu, sigmoid, softplus

# --- Inputs ----------------------------------------------------------------------------------------------------------
# Ordinary numbers are below 1, so that what is cut off further out shows in a special input only.


def small(rng, *shape):
    return rng.uniform(-0.9, 0.9, shape)


def layer_and_gradient(rng):
    n, i, o = rng.integers(2, 6), rng.integers(2, 5), rng.integers(5, 8)
    return {"grad_out": small(rng, n, o), "x": small(rng, n, i), "weight": small(rng, o, i)}


def logits_and_images(rng):
    shape = rng.integers(2, 5), rng.integers(5, 9)
    return {"logits": 3 * small(rng, *shape), "x": rng.uniform(size=shape)}


def noise_and_gradient(rng):
    shape = rng.integers(2, 6), rng.integers(2, 5)
    return {name: small(rng, *shape) for name in ("grad_z", "logvar", "eps")}


LAYERS = ("encoder.fc", "encoder.mu", "encoder.logvar", "decoder.fc1", "decoder.fc2")
PARAMETERS = tuple(f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias"))


def small_vae(rng):
    n, d, h, z = rng.integers(2, 6), rng.integers(6, 10), rng.integers(4, 7), rng.integers(2, 4)
    params = {}
    for name, shape in zip(LAYERS, ((h, d), (z, h), (z, h), (h, z), (d, h)), strict=True):
        scale = 0.2 if name in ("encoder.mu", "encoder.logvar") else 0.6
        params[f"{name}.weight"] = scale * rng.standard_normal(shape) / np.sqrt(shape[1])
        params[f"{name}.bias"] = scale * rng.standard_normal(shape[0])
    return {"params": params, "x": rng.uniform(size=(n, d)), "eps": rng.standard_normal((n, z))}


def moved(names, places):
    """Names with others in some of their places."""
    return [names[places.get(place, place)] for place in range(len(names))]


def special_vae(images=3, bias="", size=0.0, places=()):
    """A VAE with few images, a bias of large numbers of both signs, or its parameters in another order."""
    params, x, eps = small_vae(np.random.default_rng(7)).values()
    if bias:
        params[bias] = np.where(np.arange(len(params[bias])) % 2, -size, size)
    names = moved(PARAMETERS, dict(places))
    return {"params": {name: params[name] for name in names}, "x": x[:images], "eps": eps[:images]}


LAYER, IMAGES, NOISE = (
    inputs(np.random.default_rng(7)) for inputs in (layer_and_gradient, logits_and_images, noise_and_gradient)
)


def corner(case, size):
    return {name: array[:size, :size] for name, array in case.items()}


# --- References ------------------------------------------------------------------------------------------------------


def gradients(of, *by):
    with torch.enable_grad():
        by = [torch.from_numpy(array.copy()).requires_grad_(True) for array in by]
        found = torch.autograd.grad(of(*by), by, allow_unused=True)
    return tuple((torch.zeros_like(a) if b is None else b).numpy() for a, b in zip(by, found, strict=True))


def linear_gradients(grad_out, x, weight):
    grad_out = torch.from_numpy(grad_out)
    return gradients(lambda *inputs: (F.linear(*inputs) * grad_out).sum(), x, weight, np.zeros_like(weight[:, 0]))


def nll_gradient(logits, x):
    x = torch.from_numpy(x)
    return gradients(lambda logits: F.binary_cross_entropy_with_logits(logits, x, reduction="sum"), logits)[0]


def reparameterize_gradients(grad_z, logvar, eps):
    grad_z, eps = torch.from_numpy(grad_z), torch.from_numpy(eps)
    return gradients(
        lambda mu, logvar: ((mu + torch.exp(logvar / 2) * eps) * grad_z).sum(), np.zeros_like(logvar), logvar
    )


def vae_gradients(params, x, eps, loss=torch.add):
    """loss(nll, KL): which of the two is differentiated."""
    x, eps = torch.from_numpy(x), torch.from_numpy(eps)

    def mean_loss(*values):
        tensors = dict(zip(params, values, strict=True))

        def layer(name, x):
            return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

        h = F.relu(layer("encoder.fc", x))
        mu, logvar = layer("encoder.mu", h), layer("encoder.logvar", h)
        z = mu + torch.exp(logvar / 2) * eps
        logits = layer("decoder.fc2", F.relu(layer("decoder.fc1", z)))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return loss(nll, 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(1)).mean()

    return gradients(mean_loss, *params.values())


# --- What may be done instead: single steps, on their own and in the VAE ---------------------------------------------


def nll_step(choose, logits, x):
    p = sigmoid(logits)
    slope = p * sigmoid(-logits)
    return choose(
        p - x,
        ("the sign", x - p,
         "this is the gradient of log p(x|z). The nll has the other sign: where x is white, a larger logit must make "
         "it smaller."),
        ("the missing sigmoid", logits - x,
         "a logit is compared with a pixel. They live on different scales: what is the slope of softplus?"),
        ("the gradient by the probability", (p - x) / slope,
         "this is the derivative by p = sigmoid(logits). One more link of the chain leads to the logits."),
        ("the sigmoid's slope left over", (p - x) * slope,
         "the slope of the sigmoid, p (1 - p), is left over. By the logit it should cancel: check it."),
        ("squared error", 2 * (p - x) * slope,
         "this differentiates the squared error of sigmoid(logits). The nll is softplus(logits) - x logits."),
        ("the image left out", p, "the image does not enter. What is the derivative of the nll's second term?"),
        ("overflow", np.exp(logits) / (1 + np.exp(logits)) - x,
         "it is right until exp(logits) overflows: at a logit of 1000 it gives inf / inf. Which function of level 1 "
         "was written for this?"),
        ("nothing over nothing", (p - x) / slope * slope,
         "it is right until the probability is 0 or 1 and you divide by zero. By the logit that factor should cancel:"
         " check it."),
    )  # fmt: skip


AVERAGE = (
    "you average over the images. What do gradients do when a value is used many times? The average is the loss's "
    "business, not the layer's."
)


def layer_step(choose):
    """How weights and biases get their gradients: a function of grad_out and x, and one of grad_out."""
    weight = choose(
        lambda grad, x: grad.T @ x,
        ("the weight's gradient transposed", lambda grad, x: x.T @ grad,
         "its axes are swapped. A gradient has the shape of what it belongs to."),
    )  # fmt: skip
    bias = choose(
        lambda grad: grad.sum(0),
        ("bias not summed", lambda grad: 1 * grad,
         "it still has one row per image, but the layer has one bias, which every image uses."),
        ("bias summed over the outputs", lambda grad: grad.sum(1),
         "it has one number per image. There is one bias per output: which axis has to go?"),
        ("a bias of two axes", lambda grad: grad.sum(0, keepdims=True),
         "its shape is (1, O). The bias has one axis only, and so must its gradient."),
        ("the forgotten gradient of the bias", lambda grad: np.ones_like(grad[0]),
         "dy/db is 1, that is true; but the loss does not end at y. What has to be multiplied with that 1?"),
    )  # fmt: skip
    return weight, bias


def noise_step(choose, grad_z, logvar, eps):
    sigma = np.exp(logvar / 2)
    stops = "this is the derivative of z itself. The loss does not end at z: where does grad_z enter?"
    by_mu = choose(
        1 * grad_z,
        ("grad_z left out of grad_mu", np.ones_like(grad_z), stops),
        ("mu scaled by sigma", grad_z * sigma, "grad_mu depends on sigma. If mu moves by one, by how much does z?"),
        ("mu scaled by the noise", grad_z * eps,
         "grad_mu depends on the noise. If mu moves by one, by how much does z?"),
        ("nothing for mu", 0 * grad_z, "nothing of what comes back to z reaches mu."),
    )  # fmt: skip
    by_z = choose(grad_z, ("grad_z left out of grad_logvar", np.ones_like(grad_z), stops))
    slope = choose(
        sigma / 2,
        ("the missing half", sigma,
         "grad_logvar is twice too large. Differentiate exp(logvar / 2), inner function included."),
        ("the gradient by sigma", np.ones_like(sigma),
         "this is the gradient by sigma. The chain goes one link further, to logvar."),
        ("sigma left out", np.full_like(sigma, 0.5),
         "what is left of exp(logvar / 2) when it is differentiated? Yours does not depend on logvar."),
        ("the gradient by sigma squared", 1 / sigma / 2,
         "this is the gradient by the variance. The encoder's output is its logarithm."),
        ("the variance instead of sigma", sigma**2 / 2,
         "exp(logvar) is the variance. Which power of sigma scales the noise in z?"),
        ("nothing for logvar", 0 * sigma, "what comes back to z does not reach logvar. Does z not depend on it?"),
    )  # fmt: skip
    noise = choose(
        eps,
        ("the forgotten noise", np.ones_like(eps),
         "how much z moves with sigma depends on the draw: with eps = 0 it would not move at all."),
        ("the noise's size", np.abs(eps), "a draw below mu moves the other way when sigma grows."),
        ("the batch's mean noise", np.broadcast_to(eps.mean(0), eps.shape),
         "each image has noise of its own: nothing is averaged."),
    )  # fmt: skip
    by_logvar = by_z * noise * slope
    return choose(
        (by_mu, by_logvar),
        ("mu and logvar exchanged", (by_logvar, by_mu),
         "mu gets what belongs to logvar, and logvar what belongs to mu."),
        ("mu's gradient for both", (by_mu, by_mu), "mu and logvar get the same. How does z depend on each of them?"),
        ("logvar's gradient for both", (by_logvar, by_logvar),
         "mu and logvar get the same. Are they two names of one array?"),
    )  # fmt: skip


# --- What may be done instead: the functions -------------------------------------------------------------------------


def linear_model(choose, grad_out, x, weight):
    def seen(which):
        """What of grad_out and x comes to the gradients of which parameters."""
        return choose(
            (grad_out, x),
            (f"{which} without grad_out", (np.ones_like(grad_out), x),
             "what arrived from above does not enter: yours is the derivative of the sum of the outputs."),
            (f"the sign of {which}", (-grad_out, x), "it has the wrong sign. The layer has no minus in it."),
            (f"{which} divided by the number of outputs", (grad_out / len(weight), x),
             "you divide by the number of outputs. Nothing is averaged over them."),
            (f"{which} averaged over the batch", (grad_out / len(x), x), AVERAGE),
            (f"{which} from the last image only", (grad_out[-1:], x[-1:]),
             "only the last image counts. All of them use the same parameters."),
            (f"{which} from the first image only", (grad_out[:1], x[:1]),
             "only the first image counts. All of them use the same parameters."),
            (f"{which} without the first image", (grad_out[1:], x[1:]), "the first image does not count."),
            (f"{which} without the last image", (grad_out[:-1], x[:-1]),
             "the last image does not count: where does the range end?"),
        )  # fmt: skip

    by_weight, by_bias = layer_step(choose)
    (used, given), (alone, _) = seen("grad_weight"), seen("grad_bias")
    by_weight, by_bias = by_weight(used, given), by_bias(alone)
    by_weight = choose(
        by_weight,
        ("the layer's input left out", used.T @ np.ones_like(given),
         "the layer's input does not enter. How much an output moves with a weight depends on it."),
        ("one weight matrix for each image", used[:, :, None] * given[:, None],
         "there is one matrix for each image, but the layer has one, which every image uses."),
        ("sums multiplied", used.sum(0)[:, None] * given.sum(0),
         "you sum over the images first and multiply then. Each image's gradient belongs to its own input."),
        ("the sum times the mean", used.sum(0)[:, None] * given.sum(0) / len(x),
         "you reduce over the images first and multiply then. Each image's gradient belongs to its own input."),
        ("means multiplied", used.sum(0)[:, None] * given.sum(0) / len(x) ** 2,
         "you average over the images first and multiply then. Each image's gradient belongs to its own input."),
        ("the weight itself enters", used.T @ given * weight,
         "the weight itself enters its own gradient. The layer is linear in it."),
    )  # fmt: skip
    by_x = grad_out @ weight
    by_x = choose(
        by_x,
        ("grad_x without grad_out", np.ones_like(grad_out) @ weight, "what arrived from above does not enter grad_x."),
        ("grad_x averaged over the batch", by_x / len(x),
         "you divide by the number of images. Each has an x of its own."),
        ("grad_x divided by the outputs", by_x / len(weight),
         "you average over the outputs. An x feeds all of them: what do its gradients do?"),
        ("grad_x divided by the inputs", by_x / x.shape[1],
         "you divide by the number of inputs. Each has its own gradient."),
        ("grad_x summed over the batch", by_x.sum(0), "you sum over the images. Unlike a bias, x is each image's own."),
        ("grad_x reduced to a mean", by_x.mean(0),
         "you average over the images. Unlike a bias, x is each image's own."),
        ("grad_x not summed", grad_out[:, :, None] * weight,
         "there is still one number for each output. An x feeds all of them: what do its gradients do?"),
        ("x itself enters", by_x * x, "x itself enters its own gradient. The layer is linear in it."),
        ("grad_x from one output", grad_out[:, :1] * weight[0],
         "only the first output counts. An x feeds all of them."),
        ("grad_x from the last output", grad_out[:, -1:] * weight[-1],
         "only the last output counts. An x feeds all of them."),
        ("grad_x from sums", grad_out.sum(1, keepdims=True) * weight.sum(0),
         "you sum over the outputs first and multiply then. Each output has weights of its own."),
    )  # fmt: skip
    names = ("x", "weight", "bias")
    order = choose(
        names,
        *(
            (f"in the order {', '.join(order)}", order,
             "all three are there, but they come in another order: x, weight, bias.")
            for order in list(itertools.permutations(names))[1:]
        ),
    )  # fmt: skip
    outputs = dict(zip(names, (by_x, by_weight, by_bias), strict=True))
    return tuple(outputs[name] for name in order)


def linear_terms(grad_out, x, weight):
    n, every = len(x), np.ones_like(x)
    sums = {"sum_n grad_out": grad_out, "sum_n |grad_out|": np.abs(grad_out), "sum_n grad_out^2": grad_out**2}
    sums = {name: array.T @ every for name, array in sums.items()}
    weights = {"grad_out^T x": grad_out.T @ x, "|grad_out|^T |x|": np.abs(grad_out).T @ np.abs(x)} | sums
    weights |= {"sum_n x": np.ones_like(weight) * x.sum(0)}
    weights |= {f"{name} / N": array / n for name, array in weights.items()}
    biases = {name: array[:, 0] for name, array in sums.items()}
    biases |= {f"{name} / N": array / n for name, array in biases.items()}
    inputs = {"grad_out W": grad_out @ weight, "sum_o W": weight.sum(0) * every, "x": x}
    inputs |= {"sum_o grad_out": grad_out.sum(1, keepdims=True) * every}
    return inputs | {"1": 1.0}, weights | {"W": weight, "1": 1.0}, biases | {"1": 1.0, "N": n}


def nll_model(choose, logits, x):
    p, (n, d) = sigmoid(logits), x.shape
    each = choose(
        nll_step(choose, logits, x),
        ("softplus not differentiated", softplus(logits) - x,
         "softplus still stands there as it is: what is its derivative?"),
        ("the logit left out", 0 * p - x, "your slope does not depend on the logit. What does softplus add to it?"),
        ("the product not differentiated", p - x * logits,
         "the second term is a product with a constant: what is left of it?"),
        ("the error squared", (p - x) ** 2, "your slope is never negative: should every logit go down?"),
        ("the nll itself", softplus(logits) - x * logits, "this is the nll, not its slope."),
        ("the sigmoid of the difference", sigmoid(logits - x),
         "the image stands inside the sigmoid. Differentiate the two terms of the nll one by one."),
        ("softplus differentiated twice", p * (1 - p) - x, "you differentiate softplus once too often."),
        ("only what is white", x * (p - 1),
         "black pixels pull at nothing in yours. In the nll they cost something too."),
        ("only what is black", (1 - x) * p,
         "white pixels pull at nothing in yours. In the nll they cost something too."),
        ("the error times the logit", (p - x) * logits,
         "the nll is differentiated by the logit: no factor of it is left."),
        ("a softmax over the pixels", np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - x,
         "your probabilities add up to 1 over the image. Each pixel has a Bernoulli of its own."),
        ("rounded to black or white", (logits > 0) - x, "you round the probability to black or white first."),
    )  # fmt: skip
    one = "A gradient has the shape of what it belongs to: each logit has its own."
    return choose(
        each,
        ("mean over the pixels", each / d,
         "you divide by the number of pixels. The nll of an image is a sum over its pixels."),
        ("mean over the images", each / n,
         "you divide by the number of images. Here each image's nll stands alone; the mean comes later."),
        ("mean over everything", each / n / d, "you divide by the number of all pixels. Nothing is averaged here."),
        ("summed over the pixels", each.sum(1), f"one number per image is left. {one}"),
        ("summed over the pixels into a column", each.sum(1, keepdims=True), f"one number per image is left. {one}"),
        ("averaged over the pixels", each.mean(1), f"one number per image is left. {one}"),
        ("summed over the images", each.sum(0), f"one number per pixel is left. {one}"),
        ("averaged over the images", each.mean(0), f"one number per pixel is left. {one}"),
        ("summed over everything", each.sum(), f"one number is left. {one}"),
        ("averaged over everything", each.mean(), f"one number is left. {one}"),
    )  # fmt: skip


def nll_terms(logits, x):
    p, grow, fall = sigmoid(logits), np.exp(logits), np.exp(-logits)
    return {
        "p": p, "x": x, "x p": x * p, "p (1 - p)": p * (1 - p), "x p (1 - p)": x * p * (1 - p),
        "p^2": p**2, "p^3": p**3, "x^2": x**2, "logit": logits, "x logit": x * logits, "p logit": p * logits, "1": 1.0,
        "softplus(logit)": softplus(logits), "exp(logit)": grow, "exp(-logit)": fall, "x exp(logit)": x * grow,
        "x exp(-logit)": x * fall, "tanh(logit)": np.tanh(logits), "sigmoid(p)": sigmoid(p), "|p - x|": np.abs(p - x),
    }  # fmt: skip


def reparameterize_model(choose, grad_z, logvar, eps):
    by_mu, by_logvar = noise_step(choose, grad_z, logvar, eps)
    sigma = np.exp(logvar / 2)
    by_sigma = grad_z * eps
    by_logvar = choose(
        by_logvar,
        ("the KL's gradient added", by_logvar + (np.exp(logvar) - 1) / 2,
         "the KL's own gradient is in it already. This step knows only what comes back to z."),
        ("added up", grad_z + eps * sigma / 2, "the links of a chain multiply. You add what arrived."),
        ("grad_z squared", grad_z * by_logvar, "what arrived at z enters logvar's gradient twice."),
        ("logvar in front", by_sigma * logvar / 2 * sigma,
         "the factor in front comes from the inner function, logvar / 2: what is its derivative?"),
        ("logvar without its half in front", by_sigma * logvar * sigma,
         "the factor in front comes from the inner function, logvar / 2: what is its derivative?"),
        ("the rule of powers", by_sigma * logvar / 2 * np.exp(logvar / 2 - 1),
         "you differentiate an exponential as if it were a power."),
        ("over sigma", by_sigma / sigma, "you divide by sigma. Does z react more to logvar where sigma is small?"),
        ("the variance without a half", by_sigma * sigma**2,
         "exp(logvar) is the variance. Which power of sigma scales the noise in z, and what does the inner function "
         "add?"),
        ("the noise squared", by_logvar * eps, "the noise enters once too often."),
        ("halved inside again", by_sigma * np.sqrt(sigma) / 2, "logvar is halved once too often in the exponential."),
    )  # fmt: skip
    over_mu, over_logvar = (
        choose(
            lambda each: each,
            (f"{which} summed over the batch", lambda each: each.sum(0),
             "you sum over the images. Unlike a bias, mu and logvar are each image's own."),
            (f"{which} reduced to the batch's mean", lambda each: each.mean(0),
             "you average over the images. mu and logvar are each image's own."),
            (f"{which} divided by the batch", lambda each: each / len(each),
             "you divide by the number of images. The average is the loss's business, not this step's."),
            (f"{which} summed over the latents", lambda each: each.sum(1),
             "you sum over the latents. Each has a mu and a logvar of its own."),
            (f"{which} divided by the latents", lambda each: each / each.shape[1],
             "you divide by the number of latents. Each has a mu and a logvar of its own."),
        )
        for which in ("grad_mu", "grad_logvar")
    )  # fmt: skip
    return over_mu(by_mu), over_logvar(by_logvar)


def reparameterize_terms(grad_z, logvar, eps):
    sigma = np.exp(logvar / 2)
    powers = {"": 1.0, "sigma": sigma, "sigma^2": sigma**2, "1/sigma": 1 / sigma, "1/sigma^2": sigma**-2}
    powers |= {"logvar": logvar, "logvar sigma": logvar * sigma, "sqrt(sigma)": np.sqrt(sigma)}
    return {
        " ".join(filter(None, (first, second, third))) or "1": a * b * c + np.zeros_like(eps)
        for first, a in {"": 1.0, "grad_z": grad_z}.items()
        for second, b in {"": 1.0, "eps": eps}.items()
        for third, c in powers.items()
    }


def gate_step(choose, which):
    """How a gradient passes a ReLU: a function of it, of what the ReLU gave, and of what the other one gave."""
    return choose(
        None,
        (f"{which} not passed backwards", lambda grad, h, other: grad,
         "gradients pass units that were switched off. What is the slope of the ReLU there?"),
        (f"{which} applied to the gradient", lambda grad, h, other: relu(grad),
         "you cut off negative gradients. Which gate is open was decided on the way forward, by the activation."),
        (f"{which} as a factor", lambda grad, h, other: grad * h,
         "the gradient is multiplied with the activation itself. What is the slope of the ReLU where it is open?"),
        (f"the other layer's gate for {which}", lambda grad, h, other: grad * (other > 0),
         "which gate is open is looked up at the other hidden layer."),
    )  # fmt: skip


def scale_step(choose, which, n, others, count):
    """The factor of one part of the loss, beside the 1 / N that it should have."""
    return choose(
        1.0,
        (f"{which} not averaged", n, "it is summed over the images: the loss is a mean over them."),
        (f"{which} averaged twice", 1 / n, "it is too small by the number of images: divide once only."),
        (f"{which} left out", 0.0, "what else does the loss feel there?"),
        (f"{which} averaged over the {others}", 1 / count, f"it is divided by the number of {others}. They add up."),
    )


def kl_step(choose, mu, logvar):
    variance = np.exp(logvar)
    by_logvar = choose(
        (variance - 1) / 2,
        ("the KL without its log", variance / 2,
         "the KL's pull on logvar is never zero in yours, so the spread would shrink for ever."),
        ("sigma in the KL", (np.sqrt(variance) - 1) / 2,
         "in the KL's pull on logvar sigma stands where the variance belongs."),
        ("logvar in the KL", logvar / 2, "in the KL's pull on logvar a logarithm is not undone."),
        ("the KL by sigma", np.sqrt(variance) - variance**-0.5,
         "the KL is differentiated by sigma. The network's output is logvar."),
        ("the KL by sigma squared", (1 - 1 / variance) / 2,
         "the KL is differentiated by the variance. The network's output is its logarithm."),
        ("logvar's KL not differentiated", (variance - 1 - logvar) / 2, "in logvar's gradient stands the KL itself."),
        ("half of one term of the KL", variance - 0.5,
         "in the KL's pull on logvar the two terms have the same factor."),
        ("the log's sign in the KL", (variance + 1) / 2,
         "the KL's pull on logvar is never zero in yours. Where is its minimum?"),
        ("the KL pulls one way only", relu(variance - 1) / 2,
         "the KL pulls logvar to where it is smallest, from both sides."),
    )  # fmt: skip
    by_mu = choose(mu, ("mu's KL not differentiated", mu**2 / 2, "in mu's gradient stands the KL itself."))
    return choose(
        (by_mu, by_logvar),
        ("the KL's gradients exchanged", (by_logvar, by_mu),
         "mu gets the KL's gradient by logvar, and logvar that by mu."),
    )  # fmt: skip


def vae_model(choose, params, x, eps):
    (n, d), latents = x.shape, eps.shape[1]
    x, eps = choose(
        (x, eps),
        ("only the first image", (x[:1], eps[:1]), "only the first image counts. The loss is a mean over all of them."),
        ("only the last image", (x[-1:], eps[-1:]), "only the last image counts. The loss is a mean over all of them."),
    )
    leak = choose(0.0, ("leaky ReLUs", 0.01, "your units leak when they are switched off. A ReLU does not."))

    def layer(name, x):
        return linear(x, params[f"{name}.weight"], params[f"{name}.bias"])

    before_h = layer("encoder.fc", x)
    h = np.maximum(before_h, leak * before_h)
    mu, logvar = layer("encoder.mu", h), layer("encoder.logvar", h)
    z = choose(
        mu + np.exp(logvar / 2) * eps,
        ("codes without noise", mu, "the codes that go forward are mu itself, without noise."),
        ("codes of another width", mu + np.exp(logvar) * eps,
         "on the way forward the noise is scaled by the variance."),
    )  # fmt: skip
    before_g = layer("decoder.fc1", z)
    g = np.maximum(before_g, leak * before_g)
    logits = layer("decoder.fc2", g)

    by_weight, by_bias = layer_step(choose)
    before = "the input of a layer is what it was given: the ReLU's output."
    input_h = choose(
        h,
        ("encoder.mu's input before its ReLU", before_h, before),
        ("encoder.mu's input from the decoder", g, "which hidden layer was the input? You take the other one."),
    )
    input_g = choose(
        g,
        ("decoder.fc2's input before its ReLU", before_g, before),
        ("decoder.fc2's input from the encoder", h, "which hidden layer was the input? You take the other one."),
    )
    input_z = choose(z, ("mu as decoder.fc1's input", mu, "its input was not mu: the noise had been added."))
    gates = [gate_step(choose, which) for which in ("both ReLUs", "the decoder's ReLU", "the encoder's ReLU")]

    def gate(which, grad, h, other):
        passed = gates[which] or gates[0]
        return passed(grad, h, other) if passed else grad * np.where(h > 0, 1, leak)

    kept = {
        name: choose(
            1.0,
            (f"{name} averaged over the batch", 1 / n, AVERAGE),
            (f"{name} left out", 0.0, "it gets no gradient in yours."),
        )
        for name in ("all weights", "all biases", *PARAMETERS)
    }
    grads = {}

    def back(name, grad, x):
        grads[f"{name}.weight"] = kept["all weights"] * kept[f"{name}.weight"] * by_weight(grad, x)
        grads[f"{name}.bias"] = kept["all biases"] * kept[f"{name}.bias"] * by_bias(grad)
        return grad @ params[f"{name}.weight"]

    whole = choose(
        1 / n,
        ("the gradient of the ELBO", -1 / n, "every gradient has the wrong sign: the loss is minus the ELBO."),
        ("summed over the images", 1.0, "every gradient is N times too large: the loss is a mean over the images."),
        ("averaged twice", 1 / n**2,
         "every gradient is N times too small: the mean over the images is taken in two places."),
        ("averaged over the pixels too", 1 / n / d,
         "every gradient is too small by the number of pixels. They add up."),
        ("averaged over the pixels only", 1 / d, "you divide by the number of pixels. Over what is the loss a mean?"),
        ("averaged over the latents only", 1 / latents,
         "you divide by the number of latents. Over what is the loss a mean?"),
    )  # fmt: skip
    target = choose(
        x,
        ("pixels rounded in the nll", np.round(x), "you compare with rounded pixels. The images have grey ones."),
        ("pixels inverted in the nll", 1 - x, "you compare with the negative of the image."),
    )
    by_logits = whole * scale_step(choose, "the reconstruction", n, "pixels", d) * nll_step(choose, logits, target)
    by_logits = choose(
        by_logits,
        ("a ReLU at the logits", by_logits * (logits > 0),
         "there is no ReLU behind the logits: negative ones pass too."),
    )  # fmt: skip
    by_g = back("decoder.fc2", by_logits, input_g)
    gated = gate(1, by_g, g, h)
    own = choose(
        gated,
        ("decoder.fc1 before the ReLU", by_g, "its weights lie in front of the ReLU: whose gradient do they need?"),
    )
    back("decoder.fc1", own, input_z)
    by_z = gated @ params["decoder.fc1.weight"]
    by_z = choose(
        by_z,
        ("z past the ReLU", by_g @ params["decoder.fc1.weight"], "what goes on to z has not passed the ReLU."),
        ("a ReLU at the codes", by_z * (z > 0), "there is no ReLU between z and its layers: negative values pass too."),
        ("the chain stops at z", 0 * by_z,
         "the encoder feels only the KL. The reconstruction's gradient has to get through z to it."),
    )  # fmt: skip
    kl_mu, kl_logvar = kl_step(choose, mu, logvar)
    kl, kl_of_mu, kl_of_logvar = (
        scale_step(choose, which, n, "latents", latents)
        * choose(
            1.0,
            (f"{which} with the wrong sign", -1.0, "both terms of the loss are to become small."),
            (f"{which} twice", 2.0, "it weighs twice too much."),
            (f"half of {which}", 0.5, "it weighs half of what it should."),
        )
        for which in ("the KL", "the KL's part of mu", "the KL's part of logvar")
    )
    kl_mu, kl_logvar = whole * kl * kl_of_mu * kl_mu, whole * kl * kl_of_logvar * kl_logvar
    by_mu, by_logvar = noise_step(choose, by_z, logvar, eps)
    by_logvar = choose(
        by_logvar,
        ("z in place of the noise", by_z * z / 2, "z is more than its noise: how much of it moves with logvar?"),
        ("mu's KL in logvar's gradient", by_logvar + kl_mu * eps * np.exp(logvar / 2) / 2,
         "what mu gets from the KL has gone on to logvar. Is an array changed in place that is used again?"),
    )  # fmt: skip
    by_mu, by_logvar = by_mu + kl_mu, by_logvar + kl_logvar
    by_mu, by_logvar = choose(
        (by_mu, by_logvar),
        ("the layers of mu and logvar exchanged", (by_logvar, by_mu),
         "mu's gradient goes to logvar's layer, and logvar's to mu's."),
    )  # fmt: skip
    from_mu = back("encoder.mu", by_mu, input_h)
    from_logvar = back("encoder.logvar", by_logvar, input_h)
    mu_weight, logvar_weight = params["encoder.mu.weight"], params["encoder.logvar.weight"]
    add = "Its output h is used twice: what do its gradients do?"
    by_h = choose(
        from_mu + from_logvar,
        ("the branch of mu only", from_mu, f"encoder.fc gets its gradient from mu alone. {add}"),
        ("the branch of logvar only", from_logvar, f"encoder.fc gets its gradient from logvar alone. {add}"),
        ("the mean of both branches", (from_mu + from_logvar) / 2, f"encoder.fc gets an average. {add}"),
        ("the branches multiplied", from_mu * from_logvar, f"encoder.fc gets a product. {add}"),
        ("the branches' weights exchanged", by_mu @ logvar_weight + by_logvar @ mu_weight,
         "each branch goes back through the weights of the other."),
        ("mu's weights for both branches", (by_mu + by_logvar) @ mu_weight,
         "both branches go back through the weights of mu."),
        ("logvar's weights for both branches", (by_mu + by_logvar) @ logvar_weight,
         "both branches go back through the weights of logvar."),
    )  # fmt: skip
    back("encoder.fc", gate(2, by_h, h, g), x)

    names = list(params)
    weights, biases = ([name for name in names if kind in name] for kind in ("weight", "bias"))
    back_order = [f"{layer}.{kind}" for layer in LAYERS[::-1] for kind in ("weight", "bias")]
    order = choose(
        names,
        ("in a fixed order", PARAMETERS, "the gradients come in one order, whatever the order of params is."),
        ("in the order of the way back", list(grads), "the gradients come in the order in which you found them."),
        ("layers backwards", back_order, "the gradients come layer by layer from the last to the first."),
        ("bias before weight", [name for pair in zip(biases, weights, strict=True) for name in pair],
         "of each layer the bias comes first in yours."),
        ("weights first, then biases", weights + biases, "all weights come first in yours, and then all biases."),
        ("sorted by name", sorted(names), "the gradients are sorted by their names. params has an order of its own."),
        ("decoder first", names[6:] + names[:6], "the decoder comes first in yours."),
    )  # fmt: skip
    for kind in ("weight", "bias"):
        mu, logvar = f"encoder.mu.{kind}", f"encoder.logvar.{kind}"
        grads[mu], grads[logvar] = choose(
            (grads[mu], grads[logvar]),
            (f"the {kind} of mu and logvar exchanged", (grads[logvar], grads[mu]), "these two have changed places."),
            (f"the {kind} of mu given twice", (grads[mu], grads[mu]), "logvar's is not its own."),
            (f"the {kind} of logvar given twice", (grads[logvar], grads[logvar]), "mu's is not its own."),
        )
    return tuple(grads[name] for name in order)


def vae_terms(params, x, eps):
    nll, kl = (vae_gradients(params, x, eps, loss) for loss in (lambda nll, kl: nll, lambda nll, kl: kl))
    zipped = zip(nll, kl, params.values(), strict=True)
    return tuple({"d nll": a, "d KL": b, "itself / 1000": value / 1000, "1": 1.0} for a, b, value in zipped)


LOST_AXIS = "is an axis lost where it has length 1?"
OVERFLOW = "Is something cut off, or does exp overflow? A function of level 1 was written for this."
VAGUE = "codes that are very sure or very vague"
FUNCTIONS = [
    Function(
        "linear_backward",
        linear_gradients,
        layer_and_gradient,
        linear_model,
        special=[
            Special(
                "two images that are the same",
                {"grad_out": np.array([[1.0, -2.0], [1.0, -2.0]]), "x": np.array([[3.0, 0.5, 1.0], [3.0, 0.5, 1.0]])}
                | {"weight": np.array([[1.0, 2.0, -1.0], [0.5, -3.0, 4.0]])},
                "does every image count, whatever the others are?",
            ),
            Special("one image, one input and one output", corner(LAYER, 1), LOST_AXIS),
            Special(
                "sizes that are all the same",
                corner(LAYER, 2),
                "Shapes do not tell there which way round a matrix goes: do you decide by them?",
            ),
            Special(
                "large numbers",
                {name: 1000 * array for name, array in LAYER.items()},
                "A gradient has no limits: is something cut off?",
            ),
        ],
        terms=linear_terms,
        probe="Write down one entry of it with all of its indices: over which of them is there a sum?",
        outputs=("grad_x", "grad_weight", "grad_bias"),
    ),
    Function(
        "nll_backward",
        nll_gradient,
        logits_and_images,
        nll_model,
        special=[
            Special(
                "large logits",
                IMAGES | {"logits": 4 * IMAGES["logits"]},
                "Logits have no limits: is something cut off, added, or rounded?",
            ),
            Special("very large logits", IMAGES | {"logits": 1000 * np.sign(IMAGES["logits"])}, OVERFLOW),
            Special(
                "sure pixels that are right",
                {"logits": IMAGES["logits"] - 20, "x": 0 * IMAGES["x"]},
                "The slope is small there, but not 0: is something cut off, or added?",
            ),
            Special("one image with one pixel", corner(IMAGES, 1), LOST_AXIS),
        ],
        terms=nll_terms,
        probe="Here p = sigmoid(logit). Differentiate softplus(logit) - x logit term by term: which is another?",
    ),
    Function(
        "reparameterize_backward",
        reparameterize_gradients,
        noise_and_gradient,
        reparameterize_model,
        special=[
            Special("no noise", NOISE | {"eps": 0 * NOISE["eps"]}, "Is something divided by the noise?"),
            Special(
                VAGUE,
                NOISE | {"logvar": 15 * NOISE["logvar"]},
                "logvar has no limits: is something cut off, added, or rounded?",
            ),
            Special(
                "large gradients",
                NOISE | {"grad_z": 1000 * NOISE["grad_z"]},
                "A gradient has no limits: is something cut off?",
            ),
            Special("large draws", NOISE | {"eps": 10 * NOISE["eps"]}, "A draw may lie far out: is something cut off?"),
            Special("one image with one latent", corner(NOISE, 1), LOST_AXIS),
        ],
        terms=reparameterize_terms,
        probe="Here sigma = exp(logvar / 2). Go through the links of the chain, latent by latent: which is another?",
        outputs=("grad_mu", "grad_logvar"),
    ),
    Function(
        "vae_backward",
        vae_gradients,
        small_vae,
        vae_model,
        special=[
            Special("a batch of one image", special_vae(images=1), LOST_AXIS),
            Special("parameters in another order", special_vae(images=1, places={6: 7, 7: 6})),
            Special("very large logits", special_vae(bias="decoder.fc2.bias", size=1000.0), OVERFLOW),
            Special(
                VAGUE,
                special_vae(bias="encoder.logvar.bias", size=12.0),
                "logvar has no limits: is something cut off, added, or rounded?",
            ),
        ],
        terms=vae_terms,
        probe="d nll and d KL are the gradients of the two parts of the loss: which weighs too much, or too little?",
        outputs=PARAMETERS,
    ),
]
