"""The metrics, as pure functions. `record.CONVENTIONS` says how they are taken together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Integer
from manifold3d import Error, Manifold, Mesh
from scipy.optimize import linear_sum_assignment

from scenegen.evaluate.record import DepthScores, Penetration, PrecisionRecall, SurfaceScores
from scenegen.evaluate.sampling import Triangles
from scenegen.ids import shows_object

MATCHED_IOU = 0.25
"""Visible masks that overlap less are not of the same object."""
FOUND_IOU = 0.5
"""An object counts as found from this mask IoU on."""
DELTA_1 = 1.25


def f_score(to_made: Float[np.ndarray, "n"], to_true: Float[np.ndarray, "m"], threshold: float) -> float:
    """Harmonic mean of recall (true samples with a made one within `threshold`) and precision (the other way); 0 if both are.

    F-score of Knapitsch et al. 2017 (Tanks and Temples), section 4.
    """
    recall, precision = (float((distances <= threshold).mean()) for distances in (to_made, to_true))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def surface_scores(to_made: Float[np.ndarray, "n"], to_true: Float[np.ndarray, "m"], unit: float) -> SurfaceScores:
    """Chamfer distance (L2, not squared) and F-scores.

    Args:
        to_made: distances from true samples to the nearest made one, at least one.
        to_true: distances from made samples to the nearest true one; if there are none, accuracy is set to
            completeness, and F to 0.
        unit: length that distances and thresholds are shares of.
    """
    completeness = float(to_made.mean()) / unit
    if not len(to_true):
        return SurfaceScores(
            chamfer_sum=2 * completeness, chamfer_mean=completeness, completeness=completeness, accuracy=completeness
        )
    accuracy = float(to_true.mean()) / unit
    return SurfaceScores(
        chamfer_sum=completeness + accuracy,
        chamfer_mean=(completeness + accuracy) / 2,
        completeness=completeness,
        accuracy=accuracy,
        f_1=f_score(to_made, to_true, 0.01 * unit),
        f_2=f_score(to_made, to_true, 0.02 * unit),
        f_5=f_score(to_made, to_true, 0.05 * unit),
    )


def normal_error_deg(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> float:
    """Mean angle between unit normals in degrees; a normal and its opposite are the same."""
    cosines = np.abs(np.einsum("nd,nd->n", a, b)).clip(0, 1)
    return float(np.degrees(np.arccos(cosines)).mean())


def box_iou(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "m 3"]) -> float:
    """IoU of the axis-aligned boxes of two sets of points; 0 if the union is empty."""
    low = np.stack([a.min(axis=0), b.min(axis=0)])
    high = np.stack([a.max(axis=0), b.max(axis=0)])
    common = float((high.min(axis=0) - low.max(axis=0)).clip(0).prod())
    union = float((high - low).prod(axis=1).sum()) - common
    return common / union if union > 0 else 0.0


def box_ious(
    made: Sequence[Float[np.ndarray, "_n 3"]], true: Sequence[Float[np.ndarray, "_m 3"]]
) -> Float[np.ndarray, "m t"]:
    """`box_iou` of every pair of point sets."""
    return np.array([[box_iou(a, b) for b in true] for a in made], dtype=np.float64).reshape(len(made), len(true))


def extents_error(made: Float[np.ndarray, "n d"], true: Float[np.ndarray, "m d"]) -> float:
    """Mean over the axes of |made side / true side - 1|; an axis along which the true object is flat is left out."""
    sides, wanted = np.ptp(made, axis=0), np.ptp(true, axis=0)
    known = wanted > 1e-9 * wanted.max()
    return float(np.abs(sides[known] / wanted[known] - 1).mean())


def mask_ious(
    made: Integer[np.ndarray, "h w"], true: Integer[np.ndarray, "h w"]
) -> tuple[list[int], list[int], Float[np.ndarray, "m t"]]:
    """Ids of the made and of the true objects, ascending, and the IoU of every pair."""
    made_ids, made_index = np.unique(made, return_inverse=True)
    true_ids, true_index = np.unique(true, return_inverse=True)
    shape = (len(made_ids), len(true_ids))
    common = np.bincount(made_index.ravel() * shape[1] + true_index.ravel(), minlength=shape[0] * shape[1])
    common = common.reshape(shape)
    unions = common.sum(axis=1, keepdims=True) + common.sum(axis=0, keepdims=True) - common
    rows, columns = shows_object(made_ids), shows_object(true_ids)
    ious = (common / unions)[np.ix_(rows, columns)]
    return made_ids[rows].tolist(), true_ids[columns].tolist(), ious


def hungarian(ious: Float[np.ndarray, "m t"], least: float) -> list[tuple[int, int]]:
    """(row, column) of the one-to-one pairs with the greatest total, those of at least `least` and above 0."""
    rows, columns = linear_sum_assignment(ious, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if ious[pair] >= least and ious[pair] > 0]


def precision_recall(made: Collection[object], true: Collection[object]) -> PrecisionRecall:
    """Shares of `made` that are in `true`, and of `true` that are in `made`; None if the set is empty."""
    right = len(set(made) & set(true))
    return PrecisionRecall(
        precision=right / len(made) if made else None, recall=right / len(true) if true else None, count=len(true)
    )


def depth_scores(made: Float[np.ndarray, "h w"], true: Float[np.ndarray, "h w"]) -> DepthScores | None:
    """AbsRel and delta < 1.25 (Eigen et al. 2014) after one scale, the median of true / made; None if nothing is known.

    Args:
        made: z-depth, 0 where unknown.
        true: the same.
    """
    known: Bool[np.ndarray, "h w"] = (made > 0) & (true > 0)
    if not known.any():
        return None
    wanted = true[known].astype(np.float64)
    found = made[known].astype(np.float64)
    scale = float(np.median(wanted / found))
    ratios = scale * found / wanted
    return DepthScores(
        scale=scale,
        abs_rel=float(np.abs(ratios - 1).mean()),
        delta_1=float((np.maximum(ratios, 1 / ratios) < DELTA_1).mean()),
        abs_rel_unscaled=float(np.abs(found / wanted - 1).mean()),
        pixels=int(known.sum()),
    )


def solid(mesh: Triangles) -> Manifold | None:
    """The mesh as a solid, vertices at one position welded; None if it is not closed or encloses nothing."""
    points, welded = np.unique(mesh.vertices.astype(np.float32), axis=0, return_inverse=True)
    faces = welded.reshape(-1)[mesh.faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    made = Manifold(Mesh(np.ascontiguousarray(points), np.ascontiguousarray(faces[whole], dtype=np.uint32)))
    return made if made.status() == Error.NoError and made.volume() > 0 else None


def penetration(solids: Mapping[int, Manifold | None]) -> Penetration:
    """Volume that pairs of solids share, and its share of their summed volumes; None means a mesh that is not closed."""
    closed = {number: body for number, body in solids.items() if body is not None}
    shared = sum(_common_volume(a, b) for a, b in combinations(closed.values(), 2))
    total = sum(body.volume() for body in closed.values())
    return Penetration(
        volume_m3=shared,
        share=shared / total if total else 0.0,
        left_out=tuple(number for number, body in solids.items() if body is None),
    )


def _common_volume(a: Manifold, b: Manifold) -> float:
    first, second = (np.array(body.bounding_box()).reshape(2, 3) for body in (a, b))
    if (first[1] < second[0]).any() or (second[1] < first[0]).any():
        return 0.0
    return max(0.0, float((a ^ b).volume()))


def bootstrap(
    groups: Sequence[Sequence[float]], resamples: int, seed: int, level: float = 0.95
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Percentile intervals of the mean and of the median of all values, whole groups drawn with replacement.

    Values of one group (the objects of one scene) are not independent, so they are drawn together. None for one group.
    """
    groups = [group for group in groups if len(group)]
    if len(groups) < 2:
        return None
    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups])
    owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    times = resampled(len(groups), resamples, seed)[:, owners]
    means = times @ values / times.sum(axis=1)
    below = np.cumsum(times, axis=1)
    half = below[:, -1:] / 2
    medians = (values[(below >= half).argmax(axis=1)] + values[(below > half).argmax(axis=1)]) / 2
    return interval(means, level), interval(medians, level)


def resampled(groups: int, resamples: int, seed: int) -> Integer[np.ndarray, "r g"]:
    """How often each group is drawn in each resample, with replacement."""
    drawn = np.random.default_rng(seed).integers(groups, size=(resamples, groups))
    return np.stack([np.bincount(row, minlength=groups) for row in drawn])


def interval(values: Float[np.ndarray, "r"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled values."""
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
