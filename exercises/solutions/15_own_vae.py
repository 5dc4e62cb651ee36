"""A VAE from its pieces, and its training. A convolution is y = W P x + b, where P cuts x into patches, so that with
the gradient G of the loss with respect to y

    dW = sum_n G_n (P x_n)^T            the patches again, as in a linear layer
    dx = P^T W^T G                      which is the transposed convolution of exercise 6

The transposed convolution is y = P^T W^T x + b. Its way back is that of the convolution with the roles exchanged: dx =
W P G, and dW = sum_n x_n (P G_n)^T.
"""

import numpy as np

from course import yours

kl_divergence, kl_gradient = yours(3, "kl_divergence", "kl_gradient")
[bernoulli_nll] = yours(4, "bernoulli_nll")
im2col, conv2d, conv_transpose2d = yours(6, "im2col", "conv2d", "conv_transpose2d")
linear_backward, nll_backward, reparameterize_backward = yours(
    7, "linear_backward", "nll_backward", "reparameterize_backward"
)


def conv2d_backward(grad_out, x, weight, stride, padding):
    """Backwards through conv2d: grad_out (N, O, H', H'), x (N, C, H, H), weight (O, C, k, k).

    Returns grad_x (N, C, H, H), grad_weight (O, C, k, k) and grad_bias (O,).
    """
    (num_images, in_channels, side, _), (out_channels, _, k, _) = x.shape, weight.shape
    patches = im2col(x, k, stride, padding)  # (N, C k k, H' H')
    grad_y = grad_out.reshape(num_images, out_channels, -1)  # (N, O, H' H')
    grad_weight = (grad_y @ patches.transpose(0, 2, 1)).sum(axis=0).reshape(weight.shape)
    left_over = (side + 2 * padding - k) % stride  # rows that no patch began with
    no_bias = np.zeros(in_channels, x.dtype)
    grad_x = conv_transpose2d(grad_out, weight, no_bias, stride, padding, left_over)
    return grad_x, grad_weight, grad_out.sum(axis=(0, 2, 3))


def conv_transpose2d_backward(grad_out, x, weight, stride, padding):
    """Backwards through conv_transpose2d: grad_out (N, O, H', H'), x (N, C, H, H), weight (C, O, k, k).

    Returns grad_x (N, C, H, H), grad_weight (C, O, k, k) and grad_bias (O,).
    """
    no_bias = np.zeros(x.shape[1], x.dtype)
    grad_x = conv2d(grad_out, weight, no_bias, stride, padding)
    _, grad_weight, _ = conv2d_backward(x, grad_out, weight, stride, padding)
    return grad_x, grad_weight, grad_out.sum(axis=(0, 2, 3))


def loss_and_gradients(params, x, eps):
    """-ELBO of a batch, the mean over its images in nats, and its gradients: x (N, 1, 28, 28), eps (N, Z).

    Returns the loss, a number, and a dictionary with an array for each parameter, of its shape, by its name.
    """
    n = len(x)

    def linear(name, x):
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    def conv(name, x):
        return conv2d(x, params[f"{name}.weight"], params[f"{name}.bias"], 2, 1)

    def deconv(name, x):
        return conv_transpose2d(x, params[f"{name}.weight"], params[f"{name}.bias"], 2, 1, 1)

    h1 = np.maximum(conv("encoder.conv1", x), 0)  # (N, 32, 14, 14)
    h2 = np.maximum(conv("encoder.conv2", h1), 0)  # (N, 64, 7, 7)
    flat = h2.reshape(n, -1)  # (N, 3136)
    h3 = np.maximum(linear("encoder.fc", flat), 0)  # (N, 256)
    mu, logvar = linear("encoder.mu", h3), linear("encoder.logvar", h3)
    z = mu + np.exp(logvar / 2) * eps
    g1 = np.maximum(linear("decoder.fc1", z), 0)  # (N, 256)
    g2 = np.maximum(linear("decoder.fc2", g1), 0)  # (N, 3136)
    square = g2.reshape(h2.shape)  # (N, 64, 7, 7)
    g3 = np.maximum(deconv("decoder.deconv1", square), 0)  # (N, 32, 14, 14)
    logits = deconv("decoder.deconv2", g3)  # (N, 1, 28, 28)
    loss = np.mean(bernoulli_nll(logits, x) + kl_divergence(mu, logvar))

    grads = {}

    def back(backward, name, grad_out, x, *stride_and_padding):
        grad_x, grads[f"{name}.weight"], grads[f"{name}.bias"] = backward(
            grad_out, x, params[f"{name}.weight"], *stride_and_padding
        )
        return grad_x

    grad = nll_backward(logits.reshape(n, -1), x.reshape(n, -1)).reshape(x.shape) / n
    grad = back(conv_transpose2d_backward, "decoder.deconv2", grad, g3, 2, 1) * (g3 > 0)
    grad = back(conv_transpose2d_backward, "decoder.deconv1", grad, square, 2, 1).reshape(g2.shape) * (g2 > 0)
    grad = back(linear_backward, "decoder.fc2", grad, g1) * (g1 > 0)
    grad = back(linear_backward, "decoder.fc1", grad, z)
    from_z, from_kl = reparameterize_backward(grad, logvar, eps), kl_gradient(mu, logvar)
    grad_mu, grad_logvar = (a + b / n for a, b in zip(from_z, from_kl, strict=True))
    grad = back(linear_backward, "encoder.mu", grad_mu, h3) + back(linear_backward, "encoder.logvar", grad_logvar, h3)
    grad = back(linear_backward, "encoder.fc", grad * (h3 > 0), flat).reshape(h2.shape) * (h2 > 0)
    grad = back(conv2d_backward, "encoder.conv2", grad, h1, 2, 1) * (h1 > 0)
    back(conv2d_backward, "encoder.conv1", grad, x, 2, 1)
    return loss, grads


def adam_step(param, grad, first, second, step, lr):
    """Adam's step number `step`, 1 for the first: param, grad and both running means of one shape.

    Returns the new param, first and second; what it is given stays as it is.
    """
    first = 0.9 * first + 0.1 * grad
    second = 0.999 * second + 0.001 * grad**2
    mean, scale = first / (1 - 0.9**step), np.sqrt(second / (1 - 0.999**step))
    return param - lr * mean / (scale + 1e-8), first, second


def train(params, images, order, eps, lr):
    """One step of Adam for each row of order: images (N, 1, 28, 28), order (S, B) indices of images, eps (S, B, Z).

    Returns the losses before each step, (S,) nats, and a dictionary of the trained parameters; params stays as it is.
    """
    params = dict(params)
    first, second = ({name: np.zeros_like(array) for name, array in params.items()} for _ in range(2))
    losses = []
    for step, (batch, noise) in enumerate(zip(order, eps, strict=True), start=1):
        loss, grads = loss_and_gradients(params, images[batch], noise)
        losses.append(loss)
        for name, grad in grads.items():
            params[name], first[name], second[name] = adam_step(params[name], grad, first[name], second[name], step, lr)
    return np.array(losses), params
