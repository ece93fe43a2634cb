"""How the placed objects agree with the photo: the scene looked at through the photo's camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from scenegen.camera import project
from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.faults import about_object
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import Picture, render
from scenegen.records import Intrinsics, Scores


def score_objects(
    meshes: Mapping[int, TexturedMesh],
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    camera: Intrinsics,
) -> dict[int, Scores]:
    """Scores of every object, by id, hidden parts hidden: the objects are rendered together, nearest first.

    Args:
        meshes: placed, in the camera frame, by object id.
        image: the photo.
        ids: its object ids.
        depth: its z-depth, 0 where unknown.
        camera: its intrinsics.

    Raises:
        ObjectError: if one of the objects cannot be scored.
    """
    alone = {}
    for object_id, mesh in meshes.items():
        with about_object(object_id):
            alone[object_id] = _alone(mesh, camera)
    picture = _together(list(alone.values()), camera)
    scores = {}
    for index, object_id in enumerate(alone):
        with about_object(object_id):
            scores[object_id] = _scores(picture, picture.ids == index, image, ids == object_id, depth)
    return scores


@dataclass(frozen=True, eq=False)
class _Patch:
    """What a camera sees of one mesh."""

    top: int
    left: int
    picture: Picture

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the camera's picture."""
        height, width = self.picture.ids.shape
        return np.s_[self.top : self.top + height], np.s_[self.left : self.left + width]


@reused(OF_OBJECTS)
def _alone(mesh: TexturedMesh, camera: Intrinsics) -> _Patch:
    top, left, bottom, right = 0, 0, camera.height, camera.width
    if mesh.vertices[:, 2].min() > 0:
        seen = project(camera, mesh.vertices.astype(np.float64))
        left, top = (int(edge) for edge in np.clip(np.floor(seen.min(axis=0)) - 1, 0, (right - 1, bottom - 1)))
        right, bottom = (
            int(edge) for edge in np.clip(np.ceil(seen.max(axis=0)) + 1, (left + 1, top + 1), (right, bottom))
        )
    window = camera.model_copy(
        update={"width": right - left, "height": bottom - top, "cx": camera.cx - left, "cy": camera.cy - top}
    )
    return _Patch(top, left, render([mesh], window))


def _together(patches: Sequence[_Patch], camera: Intrinsics) -> Picture:
    """What is nearest in each pixel."""
    picture = render([], camera)
    for index, patch in enumerate(patches):
        ids, depth, color = (values[patch.place] for values in (picture.ids, picture.depth, picture.color))
        nearer = (patch.picture.ids >= 0) & ((ids < 0) | (patch.picture.depth < depth))
        ids[nearer] = index
        depth[nearer], color[nearer] = patch.picture.depth[nearer], patch.picture.color[nearer]
    return picture


def _scores(
    picture: Picture,
    mine: Bool[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
) -> Scores:
    """Of the object that `picture` shows at the pixels `mine`, and the photo at those of `mask`."""
    both = mine & mask
    known = both & (depth > 0)
    error = np.abs(picture.depth[known] - depth[known]) / depth[known]
    difference = picture.color[both].astype(float) - image[both]
    return Scores(
        silhouette_iou=round(intersection_over_union(mine, mask), 4),
        depth_error=round(float(np.median(error)), 5) if known.any() else None,
        colour_psnr=round(psnr(difference), 2) if both.any() else None,
    )


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boolean pictures; 0 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 0.0


def psnr(difference: Float[np.ndarray, "*n"]) -> float:
    """Peak signal-to-noise ratio in decibels of an 8-bit difference; at most 100."""
    mean_square = float(np.mean(np.square(difference)))
    return min(100.0, 10 * float(np.log10(255**2 / max(mean_square, 1e-12))))
