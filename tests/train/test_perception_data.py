"""Scenes seen through other cameras stay true; and the files they are read from."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.errors import InputError
from scenegen.perception.network import STRIDE
from scenegen.train.perception_data import (
    TrainingScene,
    read_scenes,
    seen_by,
    vary,
    with_other_tone,
)

WIDTH, HEIGHT, FOCAL = 128, 96, 120.0
CAMERA = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
NORMAL, OFFSET = np.array([0.1, 0.8, 0.6]) / np.linalg.norm([0.1, 0.8, 0.6]), 1.5
"""A plane n . X = d that fills the picture."""
DOWN = np.array([0.0, np.cos(0.3), np.sin(0.3)])


def plane_scene() -> TrainingScene:
    """A plane; left of the middle it is an object."""
    u, v = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], axis=-1)
    depth = OFFSET / np.maximum(rays @ NORMAL, 1e-3)
    ids = (u < WIDTH / 2).astype(np.uint8)
    image = np.repeat((200 * ids + 20)[..., None], 3, axis=-1).astype(np.uint8)
    return TrainingScene("plane", image, ids, (1000 * depth).astype(np.uint16), CAMERA, DOWN)


def test_the_same_camera_sees_the_same() -> None:
    scene = plane_scene()
    sample = seen_by(scene, np.eye(3), FOCAL, WIDTH, HEIGHT)
    assert (sample.image == scene.image).all()
    middle = slice(STRIDE // 2, None, STRIDE)
    assert (sample.ids == scene.ids[middle, middle]).all()
    assert np.allclose(np.exp(sample.log_depth), scene.depth_mm[middle, middle] / 1000, rtol=0.03)
    assert sample.log_focal == pytest.approx(np.log(FOCAL / WIDTH))
    assert np.allclose(sample.down, DOWN)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_a_plane_stays_a_plane_under_every_camera(seed: int) -> None:
    """Depth, field of view, gravity and turn agree with each other: points of the new view lie on the turned plane."""
    sample = vary(plane_scene(), 128, 96, np.random.default_rng(seed))
    focal = np.exp(sample.log_focal) * 128
    known = np.isfinite(sample.log_depth)
    assert known.mean() > 0.3
    rows, columns = np.nonzero(known)
    x = ((columns + 0.5) * STRIDE - 64) / focal
    y = ((rows + 0.5) * STRIDE - 48) / focal
    points = np.exp(sample.log_depth[known])[:, None] * np.stack([x, y, np.ones_like(x)], axis=1)
    normal, *_ = np.linalg.lstsq(points.astype(float), np.ones(len(points)), rcond=None)
    assert 1 / np.linalg.norm(normal) == pytest.approx(OFFSET, rel=0.05)
    # Mirrored or not, gravity keeps its angle to the plane.
    assert normal @ sample.down / np.linalg.norm(normal) == pytest.approx(NORMAL @ DOWN, abs=0.05)
    assert np.linalg.norm(sample.down) == pytest.approx(1, abs=1e-5)


def test_beyond_the_picture_nothing_is_known_and_the_sky_has_no_depth() -> None:
    scene = plane_scene()
    sky = TrainingScene("sky", scene.image, 0 * scene.ids, 0 * scene.depth_mm, CAMERA, DOWN)
    sample = seen_by(sky, np.eye(3), 0.5 * FOCAL, WIDTH, HEIGHT)
    assert (sample.ids[0] == -1).all()
    assert (sample.log_depth[0] == -np.inf).all()
    middle = sample.log_depth[HEIGHT // STRIDE // 2, WIDTH // STRIDE // 2]
    assert middle == np.inf


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100_000))
def test_any_tone_is_still_a_picture(seed: int) -> None:
    image = plane_scene().image
    varied = with_other_tone(image, np.random.default_rng(seed))
    assert varied.shape == image.shape
    assert varied.dtype == np.uint8


def test_scenes_are_read_as_they_are_written(tmp_path: Path) -> None:
    scene = plane_scene()
    folder = tmp_path / "one"
    folder.mkdir()
    cv2.imwrite(str(folder / "image.png"), scene.image)
    cv2.imwrite(str(folder / "masks.png"), scene.ids)
    cv2.imwrite(str(folder / "depth.png"), scene.depth_mm)
    camera = {"fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "camera_to_world": np.eye(4).tolist()}
    (folder / "camera.json").write_text(json.dumps(camera))
    (read,) = read_scenes(tmp_path)
    assert (read.image == scene.image).all()
    assert (read.ids == scene.ids).all()
    assert (read.depth_mm == scene.depth_mm).all()
    assert (read.camera == CAMERA).all()
    assert read.down.tolist() == [0, -1, 0]
    (folder / "depth.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"depth\.png is no readable picture"):
        read_scenes(tmp_path)
    (folder / "image.png").unlink()
    with pytest.raises(InputError, match=r"neither of image\.webp, image\.png"):
        read_scenes(tmp_path)
    with pytest.raises(InputError, match="has no scene"):
        read_scenes(folder)
