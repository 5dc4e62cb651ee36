"""Checks of exercise 15. The references are PyTorch's autograd and Adam, and level 2, `vae_lowlevel.py`, for the model.

The network keeps the three levels' layers, in fewer channels and units where nothing else depends on them.
"""

import numpy as np
import torch
import torch.nn.functional as F

import vae_lowlevel
from checking import Function, Special
from mistakes import advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def convolution(images, channels, kernels, k, stride, padding, side, transposed=False, rng=None, size=1.0):
    """A layer's gradient, input and weight, by name, with its stride and padding."""
    rng = rng or np.random.default_rng(0)
    out = (side - 1) * stride - 2 * padding + k + stride - 1 if transposed else (side + 2 * padding - k) // stride + 1
    return {
        "grad_out": size * rng.standard_normal((images, kernels, out, out)),
        "x": size * rng.standard_normal((images, channels, side, side)),
        "weight": rng.standard_normal((channels, kernels, k, k) if transposed else (kernels, channels, k, k)),
        "stride": stride,
        "padding": padding,
    }


def convolutions(transposed):
    def inputs(rng):
        k, stride = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        images, channels, kernels = (int(n) for n in rng.permutation([2, 3, 4]))
        sizes = {"stride": min(stride, k), "padding": int(rng.integers(0, k // 2 + 1)), "side": int(rng.integers(5, 9))}
        return convolution(images, channels, kernels, k, **sizes, transposed=transposed, rng=rng)

    return inputs


def small_params(rng, latents=3, **biases):
    """Parameters of a VAE that is as thin as level 2 can read; in thousandths, and most of its units are on."""
    shapes = vae_lowlevel.weight_shapes(latents) | {"encoder.conv1": (2, 1, 3, 3), "encoder.conv2": (64, 2, 3, 3)}
    shapes |= {"encoder.fc": (5, 3136), "encoder.mu": (latents, 5), "encoder.logvar": (latents, 5)}
    shapes |= {"decoder.fc1": (4, latents), "decoder.fc2": (3136, 4)}
    shapes |= {"decoder.deconv1": (64, 2, 3, 3), "decoder.deconv2": (2, 1, 3, 3)}
    params = {}
    for name, shape in shapes.items():
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        count = shape[1] if "deconv" in name else shape[0]
        params[f"{name}.weight"] = np.round(rng.uniform(-bound, bound, shape), 3)
        params[f"{name}.bias"] = np.round(rng.uniform(-0.2, 1.0, count) * bound, 3) + biases.get(name, 0.0)
    return params


def batch(rng, images=None, latents=None, **biases):
    images, latents = images or int(rng.integers(2, 5)), latents or int(rng.integers(2, 4))
    return {
        "params": small_params(rng, latents, **{name.replace("_", "."): bias for name, bias in biases.items()}),
        "x": np.round(rng.random((images, 1, 28, 28)), 2),
        "eps": np.round(rng.standard_normal((images, latents)), 3),
    }


def special_batch(**options):
    return batch(np.random.default_rng(7), **options)


def runs(rng, steps=None, size=None, lr=None, images=6):
    steps, size, latents = steps or int(rng.integers(2, 4)), size or int(rng.integers(2, 4)), 2
    return {
        "params": small_params(rng, latents),
        "images": np.round(rng.random((images, 1, 28, 28)), 2),
        "order": rng.integers(0, images, (steps, size)),
        "eps": np.round(rng.standard_normal((steps, size, latents)), 3),
        "lr": lr or float(rng.choice([0.01, 0.02, 0.03])),
    }


def moments(rng):
    shape = tuple(int(n) for n in rng.integers(2, 5, 2))
    return {
        "param": rng.standard_normal(shape),
        "grad": rng.standard_normal(shape),
        "first": rng.standard_normal(shape) / 3,
        "second": rng.random(shape) + 0.1,
        "step": int(rng.integers(2, 30)),
        "lr": float(rng.choice([0.1, 0.02, 0.003])),
    }


GRAD = np.array([0.3, -0.02, 1.4])


def one_step(grad=GRAD, first=0.0, second=0.0, step=1):
    param = np.array([1.0, -2.0, 0.5])
    return {"param": param, "grad": grad, "first": first * grad, "second": second * grad**2, "step": step, "lr": 0.1}


# --- References ------------------------------------------------------------------------------------------------------


def by_autograd(layer):
    """The gradients of a layer(x, weight, bias, size of its output, stride, padding), which PyTorch finds."""

    def reference(grad_out, x, weight, stride, padding):
        with torch.enable_grad():
            bias = np.zeros(grad_out.shape[1], x.dtype)
            tensors = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
            y = layer(*tensors, grad_out.shape[-1], stride, padding)
            return tuple(grad.numpy() for grad in torch.autograd.grad(y, tensors, torch.tensor(grad_out)))

    return reference


def cross_correlation(x, weight, bias, side, stride, padding):
    return F.conv2d(x, weight, bias, stride, padding)


def transposed(x, weight, bias, side, stride, padding):
    left_over = side - ((x.shape[-1] - 1) * stride - 2 * padding + weight.shape[-1])
    return F.conv_transpose2d(x, weight, bias, stride, padding, left_over)


def level_2(params, x, eps):
    """-ELBO of a batch and its gradients, by autograd."""
    with torch.enable_grad():
        tensors = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
        loss = -vae_lowlevel.elbo(tensors, torch.tensor(x), torch.tensor(eps)).mean()
        loss.backward()
    return loss.item(), from_the_end({name: tensor.grad.numpy() for name, tensor in tensors.items()})


def torch_adam(param, grad, first, second, step, lr):
    tensor = torch.tensor(param, requires_grad=True)
    tensor.grad = torch.tensor(grad)
    optimizer = torch.optim.Adam([tensor], lr=lr)
    state = {"step": torch.tensor(float(step - 1)), "exp_avg": torch.tensor(first), "exp_avg_sq": torch.tensor(second)}
    optimizer.state[tensor] = state
    optimizer.step()
    return tuple(each.detach().numpy() for each in (tensor, state["exp_avg"], state["exp_avg_sq"]))


def level_2_trained(params, images, order, eps, lr):
    with torch.enable_grad():
        tensors = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
        optimizer, losses = torch.optim.Adam(tensors.values(), lr=lr), []
        for indices, noise in zip(order, eps, strict=True):
            loss = -vae_lowlevel.elbo(tensors, torch.tensor(images[indices]), torch.tensor(noise)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return np.array(losses), from_the_end({name: tensor.detach().numpy() for name, tensor in tensors.items()})


# --- One layer with its mistakes -------------------------------------------------------------------------------------

TURNED = "the kernels are turned by 180 degrees on the way back. The stamp of a kernel is not mirrored."
STRIDE = "the patches lie one pixel apart in yours, whatever the stride is."
BORDER = "the border of zeros is not the same at all sides in yours. Where did the padding put it?"
ENDS = "the last places of the kernels do not count in yours: where does the range end?"
OVERWRITTEN = "only one of many gradients remains in a place: are they added there, or is one overwritten by the next?"
MIXED = "a reshape has mixed axes: it does not exchange them."


def kernel_places(choose, k):
    """1 for the places of a kernel that count."""
    every = torch.ones(k, k, dtype=torch.double)
    row, column = torch.arange(k)[:, None] < k - 1, torch.arange(k) < k - 1
    return choose(
        every,
        *advised(
            ENDS,
            ("the kernels' last row forgotten", every * row),
            ("the kernels' last column forgotten", every * column),
            ("the kernels' last row and column forgotten", every * row * column),
        ),
    )


def windows(padded, k, stride):
    """(N, channels, rows, columns, k, k): the patches."""
    return padded.unfold(2, k, stride).unfold(3, k, stride)


def weight_step(choose, image, small, places, stride, padding):
    """The weight's gradient: of the small image, each place of which belongs to a patch of the other image."""
    k, size, (n, kernels) = len(places), small.shape[-1], small.shape[:2]
    patches = windows(F.pad(image, (padding,) * 4), k, stride)
    dense = windows(F.pad(image, (padding,) * 4), k, 1)[:, :, :size, :size]
    behind = windows(F.pad(image, (0, 2 * padding) * 2), k, stride)
    edge = windows(F.pad(image, (padding,) * 4, mode="replicate"), k, stride)
    patches = choose(
        patches,
        ("the kernels' gradient without the stride", dense, STRIDE),
        ("the border all behind for the kernels' gradient", behind, BORDER),
        ("the edge repeated in the border", edge, "the border holds copies of the edge in yours. What does it hold?"),
    )
    small = choose(
        small,
        ("images and kernels mixed", small.reshape(kernels, n, size, size).transpose(0, 1), MIXED),
        ("rows and columns exchanged in one of the two images", small.transpose(2, 3),
         "one of the two images is read column by column, the other row by row."),
        ("the last patch only", F.pad(small[..., -1:, -1:], (size - 1, 0) * 2), OVERWRITTEN),
    )  # fmt: skip
    each = torch.einsum("noij,ncijuv->nocuv", small, patches)
    last = each.permute(0, 1, 3, 4, 2)
    each = choose(
        each * places,
        *advised(
            MIXED,
            ("the weight's gradient with the channels last", last.reshape(each.shape)),
            ("the weight's gradient reshaped across its channels", each.transpose(1, 2).reshape(each.shape)),
            ("the weight's gradient with the kernels last", each.flatten(2).transpose(1, 2).reshape(each.shape)),
        ),
    )
    return choose(
        each.sum(0),
        ("the weight's gradient averaged over the images", each.mean(0),
         "all images use the same kernels: what do the gradients of a value do that is used several times?"),
        ("the first image's gradient of the weight", each[0], "only the first image counts for the kernels."),
        ("the last image's gradient of the weight", each[-1], "only the last image counts: is a sum overwritten?"),
        ("the weight's kernels turned", each.sum(0).flip(2, 3),
         "the places in the kernels are turned by 180 degrees. Cross-correlation does not flip."),
        ("the weight's rows and columns exchanged", each.sum(0).transpose(2, 3),
         "rows and columns of the kernels are exchanged. In which order are the patches cut?"),
        ("the weight's gradient divided by the pixels", each.sum(0) / small[0, 0].numel(),
         "it is a sum over all places where the kernel lay, not a mean."),
        ("N times the weight's gradient", n * each.sum(0), "it is N times too large: is a sum made twice?"),
    )  # fmt: skip


def bias_step(choose, grad, stride, rest):
    """rest: how many of the last rows come from the output padding."""
    side = grad.shape[-1]
    return choose(
        grad.sum((0, 2, 3)),
        *advised(
            "the bias is added at every pixel of every image. What do the gradients of a value do that is used often?",
            ("the bias's gradient averaged over the images", grad.sum((2, 3)).mean(0)),
            ("the bias's gradient averaged over the pixels", grad.mean((2, 3)).sum(0)),
            ("the bias's gradient averaged over all", grad.mean((0, 2, 3))),
            ("the bias's gradient of the first image", grad[0].sum((1, 2))),
            ("the bias's gradient of the last image", grad[-1].sum((1, 2))),
            ("the bias without the rows of the output padding", grad[..., : side - rest, : side - rest].sum((0, 2, 3))),
            ("the bias at every other pixel only", grad[..., ::stride, ::stride].sum((0, 2, 3))),
        ),
        *advised(
            "there is one bias for each kernel: which axes are summed over, and which one stays?",
            ("a bias for each image", grad.sum((2, 3))),
            ("one number for all biases", grad.sum()),
            ("a bias for each pixel", grad.sum(0)),
        ),
    )


def rectified(choose, grad_x, x):
    return choose(
        grad_x,
        ("a ReLU too many", grad_x * (x > 0), "grad_x is 0 where x is not above 0. Is there a ReLU in this layer?"),
    )


def averaged(choose, grad):
    return choose(
        grad,
        (
            "all divided by N",
            grad / len(grad),
            "all is too small by N: grad_out holds already what the loss makes of N.",
        ),
    )


def moved(images, down, right):
    """Zeros come in at one end, and what leaves at the other is lost."""
    return F.pad(images, (right, -right, down, -down))


def convolution_model(choose, grad_out, x, weight, stride, padding):
    grad, x, weight = map(torch.as_tensor, (grad_out, x, weight))
    grad = averaged(choose, grad)
    side, k = x.shape[-1], weight.shape[-1]
    rest = (side + 2 * padding - k) % stride
    places = kernel_places(choose, k)

    def stamped(weight, stride=stride):
        """What the stamps make, with its border."""
        canvas = F.conv_transpose2d(grad, weight, stride=stride)
        return F.pad(canvas, (0, side + 2 * padding - canvas.shape[-1]) * 2)

    def overwritten(order):
        canvas, length = x.new_zeros(*x.shape[:2], side + 2 * padding, side + 2 * padding), stride * grad.shape[-1]
        for u, v in order(list(np.ndindex(k, k))):
            stamp = torch.einsum("noij,oc->ncij", grad, weight[:, :, u, v])
            canvas[..., u : u + length : stride, v : v + length : stride] = stamp
        return canvas

    canvas = choose(
        stamped(weight * places),
        ("the kernels turned", stamped(weight.flip(2, 3)), TURNED),
        ("stamps without the stride", stamped(weight, 1), STRIDE),
        *advised(
            OVERWRITTEN, ("the last place of the kernels remains", overwritten(list)),
            ("the last stamp remains", overwritten(lambda order: order[::-1])),
        ),
        ("the kernels reshaped across their channels",
         stamped(weight.reshape(weight.shape[1], -1, k, k).transpose(0, 1)), MIXED),
        ("a mean over the kernels", stamped(weight) / len(weight), "x feels every kernel: their gradients add."),
    )  # fmt: skip
    inner = slice(padding, padding + side)
    cut = canvas[..., inner, inner].clone()
    cut[..., side - rest :, :] = cut[..., side - rest :] = 0
    grad_x = choose(
        canvas[..., inner, inner],
        *advised(
            BORDER,
            ("the border cut off behind", canvas[..., :side, :side]),
            ("the border cut off in front", moved(canvas, -padding, -padding)[..., inner, inner]),
        ),
        *advised(
            "one row or column is wrong by one place in yours: where does the first stamp lie?",
            ("one row too low", moved(canvas, 1, 0)[..., inner, inner]),
            ("one column too far", moved(canvas, 0, 1)[..., inner, inner]),
            ("one row and column too far", moved(canvas, 1, 1)[..., inner, inner]),
        ),
        ("zeros where no patch began", cut,
         "the last rows and columns of x are zero in yours, but patches that began before them reach that far."),
        ("the missing rows in front", moved(cut, rest, rest),
         "yours is too small at first, and then the zeros stand in front. Which rows of x are missing?"),
    )  # fmt: skip
    return (
        rectified(choose, grad_x, x),
        weight_step(choose, x, grad, places, stride, padding),
        bias_step(choose, grad, stride, rest),
    )


def transposed_model(choose, grad_out, x, weight, stride, padding):
    grad, x, weight = map(torch.as_tensor, (grad_out, x, weight))
    grad = averaged(choose, grad)
    side, k = grad.shape[-1], weight.shape[-1]
    rest = side - ((x.shape[-1] - 1) * stride - 2 * padding + k)
    places = kernel_places(choose, k)
    last = torch.zeros(k, k, dtype=torch.double)
    last[-1, -1] = 1
    seen = choose(
        grad,
        ("nothing through the output padding", F.pad(grad[..., : side - rest, : side - rest], (0, rest) * 2),
         "the rows that the output padding adds are zero in yours on the way back. Do no stamps reach them?"),
    )  # fmt: skip

    def back(weight, stride=stride, border=(padding,) * 4):
        return F.conv2d(F.pad(seen, border), weight, None, stride)[..., : x.shape[-1], : x.shape[-1]]

    grad_x = choose(
        back(weight * places),
        ("the kernels turned", back(weight.flip(2, 3)), TURNED),
        ("a mean over the kernels", back(weight) / weight.shape[1], "x feels every kernel: their gradients add."),
        ("grad_x without the stride", back(weight, 1), STRIDE),
        ("the border all behind for grad_x", back(weight, border=(0, 2 * padding) * 2), BORDER),
        ("one place of the kernels remains", back(weight * last), OVERWRITTEN),
    )
    return (
        rectified(choose, grad_x, x),
        weight_step(choose, seen, x, places, stride, padding),
        bias_step(choose, seen, stride, rest),
    )


# --- The model with its mistakes -------------------------------------------------------------------------------------

PARAMETERS = [f"{layer}.{kind}" for layer in reversed(vae_lowlevel.weight_shapes()) for kind in ("weight", "bias")]
UP = {"stride": 2, "padding": 1, "output_padding": 1}


PASSED = "gradients pass units that were off. What is the slope of a ReLU there?"
ORDER = "this order of the 3136 numbers is not that of the three levels, so the weights meet others."


def vae_model(choose, params, x, eps):
    p, x, eps = {name: torch.as_tensor(array) for name, array in params.items()}, *map(torch.as_tensor, (x, eps))
    weight, bias = vae_lowlevel.by_layer(p)
    relus = ["encoder.conv1", "encoder.conv2", "encoder.fc", "decoder.fc1", "decoder.fc2", "decoder.deconv1"]
    relus = choose(
        relus,
        *(
            (f"a ReLU behind {name}", [*relus, name], f"{name} may have any sign: no ReLU stands behind this layer.")
            for name in ("encoder.mu", "encoder.logvar", "decoder.deconv2")
        ),
        *(
            (f"no ReLU behind {name}", [each for each in relus if each != name], f"a ReLU stands behind {name}, too.")
            for name in relus
        ),
    )
    passed = choose(
        {"decoder.deconv2", "encoder.mu", "encoder.logvar"} - set(relus),
        *advised(PASSED, {f"the ReLU of {name} forgotten on the way back": {name} for name in relus}),
        ("all ReLUs forgotten on the way back", set(relus), PASSED),
    )
    slope = choose(
        lambda grad, h: grad * (h > 0),
        ("slopes of a leaky ReLU", lambda grad, h: torch.where(h > 0, grad, 0.01 * grad),
         "units that were off pass a part of the gradient. How steep is a ReLU there?"),
        ("a ReLU's output as its slope", lambda grad, h: grad * h, "a ReLU's slope is 0 or 1, not its own output."),
        ("a ReLU of the gradients", lambda grad, h: F.relu(grad),
         "which units were on was decided on the way forward. What does the sign of a gradient say about that?"),
    )  # fmt: skip
    codes = choose(
        ("encoder.mu", "encoder.logvar"),
        ("encoder.mu and encoder.logvar exchanged", ("encoder.logvar", "encoder.mu"),
         "encoder.mu gives what you take for logvar, and the other way round."),
    )  # fmt: skip
    last, first = (0, 2, 3, 1), (0, 3, 1, 2)  # the channels
    forward, backward = choose(
        (lambda a: a.flatten(1), lambda a: a.reshape(-1, 64, 7, 7)),
        *advised(
            ORDER,
            ("encoder.conv2's output in a row, channels last",
             (lambda a: a.permute(last).flatten(1), lambda a: a.reshape(-1, 7, 7, 64).permute(first))),
            ("encoder.conv2's output in a row, rows and columns exchanged",
             (lambda a: a.transpose(2, 3).flatten(1), lambda a: a.reshape(-1, 64, 7, 7).transpose(2, 3))),
        ),
        *advised(
            "on the way back to encoder.conv2 the row becomes an image in another order than on the way forward.",
            ("the encoder's row comes back with the channels last",
             (lambda a: a.flatten(1), lambda a: a.reshape(-1, 7, 7, 64).permute(first))),
            ("the encoder's row comes back with rows and columns exchanged",
             (lambda a: a.flatten(1), lambda a: a.reshape(-1, 64, 7, 7).transpose(2, 3))),
        ),
    )  # fmt: skip
    to_image, to_row = choose(
        (lambda a: a.reshape(-1, 64, 7, 7), lambda a: a.flatten(1)),
        *advised(
            ORDER,
            ("decoder.fc2's row as an image, channels last",
             (lambda a: a.reshape(-1, 7, 7, 64).permute(first), lambda a: a.permute(last).flatten(1))),
            ("decoder.fc2's row as an image, rows and columns exchanged",
             (lambda a: a.reshape(-1, 64, 7, 7).transpose(2, 3), lambda a: a.transpose(2, 3).flatten(1))),
        ),
        *advised(
            "on the way back to decoder.fc2 the image becomes a row in another order than on the way forward.",
            ("the decoder's image comes back with the channels last",
             (lambda a: a.reshape(-1, 64, 7, 7), lambda a: a.permute(last).flatten(1))),
            ("the decoder's image comes back with rows and columns exchanged",
             (lambda a: a.reshape(-1, 64, 7, 7), lambda a: a.transpose(2, 3).flatten(1))),
        ),
    )  # fmt: skip
    eps = choose(
        eps,
        ("the first image's noise for all", eps[:1].expand(eps.shape), "each row of eps belongs to one image."),
        ("no noise", 0 * eps, "there is no noise in your codes."),
    )

    def on(name, h):
        return F.relu(h) if name in relus else h

    def dense(name, h):
        return on(name, F.linear(h, weight[name], bias[name]))

    h1 = on("encoder.conv1", F.conv2d(x, weight["encoder.conv1"], bias["encoder.conv1"], 2, 1))
    h2 = on("encoder.conv2", F.conv2d(h1, weight["encoder.conv2"], bias["encoder.conv2"], 2, 1))
    flat = forward(h2)
    h3 = dense("encoder.fc", flat)
    mu, logvar = (dense(name, h3) for name in codes)
    width, variance = torch.exp(logvar / 2), torch.exp(logvar)
    sigma, steep = choose(
        (width, width / 2),
        *advised(
            "the noise is scaled by the variance. What is its root?",
            ("codes of another width, and its slope", (variance, variance)),
            ("codes of another width, with the right one's slope", (variance, width / 2)),
            ("codes of another width, with half its slope", (variance, variance / 2)),
        ),
    )
    z = mu + sigma * eps
    g1 = dense("decoder.fc1", z)
    g2 = dense("decoder.fc2", g1)
    square = to_image(g2)
    deconv1 = F.conv_transpose2d(square, weight["decoder.deconv1"], bias["decoder.deconv1"], **UP)
    g3 = on("decoder.deconv1", deconv1)
    deconv2 = F.conv_transpose2d(g3, weight["decoder.deconv2"], bias["decoder.deconv2"], **UP)
    logits = on("decoder.deconv2", deconv2)

    nll = (F.softplus(logits, threshold=50) - x * logits).sum((1, 2, 3))
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
    n = choose(
        len(x),
        ("64 for the number of images", 64, "you divide by 64. How many images are in this batch?"),
    )
    of_image = choose(
        torch.ones(len(x), 1, dtype=x.dtype),
        ("the last image left out", torch.tensor([[1.0]] * (len(x) - 1) + [[0.0 if len(x) > 1 else 1.0]]),
         "the last image of a batch does not count: where does the range end?"),
    )  # fmt: skip
    nll, kl = nll * of_image[:, 0], kl * of_image[:, 0]
    half = "the KL's weight in the loss is another than in the text."
    loss = choose(
        (nll + kl).sum() / n,
        ("the loss summed over the images", (nll + kl).sum(), "the loss is a mean over the images."),
        ("the ELBO as the loss", -(nll + kl).sum() / n, "a loss is to become small: the ELBO is to become large."),
        ("the loss without the KL", nll.sum() / n, "the KL is missing in the loss."),
        ("the nll without the KL's mean", nll.sum() / n + kl.sum(),
         "the KL is summed over the images, the nll is not."),
        ("the KL without the nll's mean", nll.sum() + kl.sum() / n,
         "the nll is summed over the images, the KL is not."),
        *advised(
            half,
            ("the KL twice in the loss", (nll + 2 * kl).sum() / n),
            ("half of the KL in the loss", (nll + kl / 2).sum() / n),
        ),
        ("a mean over the latents in the loss", (nll + kl / mu.shape[1]).sum() / n,
         "the KL is averaged over the latents: the nats of one image's latents add up."),
        ("a mean over the pixels in the loss", (nll / 784 + kl).sum() / len(x),
         "the nll is averaged over the pixels: the nats of one image's pixels add up."),
        ("the loss of each image", nll + kl, "one number is asked for: the mean over the images."),
    )  # fmt: skip
    grads = {}
    whole, of_nll = choose(
        (1 / n, 1 / n),
        ("gradients of the sum", (1.0, 1.0), "each gradient is N times that of the mean over the images."),
        ("divided by N twice", (1 / n**2, 1 / n**2),
         "each gradient is too small by N: where does that mean enter a second time?"),
        ("gradients of the ELBO", (-1 / n, -1 / n),
         "each gradient has the sign of the ELBO's, not of the loss's."),
        ("the nll's gradient not divided by N", (1 / n, 1.0),
         "the nll's part is summed over the images, the KL's is averaged."),
        ("the nll's gradient averaged over the pixels", (1 / n, 1 / n / 784),
         "the nll's part is averaged over the pixels. Is it in the loss, too?"),
    )  # fmt: skip

    turned = choose(
        (),
        *advised(
            TURNED,
            ("the kernels turned on the way back through encoder.conv2", ("encoder.conv2",)),
            (
                "the kernels turned on the way back through the transposed convolutions",
                ("decoder.deconv1", "decoder.deconv2"),
            ),
        ),
    )

    def back(name, grad, x, wanted=True):
        """Notes a layer's gradients, and gives that of what went in."""
        w = weight[name].flip(2, 3) if name in turned else weight[name]
        if "conv" not in name:
            grads[f"{name}.weight"], grads[f"{name}.bias"] = grad.T @ x, grad.sum(0)
            return grad @ w
        up = "deconv" in name
        given = (grad, x, w, [grad.shape[1]], [2, 2], [1, 1], [1, 1], up, [int(up)] * 2, 1, [wanted, True, True])
        grad_x, grads[f"{name}.weight"], grads[f"{name}.bias"] = torch.ops.aten.convolution_backward(*given)
        return grad_x

    def gate(name, grad, h):
        return grad if name in passed or name not in relus else slope(grad, h)

    target = choose(
        x,
        (
            "black and white images on the way back",
            x.round(),
            "the gradients take x for black and white. Are there greys?",
        ),
    )
    grad = gate("decoder.deconv2", of_nll * of_image[:, :, None, None] * (torch.sigmoid(logits) - target), logits)
    grad = gate("decoder.deconv1", back("decoder.deconv2", grad, g3), g3)
    grad = gate("decoder.fc2", to_row(back("decoder.deconv1", grad, square)), g2)
    grad = gate("decoder.fc1", back("decoder.fc2", grad, g1), g1)
    seen = choose(
        z,
        ("mu in the place of z on the way back", mu, "decoder.fc1 is multiplied by what went into it: what was that?"),
    )  # fmt: skip
    by_z = back("decoder.fc1", grad, seen)
    by_z = choose(by_z, ("the way ends at z", 0 * by_z, "the encoder feels the KL only: what goes on through z?"))
    by_sigma = choose(
        by_z * eps * steep,
        ("logvar's half forgotten", by_z * eps * sigma, "differentiate exp(logvar / 2) once more."),
        ("no way back through sigma", 0 * by_z, "logvar feels the KL only. Does the code not depend on it?"),
        *advised(
            "what stands beside logvar's part of z in the product? Differentiate z by logvar once more.",
            ("sigma twice on the way back", by_z * eps * sigma**2 / 2),
            ("no noise on the way back", by_z * sigma / 2),
            ("no sigma on the way back", by_z * eps / 2),
        ),
    )
    kl_mu, kl_logvar = whole * of_image * mu, whole * of_image * (logvar.exp() - 1) / 2
    summed = "the KL's part is summed over the images, the nll's is averaged."
    missing = "the KL's own gradient is missing."
    factor = "the KL's gradient has another factor in front than the KL in the loss."
    kl_mu, kl_logvar = choose(
        (kl_mu, kl_logvar),
        ("the KL's gradient not divided by N", (n * kl_mu, n * kl_logvar), summed),
        ("no gradient of the KL", (0 * kl_mu, 0 * kl_logvar), missing),
        ("the KL's gradient with the other sign", (-kl_mu, -kl_logvar),
         "the KL's part has the wrong sign: it is to become small."),
        *advised(
            factor,
            ("half the KL's gradient", (kl_mu / 2, kl_logvar / 2)),
            ("twice the KL's gradient", (2 * kl_mu, 2 * kl_logvar)),
        ),
    )  # fmt: skip
    kl_mu = choose(
        kl_mu,
        *advised(factor, ("half the KL's gradient at mu", kl_mu / 2), ("twice the KL's gradient at mu", 2 * kl_mu)),
        ("no gradient of the KL at mu", 0 * kl_mu, missing),
        ("the KL's gradient not divided by N at mu", n * kl_mu, summed),
    )
    kl_logvar = choose(
        kl_logvar,
        *advised(
            factor,
            ("the KL's half forgotten at logvar", 2 * kl_logvar),
            ("half the KL's gradient at logvar", kl_logvar / 2),
        ),
        ("no gradient of the KL at logvar", 0 * kl_logvar, missing),
        ("the KL's gradient not divided by N at logvar", n * kl_logvar, summed),
    )
    by_codes = choose(
        (by_z + kl_mu, by_sigma + kl_logvar),
        ("mu and logvar exchanged on the way back", (by_sigma + kl_logvar, by_z + kl_mu),
         "each layer gets the other's gradient."),
    )  # fmt: skip
    both = [back(name, gate(name, grad, h), h3) for name, grad, h in zip(codes, by_codes, (mu, logvar), strict=True)]
    branches = choose(
        both[0] + both[1],
        ("the branch of mu only", both[0], "two layers use the output of encoder.fc: what do their gradients do?"),
        ("the branch of logvar only", both[1], "two layers use the output of encoder.fc: what do both send back?"),
    )
    grad = backward(back("encoder.fc", gate("encoder.fc", branches, h3), flat))
    grad = back("encoder.conv2", gate("encoder.conv2", grad, h2), h1)
    back("encoder.conv1", gate("encoder.conv1", grad, h1), x, wanted=False)
    return loss, from_the_end(grads)


# --- Adam and the loop with their mistakes ---------------------------------------------------------------------------


def adam_model(choose, param, grad, first, second, step, lr):
    b1, b2 = choose(
        (0.9, 0.999),
        ("the two rates exchanged", (0.999, 0.9), "which of the means remembers more gradients, and which fewer?"),
        *advised(
            "one of the two rates is not the text's.",
            ("0.99 for the second mean", (0.9, 0.99)),
            ("0.99 for the first mean", (0.99, 0.999)),
            ("0.9 for both means", (0.9, 0.9)),
            ("0.999 for both means", (0.999, 0.999)),
        ),
    )
    decayed = "param itself enters the gradient in yours, so all parameters are drawn to zero. Is that Adam?"
    cut = "the gradient is limited before the means take it."
    grad = choose(
        grad,
        *advised(decayed, ("weight decay of 1e-4", grad + 1e-4 * param), ("weight decay of 1e-2", grad + 1e-2 * param)),
        *advised(
            cut,
            ("gradients cut off at 1", np.clip(grad, -1, 1)),
            ("gradients of a norm of at most 1", grad / max(1, np.linalg.norm(grad))),
        ),
    )
    m = choose(
        b1 * first + (1 - b1) * grad,
        ("the weights of the first mean exchanged", (1 - b1) * first + b1 * grad,
         "the old mean should weigh nine times as much as the new gradient."),
        ("first as a sum", b1 * first + grad, "the weights of a running mean add up to 1."),
        ("the newest gradient as first", grad, "first forgets all gradients but the newest."),
        ("first not moved", first, "first does not get the new gradient."),
    )  # fmt: skip
    other = "second is a mean of something else."
    v = choose(
        b2 * second + (1 - b2) * grad**2,
        ("the weights of the second mean exchanged", (1 - b2) * second + b2 * grad**2,
         "the old mean should weigh 999 times as much as the new square."),
        ("second as a sum", b2 * second + grad**2, "the weights of a running mean add up to 1."),
        *advised(
            other,
            ("a gradient that is not squared", b2 * second + (1 - b2) * grad),
            ("sizes in place of squares", b2 * second + (1 - b2) * abs(grad)),
            ("squares of how far the gradient is from its mean", b2 * second + (1 - b2) * (grad - m) ** 2),
        ),
        ("the square of the first mean", b2 * second + (1 - b2) * m**2, "which is squared: the gradient, or its mean?"),
        ("one mean of squares for the whole array", b2 * second + (1 - b2) * np.mean(grad**2),
         "every number of param has a scale of its own."),
        ("second not moved", second, "second does not get the new gradient."),
        ("a second that never falls", np.maximum(b2 * second + (1 - b2) * grad**2, second),
         "second never falls in yours. What does a running mean do after smaller gradients?"),
        ("the largest gradient as second", np.maximum(b2 * second, abs(grad)),
         "second keeps the largest gradient. Which mean does the text ask for?"),
    )  # fmt: skip
    of_first, of_second = 1 - b1**step, 1 - b2**step
    count = "step is 1 for the first step: how much of the mean's zero start is left then?"
    same_step = choose(
        (m / of_first, v / of_second),
        *advised(
            "the means of before this step are divided: do they hold the new gradient?",
            ("the step with the old means", (first / of_first, second / of_second)),
            ("the step with the old second mean", (m / of_first, second / of_second)),
        ),
        *advised(
            "what should the division be in the first step, in the second, and in the thousandth?",
            ("no correction but in the first step", (m / of_first, v / of_second) if step == 1 else (m, v)),
            ("corrected by the rates alone", (m / (1 - b1), v / (1 - b2))),
        ),
        ("corrected for another step", (m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))), count),
        ("not corrected", (m, v), "the means began at zero, which still weighs in the first steps."),
    )
    mean = choose(
        same_step[0],
        ("first not corrected", m, "first began at zero, which still weighs in the first steps."),
        ("first corrected the other way", m * of_first, "the correction makes a mean that began at zero larger."),
        ("first corrected for another step", m / (1 - b1 ** (step + 1)), count),
        ("first corrected by the second's rate", m / of_second, "each mean is corrected by its own rate."),
        ("first corrected by 0.99", m / (1 - 0.99**step), "each mean is corrected by its own rate."),
        ("the gradient in place of its mean", grad, "the step goes along the new gradient alone."),
        ("a look ahead", (b1 * m + (1 - b1) * grad) / of_first,
         "the new gradient enters the step once more, beside the mean that holds it already."),
    )  # fmt: skip
    square = choose(
        same_step[1],
        ("second not corrected", v, "second began at zero, which weighs for hundreds of steps."),
        ("second corrected the other way", v * of_second, "the correction makes a mean that began at zero larger."),
        ("second corrected for another step", v / (1 - b2 ** (step + 1)), count),
        ("second corrected by the first's rate", v / of_first, "each mean is corrected by its own rate."),
        ("second corrected by 0.99", v / (1 - 0.99**step), "each mean is corrected by its own rate."),
        ("second corrected behind its root", v / of_second**2,
         "the correction belongs to second, not to its root. What does the root make of it?"),
    )  # fmt: skip
    down = choose(
        mean / (np.sqrt(square) + 1e-8),
        ("no root", mean / (square + 1e-8), "second is a mean of squares: what has the unit of a gradient?"),
        ("divided by second itself", mean / (v + 1e-8),
         "the step is divided by second as it is. In which unit is it, and where did it begin?"),
        ("the small number inside of the root", mean / np.sqrt(square + 1e-8),
         "the small number is added to the root."),
        ("no small number", mean / np.sqrt(square), "what is 0 / 0, for a parameter that never had a gradient?"),
        *advised(
            "the small number is larger than the text's.",
            ("1e-7 for the small number", mean / (np.sqrt(square) + 1e-7)),
            ("1e-6 for the small number", mean / (np.sqrt(square) + 1e-6)),
        ),
        ("not scaled", mean, "the step is not divided by the gradients' size."),
        ("multiplied by the root", mean * np.sqrt(square), "large gradients should be made smaller, not larger."),
    )  # fmt: skip
    rate = choose(
        lr,
        *advised(
            "your steps become shorter from step to step. Is that in the text?",
            ("lr divided by the root of step", lr / np.sqrt(step)),
            ("lr divided by step", lr / step),
        ),
    )
    new = choose(
        param - rate * down,
        ("upwards", param + rate * down, "a loss is made small: which way does the gradient point?"),
        ("lr left out", param - down, "how long a step is does not depend on lr in yours."),
        ("the step alone", -rate * down, "you return the change of param, not the new one."),
        ("the small step itself", rate * down, "you return the change of param, not the new one."),
    )
    handed_on = "the correction is for this step only, the means go on."
    old = "what you return is the mean as it came in: where does the next step get the new one from?"
    kept_first = choose(m, ("a corrected first handed on", mean, handed_on), ("the old first handed on", first, old))
    kept_second = choose(
        v, ("a corrected second handed on", square, handed_on), ("the old second handed on", second, old)
    )
    return new, kept_first, kept_second


def train_model(choose, params, images, order, eps, lr):
    indices = choose(
        order,
        ("the images in their own order", np.arange(order.size).reshape(order.shape) % len(images),
         "you go through the images from the first to the last. Which ones does order ask for?"),
        ("the first batch always", np.repeat(order[:1], len(order), 0), "every step takes the images of the first."),
        ("the images of a batch in order of their indices", np.sort(order, 1),
         "each row of eps belongs to one place in the batch. Is it still that image's?"),
    )  # fmt: skip
    noise = choose(
        eps,
        ("the first noise always", np.repeat(eps[:1], len(eps), 0), "every step takes the noise of the first."),
        ("no noise", 0 * eps, "there is no noise in your codes."),
        ("the noise of the images' numbers", eps[:, order[0] % eps.shape[1]],
         "each row of eps belongs to one place in the batch."),
    )  # fmt: skip
    limited = "the gradients are limited in yours before Adam takes them. Is that in the text?"
    decay = "the parameters are drawn to zero in each step. Is that in the text?"
    shorter = "your steps become shorter from step to step. Is that in the text?"
    small = "adam_step is another one here: what is the small number added to?"
    ways = [
        ("the gradients of the start", "the gradients are always those of the first parameters."),
        ("plain gradient descent", "this is a step along the gradient. Where is Adam?"),
        ("gradients that add up", "each step's gradients are added to those before. Which ones does a step need?"),
        ("new gradients for each parameter",
         "the loss's gradients are taken anew after each parameter: one step moves all of them at once."),
        ("each image of a batch once", "an image that is twice in a batch counts once in yours. What about its noise?"),
        *((f"gradients of a norm of at most {norm}", limited) for norm in (1, 10)),
        ("gradients cut off at 1", limited),
        ("weight decay of 0.01", decay),
        ("weight decay in the gradient", decay),
        ("lr that falls to zero", shorter), ("lr divided by step", shorter),
        ("no corrections", "your adam_step does not correct the means here: they began at zero."),
        ("0.99 for the second mean", "a rate of your adam_step is another one here."),
        ("the small number inside of the root", small), ("the small number before the correction", small),
        ("first and second are one", "the two means share one place: what does the second step read there?"),
        ("a second that begins with 1", "the means begin as zeros: one of yours does not."),
    ]  # fmt: skip
    way = choose("", *((name, name, advice) for name, advice in ways))
    flat = {name: torch.as_tensor(array) for name, array in params.items()}
    sizes = [tensor.numel() for tensor in flat.values()]
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    count = choose(
        lambda step: step,
        ("always the first step", lambda step: 1, "every step is called the first: what does Adam correct by?"),
        ("one step ahead", lambda step: step + 1, "the first step is not called 1."),
        ("a step for each parameter", lambda step: (step - 1) * len(sizes) + owner + 1,
         "the step is counted on from parameter to parameter. How many steps are in a batch?"),
    )  # fmt: skip
    keep_first, keep_second = choose(
        (1, 1),
        ("means that begin anew", (0, 0), "the running means begin at zero in each step: what is kept?"),
        ("a first mean that begins anew", (0, 1), "first begins at zero in each step."),
        ("a second mean that begins anew", (1, 0), "second begins at zero in each step."),
    )
    loss_after = choose.slip(
        "the losses after each step", "a loss is noted before its step, at the parameters that gave the gradient."
    )
    stay = choose(
        lambda name: False,
        ("the decoder alone", lambda name: "encoder" in name, "the encoder's parameters stay as they were."),
        ("the encoder alone", lambda name: "decoder" in name, "the decoder's parameters stay as they were."),
        ("the weights alone", lambda name: "bias" in name, "the biases stay as they were."),
        ("encoder.logvar not trained", lambda name: "logvar" in name, "encoder.logvar stays as it was."),
    )
    moving = torch.tensor([not stay(name) for name in flat])[owner]

    def by_name(vector):
        parts = vector.split(sizes)
        return {name: part.reshape(flat[name].shape) for name, part in zip(flat, parts, strict=True)}

    def gradients(vector, some, draws):
        loss, grads = level_2_gradients(by_name(vector), images[some], draws)
        return loss, torch.cat([grads[name].ravel() for name in flat])

    start = torch.cat([tensor.ravel() for tensor in flat.values()])
    now, first, second, total = start, 0 * start, 0 * start + (way == "a second that begins with 1"), 0 * start
    losses, path = [], [start]
    for step, (some, draws) in enumerate(zip(indices, noise, strict=True), start=1):
        if way == "each image of a batch once":
            keep = np.sort(np.unique(some, return_index=True)[1])
            some, draws = some[keep], draws[keep]
        loss, grad = gradients(start if way == "the gradients of the start" else now, some, draws)
        total = total + grad
        first, second = keep_first * first, keep_second * second
        if way == "new gradients for each parameter":
            for each in range(len(sizes)):
                moved_on = torch.where(owner < each, adam(now, grad, first, second, count(step), lr)[0], now)
                grad = torch.where(owner < each, grad, gradients(moved_on, some, draws)[1])
        else:
            grad = {
                "gradients that add up": total,
                "gradients cut off at 1": grad.clip(-1, 1),
                "weight decay in the gradient": grad + 0.01 * now,
            }.get(way, grad)
        if way.startswith("gradients of a norm"):
            grad = grad * min(1, int(way.split()[-1]) / grad.norm())
        rate = {
            "lr that falls to zero": lr * (1 - (step - 1) / len(order)),
            "lr divided by step": lr / step,
        }.get(way, lr)
        new, first, second = adam(now, grad, first, second, count(step), rate, way)
        if way == "first and second are one":
            first = second
        new = {
            "plain gradient descent": now - lr * grad,
            "weight decay of 0.01": new - 0.01 * lr * now,
        }.get(way, new)
        now = torch.where(moving, new, now)
        losses.append(gradients(now, some, draws)[0] if loss_after else loss)
        path.append(now)
    losses = torch.stack(losses)
    best = int(losses.argmin())
    steps = torch.arange(1, len(losses) + 1)
    running = losses.clone()
    for step in range(1, len(losses)):
        running[step] = 0.9 * running[step - 1] + 0.1 * losses[step]
    another = "one loss for each step is asked for, its batch's own."
    losses = choose(
        losses,
        *advised(
            another,
            ("the mean of the losses", losses.mean()),
            ("the last loss", losses[-1]),
            ("the losses' mean so far", losses.cumsum(0) / steps),
            ("a running mean of the losses", running),
        ),
        ("the losses summed over the batch", losses * order.shape[1], "a loss is a mean over the images of its batch."),
        ("the losses divided by the batch", losses / order.shape[1],
         "a loss is divided by the number of images twice: what does loss_and_gradients return?"),
        ("the losses without the first", losses[1:], "the loss before the first step is missing."),
    )  # fmt: skip
    mixed = "what you return is a mean of the parameters of several steps."
    trained = choose(
        path[-1],
        ("the parameters of the start", start, "what you return has not been trained: where do the new ones go?"),
        ("the last step left out", path[-2], "the last step's parameters are not among what you return."),
        *advised(
            mixed,
            ("a mean of the parameters of all steps", torch.stack(path[1:]).mean(0)),
        ),
        *advised(
            "you return the parameters of the smallest loss, not those of the end.",
            ("the parameters behind the best loss", path[best + 1]),
            ("the parameters of the best loss", path[best]),
        ),
    )
    return losses, from_the_end(by_name(trained))


def level_2_gradients(params, x, eps):
    with torch.enable_grad():
        tensors = {name: torch.as_tensor(tensor).clone().requires_grad_() for name, tensor in params.items()}
        loss = -vae_lowlevel.elbo(tensors, torch.as_tensor(x), torch.as_tensor(eps)).mean()
        return loss.detach(), dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))


def adam(param, grad, first, second, step, lr, way=""):
    """A step of Adam, or of one that `way` names."""
    b2 = 0.99 if way == "0.99 for the second mean" else 0.999
    first, second = 0.9 * first + 0.1 * grad, b2 * second + (1 - b2) * grad.square()
    of_first, of_second = (1, 1) if way == "no corrections" else (1 - 0.9**step, 1 - b2**step)
    if way == "the small number inside of the root":
        scale = (second / of_second + 1e-8).sqrt()
    elif way == "the small number before the correction":
        scale = (second.sqrt() + 1e-8) / of_second**0.5
    else:
        scale = (second / of_second).sqrt() + 1e-8
    return param - lr / of_first * first / scale, first, second


def from_the_end(by_name):
    """A dictionary in the order of the way back: the first gradient that is wrong says where to look."""
    return {name: by_name[name] for name in PARAMETERS}


LOST_AXIS = "Is an axis lost where it has length 1?"
GRADIENTS = ("grad_x", "grad_weight", "grad_bias")
FUNCTIONS = [
    Function(
        "conv2d_backward",
        by_autograd(cross_correlation),
        convolutions(transposed=False),
        convolution_model,
        special=[
            Special("one image, one channel, one kernel", convolution(1, 1, 1, 3, 2, 1, 8), LOST_AXIS),
            Special(
                "as many channels as kernels and images",
                convolution(2, 2, 2, 3, 2, 1, 8),
                "Shapes do not tell there which axis is which.",
            ),
            Special(
                "a last row that no patch reaches",
                convolution(2, 3, 4, 2, 2, 0, 7),
                "What is the gradient of a pixel that nothing uses?",
            ),
            Special(
                "two rows and columns left over behind the last patch",
                convolution(2, 3, 4, 4, 3, 2, 8),
                "How far do the last patches reach there, and how large is the output padding?",
            ),
            Special(
                "large numbers",
                convolution(2, 3, 4, 3, 2, 1, 8, size=1000.0),
                "A gradient has no limits: is something cut off?",
            ),
        ],
        outputs=GRADIENTS,
        shrink=False,
    ),
    Function(
        "conv_transpose2d_backward",
        by_autograd(transposed),
        convolutions(transposed=True),
        transposed_model,
        special=[
            Special("one image, one channel, one kernel", convolution(1, 1, 1, 3, 2, 1, 4, True), LOST_AXIS),
            Special(
                "as many channels as kernels and images",
                convolution(2, 2, 2, 3, 2, 1, 4, True),
                "Shapes do not tell there which axis is which.",
            ),
        ],
        outputs=GRADIENTS,
        shrink=False,
    ),
    Function(
        "loss_and_gradients",
        level_2,
        batch,
        vae_model,
        special=[
            Special("a batch of one image", special_batch(images=1), LOST_AXIS),
            Special(
                "very large logits",
                special_batch(decoder_deconv2=1000.0),
                "Does exp overflow somewhere, or is something cut off?",
            ),
            Special(
                "codes that are very vague",
                special_batch(encoder_logvar=8.0),
                "logvar has no limits: is something cut off?",
            ),
        ],
        outputs=("loss", *PARAMETERS),
        shrink=False,
        changes=False,
    ),
    Function(
        "adam_step",
        torch_adam,
        moments,
        adam_model,
        special=[
            Special("the first step", one_step(), "What do the means and their corrections give there?"),
            Special(
                "a parameter that never had a gradient",
                one_step(np.array([0.3, 0.0, 1.4])),
                "What is 0 / 0 there?",
            ),
            Special(
                "gradients as small as 1e-8",
                one_step(1e-8 * GRAD),
                "The small number in the denominator counts there: where is it added, and how small is it?",
            ),
            Special(
                "gradients as large as 1e6",
                one_step(1e6 * GRAD),
                "A gradient has no limits: is something cut off?",
            ),
            Special(
                "step 2000",
                one_step(first=0.2, second=1.0, step=2000),
                "How much is left of the correction there?",
            ),
        ],
        outputs=("param", "first", "second"),
        shrink=False,
        in_place=False,
    ),
    Function(
        "train",
        level_2_trained,
        runs,
        train_model,
        special=[
            Special("a single step", runs(np.random.default_rng(1), steps=1), LOST_AXIS),
            Special("one image in each batch", runs(np.random.default_rng(2), size=1), LOST_AXIS),
            Special(
                "losses that rise",
                runs(np.random.default_rng(17), steps=4, size=2, lr=0.05),
                "Gradients are large there, and losses rise: is something cut off, or does it stop too early?",
            ),
        ],
        outputs=("losses", *PARAMETERS),
        tolerance=1e-8,
        shrink=False,
        in_place=False,
        single=False,
        changes=False,
    ),
]
