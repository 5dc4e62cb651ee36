"""Convolution and its transpose. Cutting an image into patches is a linear map P, of zeros and ones, so that

    conv2d(x) = W P x + bias            W (O, C k k): the kernels, one in each row

and the transpose of that map is P^T W^T. W^T turns each pixel into a k x k stamp. P^T undoes the cutting: P copies a
number from the image into every patch that holds it, P^T adds every patch back to where it was cut from. Both therefore
walk over the same slices; one reads them, the other adds to them.
"""

import numpy as np


def im2col(x, kernel, stride, padding):
    """The patches of x (N, C, H, W), one in each column: -> (N, C k k, H' W')."""
    n, c, h, w = x.shape
    out_h, out_w = ((size + 2 * padding - kernel) // stride + 1 for size in (h, w))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    columns = np.zeros((n, c, kernel, kernel, out_h, out_w), x.dtype)
    for a, b in np.ndindex(kernel, kernel):  # pixel (a, b) of all patches at once
        columns[:, :, a, b] = padded[:, :, a : a + stride * out_h : stride, b : b + stride * out_w : stride]
    return columns.reshape(n, c * kernel**2, out_h * out_w)


def conv2d(x, weight, bias, stride, padding):
    """Cross-correlate: x (N, C, H, W), weight (O, C, k, k), bias (O,) -> (N, O, H', W')."""
    o, _, k, _ = weight.shape
    n, _, h, w = x.shape
    y = weight.reshape(o, -1) @ im2col(x, k, stride, padding) + bias[:, None]  # (N, O, H' W')
    return y.reshape(n, o, *((size + 2 * padding - k) // stride + 1 for size in (h, w)))


def conv_transpose2d(x, weight, bias, stride, padding, output_padding):
    """Stamp: x (N, C, H, W), weight (C, O, k, k), bias (O,) -> (N, O, H', W')."""
    n, c, h, w = x.shape
    _, o, k, _ = weight.shape
    stamps = (weight.reshape(c, -1).T @ x.reshape(n, c, -1)).reshape(n, o, k, k, h, w)
    full_h, full_w = ((size - 1) * stride + k + output_padding for size in (h, w))
    y = np.zeros((n, o, full_h, full_w), stamps.dtype)
    for a, b in np.ndindex(k, k):  # pixel (a, b) of all stamps at once
        y[:, :, a : a + stride * h : stride, b : b + stride * w : stride] += stamps[:, :, a, b]
    return y[:, :, padding : full_h - padding, padding : full_w - padding] + bias[:, None, None]
