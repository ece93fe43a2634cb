"""One similarity for a whole scene, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ITERATIONS = 30
SMALLEST = 1e-4
"""Residuals count as no smaller than this share of the targets' spread: weights stay finite."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """X -> scale R X + t."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    def apply(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """`points`, moved."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """The inverse of `apply`."""
        return (points - self.translation) @ self.rotation / self.scale

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation in degrees."""
        # Computed from the quaternion's parts, since the trace alone loses small angles.
        skew = np.array([self.rotation[i, j] - self.rotation[j, i] for i, j in ((2, 1), (0, 2), (1, 0))])
        return float(np.degrees(np.arctan2(np.linalg.norm(skew), np.trace(self.rotation) - 1)))


IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


def umeyama(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, "n"]
) -> Similarity:
    """The similarity with the least weighted sum of squared distances from `source` to `target` (Umeyama 1991, eq. 40-42).

    Raises:
        ValueError: if the weighted points of one side coincide.
    """
    share = weights / weights.sum()
    mean_source, mean_target = share @ source, share @ target
    centred, aim = source - mean_source, target - mean_target
    variance = float(share @ (centred**2).sum(axis=1))
    left, spread, right = np.linalg.svd((aim * share[:, None]).T @ centred)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    if variance <= 0 or spread[0] <= 0:
        raise ValueError(
            "the points of `source` or `target` coincide; a similarity needs at least three different ones."
        )
    scale = float(spread @ signs) / variance
    rotation = (left * signs) @ right
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def robust_similarity(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, "n"]
) -> Similarity:
    """The similarity with the least weighted sum of unsquared distances, by iteratively reweighted `umeyama`.

    Raises:
        ValueError: if the weighted points of one side coincide.
    """
    smallest = SMALLEST * float(np.linalg.norm(target - np.median(target, axis=0), axis=1).mean())
    found = umeyama(source, target, weights)
    for _ in range(ITERATIONS):
        residuals = np.linalg.norm(found.apply(source) - target, axis=1)
        found = umeyama(source, target, weights / np.maximum(residuals, smallest))
    return found
