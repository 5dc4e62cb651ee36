"""Backpropagation by hand. Write G for the gradient of the loss with respect to the output of a step.

    linear            y = x W^T + b       each y_no = sum_i x_ni W_oi + b_o, so the gradients are
                                          dx = G W, dW = G^T x, db = sum_n G_n
    ReLU              h = max(a, 0)       dh/da is 1 where h > 0, and 0 elsewhere
    reconstruction    softplus(l) - x l   softplus' = sigmoid, hence sigmoid(l) - x
    reparameterise    z = mu + s eps      s = exp(logvar / 2), ds/dlogvar = s / 2, hence G and G eps s / 2
    KL                                    mu and (exp(logvar) - 1) / 2, of exercise 3

Backwards through the network each step hands its gradient on. Where a value is used twice, its gradients add.
"""

import numpy as np

from vae_numpy import linear, relu, sigmoid


def linear_backward(grad_out, x, weight):
    """Backwards through linear(x, weight, bias): grad_out (N, O), x (N, I), weight (O, I).

    Returns grad_x (N, I), grad_weight (O, I) and grad_bias (O,).
    """
    return grad_out @ weight, grad_out.T @ x, grad_out.sum(axis=0)


def nll_backward(logits, x):
    """d nll_n / d logits_n, for the nll in nats, summed over the pixels: logits, x (N, D) -> (N, D)."""
    return sigmoid(logits) - x


def reparameterize_backward(grad_z, logvar, eps):
    """Backwards through z = mu + exp(logvar / 2) * eps: all (N, Z) -> grad_mu, grad_logvar, each (N, Z)."""
    return grad_z, grad_z * eps * np.exp(logvar / 2) / 2


def forward(params, x, eps):
    """x (N, D), eps (N, Z) -> h (N, H), mu, logvar, z (N, Z), g (N, H), logits (N, D)."""

    def layer(name, x):
        return linear(x, params[f"{name}.weight"], params[f"{name}.bias"])

    h = relu(layer("encoder.fc", x))
    mu, logvar = layer("encoder.mu", h), layer("encoder.logvar", h)
    z = mu + np.exp(logvar / 2) * eps
    g = relu(layer("decoder.fc1", z))
    return h, mu, logvar, z, g, layer("decoder.fc2", g)


def vae_backward(params, x, eps):
    """The gradient of mean(nll + KL), the loss in nats per image: x (N, D), eps (N, Z), params as in forward.

    Returns a tuple: for each parameter, in the order of params, an array of its shape.
    """
    h, mu, logvar, z, g, logits = forward(params, x, eps)
    grads = {}

    def back(name, grad_out, x):
        weight = params[f"{name}.weight"]
        grad_x, grads[f"{name}.weight"], grads[f"{name}.bias"] = linear_backward(grad_out, x, weight)
        return grad_x

    grad_g = back("decoder.fc2", nll_backward(logits, x) / len(x), g)
    grad_z = back("decoder.fc1", grad_g * (g > 0), z)
    grad_mu, grad_logvar = reparameterize_backward(grad_z, logvar, eps)
    grad_mu = grad_mu + mu / len(x)
    grad_logvar = grad_logvar + (np.exp(logvar) - 1) / 2 / len(x)
    grad_h = back("encoder.mu", grad_mu, h) + back("encoder.logvar", grad_logvar, h)
    back("encoder.fc", grad_h * (h > 0), x)
    return tuple(grads[name] for name in params)
