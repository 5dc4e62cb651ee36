"""What the scripts of all levels share: files that are whole or not there, config.json, notes, grids in colour."""

import contextlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import level_script


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_files_are_text_in_utf_8_or_bytes(tmp_path):
    level_script.write_beside(tmp_path / "a", "größer\n")
    level_script.write_beside(tmp_path / "b", b"\xff\0")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == ("größer\n".encode(), b"\xff\0")
    assert names_in(tmp_path) == {"a", "b"}


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    level_script.write_beside(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        level_script.write_beside(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == {"a"}


def test_config_json_has_one_schema(tmp_path):
    model, training = {"class": "VAE", "latent_dim": 2}, {"data": "digits", "out": Path("run")}
    level_script.write_config(tmp_path, "a.py", model, training)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert content == {"script": "a.py", "model": model, "training": {"data": "digits", "out": "run"}}


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
