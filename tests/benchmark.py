"""How fast the levels are on this machine, as ratios within one run. `make bench`

Every comparison is interleaved (one of each in turn, so that a slow minute hits both) and the median is shown. NumPy's
and PyTorch's thread pools keep spinning for a moment after a product and so slow each other down; where both appear,
the ratio of each running alone, in blocks, stands beside the interleaved one.

The training part wants MNIST (VAE_DATA says where) and is left out, with a line that says so, without it.
"""

import contextlib
import io
import platform
import statistics
import sys
import time
import tracemalloc

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import vae_lowlevel
import vae_numpy
from experiment import TrainingConfig
from image_data import data_folder, load_uint8_images
from iwae import IWAE
from likelihood import log_likelihood
from sprites import NUM_SPRITES, render
from trainer import evaluate, train
from training_images import ResidentImages, load_resident
from vae_paper import VAE

LATENT_DIM = 20
# Two operations per multiply-add: conv1, conv2, fc and their mirror images, the heads, fc1.
MFLOP_FORWARD = 2e-6 * (2 * (196 * 9 * 32 + 49 * 288 * 64 + 3136 * 256) + 3 * 256 * LATENT_DIM)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(repeats, **functions):
    """Median seconds of each function, run in turn. Progress bars are not shown: they would run through the tables."""
    times = {name: [] for name in functions}
    with contextlib.redirect_stderr(io.StringIO()):
        for function in functions.values():
            function()
        for _ in range(repeats):
            for name, function in functions.items():
                times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}


def in_blocks(repeats, **functions):
    """Median seconds of each function, alone; the first quarter of a block, when the others still spin, is dropped."""
    return {
        name: statistics.median([seconds(function) for _ in range(repeats)][repeats // 4 :])
        for name, function in functions.items()
    }


def matmul_rate():
    """float32 GFLOP/s of a large matrix product in PyTorch."""
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / interleaved(10, product=lambda: a @ a)["product"] / 1e9


def forward_pass():
    print("\nForward pass (encode + decode), float32, us per image, median of 30")
    print(f"{'N':>8}{'level 1':>10}{'level 2':>10}{'ratio':>8}   alone:{'level 1':>10}{'level 2':>10}{'ratio':>8}")
    params1, params2 = vae_numpy.init_params(0, LATENT_DIM), vae_lowlevel.init_params(0, LATENT_DIM)
    rng = np.random.default_rng(0)

    def level1(x):
        mu, _ = vae_numpy.encode(params1, x)
        return vae_numpy.decode(params1, mu)

    def level2(x):
        with torch.no_grad():
            mu, _ = vae_lowlevel.encode(params2, x)
            return vae_lowlevel.decode(params2, mu)

    for n in (128, 1024):
        x = rng.random((n, 1, 28, 28), dtype=np.float32)
        tx = torch.from_numpy(x)
        both = {"level1": lambda x=x: level1(x), "level2": lambda tx=tx: level2(tx)}
        row = ""
        for measured in (interleaved(30, **both), in_blocks(40, **both)):
            a, b = (1e6 * value / n for value in measured.values())
            row += f"{a:>10.1f}{b:>10.1f}{a / b:>8.2f}         "
        print(f"{n:>8}{row}")

    tracemalloc.start()
    for n in (1_000, 10_000):
        x = rng.random((n, 1, 28, 28), dtype=np.float32)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        level1(x)
        peak = (tracemalloc.get_traced_memory()[1] - before) / 2**20
        time_per_image = 1e6 * statistics.median(seconds(lambda x=x: level1(x)) for _ in range(3)) / n
        print(f"level 1, N = {n}: {time_per_image:.1f} us per image, {peak:.0f} MiB beyond its input")
    tracemalloc.stop()


def bare_step(batch_size):
    """One step of the same model as plain layers, on one fixed batch: the least a training step can cost."""
    model = VAE(latent_dim=LATENT_DIM)
    model.validate = False
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x, eps = torch.rand(batch_size, 1, 28, 28), torch.randn(batch_size, LATENT_DIM)

    def step():
        mu, logvar = model.encoder(x)
        logits = model.decoder(mu + torch.exp(logvar / 2) * eps)
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        loss = (nll + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()) / batch_size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def loop_overhead(rate, batch_size=128, steps=20):
    images = torch.randint(0, 256, (steps * batch_size, 1, 28, 28), dtype=torch.uint8)
    labels = torch.zeros(len(images), dtype=torch.int64)
    one = images[:1]
    params, model, step = vae_lowlevel.init_params(0, LATENT_DIM), VAE(latent_dim=LATENT_DIM), bare_step(batch_size)
    config = TrainingConfig(epochs=1, batch_size=batch_size)
    measured = interleaved(
        20,
        bare=lambda: [step() for _ in range(steps)],
        level2=lambda: vae_lowlevel.train(params, images, one, epochs=1, batch_size=batch_size),
        level3=lambda: train(model, ResidentImages(images, labels), ResidentImages(one, labels[:1]), config),
    )
    print(f"\nTraining step, batch {batch_size}, ms, median of 20 epochs of {steps} steps")
    for name, value in measured.items():
        print(f"{name:>8}{1e3 * value / steps:>8.2f}   {value / measured['bare']:.2f} x the bare step")
    reached = 3e-3 * MFLOP_FORWARD * batch_size * steps / measured["bare"]
    print(f"the bare step reaches {reached:.0f} GFLOP/s; a large matrix product {rate:.0f} GFLOP/s")


def tutorial_epoch(vae, dataset, batch_size):
    """An epoch as tutorials write it: DataLoader, ToTensor for every image, plain Adam, .item() in every step."""
    model = nn.ModuleDict({"encoder": vae.encoder, "decoder": vae.decoder})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True)

    def epoch():
        total = 0.0
        for x, _ in loader:
            mu, logvar = model["encoder"](x)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            logits = model["decoder"](z)
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = (reconstruction + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            total += loss.item()
            optimizer.step()

    return epoch


def mnist_epoch(batch_size=128, num_images=15_000):
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    images, labels = (torch.from_numpy(array) for array in load_uint8_images("mnist", "train"))
    dataset = MNIST(data_folder(), train=True, transform=ToTensor())
    model, config = VAE(latent_dim=LATENT_DIM), TrainingConfig(epochs=1, batch_size=batch_size)
    params = vae_lowlevel.init_params(0, LATENT_DIM)
    some = ResidentImages(images[:num_images], labels[:num_images])
    one = ResidentImages(images[:1], labels[:1])
    subset = torch.utils.data.Subset(dataset, range(num_images))
    measured = interleaved(
        5,
        tutorial=tutorial_epoch(VAE(latent_dim=LATENT_DIM), subset, batch_size),
        level2=lambda: vae_lowlevel.train(params, some.images, one.images, epochs=1, batch_size=batch_size),
        level3=lambda: train(model, some, one, config),
    )
    print(f"\nMNIST, a quarter epoch ({num_images} images), batch {batch_size}, s, median of 5")
    for name, value in measured.items():
        print(f"{name:>10}{value:>8.2f}   {value / measured['tutorial']:.2f} x the tutorial loop")

    mlp = {"architecture": "mlp", "hidden_dims": (400,)}
    model, everything = VAE(latent_dim=LATENT_DIM, **mlp), ResidentImages(images, labels)
    measured = interleaved(
        3,
        tutorial=tutorial_epoch(VAE(latent_dim=LATENT_DIM, **mlp), dataset, batch_size),
        level3=lambda: train(model, everything, one, config),
    )
    print(f"a whole epoch of the MLP 784-400-{LATENT_DIM}, s, median of 3")
    for name, value in measured.items():
        print(f"{name:>10}{value:>8.2f}   {value / measured['tutorial']:.2f} x the tutorial loop")


def bfloat16(epochs=2, num_images=15_000):
    """Images a second and the result of training in bfloat16 against float32."""
    train_images, test_images = (load_resident("mnist", split) for split in ("train", "test"))
    some = ResidentImages(train_images.images[:num_images], train_images.labels[:num_images])
    one = ResidentImages(test_images.images[:1], test_images.labels[:1])
    models = {}

    def epoch(precision, images=some):
        torch.manual_seed(0)
        models[precision] = VAE(latent_dim=LATENT_DIM)
        train(models[precision], images, one, TrainingConfig(epochs=1, precision=precision))

    measured = interleaved(5, float32=lambda: epoch("float32"), bf16=lambda: epoch("bf16"))
    print(f"\nConv VAE, MNIST, {num_images} images, images/s, median of 5; test -ELBO after {epochs} epochs of all")
    for name, value in measured.items():
        torch.manual_seed(0)
        model = VAE(latent_dim=LATENT_DIM)
        with contextlib.redirect_stderr(io.StringIO()):
            train(model, train_images, one, TrainingConfig(epochs=epochs, precision=name))
        elbo = evaluate(model, test_images, seed=0).means()["loss"]
        print(f"{name:>10}{num_images / value:>10.0f}   {measured['float32'] / value:.2f} x float32   -ELBO {elbo:.2f}")


def importance_sampling(num_images=50, num_samples=5000):
    """log p(x) on the 200-200-50 network; its matrix products against the machine's rate, measured in turn."""
    model = IWAE()
    x = load_resident("mnist", "test").batch(slice(0, num_images))[0]
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2048, 2048)
    measured = interleaved(
        7, log_p=lambda: log_likelihood(model, x, num_samples, generator), products=lambda: [a @ a for _ in range(5)]
    )
    rate = 5 * 2e-9 * 2048**3 / measured["products"]
    reached = 2e-9 * (50 * 200 + 200 * 200 + 200 * 784) * num_images * num_samples / measured["log_p"]
    print(
        f"\nlog p(x), {num_samples} samples, 200-200-50, MNIST: {1e3 * measured['log_p'] / num_images:.1f} ms an image,"
    )
    print(f"{reached:.0f} GFLOP/s of matrix products, {reached / rate:.2f} of the machine's {rate:.0f}")


def sprites_per_second(count=5_000):
    index = np.random.default_rng(0).integers(0, NUM_SPRITES, count)
    both = {str(size): lambda size=size: render(index, size) for size in (64, 32)}
    print("\nSprites rendered at random, images/s, median of 10:", end=" ")
    print(", ".join(f"{count / value:.0f} at {size}x{size}" for size, value in interleaved(10, **both).items()))


def main():
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}, CPU only, ", end=""
    )
    rate = matmul_rate()
    print(f"{torch.get_num_threads()} threads; {MFLOP_FORWARD:.1f} MFLOP forward per image")
    forward_pass()
    loop_overhead(rate)
    sprites_per_second()
    try:
        mnist_epoch()
        bfloat16()
        importance_sampling()
    except FileNotFoundError as error:
        print(f"\nMNIST: training and log p(x) are not measured. {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
