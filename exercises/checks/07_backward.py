"""Checks of exercise 7. The references are autograd's gradients of PyTorch's own forward functions."""

import numpy as np
import torch
import torch.nn.functional as F

from checking import Function, Misconception
from vae_numpy import sigmoid


def layer_and_gradient(rng):
    n, i, o = rng.integers(2, 6), rng.integers(2, 5), rng.integers(5, 8)
    return {
        "grad_out": rng.standard_normal((n, o)),
        "x": rng.standard_normal((n, i)),
        "weight": rng.standard_normal((o, i)),
    }


def logits_and_images(rng):
    shape = rng.integers(2, 5), rng.integers(5, 9)
    return {"logits": 2 * rng.standard_normal(shape), "x": rng.uniform(size=shape)}


def noise_and_gradient(rng):
    shape = rng.integers(2, 6), rng.integers(2, 5)
    return {name: rng.standard_normal(shape) for name in ("grad_z", "logvar", "eps")}


def small_vae(rng):
    n, d, h, z = rng.integers(2, 6), rng.integers(6, 10), rng.integers(4, 7), rng.integers(2, 4)
    layers = {
        "encoder.fc": (h, d),
        "encoder.mu": (z, h),
        "encoder.logvar": (z, h),
        "decoder.fc1": (h, z),
        "decoder.fc2": (d, h),
    }
    params = {}
    for name, shape in layers.items():
        params[f"{name}.weight"] = rng.standard_normal(shape) / np.sqrt(shape[1])
        params[f"{name}.bias"] = rng.standard_normal(shape[0])
    return {"params": params, "x": rng.uniform(size=(n, d)), "eps": rng.standard_normal((n, z))}


# --- References ------------------------------------------------------------------------------------------------------


def leaves(*arrays):
    return [torch.from_numpy(array.copy()).requires_grad_(True) for array in arrays]


def arrays(tensors):
    return tuple(tensor.numpy() for tensor in tensors)


def linear_gradients(grad_out, x, weight):
    inputs = leaves(x, weight, np.zeros_like(weight[:, 0]))
    return arrays(torch.autograd.grad(F.linear(*inputs), inputs, torch.from_numpy(grad_out)))


def nll_gradient(logits, x):
    [logits] = leaves(logits)
    nll = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(x), reduction="sum")
    return torch.autograd.grad(nll, logits)[0].numpy()


def reparameterize_gradients(grad_z, logvar, eps):
    mu, logvar = leaves(np.zeros_like(logvar), logvar)
    z = mu + torch.exp(logvar / 2) * torch.from_numpy(eps)
    return arrays(torch.autograd.grad(z, [mu, logvar], torch.from_numpy(grad_z)))


def keep(tensor):
    return tensor


def mean_loss(nll, kl):
    return (nll + kl).mean()


def vae_gradients(params, x, eps, relu=F.relu, fork=keep, code=keep, spread=keep, loss=mean_loss):
    """Autograd's gradients. The options break single steps: each is what a misconception does there."""
    dtype = np.result_type(x, eps, *params.values())
    x, eps = (torch.from_numpy(array.astype(dtype)) for array in (x, eps))
    tensors = dict(zip(params, leaves(*(array.astype(dtype) for array in params.values())), strict=True))

    def layer(name, x):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    h = relu(layer("encoder.fc", x))
    mu, logvar = layer("encoder.mu", h), layer("encoder.logvar", fork(h))
    z = code(mu + torch.exp(spread(logvar) / 2) * eps)
    logits = layer("decoder.fc2", relu(layer("decoder.fc1", z)))
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(1)
    gradients = torch.autograd.grad(loss(nll, kl), list(tensors.values()), allow_unused=True)
    pairs = zip(tensors.values(), gradients, strict=True)
    return arrays(torch.zeros_like(tensor) if gradient is None else gradient for tensor, gradient in pairs)


# --- Misconceptions --------------------------------------------------------------------------------------------------


def broken_vae(**options):
    return lambda params, x, eps: vae_gradients(params, x, eps, **options)


def relu_without_gate(a):
    return a + (F.relu(a) - a).detach()


def relu_gated_by_the_gradient(a):
    h = relu_without_gate(a)
    h.register_hook(F.relu)
    return h


def by_naive_exp(logits, x):
    return np.exp(logits) / (1 + np.exp(logits)) - x


FUNCTIONS = [
    Function(
        "linear_backward",
        linear_gradients,
        layer_and_gradient,
        [
            Misconception(
                "averaged over the batch",
                lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x / len(x), grad_out.mean(0)),
                "weight and bias are averaged over the images. All images use one weight: what do gradients do when "
                "a value is used many times? (The average is the loss's business, not the layer's.)",
            ),
            Misconception(
                "the weight's gradient transposed",
                lambda grad_out, x, weight: (grad_out @ weight, x.T @ grad_out, grad_out.sum(0)),
                "grad_weight has its axes swapped. A gradient has the shape of what it belongs to.",
            ),
            Misconception(
                "bias not summed",
                lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x, grad_out.copy()),
                "grad_bias still has one row per image, but the layer has one bias, which every image uses.",
            ),
            Misconception(
                "bias summed over the outputs",
                lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x, grad_out.sum(1)),
                "grad_bias has one number per image. There is one bias per output: which axis has to go?",
            ),
            Misconception(
                "the forgotten gradient of the bias",
                lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x, np.ones_like(weight[:, 0])),
                "dy/db is 1, that is true; but the loss does not end at y. What has to be multiplied with that 1?",
            ),
            Misconception(
                "the chain stops at the layer",
                lambda grad_out, x, weight: linear_gradients(np.ones_like(grad_out), x, weight),
                "these are the derivatives of the sum of the outputs: grad_out does not enter. Use the chain rule.",
            ),
            Misconception(
                "the wrong order",
                lambda grad_out, x, weight: (grad_out.T @ x, grad_out.sum(0), grad_out @ weight),
                "all three are right, but they come in another order: x, weight, bias.",
            ),
            Misconception(
                "a bias of two axes",
                lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x, grad_out.sum(0, keepdims=True)),
                "grad_bias has shape (1, O). The bias has one axis only, and so must its gradient.",
            ),
        ],
    ),
    Function(
        "nll_backward",
        nll_gradient,
        logits_and_images,
        [
            Misconception(
                "the sign",
                lambda logits, x: x - sigmoid(logits),
                "this is the gradient of log p(x|z). The nll has the other sign: where x is white, a larger logit must "
                "make it smaller.",
            ),
            Misconception(
                "the missing sigmoid",
                lambda logits, x: logits - x,
                "a logit is compared with a pixel. They live on different scales: what is the slope of softplus?",
            ),
            Misconception(
                "the gradient by the probability",
                lambda logits, x: (sigmoid(logits) - x) / (sigmoid(logits) * sigmoid(-logits)),
                "this is the derivative by p = sigmoid(logits). One more link of the chain leads to the logits.",
            ),
            Misconception(
                "the sigmoid's slope twice",
                lambda logits, x: (sigmoid(logits) - x) * sigmoid(logits) * sigmoid(-logits),
                "the slope of the sigmoid, p (1 - p), is left over. By the logit it should cancel: check it.",
            ),
            Misconception(
                "squared error",
                lambda logits, x: 2 * (sigmoid(logits) - x) * sigmoid(logits) * sigmoid(-logits),
                "this differentiates the squared error of sigmoid(logits). The nll is softplus(logits) - x logits.",
            ),
            Misconception(
                "mean over the pixels",
                lambda logits, x: (sigmoid(logits) - x) / x.shape[1],
                "you divide by the number of pixels. The nll of an image is a sum over its pixels.",
            ),
            Misconception(
                "mean over the images",
                lambda logits, x: (sigmoid(logits) - x) / len(x),
                "you divide by the number of images. Here each image's nll stands alone; the mean comes later.",
            ),
            Misconception(
                "summed over the pixels",
                lambda logits, x: (sigmoid(logits) - x).sum(1),
                "one number per image is left. A gradient has the shape of what it belongs to: each logit has its own.",
            ),
            Misconception(
                "overflow",
                by_naive_exp,
                "it is right until exp(logits) overflows: at a logit of 1000 it gives inf / inf. Which function of "
                "level 1 was written for this?",
            ),
        ],
        special=[
            (
                "very large logits",
                {"logits": np.array([[1000.0, -1000.0], [800.0, -800.0]]), "x": np.array([[1.0, 1.0], [0.0, 0.5]])},
            )
        ],
    ),
    Function(
        "reparameterize_backward",
        reparameterize_gradients,
        noise_and_gradient,
        [
            Misconception(
                "the missing half",
                lambda grad_z, logvar, eps: (grad_z.copy(), grad_z * eps * np.exp(logvar / 2)),
                "grad_logvar is twice too large. Differentiate exp(logvar / 2), inner function included.",
            ),
            Misconception(
                "the gradient by sigma",
                lambda grad_z, logvar, eps: (grad_z.copy(), grad_z * eps),
                "the second is the gradient by sigma. The chain goes one link further, to logvar.",
            ),
            Misconception(
                "the gradient by sigma squared",
                lambda grad_z, logvar, eps: (grad_z.copy(), grad_z * eps * np.exp(-logvar / 2) / 2),
                "the second is the gradient by the variance. The encoder's output is its logarithm.",
            ),
            Misconception(
                "the variance instead of sigma",
                lambda grad_z, logvar, eps: (grad_z.copy(), grad_z * eps * np.exp(logvar) / 2),
                "exp(logvar) is the variance. Which power of sigma scales the noise in z?",
            ),
            Misconception(
                "the forgotten noise",
                lambda grad_z, logvar, eps: (grad_z.copy(), grad_z * np.exp(logvar / 2) / 2),
                "how much z moves with sigma depends on the draw: with eps = 0 it would not move at all.",
            ),
            Misconception(
                "the chain stops at z",
                lambda grad_z, logvar, eps: (np.ones_like(grad_z), eps * np.exp(logvar / 2) / 2),
                "these are dz/dmu and dz/dlogvar. The loss does not end at z: where does grad_z enter?",
            ),
            Misconception(
                "mu scaled by sigma",
                lambda grad_z, logvar, eps: (grad_z * np.exp(logvar / 2), grad_z * eps * np.exp(logvar / 2) / 2),
                "grad_mu depends on sigma. If mu moves by one, by how much does z?",
            ),
            Misconception(
                "summed over the batch",
                lambda grad_z, logvar, eps: (grad_z.sum(0), (grad_z * eps * np.exp(logvar / 2) / 2).sum(0)),
                "you sum over the images. Unlike a bias, mu and logvar are each image's own.",
            ),
            Misconception(
                "the wrong order",
                lambda grad_z, logvar, eps: (grad_z * eps * np.exp(logvar / 2) / 2, grad_z.copy()),
                "the two come in the wrong order: first mu, then logvar.",
            ),
        ],
    ),
    Function(
        "vae_backward",
        vae_gradients,
        small_vae,
        [
            Misconception(
                "summed over the images",
                broken_vae(loss=lambda nll, kl: (nll + kl).sum()),
                "every gradient is N times too large: the loss is a mean over the images.",
            ),
            Misconception(
                "the KL not averaged",
                broken_vae(loss=lambda nll, kl: nll.mean() + kl.sum()),
                "the reconstruction is averaged over the images and the KL is not, so that it weighs N times too much.",
            ),
            Misconception(
                "averaged twice",
                broken_vae(loss=lambda nll, kl: (nll + kl).mean() / len(nll)),
                "every gradient is N times too small: the mean over the images is taken in two places.",
            ),
            Misconception(
                "the forgotten KL",
                broken_vae(loss=lambda nll, kl: nll.mean()),
                "these are the gradients of the reconstruction alone. What else does the loss feel of mu and logvar?",
            ),
            Misconception(
                "the KL with the wrong sign",
                broken_vae(loss=lambda nll, kl: (nll - kl).mean()),
                "you subtract the KL. In the ELBO both terms have a minus, and the loss is minus the ELBO.",
            ),
            Misconception(
                "the chain stops at z",
                broken_vae(code=torch.Tensor.detach),
                "the encoder feels only the KL. The reconstruction's gradient has to get through z to it.",
            ),
            Misconception(
                "the spread taken for a constant",
                broken_vae(spread=torch.Tensor.detach),
                "what comes back from z reaches mu, but not logvar. Add, do not replace.",
            ),
            Misconception(
                "one branch of the fork",
                broken_vae(fork=torch.Tensor.detach),
                "encoder.fc gets its gradient from mu alone. Its output h is used twice: what do its gradients do?",
            ),
            Misconception(
                "the ReLU not passed backwards",
                broken_vae(relu=relu_without_gate),
                "gradients pass units that were switched off. What is the slope of the ReLU there?",
            ),
            Misconception(
                "the ReLU applied to the gradient",
                broken_vae(relu=relu_gated_by_the_gradient),
                "you cut off negative gradients. Which gate is open was decided on the way forward, by the activation.",
            ),
        ],
    ),
]
