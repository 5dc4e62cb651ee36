"""What the scripts of all levels share: notes, grids in colour."""

import contextlib
import itertools

import numpy as np
from PIL import Image

import level_script


def test_notes_are_said_once_for_all_processes_and_need_no_stderr(monkeypatch, capsys):
    level_script.note("hear")
    monkeypatch.setenv("RANK", "1")
    level_script.note("not this")
    monkeypatch.setenv("RANK", "0")
    with contextlib.redirect_stderr(None):
        level_script.note("nor this")
    assert capsys.readouterr() == ("", "note: hear\n")


def test_a_grid_of_colour_images_is_in_colour(tmp_path):
    red, blue = (np.tile(np.array(colour)[:, None, None], (1, 16, 16)) for colour in ((1.2, 0, 0), (0, 0, 1.0)))
    level_script.save_image_grid(tmp_path / "grid.png", np.stack([[red, blue], [blue, red]]), "title")
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    left, right = np.array_split(pixels, 2, axis=1)
    for colour, half in itertools.product(((255, 0, 0), (0, 0, 255)), (left, right)):
        assert (half == colour).all(axis=-1).sum() > 200
    top = pixels[: len(pixels) // 2]
    columns = [np.argwhere((top == colour).all(axis=-1))[:, 1].mean() for colour in ((255, 0, 0), (0, 0, 255))]
    assert columns[0] < columns[1]  # red is the first image of the first row
