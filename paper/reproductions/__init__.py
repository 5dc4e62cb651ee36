"""The papers' experiments, one file each: which claim, which runs, which measure, which figure."""

from importlib import import_module

REPRODUCTIONS = {  # what one types: the file of its class
    "kingma-fig2": "kingma_fig2",
    "iwae-table1": "iwae_table1",
    "rate-distortion": "rate_distortion",
    "cvae-quadrants": "cvae_quadrants",
    "collapse": "collapse",
    "vq-vae": "vq_vae_codebooks",
    "precision": "precision",
    "readme": "readme_tables",
}


def find(name):
    """The `Reproduction` of that name. Raises KeyError."""
    return import_module(f"reproductions.{REPRODUCTIONS[name]}").REPRODUCTION


# Where a file does otherwise than its paper on purpose: file, what, why.
DEPARTURES = [
    ["`vq_vae.py`", "the prior is trained together with the codes", "one run, and -ELBO is there in every epoch"],
]
