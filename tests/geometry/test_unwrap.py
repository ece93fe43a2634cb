"""Atlases: no overlaps, nothing lost, and a plain one where xatlas hangs or dies."""

from __future__ import annotations

import subprocess
import time

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from scenegen.geometry import unwrap as module
from scenegen.geometry.bake import rasterised
from scenegen.geometry.unwrap import Atlas, face_atlas, unwrap


def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(3)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int32)


def check(atlas: Atlas, vertices: np.ndarray, faces: np.ndarray) -> None:
    """The same triangles in the same order, inside the unit square, overlapping nowhere."""
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    assert atlas.uv.min() >= 0
    assert atlas.uv.max() <= 1
    corners = atlas.uv[atlas.faces].astype(float)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    owners, _ = rasterised(atlas.uv, atlas.faces, 1024)
    # Overlapping triangles would cover fewer texels than their areas add up to.
    assert np.count_nonzero(owners >= 0) / 1024**2 == pytest.approx(areas.sum(), rel=0.05)


def test_xatlas_in_its_child() -> None:
    vertices, faces = ball()
    atlas = unwrap(vertices, faces, 512, timeout_s=60)
    assert atlas.warnings == ()
    check(atlas, vertices, faces)


def test_the_same_mesh_gives_the_same_atlas() -> None:
    vertices, faces = ball()
    first, second = (unwrap(vertices, faces, 512, timeout_s=60) for _ in range(2))
    np.testing.assert_array_equal(first.uv, second.uv)


@given(st.integers(1, 300))
def test_the_plain_atlas_holds_any_number_of_faces(count: int) -> None:
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    atlas = face_atlas(faces)
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    assert atlas.uv.min() > 0
    assert atlas.uv.max() < 1


def test_the_plain_atlas_does_not_overlap() -> None:
    vertices, faces = ball()
    check(face_atlas(faces), vertices, faces)


def test_a_hanging_child_is_killed_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def hang(command: list[str], **options: object) -> object:
        return real([command[0], "-c", "import time; time.sleep(60)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "run", hang)
    vertices, faces = ball()
    start = time.monotonic()
    atlas = unwrap(vertices, faces, 512, timeout_s=0.5)
    assert time.monotonic() - start < 30
    assert "did not finish" in atlas.warnings[0]
    check(atlas, vertices, faces)


def test_a_crashing_child_is_survived_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def crash(command: list[str], **options: object) -> object:
        return real([command[0], "-c", "import os; os.kill(os.getpid(), 11)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "run", crash)
    vertices, faces = ball()
    atlas = unwrap(vertices, faces, 512, timeout_s=30)
    assert "ended with code" in atlas.warnings[0]
    check(atlas, vertices, faces)
