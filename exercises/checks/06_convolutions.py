"""Checks of exercise 6. The references are PyTorch's unfold, conv2d and conv_transpose2d, not the solutions."""

import itertools

import numpy as np
import torch
from torch.nn import functional as F

from checking import Function, Special
from mistakes import Choose, advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def sizes(rng):
    """Side and number of kernels, rows, columns, images, channels, stride, padding.

    Some inputs, the first one among them, have them all alike: there a mistake about axes gives wrong numbers, not an
    error, and can be read back. Otherwise rows and columns always differ.
    """
    if 0.5 < rng.random() < 0.66:
        return 3, 3, 3, 3, 3, 3, 2, 1
    stride, padding = rng.integers(2, 4), rng.integers(1, 3)
    rows, columns = rng.permutation([3, 4, 5])[:2]
    k, o, n, c = (rng.integers(*limits) for limits in ((2, 4), (2, 5), (2, 4), (2, 5)))
    return tuple(map(int, (k, o, rows, columns, n, c, stride, padding)))


def images(rng):
    k, _, rows, columns, n, c, stride, padding = sizes(rng)
    x = rng.standard_normal((n, c, *sides(rng, rows, columns, k, stride, padding)))
    return {"x": x, "kernel": k, "stride": stride, "padding": padding}


def sides(rng, rows, columns, k, stride, padding):
    """Of an image that is up to stride - 1 pixels larger than its patches: what is left over is ignored."""
    return ((out - 1) * stride + k - 2 * padding + rng.integers(stride) for out in (rows, columns))


def images_and_kernels(rng):
    k, o, rows, columns, n, c, stride, padding = sizes(rng)
    x = rng.standard_normal((n, c, *sides(rng, rows, columns, k, stride, padding)))
    weight, bias = rng.standard_normal((o, c, k, k)), rng.standard_normal(o)
    return {"x": x, "weight": weight, "bias": bias, "stride": stride, "padding": padding}


def features_and_kernels(rng):
    k, o, h, w, n, c, stride, padding = sizes(rng)
    x, weight, bias = rng.standard_normal((n, c, h, w)), rng.standard_normal((c, o, k, k)), rng.standard_normal(o)
    options = {"stride": stride, "padding": padding, "output_padding": int(rng.integers(1, stride))}
    return {"x": x, "weight": weight, "bias": bias} | options


def counting(*shape):
    """Small whole numbers, none of them equal to its neighbours."""
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape) % 11


def kernels(a, b, k, o):
    return {"weight": counting(a, b, k, k), "bias": np.arange(1.0, o + 1) - 3}


def steps(stride, padding, output_padding=None):
    options = {"stride": stride, "padding": padding}
    return options if output_padding is None else options | {"output_padding": output_padding}


# --- References ------------------------------------------------------------------------------------------------------


def unfold(x, kernel, stride, padding):
    return F.unfold(torch.from_numpy(x), kernel, stride=stride, padding=padding).numpy()


def convolution(x, weight, bias, stride, padding):
    return F.conv2d(*map(torch.from_numpy, (x, weight, bias)), stride=stride, padding=padding).numpy()


def transposed(x, weight, bias, stride, padding, output_padding):
    return F.conv_transpose2d(
        *map(torch.from_numpy, (x, weight, bias)), **steps(stride, padding, output_padding)
    ).numpy()


# --- Mistakes about images and kernels -------------------------------------------------------------------------------


def image_read(choose, x):
    n, c, h, w = x.shape
    number = np.arange(c)[:, None, None]

    def without(edge):
        x_without = x.copy()
        x_without[:, :, edge], x_without[:, :, :, edge] = 0, 0
        return x_without

    return choose(
        lambda: x,
        *advised("the pixels are mixed up before they are used: a reshape does not move an axis.", {
            "x reshaped to (N, H, W, C)": lambda: x.reshape(n, h, w, c).transpose(0, 3, 1, 2),
            "x reshaped to (N, C, W, H)": lambda: x.reshape(n, c, w, h).swapaxes(2, 3),
            "x transposed, but not its shape": lambda: x.swapaxes(2, 3).reshape(x.shape),
            "x with its channels last, but not its shape": lambda: x.transpose(0, 2, 3, 1).reshape(x.shape),
            "images and channels of x by reshape": lambda: x.swapaxes(0, 1).reshape(x.shape),
        }),
        *advised("the axes of x are (N, C, H, W): you take one for another.", {
            "images and channels of x exchanged": lambda: x.swapaxes(0, 1),
            "x read as (N, H, W, C)": lambda: x.transpose(0, 3, 1, 2),
        }),
        *advised("one of the axes of x is turned round before anything is done with it.", {
            "the image upside down": lambda: x[:, :, ::-1],
            "the channels of the image backwards": lambda: x[:, ::-1],
        }),
        *advised("not every pixel of x has its part in the result. Which ones do you leave out?", {
            "the image without its first row and column": lambda: without(0),
            "the image without its last row and column": lambda: without(-1),
        }),
        *advised("only one channel of the image counts in yours: do the others come in, or does one replace another?", {
            "only the first channel": lambda: x * (number == 0),
            "only the last channel": lambda: x * (number == c - 1),
        }),
        ("the first image only", lambda: x[:1], "you use one image of the batch only."),
    )()  # fmt: skip


def bordered(choose, x, k, stride, padding):
    """The image with its border."""
    p, half = padding, padding // 2
    spare = [(size + 2 * p - k) % stride for size in x.shape[2:]]
    need = [max(2 * p - each, 0) for each in spare]
    rows_and_columns = choose(
        ((p, p), (p, p)),
        ("forgotten padding", ((0, 0), (0, 0)),
         "nothing of the border of zeros is used: your patches never reach over the edge."),
        *advised("your patches do not reach over all four edges of the image alike.", {
            "no border below and on the right": ((p, 0), (p, 0)),
            "no border above and on the left": ((0, p), (0, p)),
            "the whole border above and on the left": ((2 * p, 0), (2 * p, 0)),
            "the whole border below and on the right": ((0, 2 * p), (0, 2 * p)),
            "only the rows padded": ((p, p), (0, 0)),
            "only the columns padded": ((0, 0), (p, p)),
        }),
        *advised("your border has another width than `padding` says.", {
            "half the padding": ((half, p - half), (half, p - half)),
            "twice the padding": ((2 * p, 2 * p), (2 * p, 2 * p)),
            "padding times stride": ((p * stride, p * stride), (p * stride, p * stride)),
            "padding by half the kernel": ((k // 2, k // 2), (k // 2, k // 2)),
            "padding by the kernel less one": ((max(k - 1, 0),) * 2, (max(k - 1, 0),) * 2),
            "a border one pixel too narrow": ((max(p - 1, 0),) * 2, (max(p - 1, 0),) * 2),
            "a border one pixel too wide": ((p + 1, p + 1), (p + 1, p + 1)),
            "padding always 1": ((1, 1), (1, 1)),
            "only as much border as the patches need": tuple((each // 2, each - each // 2) for each in need),
            "a border in which no pixel is left over": tuple((p, p + -each % stride) for each in spare),
        }),
    )  # fmt: skip
    others = choose(
        (0, 0),
        *advised("you also padded the batch or the channels. Which axes of x run through the image?", {
            "padding of every axis": (p, p),
            "padding of the channels": (0, p),
        }),
    )  # fmt: skip
    mode = choose(
        {},
        *advised("your border is not made of zeros. What should lie outside of the image?", {
            "repeated edge": {"mode": "edge"},
            "mirrored border": {"mode": "reflect"},
            "border mirrored with its edge": {"mode": "symmetric"},
            "border wrapped around": {"mode": "wrap"},
            "border wrapped around above and on the left": {"mode": "wrap"} | {"ends": "zeros"},
            "a border of means": {"mode": "mean"},
            "a border of ones": {"constant_values": 1},
            "a border of minus ones": {"constant_values": -1},
        }),
    )  # fmt: skip
    (above, below), (left, right), (n, c, h, w) = *rows_and_columns, x.shape
    if not mode and not any(others):
        padded = np.zeros((n, c, above + h + below, left + w + right))  # np.pad takes long
        padded[:, :, above : above + h, left : left + w] = x
        return padded
    if "ends" in mode:
        x = np.pad(x, ((0, 0), (0, 0), (above, 0), (left, 0)), mode="wrap")
        return np.pad(x, ((0, 0), (0, 0), (0, below), (0, right)))
    return np.pad(x, (*((each, each) for each in others), *rows_and_columns), **mode)


def count(choose, k, padding):
    """The function that says how many patches lie along a side of the image with its border."""
    p = padding
    return choose(
        lambda size, step: (size - k) // step + 1,
        *advised("patches are missing where the last one just fits. Count them for a 3 x 3 image and a 3 x 3 kernel.", {
            "the last patch lost": lambda size, step: (size - k) // step,
            "the last patch lost where it just fits": lambda size, step: -((k - size) // step),
        }),
        *advised("the number of patches is right for some sizes only. Where must the last patch begin to fit in?", {
            "one added before the division": lambda size, step: (size - k + 1) // step,
            "counted from edge to edge of the image": lambda size, step: (size - 2 * p) // step,
            "counted from edge to edge, rounded up": lambda size, step: -((2 * p - size) // step),
            "counted from edge to edge of the border": lambda size, step: size // step,
        }),
        ("counted without the padding", lambda size, step: (size - 2 * p - k) // step + 1,
         "there are too few patches for an image with its border: how large is it now?"),
    )  # fmt: skip


def windows(choose, x, k, stride, padding):
    """All patches, (N, C, H', W', k, k)."""
    s, x = stride, image_read(choose, x)
    if choose.slip(
        "the image thinned out", "you leave out pixels of x before anything else is done. Each of them lies in a patch."
    ):
        s, x = 1, x[:, :, ::stride, ::stride]
    p = bordered(choose, x, k, stride, padding)
    (down, right), apart = choose(
        ((s, s), (s, s)),
        ("stride ignored", ((1, 1), (1, 1)),
         "you take a patch at every pixel. How far apart should two neighbouring patches be?"),
        ("tiles", ((k, k), (k, k)),
         "your patches never overlap: they lie one kernel apart. Which argument says how far they should?"),
        ("patches one pixel apart", ((1, 1), (s, s)),
         "there are as many patches as there should be, but they lie one pixel apart."),
        *advised("one of the two directions does not move by the stride.", {
            "stride down only": ((s, 1), (s, 1)),
            "stride to the right only": ((1, s), (1, s)),
            "one pixel apart to the right, with the right count": ((s, 1), (s, s)),
            "one pixel apart downwards, with the right count": ((1, s), (s, s)),
        }),
        *advised("two neighbouring patches do not lie one stride apart.", {
            "twice the stride": ((2 * s, 2 * s), (2 * s, 2 * s)),
            "a stride one too large": ((s + 1, s + 1), (s + 1, s + 1)),
            "a stride one too small": ((max(s - 1, 1),) * 2, (max(s - 1, 1),) * 2),
            "stride always 2": ((2, 2), (2, 2)),
        }),
    )  # fmt: skip
    gap = choose(
        1,
        *advised("the pixels of a patch do not lie side by side in yours. What moves by the stride?", {
            "gaps of a stride within the patch": s,
            "gaps of a pixel within the patch": 2,
            "the same pixel everywhere in the patch": 0,
        }),
    )  # fmt: skip
    reach = k if gap < 2 else (k - 1) * gap + 1
    left_over = [(size - reach) % s for size in p.shape[2:]]
    starts = choose(
        (0, 0),
        *advised("the first patch does not begin in the corner of the border.", {
            "the first patch at pixel 1": (1, 1),
            "the first patch after a stride": (s - 1, s - 1),
            "left over above and on the left": left_over,
            "left over on all sides": [each // 2 for each in left_over],
        }),
    )  # fmt: skip
    number = count(choose, reach, padding)
    rows, columns = map(number, np.subtract(p.shape[2:], starts), apart)
    square = "right for square images only: height and width have each their own size."
    end = "the last row or column of patches is missing: where does your range end?"
    rows, columns = choose(
        (rows, columns),
        ("as many columns as rows", (rows, rows), square),
        ("as many rows as columns", (columns, columns), square),
        ("rows and columns counted for each other", (columns, rows), square),
        ("a row of patches missing", (rows - 1, columns), end),
        ("a column of patches missing", (rows, columns - 1), end),
    )
    i, j = (start + step * np.arange(n) for start, step, n in zip(starts, (down, right), (rows, columns), strict=True))
    if choose.slip(
        "patches spread evenly",
        "your patches are spread so that the last one ends at the edge. How far apart should they be?",
    ):
        i, j = (np.linspace(0, size - k, n).astype(int) for size, n in zip(p.shape[2:], (rows, columns), strict=True))
    if choose.slip(
        "a last patch pushed in", "you push another patch in where pixels are left over. What becomes of them?"
    ):
        i, j = (np.minimum(np.arange(0, size - k + s, s), size - k) for size in p.shape[2:])
    i, j = (corner[:, None] + gap * np.arange(k) for corner in (i, j))
    return p[:, :, i[:, None, :, None], j[None, :, None, :]]


def turned(choose, weight, what):
    """Patches or kernels with the ways to look at them from the wrong side."""
    return choose(
        weight,
        (f"{what} turned by 180 degrees", weight[..., ::-1, ::-1],
         f"your {what} are turned by 180 degrees. Nothing is flipped here, although mathematics would."),
        (f"{what} upside down", weight[..., ::-1, :], f"your {what} stand upside down."),
        (f"{what} mirrored", weight[..., ::-1], f"left and right are exchanged in your {what}."),
    )  # fmt: skip


def levelled(choose, cut):
    """Patches that are changed one by one."""
    return choose(
        lambda: cut,
        *advised("each patch is changed before it is used. It should hold the pixels as they are.", {
            "each patch less its mean": lambda: cut - cut.mean((1, 4, 5), keepdims=True),
            "each patch of length 1": lambda: cut / np.sqrt((cut**2).sum((1, 4, 5), keepdims=True)),
        }),
    )()  # fmt: skip


def blanks(choose, array, axes):
    """What stays at zero if a loop ends too early or begins too late."""
    slips = [
        (f"the {end} {what} left at zero", (axis, place),
         f"the {end} {what} holds zeros only: is a range too short, or are values overwritten?")
        for what, axis in axes.items()
        for end, place in (("last", -1), ("first", 0))
    ]  # fmt: skip
    if blank := choose(None, *slips):
        array = array.copy()
        np.moveaxis(array, blank[0], 0)[blank[1]] = 0
    return array


def whole(choose, result):
    return choose(
        result,
        ("whole numbers only", np.trunc(result), "what stands behind the point is lost: of which dtype is your array?"),
    )


# --- im2col ----------------------------------------------------------------------------------------------------------

RIGHT = (1, 4, 5, 2, 3)
RESHAPED = "the numbers are right and their order is not: a reshape never reorders. Which axes must come first?"
WITHIN = "the order within your columns is not that of weight.reshape(O, -1): there, what changes slowest?"
ORDERS = {
    (1, 5, 4, 2, 3): ("kernel axes swapped",
                      "each patch is mirrored at its diagonal. Which of its two axes runs down the image?"),
    (4, 5, 1, 2, 3): ("channels last",
                      "within a column your channels change fastest. In weight.reshape(O, -1) they change slowest."),
    (5, 4, 1, 2, 3): ("channels last and the kernel's axes swapped", WITHIN),
    (4, 1, 5, 2, 3): ("channels between the kernel's axes", WITHIN),
    (5, 1, 4, 2, 3): ("channels between the kernel's swapped axes", WITHIN),
    (1, 4, 5, 3, 2): ("patches down the columns",
                      "your patches follow each other down the image's columns. How does one read?"),
    (1, 2, 3, 4, 5): ("reshape without transpose", RESHAPED),
    (2, 3, 1, 4, 5): ("rows reshaped into columns",
                      "each patch was a row, and a reshape does not make columns of rows: it never reorders."),
}  # fmt: skip
FEW = [(name, axes, advice) for axes, (name, advice) in ORDERS.items()]
AXES = ("N", "C", "rows", "columns", "k", "k")
ALL = FEW + [
    (f"the axes in the order N, {', '.join(AXES[axis] for axis in axes)}", axes, RESHAPED)
    for axes in itertools.permutations((1, 2, 3, 4, 5))
    if axes not in ORDERS and axes != RIGHT and axes.index(4) < axes.index(5)
]


def im2col_model(choose, x, kernel, stride, padding):
    k = choose(
        kernel,
        *advised("your patches have another size than `kernel` says.", {
            "patches a pixel too small": kernel - 1,
            "patches a pixel too large": kernel + 1,
            "patches of 3 pixels always": 3,
        }),
    )  # fmt: skip
    cut = levelled(choose, turned(choose, windows(choose, x, k, stride, padding), "patches"))
    patch = {"row of each patch": 4, "column of each patch": 5}
    cut = blanks(choose, cut, {"channel": 1, "row of patches": 2, "column of patches": 3, "image": 0} | patch)
    cut = choose(
        lambda: cut,
        *advised("you reduce the channels to one. A patch holds the pixels of each.", {
            "summed over the channels": lambda cut=cut: cut.sum(1, keepdims=True),
            "averaged over the channels": lambda cut=cut: cut.mean(1, keepdims=True),
        }),
    )()  # fmt: skip
    order = choose(RIGHT, *ALL)
    n, c, rows, columns = cut.shape[:4]
    length, number = c * k * k, rows * columns
    inside, across = [axis for axis in order if axis in (1, 4, 5)], [axis for axis in order if axis in (2, 3)]
    axes, shape = choose(
        ((0, *order), (n, length, number)),
        ("rows instead of columns", ((0, *across, *inside), (n, number, length)),
         "each patch is a row of your matrix. The kernels are multiplied from the left."),
        *advised("the patches of all images lie in one matrix. Keep the images apart, in the first axis.", {
            "images in one matrix, one after the other": ((*inside, 0, *across), (length, n * number)),
            "images in one matrix, place by place": ((*inside, *across, 0), (length, n * number)),
            "all patches as rows of one matrix": ((0, *across, *inside), (n * number, length)),
        }),
        *advised("the patches of different images are mixed: a reshape does not bring the images to the front.", {
            "images mixed": ((*inside, 0, *across), (n, length, number)),
            "images mixed place by place": ((*inside, *across, 0), (n, length, number)),
            "rows of all images reshaped": ((*across, 0, *inside), (n, length, number)),
        }),
        *advised("the axes are not those of one matrix for each image, with a patch in each column.", {
            "places not merged": ((0, *inside, *across), (n, length, rows, columns)),
            "pixels not merged": ((0, *inside, *across), (n, c, k, k, number)),
            "channels not merged": ((0, *inside, *across), (n, c, k * k, number)),
            "nothing merged": ((0, *inside, *across), (n, c, k, k, rows, columns)),
            "the windows as they come": (range(6), cut.shape),
            "windows with merged places": (range(6), (n, c, number, k, k)),
            "each patch as a row of its channel": (range(6), (n, c, number, k * k)),
            "everything of an image in one row": ((0, *order), (n, length * number)),
        }),
    )  # fmt: skip
    result = cut.transpose(*axes).reshape(shape)
    overwritten = "some rows overwrite others: how many pixels of a patch do the channels before take?"
    if step := choose(
        None, ("channels numbered by k", (k,), overwritten), ("channels not numbered", (0,), overwritten)
    ):
        numbered = np.zeros_like(result)
        for place, row in enumerate(result.swapaxes(0, 1)):
            numbered[:, step[0] * (place // k**2) + place % k**2] = row
        result = numbered
    if choose.slip(
        "patches numbered by the height", "some patches overwrite others: how many patches are in the rows above?"
    ):
        numbered = np.zeros_like(result)
        for i, j in np.ndindex(rows, columns):
            numbered[..., i * rows + j] = result[..., i * columns + j]
        result = numbered
    return whole(choose, result)


# --- conv2d ----------------------------------------------------------------------------------------------------------


def weight_read(choose, weight):
    """The kernels (A, B, k, k), read in wrong ways."""
    a, b, k, _ = weight.shape
    alone = np.arange(a)[:, None] % b == np.arange(b)
    return choose(
        lambda: weight,
        ("the two first axes of weight exchanged", lambda: weight.swapaxes(0, 1),
         "you take the first two axes of weight for each other. Your code runs only where they are equally long."),
        *advised("the numbers of several kernels are mixed: a reshape does not transpose.", {
            "weight transposed by reshape": lambda: weight.reshape(-1, a).T.reshape(a, b, k, k),
            "weight's two first axes reshaped": lambda: weight.reshape(b, a, k, k).swapaxes(0, 1),
            "weight read as (k, k, B, A)": lambda: weight.reshape(k, k, b, a).transpose(3, 2, 0, 1),
            "weight read as (k, k, A, B)": lambda: weight.reshape(k, k, a, b).transpose(2, 3, 0, 1),
            "weight transposed, then reshaped": lambda: weight.transpose(1, 0, 2, 3).reshape(weight.shape),
            "weight as (k, k, B, A), then reshaped": lambda: weight.transpose(2, 3, 1, 0).reshape(weight.shape),
            "weight as (k, k, A, B), then reshaped": lambda: weight.transpose(2, 3, 0, 1).reshape(weight.shape),
            "weight as (B, k, k, A), then reshaped": lambda: weight.transpose(1, 2, 3, 0).reshape(weight.shape),
            "all axes of weight transposed, then reshaped": lambda: weight.T.reshape(weight.shape),
        }),
        *advised("the numbers within your kernels are in another order than the pixels they are multiplied with.", {
            "weight with its channels last": lambda: weight.transpose(0, 2, 3, 1).reshape(weight.shape),
            "the inner axes of weight backwards": lambda: weight.transpose(0, 3, 2, 1).reshape(weight.shape),
        }),
        *advised("some axes of weight are turned round. Nothing is flipped here.", {
            "weight turned in all axes": lambda: weight[::-1, ::-1, ::-1, ::-1],
            "both channels of weight backwards": lambda: weight[::-1, ::-1],
        }),
        ("the kernel's axes swapped", lambda: weight.swapaxes(2, 3),
         "your kernels are mirrored at their diagonals: which axis of weight runs down the image?"),
        *advised("you reduce weight before it is used. Each of its numbers has its own partner.", {
            "the kernels' values added up": lambda: weight.sum((2, 3), keepdims=True) + 0 * weight,
            "the kernels of all channels added up": lambda: weight.sum(1, keepdims=True) + 0 * weight,
            "kernels that add up to 1": lambda: weight / weight.sum((1, 2, 3), keepdims=True),
            "the kernel of the last channel for all": lambda: weight[:, -1:] + 0 * weight,
            "one channel for each channel": lambda: weight * alone[:, :, None, None],
        }),
    )()  # fmt: skip


def factor(choose, c, k, what=""):
    return choose(
        1.0,
        *advised(f"you average{what}. What does the definition do?", {
            f"mean over the channels{what}": 1 / c,
            f"mean over the kernel's pixels{what}": 1 / k**2,
            f"mean over the whole kernel{what}": 1 / (c * k**2),
        }),
    )  # fmt: skip


def with_bias(choose, y, bias, c, k, where=1.0):
    """y (N, O, H', W') and its bias, added where and how often it should not be."""
    flat = y.reshape(*y.shape[:2], -1)
    y = choose(
        lambda: y,
        *advised("a sum is not begun anew in yours: it still holds what was added for the one before.", {
            "images added up one after the other": lambda y=y: y.cumsum(0),
            "output channels added up one after the other": lambda y=y: y.cumsum(1),
            "the pixels of a row added up one after the other": lambda y=y: y.cumsum(3),
            "the pixels of an image added up one after the other": lambda y=y: flat.cumsum(2).reshape(y.shape),
            "everything added up one after the other": lambda y=y: y.cumsum().reshape(y.shape),
        }),
    )()  # fmt: skip
    b = bias[:, None, None] * where
    return choose(
        lambda: y + b,
        ("bias forgotten", lambda: y + 0 * b,
         "where all the pixels are 0 your answer is 0. What should each output channel hold there?"),
        *advised("the bias is added several times. It belongs to the output pixel.", {
            "bias for every input channel": lambda: y + c * b,
            "bias for every row of the kernel": lambda: y + k * b,
            "bias for every pixel of the kernel": lambda: y + k * k * b,
            "bias for every product": lambda: y + c * k * k * b,
            "bias for every image": lambda: y + len(y) * b,
        }),
        *advised("the bias is added along the wrong axis. Which axis of the output does it belong to?", {
            "bias along the width": lambda: y + bias,
            "bias along the height": lambda: y + bias[:, None],
            "bias along the images": lambda: y + bias[:, None, None, None],
        }),
        *advised("the channels do not get each its own bias.", {
            "the mean bias for all": lambda: y + bias.mean(),
            "all biases for all": lambda: y + bias.sum(),
            "a bias in the first channel only": lambda: y + b * (np.arange(len(bias)) == 0)[:, None, None],
        }),
        *advised("the bias does not come in as a plain sum.", {
            "multiplied by the bias": lambda: y * b,
            "bias divided by the size of a kernel": lambda: y + b / (c * k * k),
            "bias divided by the channels": lambda: y + b / c,
        }),
    )()  # fmt: skip


def laid_out(choose, y):
    """The output (N, O, H', W') with its axes in a wrong order or its values in wrong places."""
    y = blanks(choose, y, {"image": 0, "output channel": 1, "row of the output": 2, "column of the output": 3})
    n, o, rows, columns = y.shape
    axes, shape = choose(
        ((0, 1, 2, 3), y.shape),
        *advised("the values are right and in the wrong places: a reshape does not move an axis.", {
            "output axes by reshape": ((0, 2, 3, 1), y.shape),
            "images and channels by reshape": ((1, 0, 2, 3), y.shape),
            "places before images by reshape": ((1, 2, 3, 0), y.shape),
            "places before everything by reshape": ((2, 3, 0, 1), y.shape),
            "a reshape to channels last": ((0, 1, 2, 3), (n, rows, columns, o)),
        }),
        ("height and width swapped", ((0, 1, 2, 3), (n, o, columns, rows)),
         "right for square images only: the result is cut into W' rows. Which of the two comes first?"),
        *advised("the values are right, but the axes are not (N, O, H', W').", {
            "output with the channels last": ((0, 2, 3, 1), (n, rows, columns, o)),
            "output with the channels first": ((1, 0, 2, 3), (o, n, rows, columns)),
            "output with one long row for each channel": ((0, 1, 2, 3), (n, o, rows * columns)),
            "output with one row for each pixel": ((0, 2, 3, 1), (n, rows * columns, o)),
        }),
    )  # fmt: skip
    return whole(choose, y.transpose(axes).reshape(shape))


def conv2d_model(choose, x, weight, bias, stride, padding):
    _, c, k, _ = weight.shape
    weight = factor(choose, c, k) * turned(choose, weight_read(choose, weight), "kernels")
    cut = levelled(choose, windows(choose, x, k, stride, padding))
    rows, columns = cut.shape[2:4]
    cut = blanks(choose, cut, {"row of each kernel": 4, "column of each kernel": 5})
    cut = cut.transpose(0, *choose(RIGHT, *FEW[1:])).reshape(len(cut), c * k * k, rows * columns)
    y = choose(
        lambda: weight.reshape(len(weight), -1) @ cut,
        *advised("you keep the largest of several numbers. What does the definition do with them?", {
            "the largest product": lambda: (weight.reshape(len(weight), -1, 1) * cut[:, None]).max(2),
            "the largest channel": lambda: np.einsum(
                "ock,nckm->nocm", weight.reshape(len(weight), c, -1), cut.reshape(len(cut), c, k * k, -1)
            ).max(2),
        }),
    )().reshape(len(cut), -1, rows, columns)  # fmt: skip
    y = factor(choose, c, k, ", bias included") * with_bias(choose, y, bias, c, k)
    if choose.slip(
        "a border around the output", "there is a border of zeros around your output. Where does it belong?"
    ):
        y = np.pad(y, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return laid_out(choose, y)


def conv2d_terms(x, weight, bias, stride, padding):
    return sum_terms(convolution, x, weight, bias, stride, padding)


def transposed_terms(x, weight, bias, *options):
    return sum_terms(transposed, x, weight, bias, *options)


def sum_terms(function, x, weight, bias, *options):
    def linear(x, weight):
        return function(x, weight, 0 * bias, *options)

    return {
        "w * x": linear(x, weight), "b": bias[:, None, None], "1": 1.0, "|w| * x": linear(x, np.abs(weight)),
        "w * |x|": linear(np.abs(x), weight), "w^2 * x": linear(x, weight**2), "w * x^2": linear(x**2, weight),
        "1 * x": linear(x, np.ones_like(weight)), "w * 1": linear(np.ones_like(x), weight),
    }  # fmt: skip


# --- conv_transpose2d ------------------------------------------------------------------------------------------------


def canvas(choose, stamps, stride, q):
    """The stamps (N, O, k, k, H, W) added up on a canvas, and where on it the bias belongs."""
    (k, _, h, w), s = stamps.shape[2:], stride
    (down, right), apart = choose(
        ((s, s), (s, s)),
        ("stride ignored", ((1, 1), (1, 1)),
         "your stamps lie one pixel apart, so the image does not grow. Where does pixel (i, j) put its stamp?"),
        ("stamps one pixel apart", ((1, 1), (s, s)),
         "your canvas is large enough, but the stamps lie one pixel apart. Where does pixel (i, j) put its stamp?"),
        ("stamps side by side", ((k, k), (k, k)),
         "your stamps never overlap: they lie one kernel apart. Which argument says how far they should?"),
        *advised("one of the two directions does not move by the stride.", {
            "stride down only": ((s, 1), (s, 1)),
            "stride to the right only": ((1, s), (1, s)),
            "one pixel apart to the right, on the right canvas": ((s, 1), (s, s)),
            "one pixel apart downwards, on the right canvas": ((1, s), (s, s)),
        }),
        *advised("two neighbouring stamps do not lie one stride apart: how many zeros lie between two pixels?", {
            "twice the stride": ((2 * s, 2 * s), (2 * s, 2 * s)),
            "a stride one too large": ((s + 1, s + 1), (s + 1, s + 1)),
            "a stride one too small": ((max(s - 1, 1),) * 2, (max(s - 1, 1),) * 2),
            "stride always 2": ((2, 2), (2, 2)),
        }),
    )  # fmt: skip
    (above, below), (left, beside) = choose(
        ((0, q), (0, q)),
        ("output_padding forgotten", ((0, 0), (0, 0)),
         "the output is too small by output_padding pixels in each direction."),
        ("output_padding on the wrong side", ((q, 0), (q, 0)),
         "the whole image is moved. The extra pixels belong at the bottom and on the right."),
        *advised("the extra pixels lie on all sides. Where do they belong?", {
            "output_padding on both sides": ((q, q), (q, q)),
            "output_padding shared out to both sides": ((q // 2, q - q // 2), (q // 2, q - q // 2)),
        }),
        *advised("the extra pixels belong at the bottom and on the right, in both directions alike.", {
            "output_padding at the bottom only": ((0, q), (0, 0)),
            "output_padding on the right only": ((0, 0), (0, q)),
        }),
        *advised("the number of extra pixels is not what `output_padding` says.", {
            "output_padding twice": ((0, 2 * q), (0, 2 * q)),
            "output_padding times stride": ((0, q * s), (0, q * s)),
            "output_padding always 1": ((0, 1), (0, 1)),
            "output_padding taken away": ((0, -q), (0, -q)),
        }),
    )  # fmt: skip
    more = choose(
        0,
        *advised("your canvas has another size: how far are the first and the last of H stamps apart?", {
            "a canvas one pixel too large": 1,
            "a canvas one stride too large": s,
            "a canvas a stride less one too large": s - 1,
            "a canvas one kernel too large": k,
        }),
    )  # fmt: skip
    moved = choose(
        0,
        *advised("the whole image is moved: where does the first pixel put its stamp?", {
            "zeros before each pixel": s - 1,
            "moved by one pixel": 1,
        }),
    )  # fmt: skip
    above, left = above + moved, left + moved
    square = "right for square images only: height and width have each their own size."
    high, wide = (h - 1) * apart[0] + k + above + below + more, (w - 1) * apart[1] + k + left + beside + more
    high, wide = choose(
        (high, wide),
        ("as wide as high", (high, high), square),
        ("as high as wide", (wide, wide), square),
        ("height and width of the canvas exchanged", (wide, high), square),
    )
    meet, ground, order = choose(
        (np.add, 0.0, 1),
        *advised("where two stamps overlap, only one of them is left. What should happen to both?", {
            "overwritten stamps": (lambda there, stamp: stamp, 0.0, -1),
            "overwritten places": (lambda there, stamp: stamp, 0.0, 1),
            "the first stamp stays": (lambda there, stamp: np.where(there == 0, stamp, there), 0.0, 1),
            "the largest stamp wins": (np.maximum, -np.inf, 1),
            "the larger of stamp and 0 wins": (np.maximum, 0.0, 1),
            "the stronger stamp wins": (lambda there, stamp: np.where(abs(stamp) > abs(there), stamp, there), 0.0, 1),
        }),
    )  # fmt: skip

    def added(stamps, meet=np.add, ground=0.0, order=1):
        y = np.full((*stamps.shape[:2], high, wide), ground)
        for u, v in list(np.ndindex(k, k))[::order]:
            a, b = above + u, left + v
            place = y[..., a : a + down * h : down, b : b + right * w : right]
            place[...] = meet(place, stamps[:, :, u, v])
        return y

    def number():
        return added(np.ones((1, 1, *stamps.shape[2:])))

    def inner():
        inside = np.ones((1, 1, high, wide))
        inside[:, :, high - below :], inside[:, :, :, wide - beside :] = 0, 0
        return inside

    y = added(stamps, meet, ground, order)
    if ground:
        y = np.where(number() > 0, y, 0.0)
    if choose.slip(
        "stamps averaged", "where stamps overlap you take their mean. What does a transposed matrix do with them?"
    ):
        y = y / np.maximum(number(), 1)
    if choose.slip(
        "pixels repeated instead of zeros between them",
        "a pixel counts stride times in each direction: what lies between two pixels when they are pulled apart?",
    ):
        y = sum(np.pad(y, ((0, 0), (0, 0), (i, 0), (j, 0)))[:, :, :high, :wide] for i, j in np.ndindex(s, s))
    biased = choose(
        lambda: np.ones((1, 1, high, wide)),
        *advised("some pixels lack the bias: those that no stamp reaches, or that are 0 without it.", {
            "bias on the stamps only": lambda: number() > 0,
            "bias only where the sum is not 0": lambda: y != 0,
            "bias before output_padding": inner,
        }),
    )()  # fmt: skip
    return y, biased


def cropped(choose, y, biased, k, stride, padding, q, h, w):
    """What is left of the canvas y."""
    p = padding
    ends = choose(
        ((p, p), (p, p)),
        ("padding not cropped", ((0, 0), (0, 0)),
         "the output is too large. The forward convolution adds a border of zeros; what does its transpose do?"),
        *advised("what is cut off does not lie on all four sides, as wide on each.", {
            "padding cropped above and on the left only": ((p, 0), (p, 0)),
            "padding cropped below and on the right only": ((0, p), (0, p)),
            "padding cropped twice above and on the left": ((2 * p, 0), (2 * p, 0)),
            "padding cropped twice below and on the right": ((0, 2 * p), (0, 2 * p)),
            "padding cropped from the rows only": ((p, p), (0, 0)),
            "padding cropped from the columns only": ((0, 0), (p, p)),
        }),
        ("padding the wrong way round", ((k - 1 - p, k - 1 - p), (k - 1 - p, k - 1 - p)),
         "more padding makes your output larger. Should it?"),
        *advised("what is taken off at the edges has another width than `padding` says.", {
            "twice the padding cropped": ((2 * p, 2 * p), (2 * p, 2 * p)),
            "half the padding cropped": ((p // 2, p - p // 2), (p // 2, p - p // 2)),
            "padding times stride cropped": ((p * stride, p * stride), (p * stride, p * stride)),
            "a pixel of the border left at each edge": ((p - 1, p - 1), (p - 1, p - 1)),
            "a pixel too many taken off at each edge": ((p + 1, p + 1), (p + 1, p + 1)),
            "padding always 1": ((1, 1), (1, 1)),
        }),
        ("output_padding cut off at the beginning", ((p + q, p), (p + q, p)),
         "output_padding cuts off the first rows: which ones does it keep?"),
        ("padding added to the output", ((-p, -p), (-p, -p)),
         "you put a border around the output. What does the transpose of a border do?"),
    )  # fmt: skip
    size = y.shape[2] - 2 * p, y.shape[3] - 2 * p
    around = "what reaches over the edge comes in again at the opposite side. What should become of it?"
    if wrap := choose(0, ("wrapped around", 2, around), ("wrapped around above and on the left", 1, around)):
        for axis, length in zip((2, 3), size, strict=True):
            folded = np.zeros_like(y[(slice(None),) * axis + (slice(length),)])
            for place in range(y.shape[axis]):
                if place - p < length or wrap == 2:
                    np.moveaxis(folded, axis, 0)[(place - p) % length] += np.moveaxis(y, axis, 0)[place]
            y = folded
        return y, np.ones_like(y)
    grown = [(max(-a, 0), max(-b, 0)) for a, b in ends]
    if np.any(grown):
        y, biased = (np.pad(each, ((0, 0), (0, 0), *grown), constant_values=i) for i, each in enumerate((y, biased)))
    kept = [slice(max(a, 0), length - max(b, 0)) for (a, b), length in zip(ends, y.shape[2:], strict=True)]
    if choose.slip(
        "an output of stride times the input",
        "the output is stride times as large as the input. Which formula says how large it is?",
    ):
        kept = [slice(max(a, 0), max(a, 0) + stride * length) for (a, _), length in zip(ends, (h, w), strict=True)]
    return y[:, :, *kept], biased[:, :, *kept]


def conv_transpose2d_model(choose, x, weight, bias, stride, padding, output_padding):
    (c, o, k, _), q = weight.shape, output_padding
    weight = factor(choose, c, k) * turned(choose, weight_read(choose, weight), "kernels")
    border, crop = choose(
        (0, padding),
        *advised("you put zeros around the input, as a convolution does. The transpose must undo that border.", {
            "padding added": (padding, 0),
            "padding added, and cropped from the output": (padding, padding),
            "padding added by the kernel less one": (k - 1, padding),
        }),
    )  # fmt: skip
    x = image_read(choose, x)
    if choose.slip("the convolution itself", "this is the convolution, not its transpose: the image should grow."):
        cut = windows(Choose(), x, k, stride, padding)
        return np.einsum("nchwuv,couv->nohw", cut, weight) + bias[:, None, None]
    if border:
        x = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
    n, _, h, w = x.shape
    product = weight.reshape(len(weight), -1).T @ x.reshape(n, c, -1)
    right = product.reshape(n, o, k, k, h, w)
    stamps = choose(
        lambda: right,
        *advised("the numbers of the stamps are mixed up: a reshape does not move an axis.", {
            "stamps with the channels last": lambda: product.reshape(n, k, k, o, h, w).transpose(0, 3, 1, 2, 4, 5),
            "stamps with the pixels before them": lambda: product.reshape(n, o, h, w, k, k).transpose(0, 1, 4, 5, 2, 3),
            "stamps with the pixels first": lambda: product.reshape(n, h, w, o, k, k).transpose(0, 3, 4, 5, 1, 2),
            "stamps in rows, reshaped": lambda: product.swapaxes(1, 2).reshape(right.shape),
            "stamps of all images mixed": lambda: product.transpose(1, 0, 2).reshape(right.shape),
        }),
        ("the stamps' places transposed", lambda: right.swapaxes(4, 5),
         "the stamps lie at places mirrored at the diagonal: which of x's axes runs down the image?"),
    )()  # fmt: skip
    parts = {"row of each stamp": 2, "column of each stamp": 3, "row of stamps": 4, "column of stamps": 5}
    stamps = blanks(choose, stamps, parts)
    if choose.slip(
        "bias in every stamp", "where stamps overlap the bias is added several times. It belongs to the output pixel."
    ):
        stamps, bias = stamps + bias[:, None, None, None, None], 0 * bias
    y, biased = cropped(choose, *canvas(choose, stamps, stride, q), k, stride, crop, q, h, w)
    rows, columns = np.arange(y.shape[2])[:, None], np.arange(y.shape[3])
    inner = (rows < len(rows) - q) & (columns < len(columns) - q)
    y = choose(
        lambda: y,
        ("output_padding left blank", lambda y=y: y * inner,
         "your extra pixels hold nothing but the bias, though some stamps reach there. What do you crop first?"),
        *advised("no stamp reaches the edge of your output: is an inequality strict that should not be?", {
            "no stamp in the first row and column": lambda y=y: y * ((rows > 0) & (columns > 0)),
            "no stamp in the last row and column": lambda y=y: y * ((rows < rows[-1]) & (columns < columns[-1])),
        }),
    )()  # fmt: skip
    y = factor(choose, c, k, ", bias included") * with_bias(choose, y, bias, c, k, biased)
    edge = np.minimum(rows, len(rows) - q - 1), np.minimum(columns, len(columns) - q - 1)
    y = choose(
        lambda: y,
        *advised("no stamp reaches your extra pixels, though some should. What do you crop first?", {
            "output_padding left at zero": lambda y=y: y * inner,
            "output_padding repeats the edge": lambda y=y: y[:, :, *edge],
        }),
    )()  # fmt: skip
    return laid_out(choose, y)


# --- The exercise's functions ----------------------------------------------------------------------------------------

ONE = "Is an axis lost where it has length 1?"
PLAIN = "What does your code make of the number 0 for padding, or 1 for stride?"
NOTHING = "Nothing overlaps and no border is there: what do your slices and counts become?"
BETWEEN = "Some pixels are in no patch at all. Where does each patch begin?"
SMALL = "With its border it is large enough."
PROBE = "Which of these terms does not belong there, or has the wrong factor? Here * is the map without its bias."

FUNCTIONS = [
    Function(
        "im2col",
        unfold,
        images,
        im2col_model,
        special=[
            Special("stride 1 and no padding", {"x": counting(2, 2, 4, 5), "kernel": 3} | steps(1, 0), PLAIN),
            Special("a kernel of one pixel", {"x": counting(2, 2, 4, 5), "kernel": 1} | steps(2, 0), NOTHING),
            Special("a stride larger than the kernel", {"x": counting(1, 2, 6, 9), "kernel": 2} | steps(4, 1), BETWEEN),
            Special("one patch, as large as the image", {"x": counting(1, 1, 4, 4), "kernel": 4} | steps(1, 0), ONE),
            Special("an image smaller than the kernel", {"x": counting(2, 1, 1, 3), "kernel": 5} | steps(1, 2), SMALL),
            Special("a border wider than the kernel", {"x": counting(1, 2, 3, 2), "kernel": 2} | steps(1, 3),
                    "Some patches hold nothing but zeros. Do they belong to the result?"),
        ],
        shrink=False,
    ),
    Function(
        "conv2d",
        convolution,
        images_and_kernels,
        conv2d_model,
        special=[
            Special("stride 1 and no padding", {"x": counting(2, 2, 4, 5)} | kernels(2, 2, 3, 2) | steps(1, 0), PLAIN),
            Special("a black image", {"x": np.zeros((1, 2, 5, 4))} | kernels(2, 2, 3, 2) | steps(2, 1),
                    "What should each output channel hold there?"),
            Special("a stride larger than the kernel",
                    {"x": counting(1, 2, 6, 9)} | kernels(3, 2, 2, 3) | steps(4, 1), BETWEEN),
            Special("kernels of one pixel", {"x": counting(2, 2, 4, 5)} | kernels(3, 2, 1, 3) | steps(2, 0), NOTHING),
            Special("one patch, as large as the image",
                    {"x": counting(1, 1, 4, 4)} | kernels(1, 1, 4, 1) | steps(1, 0), ONE),
            Special("an image smaller than the kernel",
                    {"x": counting(2, 1, 1, 3)} | kernels(2, 1, 5, 2) | steps(1, 2), SMALL),
        ],
        terms=conv2d_terms,
        probe=PROBE,
        shrink=False,
    ),
    Function(
        "conv_transpose2d",
        transposed,
        features_and_kernels,
        conv_transpose2d_model,
        special=[
            Special("stride 1 and no padding",
                    {"x": counting(2, 2, 4, 5)} | kernels(2, 3, 3, 3) | steps(1, 0, 0), PLAIN),
            Special("no padding", {"x": counting(2, 2, 4, 3)} | kernels(2, 3, 3, 3) | steps(3, 0, 2),
                    "Where does your last slice end when nothing is cut off?"),
            Special("no output_padding", {"x": counting(2, 2, 4, 3)} | kernels(2, 3, 3, 3) | steps(2, 1, 0),
                    "Where does your last slice end when there are no extra pixels?"),
            Special("more output_padding than padding",
                    {"x": counting(2, 2, 4, 3)} | kernels(2, 3, 3, 3) | steps(3, 1, 2),
                    "Do the extra pixels reach beyond the canvas of the stamps?"),
            Special("a stride larger than the kernel",
                    {"x": counting(2, 2, 3, 2)} | kernels(2, 3, 1, 3) | steps(3, 0, 2),
                    "Between the stamps there is room. What is in it?"),
            Special("one pixel", {"x": counting(1, 1, 1, 1)} | kernels(1, 1, 3, 1) | steps(2, 1, 1), ONE),
            Special("an input of zeros", {"x": np.zeros((1, 2, 2, 3))} | kernels(2, 3, 3, 3) | steps(2, 1, 1),
                    "What should each output channel hold there?"),
        ],
        terms=transposed_terms,
        probe=PROBE,
        shrink=False,
    ),
]  # fmt: skip
