"""MoGe-2: the network agrees with its authors' code, and its points give depth, camera and gravity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import intrinsics_from_fov, unproject
from scenegen.compute.networks import release
from scenegen.compute.runtime import Runtime
from scenegen.config import MogeCameraConfig, MogeDepthConfig
from scenegen.errors import InputError, WeightsError
from scenegen.perception import moge
from scenegen.perception.moge import (
    Seen,
    estimate_camera_moge,
    estimate_depth_moge,
    gravity,
    moge_weights,
    solve_focal_and_shift,
    solve_shift,
)
from scenegen.perception.moge_network import Moge
from scenegen.weights_registry import digest_of, registered
from tests.perception.tiny_geometry import BACKBONES, MOGE, waved, write_moge

HEIGHT, WIDTH = 45, 70
RUNTIME = Runtime(device="cpu", offline=True)


def test_the_network_says_what_its_authors_code_says() -> None:
    network = Moge(MOGE, BACKBONES).eval()
    waved(network)
    v, u = torch.meshgrid(torch.arange(45.0), torch.arange(70.0), indexing="ij")
    with torch.inference_mode():
        said = network(torch.stack([u / 70, v / 45, (u * v % 17) / 17]), 20)
    assert said.normals is not None
    found = [*said.points[7, 11], *said.points[40, 60], *said.normals[20, 30], said.mask[3, 5], said.mask[30, 44]]
    # Printed by moge.model.v2.MoGeModel, version 2.0.0 of dlr-moge, with the same weights and picture.
    points, normal, rest = [1.3374, 1.26446, 1.51522, 1.0855, 1.33224, 1.75531], [0.87687, 0.35919, -0.31951], [0.65283]
    np.testing.assert_allclose(found, [*points, *normal, *rest, 0.5849], atol=2e-5)
    assert said.metres == pytest.approx(0.79951, abs=2e-5)


def tilted_plane(fov: float, shift: float = 0.0) -> Seen:
    """A plane seen by a camera, as the network would say it: z less by a shift, half as large as in metres."""
    camera = intrinsics_from_fov(WIDTH, HEIGHT, fov)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    points = unproject(camera, 1 / (0.4 + 0.002 * u + 0.004 * v)) / 2
    points[..., 2] -= shift
    normals = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    normals[..., 1] = -1
    return Seen(points.astype(np.float32), np.ones((HEIGHT, WIDTH), bool), normals, 2.0)


@settings(max_examples=20)
@given(st.floats(25, 100), st.floats(-0.2, 0.2))
def test_focal_length_and_shift_are_those_of_the_camera(fov: float, shift: float) -> None:
    focal, found = solve_focal_and_shift(tilted_plane(fov, shift))
    true = WIDTH / np.hypot(WIDTH, HEIGHT) / np.tan(np.radians(fov) / 2)
    assert focal == pytest.approx(true, rel=0.02)
    assert found == pytest.approx(shift, abs=0.02)
    assert solve_shift(tilted_plane(fov, shift), true) == pytest.approx(shift, abs=0.01)


def test_depth_is_in_metres_and_camera_and_gravity_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tilted_plane(50.0, 0.1)
    seen.mask[0] = False
    monkeypatch.setattr(moge, "see", lambda *_: seen)
    monkeypatch.setattr(moge, "_checkpoint", lambda *_: (Path(), "MIT"))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    found = estimate_depth_moge(image, intrinsics_from_fov(WIDTH, HEIGHT, 50.0), MogeDepthConfig(), RUNTIME)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    np.testing.assert_allclose(found.depth[1:], (1 / (0.4 + 0.002 * u + 0.004 * v))[1:], rtol=0.01)
    assert (found.depth[0] == 0).all()
    assert found.metric
    camera = estimate_camera_moge(image, MogeCameraConfig(), RUNTIME)
    assert camera.fov_x_deg == pytest.approx(50, abs=1)
    np.testing.assert_allclose(camera.down, [0, 1, 0], atol=1e-6)


def test_gravity_is_against_the_normals_of_level_surfaces_if_there_are_enough() -> None:
    normals = np.zeros((64, 64, 3), np.float32)
    normals[..., 2] = -1  # a wall
    normals[:20] = np.array([0.1, -0.9, -0.3]) / np.linalg.norm([0.1, -0.9, -0.3])
    everywhere = np.ones((64, 64), bool)
    found = gravity(normals, everywhere)
    np.testing.assert_allclose(found, -normals[0, 0], atol=1e-5)
    assert gravity(normals, np.arange(64)[:, None] + np.zeros(64) >= 19.5) is None
    assert gravity(normals, np.zeros((64, 64), bool)) is None


# --- the released format ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    release()
    moge._recent.forget()
    monkeypatch.setattr(moge, "BACKBONES", BACKBONES)
    return write_moge(tmp_path / "model.pt")


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def test_camera_and_depth_come_from_one_look(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = moge._look
    monkeypatch.setattr(moge, "_look", lambda *given: looks.append(given) or look(*given))
    trusted = {"checkpoint": checkpoint, "sha256": digest_of(checkpoint)}
    assert estimate_camera_moge(photo(), MogeCameraConfig(**trusted), RUNTIME).fov_x_deg is not None
    camera = intrinsics_from_fov(WIDTH, HEIGHT, 50.0)
    found = estimate_depth_moge(photo(), camera, MogeDepthConfig(**trusted), RUNTIME)
    assert (found.depth > 0).mean() > 0.5
    assert (found.backend, found.licence) == ("moge-2-vitl-normal", "unknown (local checkpoint)")
    assert len(looks) == 1
    with pytest.raises(InputError, match="`camera` is for 40x45"):
        estimate_depth_moge(photo(), intrinsics_from_fov(40, HEIGHT, 50.0), MogeDepthConfig(**trusted), RUNTIME)


def refuse(path: Path, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        moge.see(photo(), MogeDepthConfig(checkpoint=path, sha256=digest_of(path)), RUNTIME)


def test_a_checkpoint_that_is_not_exactly_the_network_is_refused(checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    lost = stored["model"].pop("scale_head.2.bias")
    torch.save(stored, checkpoint)
    refuse(checkpoint, r"missing: scale_head\.2\.bias")
    torch.save(stored | {"model": stored["model"] | {"scale_head.2.bias": lost, "more": lost}}, checkpoint)
    refuse(checkpoint, "unexpected: more")
    torch.save({"model_config": MOGE | {"remap_output": "sinh"}, "model": {}}, checkpoint)
    refuse(checkpoint, "`remap_output` is 'sinh'")
    torch.save(stored["model"], checkpoint)
    refuse(checkpoint, "cannot be read as MoGe-2")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    refuse(checkpoint, "cannot be read as MoGe-2")


def test_a_pickle_is_read_only_if_its_digest_is_known(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match=f"Its sha256 is {digest_of(checkpoint)}"):
        moge.see(photo(), MogeDepthConfig(checkpoint=checkpoint), RUNTIME)
    with pytest.raises(WeightsError, match="instead of 0000"):
        moge.see(photo(), MogeDepthConfig(checkpoint=checkpoint, sha256="0" * 64), RUNTIME)


def test_absent_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="scenegen models fetch moge-2-vitl-normal"):
        moge.see(photo(), MogeDepthConfig(), Runtime(models=tmp_path, offline=True))
    assert moge_weights(MogeDepthConfig()) == {"moge-2-vitl-normal": registered("moge-2-vitl-normal").files[0].sha256}
