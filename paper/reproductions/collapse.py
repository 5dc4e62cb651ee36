"""Posterior collapse: decoders that stop listening to z, and the schedules that are to keep them listening.

Where q(z|x) equals p(z) for every x, the KL is zero, the code says nothing, and the decoder is a model of p(x) on its
own. There are two ways into that. A deep decoder may get there by accident: early in training z is noise to it, to
shut it off gains the KL at once, and nothing leads back. A decoder that sees the pixels before the one it predicts may
get there rightly: what it can do alone costs no KL, so that ignoring z is optimal, or nearly (Chen et al. 2017).

That second decoder is the model of this file: a PixelCNN (van den Oord 2016) whose first layer is also told what z says
about each place,

    p(x|z) = prod_i p(x_i | x_<i, z),   row by row, the channels of a pixel at once

so that p(x|z) of a given image takes one pass, and a draw one pass for each pixel.

    z        latent code                                              (N, Z)
    context  what z says about each place: decode(z)                  (N, F, H, W)
    logits   log-odds of each pixel given z and those before it       (N, C, H, W)

Run it with

    python paper/reproductions/collapse.py --image-size 16                          the embedded digits
    python paper/reproductions/collapse.py --data mnist --image-size 16 --binarisation fixed --free-bits 0.25

Papers, cited by their first author and year:
    Bowman et al. 2016, "Generating Sentences from a Continuous Space", arXiv:1511.06349 (sigmoid)
    Sonderby et al. 2016, "Ladder Variational Autoencoders", arXiv:1602.02282 (linear)
    Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow", arXiv:1606.04934 (free bits)
    Fu et al. 2019, "Cyclical Annealing Schedule", arXiv:1903.10145 (cyclical)
    van den Oord et al. 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759
    van den Oord et al. 2016b, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328
    Chen et al. 2017, "Variational Lossy Autoencoder", arXiv:1611.02731
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import statistics
from dataclasses import dataclass
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

from experiment import TrainingConfig, run_script
from level_script import save_figure, save_image_grid, save_loss_curves
from likelihood import active_units, posteriors
from pictures import loss_curves
from reproduction import Claim, Reproduction, Run
from trainable import flag, option, require
from vae_paper import VAE, VAEOptions
from vq_vae import MaskedConv2d

# --- The model -------------------------------------------------------------------------------------------------------


class RowsConv2d(MaskedConv2d):
    """A convolution that sees the rows above a place, to the left and to the right; `itself`: and the place's own."""

    def __init__(self, in_channels, out_channels, kernel_size, itself, dilation=1):
        super().__init__(in_channels, out_channels, kernel_size, itself, dilation)
        rows = torch.arange(kernel_size) < kernel_size // 2 + itself
        self.mask.copy_(rows[:, None].expand_as(self.mask))


class PixelBlock(nn.Module):
    """Lets two maps see further: `above`, which knows the rows above each place, and `before`, which knows those and
    the pixels to its left (van den Oord 2016b: the first map is there for what masked convolutions alone never see).
    """

    def __init__(self, channels, dilation):
        super().__init__()
        self.rows = RowsConv2d(channels, channels, 3, itself=True, dilation=dilation)
        self.pixels = MaskedConv2d(channels, channels, 3, itself=True, dilation=dilation)
        self.over, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, above, before):
        above = above + self.rows(F.relu(above))
        change = self.pixels(F.relu(before)) + self.over(F.relu(above))
        return above, before + self.out(F.relu(change))


class PixelDecoder(nn.Module):
    """p(x_i | x_<i, z): masked convolutions over the image, with what z says about each place added to the first."""

    CONTEXT = 8  # numbers that z gives to each place
    DILATIONS = (1, 2, 4)  # of the blocks, again and again

    def __init__(self, image_shape, latent_dim, channels, blocks):
        super().__init__()
        colours, height, width = image_shape
        self.grid = (self.CONTEXT, height, width)
        self.code = nn.Sequential(nn.Linear(latent_dim, 256), nn.ReLU(), nn.Linear(256, self.CONTEXT * height * width))
        self.rows = RowsConv2d(colours, channels, 7, itself=False)
        self.pixels = MaskedConv2d(colours, channels, 7, itself=False)
        self.context = nn.Conv2d(self.CONTEXT, channels, 1)
        dilations = islice(cycle(self.DILATIONS), blocks)
        self.blocks = nn.ModuleList(PixelBlock(channels, dilation) for dilation in dilations)
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, colours, 1))

    def forward(self, z, c=None):
        """z (N, Z) -> context (N, F, H, W)."""
        return self.code(z).unflatten(1, self.grid)

    def logits(self, context, x):
        """Of each pixel of x (N, C, H, W) given those before it: (N, C, H, W)."""
        above, before = self.rows(x), self.pixels(x) + self.context(context)  # (N, channels, H, W) each
        for block in self.blocks:
            above, before = block(above, before)
        return self.last(before)


@dataclass
class PixelVAEOptions(VAEOptions):
    """A VAE's, and the size of its decoder; --architecture is then the encoder's."""

    pixel_channels: int = option(24, least=1)
    """Channels of the decoder's masked convolutions."""
    pixel_blocks: int = option(6, least=0)
    """Residual blocks of the decoder, of which it sees 1, 2, 4, 1, 2, 4, ... pixels further than 3: 17 with six."""

    def check(self, flags=False):
        super().check(flags)
        name = flag if flags else str
        require(self.likelihood == "bernoulli", f"pixels are drawn black or white: leave out {name('likelihood')}")


class PixelVAE(VAE):
    """A VAE whose decoder also sees the pixels before the one it predicts.

    `decode` gives the context, and the logits come with an image: `reconstruction_nll(context, x)` is -log p(x|z) of
    the whole image, and everything that a VAE makes of it (terms, schedules, elbo, log_weights) stays as it is. Its
    options are those of `PixelVAEOptions`.
    """

    Options = PixelVAEOptions

    def __init__(self, **options):
        super().__init__(**options)
        own = self.options
        self.decoder = PixelDecoder(self.image_shape, self.latent_dim, own.pixel_channels, own.pixel_blocks)

    def logits(self, context, x):
        """Log-odds of each pixel of x given those before it and z: (N, F, H, W), (N, C, H, W) -> (N, C, H, W)."""
        return self.decoder.logits(context, x).to(x.dtype)

    def reconstruction_nll(self, logits, x):
        """-log p(x|z) = -sum_i log p(x_i | x_<i, z): (N,) nats. logits: what `decode` gave, the context."""
        return super().reconstruction_nll(self.logits(logits, x), x)

    @torch.no_grad()
    def sample(self, z, uniform=None):
        """Images of p(x|z), black and white, drawn pixel by pixel: z (N, Z), uniform (N, C, H, W) in [0, 1).

        Raises ValueError without `uniform`: the mean of p(x|z), a VAE's sample, is no network's output here.
        """
        require(torch.is_tensor(uniform), "a PixelVAE draws its pixels one by one and needs uniform numbers for them")
        context, x = self.decode(z), torch.zeros_like(uniform)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                # Rows below have not been drawn, and no pixel above looks at them.
                p = torch.sigmoid(self.logits(context, x)[:, :, i, j])
                x[:, :, i, j] = (uniform[:, :, i, j] < p).to(x)
        return x


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class PixelConfig(PixelVAEOptions, TrainingConfig):
    """Train a VAE with a PixelCNN as its decoder, which may model the images without z (Chen 2017).

    Most of the time goes into the masked convolutions: images of 16x16 pixels take a third of that of 28x28.
    """


def build_model(config, train_images):
    return PixelVAE.from_options(config, image_shape=train_images.image_shape)


@torch.no_grad()
def draw_pixel_vae(folder, model, images, seed, rows=()):
    """The pictures of a PixelVAE: its curves, and draws. Where z is ignored, a row is as mixed as all rows together."""
    generator = torch.Generator().manual_seed(seed)
    parameter = next(model.parameters())
    x = images.batch(slice(0, 4), torch.Generator(parameter.device).manual_seed(seed))[0].to(parameter)
    mu = model.embed(x)
    if rows:
        save_loss_curves(folder / "loss_curves.png", loss_curves(rows), model.units)
    from_prior = redrawn(model, torch.randn(4, model.latent_dim, generator=generator).to(mu), 6, generator)
    save_image_grid(
        folder / "samples.png", from_prior.cpu().numpy(), "Samples: each row one z from the prior", None, None
    )
    again = torch.cat([x.unsqueeze(1), redrawn(model, mu, 6, generator)], dim=1)
    names = ["x", *[f"draw {i + 1}" for i in range(6)]]
    title = "Test images, and draws of p(x|z) with the means of their codes"
    save_image_grid(folder / "redrawn.png", again.cpu().numpy(), title, None, names)


def redrawn(model, z, count, generator):
    """`count` draws of p(x|z) for each code: z (N, Z) -> (N, count, C, H, W)."""
    uniform = torch.rand(len(z) * count, *model.image_shape, generator=generator).to(z)
    return model.sample(z.repeat_interleave(count, dim=0), uniform).unflatten(0, (len(z), count))


def main(argv=None):
    run_script(__file__, PixelConfig, build_model, PixelVAE.load_file, argv, draw=draw_pixel_vae)


# --- The experiment --------------------------------------------------------------------------------------------------

MODELS = ("MLP", "PixelCNN")
WITHOUT = "PixelCNN, without z"  # a KL so dear that none is left: what the decoder can do alone
SHORT = "PixelCNN of 3 pixels, constant"  # one that sees no further
SHORT_WITHOUT = "PixelCNN of 3 pixels, without z"
SCHEDULES = {  # and whose claim it is
    "constant": None,
    "linear": "Sonderby 2016",
    "sigmoid": "Bowman 2016",
    "cyclical": "Fu 2019",
    "free bits": "Kingma 2016",
}
DATA = "--data mnist --image-size 16 --binarisation fixed --batch-size 64 --architecture mlp"
NETWORKS = {
    ("quick", "MLP"): "--hidden-dims 200 200 200 200 200",
    ("full", "MLP"): "--hidden-dims 200 200 200 200 200",
    ("quick", "PixelCNN"): "--pixel-channels 24 --pixel-blocks 6",
    ("full", "PixelCNN"): "--pixel-channels 32 --pixel-blocks 6",
}
LENGTHS = {  # training images and epochs
    ("quick", "MLP"): (30_000, 10),
    ("full", "MLP"): (60_000, 50),
    ("quick", "PixelCNN"): (10_000, 8),
    ("full", "PixelCNN"): (60_000, 30),
}
MINUTES = {("quick", "MLP"): 0.4, ("full", "MLP"): 5.0, ("quick", "PixelCNN"): 1.5, ("full", "PixelCNN"): 60.0}
FEW, LITTLE = 5, 1.0  # active units of 20; nats per image


def schedule_options(schedule, steps):
    """What one types for a schedule of a training of so many steps."""
    return {
        "constant": "",
        "linear": f"--kl-schedule linear --kl-steps {steps // 2}",
        "sigmoid": f"--kl-schedule sigmoid --kl-steps {steps // 2}",
        "cyclical": f"--kl-schedule cyclical --kl-steps {steps}",
        "free bits": "--free-bits 0.25",
    }[schedule]


class Collapse(Reproduction):
    """Two decoders that may ignore z: a deep MLP, which would pay for z before it has learned to read it, and a
    PixelCNN, which predicts each pixel from those before it and may need nothing else. Each is trained with the whole
    KL from the first step on, with three ways of letting its weight rise, and with a quarter of a nat that each of the
    20 latents may spend for free. These five nats will be spent: what they are worth is seen in -ELBO.

    Counted at the end: the KL, the active units (latents whose mean moves with the image, Burda 2015), and -ELBO, with
    the KL whole, which says what the code is good for. "Without z" is a PixelCNN whose KL weighs a hundredfold in
    training, so that hardly a code is left: what this decoder can do alone. It sees all pixels before the one it
    predicts; the last two rows are of one that sees those which are at most three rows or columns away, and has to be
    told by a code what the rest of the image looks like.
    """

    name = "collapse"
    title = "schedules against posterior collapse, of a deep MLP and of a PixelCNN"
    source = "Bowman 2016; Sonderby 2016; Kingma 2016; Fu 2019"

    def protocol(self, budget):
        (mlp, epochs), (pixel, pixel_epochs) = (LENGTHS[budget, model] for model in MODELS)
        return (
            "MNIST in place of the papers' texts and deeper models, 16x16 pixels, binarised once, batches of 64, Adam "
            f"1e-3, 20 latents; the MLP ({NETWORKS[budget, 'MLP']}, ReLU) takes {epochs} epochs of {mlp:,} images, the "
            f"PixelCNN (7x7 convolutions, then blocks of 3x3: {NETWORKS[budget, 'PixelCNN']}) {pixel_epochs} epochs "
            f"of {pixel:,} images; linear and sigmoid rise over the first half of the steps, the four cycles take all "
            "of them; few active units means a quarter of the latents at most"
        )

    def runs(self, budget):
        runs = {}
        for model in MODELS:
            images, epochs = LENGTHS[budget, model]
            script = "vae_paper" if model == "MLP" else "reproductions.collapse"
            shared = f"{DATA} {NETWORKS[budget, model]} --train-images {images} --epochs {epochs}"
            steps = epochs * -(-images // 64)
            for schedule in SCHEDULES:
                options = f"{shared} {schedule_options(schedule, steps)}".strip()
                runs[f"{model}, {schedule}"] = Run(script, options, MINUTES[budget, model])
        runs[WITHOUT] = Run(script, f"{shared} --beta 100", MINUTES[budget, model])
        short = f"{shared} --pixel-blocks 0"
        return runs | {
            SHORT: Run(script, short, MINUTES[budget, model] / 6),
            SHORT_WITHOUT: Run(script, f"{short} --beta 100", MINUTES[budget, model] / 6),
        }

    def measure(self, trained):
        test = trained.images("test").batch(slice(None))[0]
        last = trained.rows[-1]
        terms = {name: trained.column(f"test_{name}") for name in ("reconstruction_nll", "kl_divergence")}
        return {
            "minus_elbo": last["test_reconstruction_nll"] + last["test_kl_divergence"],
            "reconstruction": last["test_reconstruction_nll"],
            "kl": last["test_kl_divergence"],
            "active": int(active_units(posteriors(trained.model, test)[0]).sum()),
            "epochs": trained.column("epoch"),
            "kl_curve": terms["kl_divergence"],
            "minus_elbo_curve": [sum(pair) for pair in zip(*terms.values(), strict=True)],
        }

    def claims(self, results):
        claims = [
            Claim(
                f"With the whole KL from the start the {model} uses few of its latents",
                "direction only (Bowman 2016)",
                f"{results.text(run, 'active', 0)} of 20 active, KL {results.text(run, 'kl', 1)} nats",
                results.mean(run, "active") <= FEW,
                f"they share {results.text(run, 'kl', 1)} nats: a latent counts as active however little it says",
            )
            for model, run in ((model, f"{model}, constant") for model in MODELS)
        ]
        for schedule, paper in SCHEDULES.items():
            if paper:
                words = f"{schedule.capitalize()} annealing"
                if schedule == "free bits":
                    words = "Leaving free bits, which will be spent,"
                kept = [f"{model}: {self.against_constant(results, model, schedule)}" for model in MODELS]
                holds = all(keeps_more(results, model, schedule) for model in MODELS)
                text = f"{words} leaves more latents active and a larger KL than none, in both models"
                claims.append(Claim(text, f"direction only ({paper})", "; ".join(kept), holds, "not in both measures"))
        pair = [results["MLP, linear", "minus_elbo"], results["MLP, constant", "minus_elbo"]]
        claims.append(
            Claim(
                "What linear annealing keeps is worth its nats to the MLP: -ELBO is lower",
                "direction only (Sonderby 2016)",
                " to ".join(results.text(f"MLP, {schedule}", "minus_elbo") for schedule in ("constant", "linear")),
                all(annealed < constant for annealed, constant in zip(*pair, strict=True)),
            )
        )
        runs = {WITHOUT: [f"PixelCNN, {schedule}" for schedule in SCHEDULES], SHORT_WITHOUT: [SHORT]}
        best = {alone: min(coded, key=lambda run: results.mean(run, "minus_elbo")) for alone, coded in runs.items()}
        gains = [results.mean(alone, "minus_elbo") - results.mean(coded, "minus_elbo") for alone, coded in best.items()]
        whole, short = (
            f"{results.text(alone, 'minus_elbo')} without z, {results.text(coded, 'minus_elbo')} with it"
            for alone, coded in best.items()
        )
        return [
            *claims,
            Claim(
                f"The PixelCNN can do without its code: no schedule's -ELBO is better by {LITTLE:.0f} nat or more",
                "direction only (Chen 2017)",
                f"{whole} ({best[WITHOUT].partition(', ')[2]})",
                gains[0] < LITTLE,
            ),
            Claim(
                "One that sees three pixels far cannot: its code is worth more",
                "direction only (Chen 2017)",
                f"{short}: {gains[1]:.2f} nats, against {gains[0]:.2f}",
                gains[1] > gains[0],
            ),
        ]

    def against_constant(self, results, model, schedule):
        runs = f"{model}, constant", f"{model}, {schedule}"
        units, nats = ([results.text(run, name, digits) for run in runs] for name, digits in (("active", 0), ("kl", 1)))
        return f"{units[0]} to {units[1]} active, KL {nats[0]} to {nats[1]}"

    def table(self, results):
        header = ["run", "-ELBO (nats)", "reconstruction (nats)", "KL (nats)", "active units of 20"]
        names = {"minus_elbo": 2, "reconstruction": 2, "kl": 2, "active": 0}
        rows = [[run, *(results.text(run, name, digits) for name, digits in names.items())] for run in results.runs]
        return header, rows

    def draw(self, results, trained, path):
        """The KL over the epochs, a panel for each model, and how many units are active at the end."""
        figure = Figure(figsize=(10, 5), layout="constrained")
        for axes, model in zip(figure.subplots(1, 2), MODELS, strict=True):
            shown = []
            for i, run in enumerate(name for name in results.runs if name.startswith(f"{model},")):
                curves = results[run, "kl_curve"]
                epochs = results[run, "epochs"][0]
                mean = [statistics.mean(values) for values in zip(*curves, strict=True)]
                shown.append(mean)
                active = f"{statistics.mean(results[run, 'active']):.3g}"
                label = f"{run.partition(', ')[2]}: {active} of 20 active"
                marker = "." if len(mean) < 12 else None
                axes.plot(epochs, mean, color=f"C{i}", marker=marker, label=label)
            axes.set(title=model, xlabel="epoch", ylabel="KL, test images (nats)")
            # A KL that costs little at first is several times larger then: the axis ends where the later epochs do.
            later = [value for curve in shown for value in curve[1:]] or [1.0]
            axes.set_ylim(0, 1.3 * max(later))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        save_figure(figure, path)


def keeps_more(results, model, schedule):
    """Whether a schedule ends with more active units and a larger KL than none, with every seed."""
    return all(
        more > less
        for name in ("active", "kl")
        for more, less in zip(results[f"{model}, {schedule}", name], results[f"{model}, constant", name], strict=True)
    )


REPRODUCTION = Collapse()

if __name__ == "__main__":
    from reproductions import collapse  # by its own name, so that its classes are those that other files import

    run_as_script(collapse.main)
