"""The pictures between two codes and of many runs: arcs, lines, rate and distortion."""

import json

import numpy as np
import pytest
import scipy.spatial
import torch

import pictures
from script_runs import assert_is_a_picture, run

# --- Between two codes -----------------------------------------------------------------------------------------------


def codes(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [2, 3, 20])
def test_on_unit_vectors_the_arc_is_scipys(size):
    start, end = (code / code.norm() for code in codes(2, size))
    t = np.linspace(0, 1, 11)
    ours = pictures.slerp(start, end, torch.from_numpy(t)[:, None])
    assert ours.dtype == torch.float64
    theirs = scipy.spatial.geometric_slerp(start.numpy(), end.numpy(), t)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def angle(a, b):
    """Between vectors (..., Z), exact for small angles too."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def test_the_arc_turns_at_constant_speed_while_its_norm_goes_straight():
    start, end = 3 * codes(12), 0.5 * codes(12, seed=1)
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    arc = pictures.slerp(start, end, t[:, None])
    assert arc.shape == (21, 12)
    torch.testing.assert_close(angle(arc, start), t * angle(start, end), rtol=0, atol=1e-10)
    torch.testing.assert_close(angle(arc, end), (1 - t) * angle(start, end), rtol=0, atol=1e-10)
    torch.testing.assert_close(arc.norm(dim=1), (1 - t) * start.norm() + t * end.norm())
    torch.testing.assert_close(arc[[0, -1]], torch.stack([start, end]))


def test_the_line_is_straight():
    start, end = codes(12), codes(12, seed=1)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    line = pictures.lerp(start, end, t)
    assert torch.equal(line[[0, -1]], torch.stack([start, end]))
    torch.testing.assert_close(line.diff(dim=0), ((end - start) / 4).expand(4, 12))


def test_a_batch_of_arcs_is_arc_by_arc():
    start, end = codes(4, 1, 6), codes(4, 1, 6, seed=1)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    together = pictures.slerp(start, end, t)
    assert together.shape == (4, 7, 6)
    for i in range(4):
        for j in range(7):
            torch.testing.assert_close(together[i, j], pictures.slerp(start[i, 0], end[i, 0], t[j]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("factor", [1.0, 2.5, 1 + 1e-7, -1.0, -0.3], ids=lambda factor: f"times {factor:g}")
def test_codes_without_an_arc_are_joined_by_the_line(dtype, factor):
    start = codes(9).to(dtype)
    end = factor * start
    t = torch.linspace(0, 1, 9, dtype=dtype)[:, None]
    way = pictures.slerp(start, end, t)
    assert way.dtype == dtype
    assert way.isfinite().all()
    torch.testing.assert_close(way, pictures.lerp(start, end, t), rtol=1e-3, atol=1e-3)


def test_an_arc_from_or_to_zero_is_finite():
    zero, code = torch.zeros(5, dtype=torch.float64), codes(5)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    for start, end in ((zero, code), (code, zero), (zero, zero)):
        assert pictures.slerp(start, end, t).isfinite().all()


# --- Rate and distortion ---------------------------------------------------------------------------------------------


CONDITIONS = {"data": "digits", "binarisation": "none", "likelihood": "bernoulli", "seed": 0}


def write_summary(folder, rate, distortion):
    folder.mkdir()
    last = {"epoch": 3, "test_loss": 0.0, "test_kl_divergence": rate, "test_reconstruction_nll": distortion}
    (folder / "summary.json").write_text(json.dumps({"last_epoch": last} | CONDITIONS), encoding="utf-8")
    return folder


@pytest.fixture
def two_runs(tmp_path):
    return [write_summary(tmp_path / "beta-1", 20.0, 80.0), write_summary(tmp_path / "beta-4", 9.5, 110.0)]


def test_runs_are_put_onto_one_picture(two_runs, tmp_path):
    done = run("pictures", "--runs", *two_runs, "--out", "curve.png", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert_is_a_picture(tmp_path / "curve.png")
    assert {path.name for path in tmp_path.iterdir()} == {"beta-1", "beta-4", "curve.png"}


def test_each_run_is_a_point_of_its_rate_and_distortion(two_runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save_rate_distortion", lambda *args: drawn.append(args))
    run("pictures", "--runs", *two_runs, "--out", tmp_path / "curve.png", cwd=tmp_path)
    assert drawn == [(tmp_path / "curve.png", [20.0, 9.5], [80.0, 110.0], ["beta-1", "beta-4"])]


def test_finished_runs_of_two_papers_can_be_drawn(trained, tmp_path):
    folders = [trained(script).folder for script in ("vae_paper", "factor_vae")]  # both of grey digits
    assert run("pictures", "--runs", *folders, "--out", "curve.png", cwd=tmp_path).code == 0
    assert_is_a_picture(tmp_path / "curve.png")


def test_a_run_without_a_summary_is_refused(two_runs, refused, tmp_path):
    (tmp_path / "beta-4" / "summary.json").unlink()
    message = refused("pictures", "--runs", *two_runs, "--out", "curve.png")
    assert f"no summary.json in {two_runs[1]}" in message


def test_a_picture_that_exists_is_not_overwritten(two_runs, refused, tmp_path):
    (tmp_path / "curve.png").write_text("do not lose me")
    assert "--out curve.png exists" in refused("pictures", "--runs", *two_runs, "--out", "curve.png")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"last_epoch": 3}', '{"last_epoch": {"test_kl_divergence": 1}}'])
def test_a_summary_that_is_no_vaes_is_refused(two_runs, refused, content):
    path = two_runs[0] / "summary.json"
    path.write_text(content)
    assert f"{path} is not that of a VAE" in refused("pictures", "--runs", *two_runs, "--out", "curve.png")


def test_a_run_of_another_model_is_refused(trained, two_runs, refused):
    folder = trained("vq_vae").folder
    message = refused("pictures", "--runs", two_runs[0], folder, "--out", "curve.png")
    assert f"{folder / 'summary.json'} is not that of a VAE" in message


@pytest.mark.parametrize("out", ["absent/curve.png", "curve.words"])
def test_a_picture_that_cannot_be_written_is_refused(two_runs, refused, out):
    assert "--out" in refused("pictures", "--runs", *two_runs, "--out", out)


def test_no_runs_are_refused(refused):
    assert "--runs" in refused("pictures", "--runs", "--out", "curve.png")


def test_help_of_the_pictures_explains_its_flags(tmp_path):
    done = run("pictures", "--help", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    for part in ("--runs", "The folders of the runs", "--out", "The PNG to write"):
        assert part in done.stdout
