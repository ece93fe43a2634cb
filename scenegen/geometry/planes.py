"""Planes in point clouds."""

from __future__ import annotations

import logging

import numpy as np
from jaxtyping import Bool, Float

logger = logging.getLogger(__name__)

ITERATIONS = 400


def open3d_problem() -> str | None:
    """Why open3d cannot be imported (a missing system library, mostly), or None where it can."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        return f"open3d cannot be imported ({error})"
    return None


def ransac_plane(
    points: Float[np.ndarray, "n 3"], threshold: float, seed: int = 0
) -> tuple[Float[np.ndarray, "4"], Bool[np.ndarray, "n"]]:
    """The plane (a, b, c, d), a x + b y + c z + d = 0 with unit normal, that most points lie within `threshold` of.

    open3d's RANSAC (Fischler and Bolles 1981), refined by least squares on its inliers; `ransac_plane_numpy` where open3d
    cannot be imported.

    Returns:
        - **plane**: [4], the sign of the normal is arbitrary.
        - **inliers**: [n].
    """
    if open3d_problem() is not None:
        return ransac_plane_numpy(points, threshold, seed)
    import open3d

    open3d.utility.random.seed(seed)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    plane, _ = cloud.segment_plane(threshold, ransac_n=3, num_iterations=ITERATIONS, probability=1.0)
    return _refined(points, np.asarray(plane), threshold)


def ransac_plane_numpy(
    points: Float[np.ndarray, "n 3"], threshold: float, seed: int = 0
) -> tuple[Float[np.ndarray, "4"], Bool[np.ndarray, "n"]]:
    """The twin of `ransac_plane` in plain numpy: its oracle in the tests, and what runs without open3d."""
    random = np.random.default_rng(seed)
    triples = points[random.integers(0, len(points), (ITERATIONS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(normals, axis=1)
    usable = length > 1e-12
    normals = normals[usable] / length[usable, None]
    offsets = -np.einsum("nd,nd->n", normals, triples[usable, 0])
    counts = [
        np.count_nonzero(np.abs(points @ normal + offset) < threshold)
        for normal, offset in zip(normals, offsets, strict=True)
    ]
    best = int(np.argmax(counts))
    return _refined(points, np.append(normals[best], offsets[best]), threshold)


def _refined(
    points: Float[np.ndarray, "n 3"], plane: Float[np.ndarray, "4"], threshold: float
) -> tuple[Float[np.ndarray, "4"], Bool[np.ndarray, "n"]]:
    """Two rounds of total least squares on the inliers."""
    plane = plane / np.linalg.norm(plane[:3])
    for _ in range(2):
        inliers = np.abs(points @ plane[:3] + plane[3]) < threshold
        if np.count_nonzero(inliers) < 3:
            break
        centre = points[inliers].mean(axis=0)
        _, _, axes = np.linalg.svd(points[inliers] - centre, full_matrices=False)
        plane = np.append(axes[2], -axes[2] @ centre)
    return plane, np.abs(points @ plane[:3] + plane[3]) < threshold
