"""The VQ-VAE (van den Oord 2017): the code is a small picture of words from a learned codebook.

The encoder proposes a vector for each place of a 7x7 grid, and the nearest entry of the codebook takes its place:

    z_q = e_k,   k = argmin_j |z_e - e_j|                                               (van den Oord 2017, equation 2)
    loss = -log p(x|z_q) + |sg[z_e] - e|^2 + commitment * |z_e - sg[e]|^2               (van den Oord 2017, equation 3)

sg stops the gradient. Choosing has none, so the decoder's is handed to the encoder as it is (straight-through). The
second term moves the codebook to the encoder's vectors; a running mean of the vectors that chose an entry does the same
with less noise (codebook "ema", appendix A.1). The third keeps the encoder from running away.

There is no prior in this yet: a uniform one would make each image cost 49 ln K nats. A network that predicts each code
from those before it, row by row, is trained on the codes of the moment. They are integers, which no gradient passes, so
the prior does not disturb them; it runs after them while they move. Together the two say what an image costs:

    -log p(x) <= -log p(x|z_q) - log p(codes)                                   -ELBO; the posterior is a single point

    x        images in [0, 1]                                 (N, C, H, W)
    z_e      the encoder's vectors                            (N, D, H/4, W/4)
    codes    the chosen entries                               (N, H/4, W/4) integers in 0 .. K - 1
    eps      numbers whose order chooses vectors at random    (N, H/4 * W/4)

Run it with

    python paper/vq_vae.py                                    on the embedded digits
    python paper/vq_vae.py --codebook gradient                the codebook learned by gradients
    python paper/vq_vae.py --data mnist --epochs 10

Paper: van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning", arXiv:1711.00937
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from experiment import TrainingConfig, report_of_terms, run_script
from input_checks import check_images
from processes import gathered, summed
from trainable import Options, TrainableModel, option, require


def nearest(vectors, codebook):
    """The entry nearest to each vector (equation 2): (M, D), (K, D) -> (M,) integers."""
    # |v - e|^2 = |v|^2 - 2 v e + |e|^2, of which |v|^2 is the same for every entry.
    return (codebook.square().sum(dim=1) - 2 * vectors @ codebook.T).argmin(dim=1)


def straight_through(z_e, z_q):
    """z_q going forward; going backward its gradient is z_e's. Both (N, D, h, w)."""
    return z_e + (z_q - z_e).detach()


def perplexity(counts):
    """exp(entropy) of how often each entry was chosen, (K,) -> a scalar: 1 if always the same, K if all equally."""
    share = counts / counts.sum()
    return torch.special.entr(share).sum().exp()


class Codebook(nn.Module):
    """K vectors of D numbers, moved to the encoder's vectors by gradients or as running means.

    Like BatchNorm it learns from the batches it sees in training mode and stays as it is in evaluation mode. Both kinds
    count how often an entry is chosen, a running mean over the batches, and put entries that nobody chooses onto
    vectors of the batch. They all start so: with a count of 0.
    """

    REVIVE_BELOW = 0.1  # of a fair share, M / K vectors in a batch of M

    def __init__(self, num_codes, code_dim, kind, decay):
        super().__init__()
        self.kind, self.decay = kind, decay
        entries = torch.zeros(num_codes, code_dim)
        if kind == "gradient":
            self.entries = nn.Parameter(entries)
        else:
            self.register_buffer("entries", entries)
            self.register_buffer("sums", entries.clone())  # of the vectors that chose an entry, a running mean
        self.register_buffer("counts", torch.zeros(num_codes))

    def forward(self, z_e, keys):
        """z_e (N, D, h, w), keys (N, h w) -> z_q (N, D, h, w) and codes (N, h, w)."""
        with torch.autocast(z_e.device.type, enabled=False):  # in bfloat16 a vector may take the wrong entry
            return self.quantize(z_e, keys)

    def quantize(self, z_e, keys):
        n, code_dim, h, w = z_e.shape
        vectors = z_e.detach().movedim(1, 3).flatten(0, 2)  # (M, D), M = N h w
        if self.training:
            self.revive(gathered(vectors), gathered(keys.flatten()))
        codes = nearest(vectors, self.entries.detach())
        z_q = F.embedding(codes, self.entries).view(n, h, w, code_dim).movedim(3, 1)
        if self.training:
            self.update(vectors, codes)
        return z_q, codes.view(n, h, w)

    @torch.no_grad()
    def revive(self, vectors, keys):
        """Put dead entries onto vectors of the batch, drawn by the order of `keys` (M,), and give them a fair share.

        vectors (M, D): with many processes those of all, so that every process has the same codebook.
        """
        fair = len(vectors) / len(self.counts)
        dead = self.counts < self.REVIVE_BELOW * fair  # (K,)
        drawn = keys.argsort()[torch.arange(len(dead), device=keys.device) % len(keys)]
        self.entries.copy_(torch.where(dead[:, None], vectors[drawn], self.entries))
        self.counts.copy_(torch.where(dead, fair, self.counts))
        if self.kind == "ema":
            self.sums.copy_(torch.where(dead[:, None], fair * self.entries, self.sums))

    @torch.no_grad()
    def update(self, vectors, codes):
        """The running means of the batch's counts and sums; for "ema" the entries are their ratio (appendix A.1).

        vectors (M, D), codes (M,): with many processes this one's.
        """
        chosen = F.one_hot(codes, len(self.counts)).to(vectors)  # (M, K)
        self.counts.lerp_(summed(chosen.sum(dim=0)), 1 - self.decay)
        if self.kind == "ema":
            self.sums.lerp_(summed(chosen.T @ vectors), 1 - self.decay)
            # Laplace smoothing: a little is added to every count, so that none is zero, and the total stays.
            total, least = self.counts.sum(), 1e-5
            smoothed = (self.counts + least) * total / (total + least * len(self.counts))
            self.entries.copy_(self.sums / smoothed[:, None])


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what comes before a place, row by row; `itself`: and the place itself.

    (van den Oord et al. 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759: mask A, and B with `itself`. A stack
    of them never sees a wedge to the upper right, which the first layer's large kernel keeps small here.)
    """

    def __init__(self, in_channels, out_channels, kernel_size, itself, dilation=1):
        padding = kernel_size // 2 * dilation
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
        middle = kernel_size**2 // 2
        mask = torch.arange(kernel_size**2) < middle + itself
        self.register_buffer("mask", mask.view(kernel_size, kernel_size).float(), persistent=False)

    def forward(self, h):
        return F.conv2d(h, self.weight * self.mask, self.bias, padding=self.padding, dilation=self.dilation)


class CodePrior(nn.Module):
    """p(codes) = prod_i p(code_i | the codes before it, row by row): a small PixelCNN."""

    def __init__(self, num_codes, channels=64, blocks=3):
        super().__init__()
        self.embedding = nn.Embedding(num_codes, channels)
        self.first = MaskedConv2d(channels, channels, 7, itself=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), MaskedConv2d(channels, channels, 3, itself=True), nn.ReLU(), nn.Conv2d(channels, channels, 1)
            )
            for _ in range(blocks)
        )
        self.logits = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, num_codes, 1))

    def forward(self, codes):
        """codes (N, h, w) -> logits (N, K, h, w) of each code given those before it."""
        h = self.first(self.embedding(codes).movedim(3, 1))
        for block in self.blocks:
            h = h + block(h)
        return self.logits(h)

    def nll(self, codes):
        """-log p(codes): (N, h, w) -> (N,) nats."""
        logits = self(codes)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # from bfloat16
        return F.cross_entropy(logits, codes, reduction="none").flatten(1).sum(dim=1)

    @torch.no_grad()
    def sample(self, uniform):
        """Codes drawn one after the other: uniform (N, h, w) in [0, 1) -> (N, h, w), by the inverse of each CDF."""
        codes = torch.zeros(uniform.shape, dtype=torch.int64, device=uniform.device)
        for i in range(uniform.shape[1]):
            for j in range(uniform.shape[2]):
                cdf = self(codes)[:, :, i, j].softmax(dim=1).cumsum(dim=1)  # (N, K)
                below = (cdf < uniform[:, i, j, None]).sum(dim=1)
                codes[:, i, j] = below.clamp(max=cdf.shape[1] - 1)  # rounding may leave the CDF's end below 1
        return codes


class ResidualBlock(nn.Module):
    """h + conv 1x1 (ReLU (conv 3x3 (ReLU h)))."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, h):
        return h + self.conv2(F.relu(self.conv1(F.relu(h))))


@dataclass
class VQVAEOptions(Options):
    """The codebook, and how it is learned."""

    num_codes: int = option(32, least=1, most=65_536)
    """Entries in the codebook; the paper's 512 are for natural images."""
    code_dim: int = option(16, least=1)
    """Numbers in each entry."""
    codebook: Literal["ema", "gradient"] = "ema"
    """How the codebook follows the encoder: as running means, or by gradients."""
    commitment: float = option(0.25, least=0)
    """Weight of the term that keeps the encoder near the codebook."""
    decay: float = option(0.95, least=0, below=1)
    """Of the running means, per step; 0.99, the paper's, settles after several hundred steps."""


class VQVAE(TrainableModel):
    """The encoder, the codebook, the decoder with a Bernoulli likelihood, and the prior over the codes.

    image_shape: (C, H, W), sides multiples of 4. Its options are those of `VQVAEOptions`: num_codes is K, code_dim D.
    """

    Options = VQVAEOptions
    couples_batch = True  # through the codebook's running means
    elbo_terms = ("reconstruction_nll", "prior_nll")
    far_to_go = ("codebook.entries",)  # if they learn by gradients: at the encoder's own pace they lag behind it
    units = MappingProxyType({"distance": "squared distance", "perplexity": "entries of a batch"})

    def __init__(self, image_shape=(1, 28, 28), **options):
        super().__init__(image_shape, **options)
        channels, height, width = self.image_shape
        require(height % 4 == width % 4 == 0, f"images need sides that are multiples of 4, got {self.image_shape}")
        num_codes, code_dim = self.options.num_codes, self.options.code_dim
        self.grid = (height // 4, width // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),  # (N, 64, 7, 7)
            ResidualBlock(64),
            nn.ReLU(),
            nn.Conv2d(64, code_dim, 1),  # (N, D, 7, 7)
        )
        self.codebook = Codebook(num_codes, code_dim, self.options.codebook, self.options.decay)
        self.decoder = nn.Sequential(
            nn.Conv2d(code_dim, 64, 3, padding=1),  # (N, 64, 7, 7)
            ResidualBlock(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.ConvTranspose2d(32, channels, 3, stride=2, padding=1, output_padding=1),  # (N, C, 28, 28)
        )
        self.prior = CodePrior(num_codes)

    @property
    def noise_shape(self):
        return (math.prod(self.grid),)

    def encode(self, x):
        """x (N, C, H, W) -> codes (N, h, w), without learning from x."""
        self.check_images(x)
        return nearest(self.encoder(x).movedim(1, 3).flatten(0, 2), self.codebook.entries).view(-1, *self.grid)

    def decode(self, codes):
        """codes (N, h, w) -> logits (N, C, H, W)."""
        return self.decoder(F.embedding(codes, self.codebook.entries).movedim(3, 1))

    def sample(self, uniform):
        """Images from the prior: uniform (N, h, w) in [0, 1) -> (N, C, H, W) in [0, 1]."""
        return torch.sigmoid(self.decode(self.prior.sample(uniform)))

    def terms(self, x, eps, c=None, step=None):
        """Each (N,): nats per image, squared distances summed over the grid, the batch's perplexity (not in the loss).

        loss = reconstruction_nll + commitment * distance [+ distance, for codebook "gradient"] + prior_nll (equation 3
        and the prior's own loss).
        """
        self.check_images(x)
        z_e = self.encoder(x).to(x.dtype)
        z_q, codes = self.codebook(z_e, eps)
        logits = self.decoder(straight_through(z_e, z_q)).to(x.dtype)
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(dim=1)
        to_encoder = (z_e - z_q.detach()).square().flatten(1).sum(dim=1)
        to_codebook = (z_e.detach() - z_q).square().flatten(1).sum(dim=1) if self.codebook.kind == "gradient" else 0.0
        prior_nll = self.prior.nll(codes)
        counts = summed(torch.bincount(codes.flatten(), minlength=self.options.num_codes)).to(x.dtype)
        return {
            "loss": nll + self.options.commitment * to_encoder + to_codebook + prior_nll,
            "reconstruction_nll": nll,
            "prior_nll": prior_nll,
            "distance": to_encoder,
            "perplexity": perplexity(counts).expand(len(x)),
        }

    def check_images(self, x):
        if self.validate:
            check_images(torch.Tensor, x, next(self.parameters()), self.image_shape)


@dataclass
class VqConfig(VQVAEOptions, TrainingConfig):
    """Train a VQ-VAE (van den Oord 2017) with a small PixelCNN as the prior over its codes.

    Expect -ELBO near 244 nats per test image after 60 epochs of the digits (reconstruction 163, prior 81; a minute and
    a half on two cores), near 128 (55 and 74) after 10 epochs of MNIST (ten minutes).
    """


def build_model(config, train_images):
    return VQVAE.from_options(config, image_shape=train_images.image_shape)


@torch.no_grad()
def code_counts(model, images, seed):
    """How often each entry is chosen over all images: (K,). seed: of a fresh binarisation."""
    counts = model.codebook.counts
    generator = torch.Generator(counts.device).manual_seed(seed)
    parts = torch.arange(len(images), device=counts.device).split(1000)
    codes = torch.cat([model.encode(images.batch(part, generator)[0].to(counts)).flatten() for part in parts])
    return torch.bincount(codes, minlength=model.options.num_codes).cpu()


def report(model, test_images, config):
    used = code_counts(model, test_images, config.seed)
    return (
        report_of_terms(model, test_images, config)
        + f"\ncodebook over the test set: perplexity {perplexity(used.double()):.1f}, "
        + f"{int((used > 0).sum())} of {model.options.num_codes} entries used"
    )


@torch.no_grad()
def draw(folder, model, images, seed, rows=()):
    """The pictures of a VQ-VAE."""
    from level_script import save_loss_curves
    from pictures import loss_curves, save_codebook_use, save_reconstructions, save_samples

    counts = model.codebook.counts
    x = images.batch(slice(0, 10), torch.Generator(counts.device).manual_seed(seed))[0].to(counts)
    uniform = torch.rand(80, *model.grid, generator=torch.Generator().manual_seed(seed)).to(counts)
    if rows:
        save_loss_curves(folder / "loss_curves.png", loss_curves(rows), model.units)
    decoded = torch.sigmoid(model.decode(model.encode(x)))
    save_reconstructions(folder / "reconstructions.png", x.cpu(), decoded.cpu())
    save_samples(
        folder / "samples.png", model.sample(uniform).unflatten(0, (8, 10)).cpu(), source="codes drawn from the prior"
    )
    save_codebook_use(folder / "codebook_use.png", code_counts(model, images, seed).numpy())


def main(argv=None):
    run_script(__file__, VqConfig, build_model, VQVAE.load_file, argv, report, draw)


if __name__ == "__main__":
    import vq_vae  # by its own name, so that its classes are those that other files import

    run_as_script(vq_vae.main)
