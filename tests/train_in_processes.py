"""Trains a small model of every paper and saves what came out: alone when imported, in each process under torchrun.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/train_in_processes.py FOLDER

leaves FOLDER/0.pt, FOLDER/1.pt, ...: what `results` gave in each process.
"""

import errno
import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch

import trainer
from beta_tcvae import BetaTCVAE
from experiment import TrainingConfig, process_group
from factor_vae import FactorVAE
from iwae import IWAE
from processes import agreed, from_first, gathered, num_processes, own_part, rank, sum_gradients, summed
from reproductions.beta_vae_score import HigginsVAE
from reproductions.collapse import PixelVAE
from reproductions.cvae_quadrants import QuadrantCVAE
from reproductions.iwae_tricks import TricksIWAE
from reproductions.kingma_fig2 import KingmaVAE
from reproductions.total_correlation import WatchedFactorVAE
from reproductions.vq_vae_codebooks import TwoStageVQVAE
from resume import read_state
from trainer import Interrupted, Sums, train
from training_images import ResidentImages
from vae_paper import VAE, Autoencoder, ConditionalVAE
from vq_vae import VQVAE

SHAPE = (1, 8, 8)
MLP = {"image_shape": SHAPE, "latent_dim": 3, "architecture": "mlp", "hidden_dims": (16,)}
MODELS = {
    "VAE": partial(VAE, **MLP),
    "VAE, convolutions": partial(VAE, image_shape=SHAPE, latent_dim=3),
    "VAE, free bits": partial(VAE, **MLP, free_bits=0.4),
    "VAE, capacity": partial(VAE, **MLP, capacity=1.0, kl_steps=10, capacity_gamma=30.0),
    "ConditionalVAE": partial(ConditionalVAE, **MLP),
    "Autoencoder": partial(Autoencoder, **MLP),
    "IWAE": partial(IWAE, k=3, image_shape=SHAPE, latent_dim=3, hidden_dims=(16,)),
    "IWAE, dreg": partial(IWAE, k=3, objective="dreg", image_shape=SHAPE, latent_dim=3, hidden_dims=(16,)),
    "BetaTCVAE, mss": partial(BetaTCVAE, dataset_size=83, estimator="mss", **MLP),
    "BetaTCVAE, mws": partial(BetaTCVAE, dataset_size=83, estimator="mws", **MLP),
    "FactorVAE": partial(FactorVAE, gamma=10.0, discriminator_width=16, discriminator_depth=2, **MLP),
    "VQVAE, ema": partial(VQVAE, num_codes=8, code_dim=4, codebook="ema", image_shape=SHAPE),
    "VQVAE, gradient": partial(VQVAE, num_codes=8, code_dim=4, codebook="gradient", image_shape=SHAPE),
    "HigginsVAE": partial(HigginsVAE, image_shape=SHAPE, latent_dim=3, hidden_dims=(16,), decoder_dims=(16,)),
    "KingmaVAE": partial(KingmaVAE, image_shape=SHAPE, latent_dim=3, hidden_dims=(16,)),
    "PixelVAE": partial(PixelVAE, pixel_channels=4, pixel_blocks=1, **MLP),
    "QuadrantCVAE": partial(QuadrantCVAE, image_shape=SHAPE, latent_dim=3, hidden_dims=(16,)),
    "TricksIWAE, average": partial(TricksIWAE, average=0.9, warm_up=5, image_shape=SHAPE, hidden_dims=(16,)),
    "TwoStageVQVAE": partial(TwoStageVQVAE, code_steps=10, num_codes=8, code_dim=4, image_shape=SHAPE),
    "WatchedFactorVAE": partial(
        WatchedFactorVAE, watched=20, population=100, discriminator_width=16, discriminator_depth=2, **MLP
    ),
}
# Batches of 20: the last one has 3 images (a process has 2, the other 1), or 1 (the other has none), or joins the one
# before it if the model wants more.
NUM_IMAGES = (83, 81)
EPOCHS = 3


def make_images(count, seed):
    """Images (count, 1, 8, 8) of three hidden numbers each."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, 3, generator=generator)
    patterns = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    images = (255 * torch.sigmoid(2 * codes @ patterns)).to(torch.uint8).view(count, *SHAPE)
    return ResidentImages(images, torch.arange(count) % 10, "fresh")


def new_model(name):
    """A model; each process would start from its own weights, alone from those of the first."""
    with torch.random.fork_rng():
        torch.manual_seed(rank())
        return MODELS[name]()


def config(**options):
    options = {"epochs": EPOCHS, "batch_size": 20, "lr": 1e-2, "precision": "float64", "save_seconds": 1e9} | options
    return TrainingConfig(**options)


def trained(name, num_images):
    """The parameters and buffers after at least 12 steps, and the rows of the table."""
    model = new_model(name)
    rows = train(model, make_images(num_images, 1), make_images(23, 2), config())
    return {"state": model.state_dict(), "rows": rows}


def stopped_and_resumed(folder):
    """As `trained`, of a VQ-VAE that was stopped within its third epoch and went on."""
    images, model = (make_images(83, 1), make_images(23, 2)), new_model("VQVAE, ema")
    terms, steps = model.terms, []

    def terms_then_stop(*args):
        steps.append(args)
        if len(steps) == 13 + 2 * 2 and rank() == 0:  # steps and test batches
            os.kill(os.getpid(), signal.SIGTERM)
        return terms(*args)

    model.terms = terms_then_stop
    try:
        train(model, *images, config(), folder, script="s")
    except Interrupted:
        model, state = new_model("VQVAE, ema"), read_state(folder, "s")
        rows = train(model, *images, config(), folder, state, "s")
        return {"state": model.state_dict(), "rows": rows, "stopped_at": (state["epoch"], state["step"])}


def trained_again():
    """The weights of a model that each process trained, then spoiled in its own way, then trained together again."""
    model, images, short = new_model("VAE, convolutions"), (make_images(83, 1), make_images(23, 2)), config(epochs=1)
    train(model, *images, short)
    with torch.no_grad():
        model.encoder.conv2.weight += rank()
    train(model, *images, short)
    return model.state_dict()


def with_a_full_disk(folder):
    """What training says in each process when the first one cannot save any more."""

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    write, trainer.write_beside = trainer.write_beside, full
    try:
        train(new_model("VAE"), make_images(83, 1), make_images(23, 2), config(), folder, script="s")
    except OSError as error:
        return str(error)
    finally:
        trainer.write_beside = write


def first_bad_of_all():
    """Every process adds a number that is none, the last one first."""
    sums = Sums()
    for step in range(1, 6):
        bad = step == 2 + num_processes() - rank()
        sums.add({"loss": torch.zeros(2), "kl": torch.full((2,), torch.nan if bad else 1.0)}, step)
    return sums.first_bad()


def coupled_gradients(num_rows, part=own_part):
    """What a loss that couples `num_rows` rows gives: the rows as each process sees them all, the gradient of its own.

    part: cuts the batch into the processes' parts.
    """
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(num_rows, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(num_rows, num_rows, generator=generator, dtype=torch.float64)
    own = part(whole).clone().requires_grad_()
    batch = gathered(own)
    total = summed(own.square().sum(dim=0))  # of the whole batch, and each process's loss depends on it
    loss = (part(weights) * (own @ batch.T).sin()).sum() + (own * total).sum()
    loss.backward()
    return {"rows": batch.detach(), "total": total.detach(), "gradient": own.grad}


def threads():
    """The names of this process's threads, where the system tells."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def results(folder):
    found = {"runs": {(name, count): trained(name, count) for name in MODELS for count in NUM_IMAGES}}
    found["resumed"] = stopped_and_resumed(folder)
    found["full disk"] = with_a_full_disk(folder)
    found["first bad"] = first_bad_of_all()
    found["again"] = trained_again()
    found["coupled"] = {count: coupled_gradients(count) for count in (7, 2, 1)}
    found["all with the last"] = coupled_gradients(
        5, lambda batch: batch if rank() == num_processes() - 1 else batch[:0]
    )
    found["integers"] = gathered(own_part(torch.arange(5)))
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.full((2, 2), rank() + 1.0)
    sum_gradients([torch.nn.Parameter(torch.zeros(3)), parameter])
    found["gradient"] = parameter.grad
    found["agreed"] = agreed(rank() == 0, False, rank() == num_processes() - 1)
    found["from first"] = from_first(Path(str(rank())))
    return found


if __name__ == "__main__":
    with process_group(torch.device("cpu")):
        number, found = rank(), results(Path(sys.argv[1]))
        found["threads"] = [threads()]
    found["threads"].append(threads())
    torch.save(found, Path(sys.argv[1]) / f"{number}.pt")
