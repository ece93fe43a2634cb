"""The silhouette against ray casting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.camera import rays
from scenegen.geometry.render import RayCaster
from scenegen.pixal3d.silhouette import silhouette
from scenegen.records import Intrinsics

CAMERA = Intrinsics(width=70, height=50, fx=60.0, fy=55.0, cx=33.0, cy=26.0)


def cast(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    directions = rays(CAMERA).reshape(-1, 3)
    hits = RayCaster(points, faces).cast(np.zeros_like(directions), directions)
    return (hits.triangle >= 0).reshape(CAMERA.height, CAMERA.width)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), budget=st.sampled_from([2000, 2**26]))
def test_rays_through_covered_pixels_hit_faces(seed: int, budget: int) -> None:
    """Faces of all sizes, some beyond the picture's border."""
    draw = np.random.default_rng(seed)
    points = draw.uniform([-1.5, -1.2, 1.0], [1.5, 1.2, 3.0], (60, 3)).astype(np.float32)
    faces = draw.integers(0, 60, (12, 3)).astype(np.int32)
    faces = faces[(np.diff(np.sort(faces, axis=1), axis=1) > 0).all(axis=1)]
    covered = silhouette(torch.tensor(points), torch.tensor(faces), CAMERA, budget).numpy()
    assert (covered != cast(points, faces)).sum() <= 2


@pytest.mark.parametrize("subdivisions", [1, 6])
def test_no_pixel_falls_between_faces(subdivisions: int) -> None:
    """Faces far smaller than a pixel, and far larger."""
    mesh = trimesh.creation.icosphere(subdivisions, radius=0.7)
    points = np.add(mesh.vertices, [0, 0, 2]).astype(np.float32)
    covered = silhouette(torch.tensor(points), torch.tensor(mesh.faces), CAMERA).numpy()
    assert covered.sum() > 500
    assert (covered != cast(points, np.asarray(mesh.faces, dtype=np.int32))).sum() <= 1


def test_what_is_behind_the_camera_is_not_seen() -> None:
    points = torch.tensor([[-1.0, -1.0, -2.0], [1.0, -1.0, -2.0], [0.0, 1.0, -2.0]])
    assert not silhouette(points, torch.tensor([[0, 1, 2]]), CAMERA).any()
    assert not silhouette(points, torch.zeros(0, 3).int(), CAMERA).any()
