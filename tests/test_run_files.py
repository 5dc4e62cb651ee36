"""The files of a run are whole or not there, and say what they hold."""

import json
import os
from pathlib import Path

import pytest

import run_files


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_files_are_text_in_utf_8_or_bytes(tmp_path):
    run_files.write_beside(tmp_path / "a", "größer\n")
    run_files.write_beside(tmp_path / "b", b"\xff\0")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == ("größer\n".encode(), b"\xff\0")
    assert names_in(tmp_path) == {"a", "b"}


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    run_files.write_beside(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_files.write_beside(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == {"a"}


def test_config_json_has_one_schema(tmp_path):
    model, training = {"class": "VAE", "latent_dim": 2}, {"data": "digits", "out": Path("run")}
    run_files.write_config(tmp_path, "a.py", model, training)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert content == {"script": "a.py", "model": model, "training": {"data": "digits", "out": "run"}}
