"""Checks of exercise 6. The references are PyTorch's unfold, conv2d and conv_transpose2d, not the solutions."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn import functional as F

from checking import Function, Misconception

# --- Inputs: no side is equal to another, no stride 1 and no padding 0 (those are the special cases) -----------------


def images(rng):
    kernel, stride, padding = int(rng.integers(2, 4)), int(rng.integers(2, 4)), int(rng.integers(1, 3))
    out_h, out_w = rng.permutation([3, 4, 5])[:2]
    # The image is up to stride - 1 pixels larger than its patches: what is left over is ignored.
    h, w = ((out - 1) * stride + kernel - 2 * padding + rng.integers(stride) for out in (out_h, out_w))
    x = rng.standard_normal((rng.integers(2, 4), rng.integers(2, 5), h, w))
    return {"x": x, "kernel": kernel, "stride": stride, "padding": padding}


def images_and_kernels(rng):
    case = images(rng)
    k, o = case.pop("kernel"), rng.integers(2, 5)
    weight = rng.standard_normal((o, case["x"].shape[1], k, k))
    return {"x": case["x"], "weight": weight, "bias": rng.standard_normal(o)} | case


def features_and_kernels(rng):
    k, stride, padding = int(rng.integers(2, 4)), int(rng.integers(2, 4)), int(rng.integers(1, 3))
    h, w = rng.permutation([3, 4, 5])[:2]
    n, c, o = rng.integers(2, 4), rng.integers(2, 5), rng.integers(2, 5)
    return {
        "x": rng.standard_normal((n, c, h, w)),
        "weight": rng.standard_normal((c, o, k, k)),
        "bias": rng.standard_normal(o),
        "stride": stride,
        "padding": padding,
        "output_padding": int(rng.integers(1, stride)),
    }


def counting(*shape):
    """Small whole numbers, none of them equal to its neighbours."""
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape) % 11


PLAIN = {"stride": 1, "padding": 0}
KERNELS = {"weight": counting(2, 2, 3, 3), "bias": np.array([1.0, -2.0])}

# --- References ------------------------------------------------------------------------------------------------------


def unfold(x, kernel, stride, padding):
    return F.unfold(torch.from_numpy(x), kernel, stride=stride, padding=padding).numpy()


def convolution(x, weight, bias, **options):
    return F.conv2d(*map(torch.from_numpy, (x, weight, bias)), **options).numpy()


def transposed(x, weight, bias, **options):
    return F.conv_transpose2d(*map(torch.from_numpy, (x, weight, bias)), **options).numpy()


# --- Wrong answers ---------------------------------------------------------------------------------------------------


def flat(array):
    """A contiguous copy, which torch.from_numpy takes."""
    return np.array(array, order="C")


def flipped(weight):
    return flat(weight[:, :, ::-1, ::-1])


def swapped(weight):
    return flat(weight.swapaxes(2, 3))


def bordered(x, before, after, **mode):
    return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), **mode)


def patches(x, kernel, stride, padding):
    """(N, C, H', W', k, k), as sliding_window_view gives them."""
    return sliding_window_view(bordered(x, padding, padding), (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]


def arranged(axes):
    """im2col with the axes of `patches` in another order."""

    def wrong(x, kernel, stride, padding):
        ordered = patches(x, kernel, stride, padding).transpose(axes)
        return ordered.reshape(len(x), x.shape[1] * kernel**2, -1)

    return wrong


def as_rows(x, kernel, stride, padding):
    return flat(unfold(x, kernel, stride, padding).swapaxes(1, 2))


def side_by_side(x, kernel, stride, padding):
    columns = unfold(x, kernel, stride, padding)
    return columns.swapaxes(0, 1).reshape(columns.shape[1], -1)


def without_the_last(x, kernel, stride, padding):
    return unfold(bordered(x, padding, padding)[:, :, :-1, :-1], kernel, stride, 0)


def jumbled_weight(x, weight, bias, **options):
    o = len(weight)
    return convolution(x, flat(weight.reshape(-1, o).T).reshape(weight.shape), bias, **options)


def weight_the_other_way(x, weight, bias, **options):
    return np.einsum("nchwuv,couv->nohw", patches(x, weight.shape[2], **options), weight) + bias[:, None, None]


def jumbled_pixels(x, weight, bias, **options):
    y = convolution(x, weight, bias, **options)
    return flat(y.transpose(0, 2, 3, 1)).reshape(y.shape)


def lying_on_its_side(x, weight, bias, **options):
    y = convolution(x, weight, bias, **options)
    return y.reshape(*y.shape[:2], y.shape[3], y.shape[2])


def stamped(x, weight, bias, stride, padding, output_padding, overwrite=False, offset=0):
    """A transposed convolution in a loop, with ways to get it wrong."""
    (n, _, h, w), (_, o, k, _) = x.shape, weight.shape
    full_h, full_w = ((size - 1) * stride + k + output_padding for size in (h, w))
    y = np.zeros((n, o, full_h, full_w), x.dtype)
    for i, j in np.ndindex(h, w):
        top, left = i * stride + offset, j * stride + offset
        stamp = np.einsum("nc,coab->noab", x[:, :, i, j], weight)
        if overwrite:
            y[:, :, top : top + k, left : left + k] = stamp
        else:
            y[:, :, top : top + k, left : left + k] += stamp
    return y[:, :, padding : full_h - padding, padding : full_w - padding] + bias[:, None, None]


def blank_border(x, weight, bias, output_padding, **options):
    y = transposed(x, weight, 0 * bias, **options)
    return bordered(y, 0, output_padding) + bias[:, None, None]


def jumbled_stamps(x, weight, bias, **options):
    (c, o, k, _), pixels = weight.shape, x.shape[1]
    wrong = flat(weight.reshape(-1, pixels).T).reshape(c, o, k, k)
    return transposed(x, wrong, bias, **options)


def bias_in_every_stamp(x, weight, bias, **options):
    ones = np.ones((len(x), 1, *x.shape[2:]), x.dtype)
    stamp = np.broadcast_to(bias[:, None, None], weight.shape[1:])[None]
    return transposed(x, weight, 0 * bias, **options) + transposed(ones, flat(stamp), 0 * bias, **options)


FUNCTIONS = [
    Function(
        "im2col",
        unfold,
        images,
        [
            Misconception(
                "forgotten padding",
                lambda x, kernel, stride, padding: unfold(x, kernel, stride, 0),
                "there are too few patches: yours never reach over the edge of the image.",
            ),
            Misconception(
                "stride ignored",
                lambda x, kernel, stride, padding: unfold(x, kernel, 1, padding),
                "you take a patch at every pixel. How far apart should two neighbouring patches be?",
            ),
            Misconception(
                "tiles",
                lambda x, kernel, stride, padding: unfold(x, kernel, kernel, padding),
                "your patches never overlap: they lie one kernel apart. Which argument says how far they should?",
            ),
            Misconception(
                "the last patch lost",
                without_the_last,
                "a row or a column of patches is missing where the last one just fits. Count them for a 3 x 3 image "
                "and a 3 x 3 kernel.",
            ),
            Misconception(
                "padding on one side",
                lambda x, kernel, stride, padding: unfold(bordered(x, padding, 0), kernel, stride, 0),
                "the border lies above and to the left of the image only. An image has four edges.",
            ),
            Misconception(
                "padding of every axis",
                lambda x, kernel, stride, padding: unfold(np.pad(x, padding), kernel, stride, 0),
                "you also padded the batch and the channels. Look at what np.pad does with a single number.",
            ),
            Misconception(
                "repeated edge",
                lambda x, kernel, stride, padding: unfold(
                    bordered(x, padding, padding, mode="edge"), kernel, stride, 0
                ),
                "your border repeats the outermost pixels. What should lie outside of the image?",
            ),
            Misconception(
                "kernel axes swapped",
                arranged((0, 1, 5, 4, 2, 3)),
                "each patch is mirrored at its diagonal. Which of its two axes runs down the image?",
            ),
            Misconception(
                "patches upside down",
                lambda x, kernel, stride, padding: (
                    patches(x, kernel, stride, padding)[..., ::-1, ::-1]
                    .transpose(0, 1, 4, 5, 2, 3)
                    .reshape(len(x), x.shape[1] * kernel**2, -1)
                ),
                "each patch is turned by 180 degrees. Nothing is flipped here: read it as it stands in the image.",
            ),
            Misconception(
                "channels last",
                arranged((0, 4, 5, 1, 2, 3)),
                "within a column your channels change fastest. In weight.reshape(O, -1) they change slowest.",
            ),
            Misconception(
                "reshape without transpose",
                arranged((0, 1, 2, 3, 4, 5)),
                "the numbers are right and their order is not: a reshape never reorders. Which axes must come first?",
            ),
            Misconception(
                "rows instead of columns",
                as_rows,
                "each patch is a row of your matrix. The kernels are multiplied from the left.",
            ),
            Misconception(
                "images in one matrix",
                side_by_side,
                "the patches of all images lie in one matrix. Keep the images apart, in the first axis.",
            ),
        ],
        special=[
            ("stride 1 and no padding", {"x": counting(2, 2, 4, 5), "kernel": 3} | PLAIN),
            ("a kernel of one pixel", {"x": counting(2, 2, 4, 5), "kernel": 1, "stride": 2, "padding": 0}),
        ],
    ),
    Function(
        "conv2d",
        convolution,
        images_and_kernels,
        [
            Misconception(
                "flipped kernel",
                lambda x, weight, bias, **options: convolution(x, flipped(weight), bias, **options),
                "this is the convolution of mathematics. Deep learning's lays the kernel on the image as it is.",
            ),
            Misconception(
                "kernel axes swapped",
                lambda x, weight, bias, **options: convolution(x, swapped(weight), bias, **options),
                "your kernels are mirrored at their diagonals: which axis of weight runs down the image?",
            ),
            Misconception(
                "forgotten padding",
                lambda x, weight, bias, stride, padding: convolution(x, weight, bias, stride=stride),
                "the output is too small: nothing of the border of zeros is used.",
            ),
            Misconception(
                "stride ignored",
                lambda x, weight, bias, stride, padding: convolution(x, weight, bias, padding=padding),
                "the output is as dense as the image. How many pixels does the kernel move at a time?",
            ),
            Misconception(
                "bias forgotten",
                lambda x, weight, bias, **options: convolution(x, weight, 0 * bias, **options),
                "on a black image your answer is 0. What should each output channel hold there?",
            ),
            Misconception(
                "bias for every input channel",
                lambda x, weight, bias, **options: convolution(x, weight, x.shape[1] * bias, **options),
                "the bias is added once for each input channel. It belongs to the output pixel.",
            ),
            Misconception(
                "mean over the channels",
                lambda x, weight, bias, **options: convolution(x, weight / x.shape[1], bias, **options),
                "you average over the input channels. What does the definition do with them?",
            ),
            Misconception(
                "weight transposed by reshape",
                jumbled_weight,
                "the numbers of several kernels are mixed. A reshape does not transpose: which axis of weight holds O?",
            ),
            Misconception(
                "weight read as (C, O, k, k)",
                weight_the_other_way,
                "the first axis of weight does not belong to the image's channels. Your code runs only where C = O.",
            ),
            Misconception(
                "output axes by reshape",
                jumbled_pixels,
                "the values are right and in the wrong places: your channels change fastest when you reshape the "
                "result. A reshape does not move an axis.",
            ),
            Misconception(
                "height and width swapped",
                lying_on_its_side,
                "right for square images only: the result is cut into W' rows. Which of the two comes first?",
            ),
        ],
        special=[
            ("stride 1 and no padding", {"x": counting(2, 2, 4, 5)} | KERNELS | PLAIN),
            ("a black image", {"x": np.zeros((1, 2, 5, 4))} | KERNELS | {"stride": 2, "padding": 1}),
        ],
    ),
    Function(
        "conv_transpose2d",
        transposed,
        features_and_kernels,
        [
            Misconception(
                "output_padding forgotten",
                lambda x, weight, bias, output_padding, **options: transposed(x, weight, bias, **options),
                "the output is too small by output_padding pixels in each direction.",
            ),
            Misconception(
                "output_padding on the wrong side",
                lambda x, weight, bias, output_padding, **options: stamped(
                    x, weight, bias, output_padding=output_padding, offset=output_padding, **options
                ),
                "the whole image is moved. The extra pixels belong at the bottom and on the right.",
            ),
            Misconception(
                "output_padding left blank",
                blank_border,
                "your extra pixels hold nothing but the bias, though some stamps reach there. What do you crop first?",
            ),
            Misconception(
                "padding not cropped",
                lambda x, weight, bias, padding, **options: transposed(x, weight, bias, padding=0, **options),
                "the output is too large. The forward convolution adds a border of zeros; what does its transpose do?",
            ),
            Misconception(
                "padding added",
                lambda x, weight, bias, padding, **options: transposed(
                    bordered(x, padding, padding), weight, bias, padding=0, **options
                ),
                "you put zeros around the input, as a convolution does. The transpose must undo that border.",
            ),
            Misconception(
                "stride ignored",
                lambda x, weight, bias, stride, output_padding, **options: stamped(
                    x, weight, bias, stride=1, output_padding=output_padding, **options
                ),
                "your stamps lie one pixel apart, so the image does not grow. Where does pixel (i, j) put its stamp?",
            ),
            Misconception(
                "overwritten stamps",
                lambda x, weight, bias, **options: stamped(x, weight, bias, overwrite=True, **options),
                "where two stamps overlap, only the last one is left. What should happen to both?",
            ),
            Misconception(
                "flipped kernel",
                lambda x, weight, bias, **options: transposed(x, flipped(weight), bias, **options),
                "your stamps are turned by 180 degrees. One pixel of value 1 should give the kernel as it is.",
            ),
            Misconception(
                "kernel axes swapped",
                lambda x, weight, bias, **options: transposed(x, swapped(weight), bias, **options),
                "your stamps are mirrored at their diagonals: which axis of weight runs down the image?",
            ),
            Misconception(
                "weight read as (O, C, k, k)",
                lambda x, weight, bias, **options: stamped(x, weight.swapaxes(0, 1), bias, **options),
                "this is the order of the axes for conv2d. Which channels come first when the map is transposed?",
            ),
            Misconception(
                "weight transposed by reshape",
                jumbled_stamps,
                "the numbers of several kernels are mixed. Here weight begins with the input channels; a reshape does "
                "not transpose it.",
            ),
            Misconception(
                "bias forgotten",
                lambda x, weight, bias, **options: transposed(x, weight, 0 * bias, **options),
                "from an input of zeros your answer is 0. What should each output channel hold there?",
            ),
            Misconception(
                "bias in every stamp",
                bias_in_every_stamp,
                "where stamps overlap the bias is added several times. It belongs to the output pixel.",
            ),
        ],
        special=[
            ("stride 1 and no padding", {"x": counting(2, 2, 4, 5)} | KERNELS | PLAIN | {"output_padding": 0}),
            (
                "a stride larger than the kernel",
                {"x": counting(2, 2, 3, 2), "weight": counting(2, 2, 1, 1), "bias": np.array([1.0, -2.0])}
                | {"stride": 3, "padding": 0, "output_padding": 2},
            ),
        ],
    ),
]
