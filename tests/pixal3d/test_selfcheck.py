"""The gate on known shapes: a ball in its own picture passes, a wrong scale or field of view does not, and is searched for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh

from scenegen.camera import intrinsics_from_fov, rays
from scenegen.errors import InputError, UsageError
from scenegen.pixal3d.projection import distance_from_fov
from scenegen.pixal3d.selfcheck import ATTEMPTS, FOV_FACTORS, SEED_STEP, Attempt, Surface, generate_checked, measure

FOV, RADIUS = 0.7, 0.4


def ball(radius: float = RADIUS) -> Surface:
    mesh = trimesh.creation.icosphere(4, radius=radius)
    return Surface(torch.tensor(mesh.vertices), torch.tensor(mesh.faces))


def mask(fov: float = FOV, size: int = 160) -> np.ndarray:
    """The ball's silhouette in closed form."""
    direction = rays(intrinsics_from_fov(size, size, float(np.degrees(fov))))
    distance = distance_from_fov(fov)
    along = direction[..., 2] / np.linalg.norm(direction, axis=-1) * distance
    return distance**2 - along**2 < RADIUS**2


def checked(
    make: Callable[[int, float], Surface], mask: np.ndarray, seed: int = 7, attempts: int = ATTEMPTS
) -> tuple[Attempt[Surface], tuple[str, ...]]:
    return generate_checked(make, lambda made: made, mask, FOV, seed, attempts)


def test_a_true_result_passes() -> None:
    quality = measure(ball(), mask(), FOV)
    assert quality.silhouette_iou > 0.98
    assert quality.size_ratio == pytest.approx(1, abs=0.02)
    assert quality.good


def test_up_is_up_and_left_is_left() -> None:
    moved = Surface(ball(0.1).vertices + torch.tensor([-0.3, 0.3, 0]), ball(0.1).faces)
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
    nothing = Surface(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    assert measure(nothing, mask(), FOV).silhouette_iou == 0
    without_faces = Surface(torch.zeros(3, 3), torch.zeros(0, 3).int())
    assert measure(without_faces, mask(), FOV).silhouette_iou == 0
    assert not measure(ball(), np.zeros((160, 160), bool), FOV).good


def test_a_good_first_attempt_is_taken_without_a_word() -> None:
    attempt, warnings = checked(lambda seed, fov: ball(), mask())
    assert (attempt.seed, attempt.fov) == (7, FOV)
    assert warnings == ()


def test_another_seed_is_tried_first() -> None:
    tried = []

    def make(seed: int, fov: float) -> Surface:
        tried.append((seed, fov))
        return ball(0.1 if seed == 7 else RADIUS)

    attempt, warnings = checked(make, mask())
    assert tried == [(7, FOV), (7 + SEED_STEP, FOV)]
    assert attempt.quality.good
    assert "2 attempts" in warnings[0]


def test_then_another_field_of_view() -> None:
    """The picture was really taken at 0.8 of the field of view believed in."""
    really = 0.8 * FOV

    def make(seed: int, fov: float) -> Surface:
        return ball() if fov == pytest.approx(really) else ball(0.2)

    attempt, _ = checked(make, mask(really))
    assert attempt.fov == pytest.approx(really)
    assert attempt.quality.good


def test_the_best_of_bad_ones_is_reported_honestly() -> None:
    attempt, warnings = checked(lambda seed, fov: ball(0.2), mask())
    assert not attempt.quality.good
    assert "does not pass" in warnings[0]


def test_the_best_is_that_with_the_largest_overlap_and_all_were_tried() -> None:
    tried: list[tuple[int, float]] = []
    radii = iter([0.1, 0.2, 0.05, 0.3, 0.15, 0.25])

    def make(seed: int, fov: float) -> Surface:
        tried.append((seed, fov))
        return ball(next(radii))

    attempt, (warning,) = checked(make, mask())
    assert tried == [(7, FOV), (7 + SEED_STEP, FOV), *((7, FOV * factor) for factor in FOV_FACTORS)]
    assert (attempt.seed, attempt.fov) == tried[3]
    assert f"{ATTEMPTS} attempts" in warning


def test_an_attempt_that_comes_to_nothing_is_one_that_failed() -> None:
    def make(seed: int, fov: float) -> Surface:
        if seed == 7:
            raise InputError("nothing was generated")
        return ball()

    attempt, (warning,) = checked(make, mask())
    assert attempt.seed == 7 + SEED_STEP
    assert "2 attempts" in warning
    with pytest.raises(InputError, match="nothing was generated"):
        checked(make, mask(), attempts=1)


def test_attempts_are_limited() -> None:
    tried: list[int] = []

    def make(seed: int, fov: float) -> Surface:
        tried.append(seed)
        return ball(0.2)

    _, (warning,) = checked(make, mask(), attempts=1)
    assert tried == [7]
    assert "does not pass" in warning
    for attempts in (0, ATTEMPTS + 1):
        with pytest.raises(UsageError, match="`attempts`"):
            checked(make, mask(), attempts=attempts)


def test_what_something_else_hides_counts_for_nothing() -> None:
    whole, hidden = mask(), np.zeros((160, 160), bool)
    hidden[:, :60] = True
    seen = whole & ~hidden
    assert not measure(ball(), seen, FOV).good
    assert measure(ball(), seen, FOV, hidden).good
    assert not measure(ball(0.2), seen, FOV, hidden).good


@pytest.mark.parametrize("fov", [0.005, 2.8])
def test_narrow_and_wide_views_can_be_measured(fov: float) -> None:
    assert measure(ball(), mask(FOV), fov).size_ratio >= 0
