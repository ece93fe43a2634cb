"""The gate on known shapes: a ball in its own picture passes, a wrong scale or field of view does not, and is searched for."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.pixal3d.projection import distance_from_fov
from scenegen.pixal3d.selfcheck import Surface, generate_checked, measure

FOV, RADIUS = 0.7, 0.4


def ball(radius: float = RADIUS) -> Surface:
    mesh = trimesh.creation.icosphere(4, radius=radius)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def mask(fov: float = FOV, size: int = 160) -> np.ndarray:
    """The ball's silhouette in closed form."""
    direction = rays(intrinsics_from_fov(size, size, float(np.degrees(fov))))
    distance = distance_from_fov(fov)
    along = direction[..., 2] / np.linalg.norm(direction, axis=-1) * distance
    return distance**2 - along**2 < RADIUS**2


def test_a_true_result_passes() -> None:
    quality = measure(ball(), mask(), FOV)
    assert quality.silhouette_iou > 0.98
    assert quality.size_ratio == pytest.approx(1, abs=0.02)
    assert quality.good


def test_up_is_up_and_left_is_left() -> None:
    moved = Surface(ball(0.1).vertices + np.array([-0.3, 0.3, 0]), ball(0.1).faces)
    corner = np.zeros((160, 160), bool)
    corner[:80, :80] = True
    quality = measure(moved, corner & mask(), FOV)
    elsewhere = measure(moved, np.flipud(corner) & mask(), FOV)
    assert quality.silhouette_iou > 0
    assert elsewhere.silhouette_iou == 0


@pytest.mark.parametrize("scale", [0.3, 0.9, 1.1])
def test_a_wrong_scale_fails(scale: float) -> None:
    assert not measure(ball(RADIUS * scale), mask(), FOV).good


def test_an_empty_mesh_or_mask_fails() -> None:
    nothing = Surface(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert measure(nothing, mask(), FOV).silhouette_iou == 0
    assert not measure(ball(), np.zeros((160, 160), bool), FOV).good


def test_a_good_first_attempt_is_taken_without_a_word() -> None:
    attempt, warnings = generate_checked(lambda seed, fov: ball(), mask(), FOV, seed=7)
    assert (attempt.seed, attempt.fov) == (7, FOV)
    assert warnings == ()


def test_another_seed_is_tried_first() -> None:
    tried = []

    def make(seed: int, fov: float) -> Surface:
        tried.append((seed, fov))
        return ball(0.1 if seed == 7 else RADIUS)

    attempt, warnings = generate_checked(make, mask(), FOV, seed=7)
    assert tried == [(7, FOV), (8, FOV)]
    assert attempt.quality.good
    assert "2 attempts" in warnings[0]


def test_then_another_field_of_view() -> None:
    """The picture was really taken at 0.8 of the field of view believed in."""
    really = 0.8 * FOV

    def make(seed: int, fov: float) -> Surface:
        return ball() if fov == pytest.approx(really) else ball(0.2)

    attempt, _ = generate_checked(make, mask(really), FOV, seed=0)
    assert attempt.fov == pytest.approx(really)
    assert attempt.quality.good


def test_the_best_of_bad_ones_is_reported_honestly() -> None:
    attempt, warnings = generate_checked(lambda seed, fov: ball(0.2), mask(), FOV, seed=0)
    assert not attempt.quality.good
    assert "does not pass" in warnings[0]
