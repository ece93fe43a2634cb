"""Which photos of one scene can be used together, and where each was taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from scenegen.camera import is_rotation
from scenegen.records import Intrinsics
from scenegen.views.features import Matches, SeenFrom, explained, tie_points

RIGID = 1e-3
"""How far a camera's axes may be from orthonormal."""
TELLING = 40
"""Matches of a photo from which on they tell whether its camera is right."""
TIED = 20
"""Points that a photo must share with another one for its found camera to be believed."""
PLENTY = 200
"""Matches of two photos from which on it is not for lack of them that cameras cannot be found."""
AGREEING = 0.35
"""Share of its matches that the camera of a photo must explain. A right one explains nearly all, a wrong one those that happen
to lie along the line."""


def is_rigid(matrix: Float64[np.ndarray, "4 4"]) -> bool:
    """Whether a matrix is a rotation and a position."""
    return bool(
        np.isfinite(matrix).all() and is_rotation(matrix[:3, :3], RIGID) and np.allclose(matrix[3], [0, 0, 0, 1])
    )


def one_camera(cameras: Sequence[Intrinsics], known: Sequence[bool]) -> list[Intrinsics]:
    """The cameras, of which those that are only estimated and have pictures of one size, upright or lying, begin at their median
    focal length.

    Each for itself, a focal length and the place of its camera could hardly be told apart.
    """
    focal: dict[frozenset[int], list[float]] = {}
    for camera, sure in zip(cameras, known, strict=True):
        if not sure:
            focal.setdefault(_size(camera), []).append(camera.fx)
    usual = {size: float(np.median(each)) for size, each in focal.items()}
    return [
        camera if sure else camera.model_copy(update=dict.fromkeys(("fx", "fy"), usual[_size(camera)]))
        for camera, sure in zip(cameras, known, strict=True)
    ]


def _size(camera: Intrinsics) -> frozenset[int]:
    return frozenset((camera.width, camera.height))


def contradicting(found: Sequence[Matches], views: Sequence[SeenFrom]) -> dict[int, str]:
    """The photos whose given cameras cannot be right, and why, by their index.

    A rigid scene explains the matches of two photos, whatever the cameras are. If the given cameras do not, one of the two
    is wrong: the photo that fits the others worst is taken away, until the rest agree.
    """
    wrong: dict[int, str] = {}
    # Photos taken from the same place have no epipolar lines.
    told = [each for each in found if _apart(views[each.first], views[each.second])]
    counts = {
        (each.first, each.second): (len(each.pixels[0]), int(np.count_nonzero(explained(each, views)))) for each in told
    }
    while True:
        shares = {
            index: (sum(total for total, _ in mine), sum(right for _, right in mine))
            for index in range(len(views))
            if index not in wrong and (mine := _of_view(counts, index, wrong))
        }
        bad = {
            i: right / total for i, (total, right) in shares.items() if total >= TELLING and right < AGREEING * total
        }
        if not bad:
            return wrong
        worst = min(bad, key=lambda index: (bad[index], -index))
        total, right = shares[worst]
        wrong[worst] = (
            f"its camera contradicts the pictures: it explains {right} of the {total} features that it shares with the others. "
            "Check its focal length and its pose, and that the file's entry is that of this photo"
        )


def well_tied(found: Sequence[Matches], views: Sequence[SeenFrom]) -> set[int]:
    """The photos whose found cameras hold: at least `TIED` points are where they and another such photo show them.

    COLMAP also returns cameras from a dozen matches, which fit any picture.
    """
    counts = {(each.first, each.second): len(tie_points(each, views).depths[0]) for each in found}
    kept = set(range(len(views)))
    while True:
        best = {
            index: max((count for pair, count in counts.items() if index in pair and kept.issuperset(pair)), default=0)
            for index in kept
        }
        loose = {index for index, count in best.items() if count < TIED}
        if not loose:
            return kept
        kept -= loose


def _apart(a: SeenFrom, b: SeenFrom) -> bool:
    return bool(np.linalg.norm(a.world_from_camera[:3, 3] - b.world_from_camera[:3, 3]) > 1e-9)


def _of_view(
    counts: Mapping[tuple[int, int], tuple[int, int]], index: int, without: Mapping[int, str]
) -> list[tuple[int, int]]:
    return [count for pair, count in counts.items() if index in pair and not any(other in without for other in pair)]


def cannot_be_found(found: Sequence[Matches], names: Sequence[str]) -> str:
    """Why the cameras of photos cannot be found, and what would help."""
    shared, most = "no two of them share features", 0
    if found:
        best = max(found, key=lambda each: len(each.pixels[0]))
        most = len(best.pixels[0])
        shared = f"the most that two of them share are {most} features ({names[best.first]} and {names[best.second]})"
    helps = (
        "Those are enough, so they were probably taken from almost the same place, or show only something flat: move by about a "
        "fifth of the distance to the objects between photos, around them,"
        if most >= PLENTY
        else "Add photos in between, at most 30 degrees apart, with something textured in view (a printed cloth or a newspaper "
        "under the objects is enough),"
    )
    return (
        f"the cameras of the {len(names)} photos cannot be found: {shared}. {helps} or give the cameras with --camera."
    )
