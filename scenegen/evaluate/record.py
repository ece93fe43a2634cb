"""The settings and results of an evaluation as records: `Evaluation` is the JSON file.

Distances of surfaces are shares of a unit that each record names; so are the thresholds of F-scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from scenegen.config import MAX_SEED, Config, Settings
from scenegen.export.manifest import Environment
from scenegen.records import Artifact, Failure, Intrinsics, Matrix4, Record, Vector

SCHEMA_VERSION: Literal[1] = 1
MAX_SAMPLES = 10_000_000
DIGITS = 6
"""Significant digits of a number in the file."""

CONVENTIONS = {
    "frame": "raw: the camera frame of the photo (OpenCV, metres), as made. aligned: after one similarity for the whole "
    "scene (rotation, translation, scale): Umeyama's closed form, reweighted to the least sum of unsquared distances "
    "between the points made and true at the same pixel, over the pixels of matched objects; every object weighs alike. "
    "own: after such a similarity for each object, from its own pixels: its shape without the errors of its place.",
    "surface": "the outer surface: samples uniform by area, kept where one of 34 rays (both normals, 32 fixed "
    "directions) leaves the object. The same for made and true objects.",
    "chamfer": "L2, not squared. completeness: mean distance from true samples to the nearest made one. accuracy: the "
    "other way. chamfer_sum: their sum. chamfer_mean: half of it. Targets are sampled twice as densely as queries; two "
    "samplings of one box measure about 0.004.",
    "unit": "objects: the largest side of the true object's box in the true world frame. scene: the diagonal of the box "
    "of all true objects.",
    "f_score": "f_1, f_2, f_5: harmonic mean of the shares of true and of made samples within 1 %, 2 %, 5 % of the "
    "unit. An object that is not made counts 0; Chamfer and other errors are over made objects only.",
    "hidden": "what the camera does not see: hidden by an object, its own front included, or outside the picture. "
    "completeness: hidden true samples to the whole made surface. accuracy: made samples hidden by the made scene to "
    "the hidden true samples. A made object without hidden surface has the accuracy of its completeness, and F 0.",
    "normal_error_deg": "mean angle between the normals of nearest samples, both ways, unsigned (at most 90).",
    "silhouette_iou": "objects rendered together through the made camera, against the visible mask. "
    "silhouette_iou_amodal: the object alone, against its whole silhouette. An object that is not made counts 0.",
    "box_iou": "axis-aligned boxes in the true world frame (gravity-aligned). object.box_iou: of matched objects, 0 for one "
    "that is not made. scene.box_iou: boxes matched by themselves, the one-to-one pairs of greatest total IoU (Hungarian) "
    "between all made and all true ones; mean over the true objects, 0 for one without a pair.",
    "extents_error": "mean over the axes of the true world frame of |made side / true side - 1|. depth_extent_error: "
    "along the camera's axis. volume_error: of volumes, if both meshes are closed.",
    "matching": "id: the true masks were given. mask: the one-to-one pairs of greatest total IoU of visible masks "
    "(Hungarian), kept from IoU 0.25. True objects without a visible pixel are part of the scene, but not of the list.",
    "masks": "mask_precision, mask_recall: pairs of greatest total IoU, those of at least 0.5, as a share of all found "
    "and of all true objects. mask_iou: mean over true objects.",
    "depth": "where true depth is known, after one scale, the median of true / made. abs_rel: mean of |made - true| / "
    "true. delta_1: share where made / true lies within a factor of 1.25. abs_rel_unscaled: without the scale.",
    "scene": "all objects together, each with the same number of samples, made objects that match nothing included.",
    "error": "a scene that could not be made counts as one without objects: its recall, F-scores, IoU are 0. One whose "
    "ground truth could not be read counts nowhere.",
    "penetration": "volume that pairs of made objects share (manifold3d), and its share of their summed volumes. Meshes "
    "that are not closed are left out and named.",
    "supports": "edges (child, parent), floor, ground and table being one parent. supports_between_objects: without it.",
    "settle": "two seconds of gravity (MuJoCo, convex parts, assumed masses and friction). An object stays if it tilts by less "
    "than 5 degrees and moves by less than 5 % of the diagonal of its box. made: share of the made objects that stay by "
    "themselves; held: share that the background holds. true: as made, of the true meshes. of_true: share of the true objects "
    "that stay whose made one does. penetration_m: the greatest at the start.",
    "interval": "percentile bootstrap, 95 %, whole scenes drawn with replacement.",
    "seconds": "sum of the stages' wall times when they were executed. wall_seconds: of making the scene in this run.",
    "peak_memory_mb": "largest sum of resident set sizes of this process and its descendants while the scene was made, "
    "sampled every 50 ms; null if the store had every result.",
}
"""How every number is measured; part of the file."""


class TrueObject(Record):
    id: int
    category: str
    mesh: Artifact
    """GLB in the true world frame."""
    amodal: Artifact | None
    """Picture of the whole silhouette, above 0 where the object is."""
    support: int
    """Object id of the supporter, 0 for floor, ground or table."""


class TrueView(Record):
    """The ground truth of a further photo of a rendered scene."""

    name: str
    image: Artifact
    camera: Artifact
    """JSON, with the pose in the world of the scene."""
    depth: Artifact
    """npy, z-depth in metres, 0 where unknown."""
    masks: Artifact
    """PNG of ids, 0 for none."""


class Truth(Record):
    """The ground truth of one picture."""

    name: str
    layout: Literal["scene", "photo"]
    """`scene`: rendered, everything is known. `photo`: a real photo with measured depth, perhaps masks and a camera."""
    image: Artifact
    intrinsics: Intrinsics | None
    world_from_camera: Matrix4 | None
    depth: Artifact | None
    """npy or 16-bit PNG, z-depth, 0 where unknown."""
    depth_unit_m: float
    """Metres per unit of the depth map."""
    masks: Artifact | None
    """PNG of ids, 0 for none."""
    objects: tuple[TrueObject, ...] = ()
    camera: Artifact | None = None
    """The file of the camera of a `scene`."""
    views: tuple[TrueView, ...] = ()
    """Further photos of a `scene`, which are given with it."""


class EvaluateSettings(Settings):
    """How a scene is measured."""

    samples: int = Field(20_000, ge=10, le=MAX_SAMPLES)
    """Query samples per object."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    matching: Literal["id", "mask"] = "mask"
    settle: bool = False
    """Whether gravity is switched on, too; needs MuJoCo."""
    density_kg_m3: float = 400.0
    hulls: int = 16
    """As in `scenegen.config.ExportConfig`; of the scene's configuration."""


class SurfaceScores(Record):
    """Two surfaces, one made and one true; distances in the unit."""

    chamfer_sum: float | None = None
    chamfer_mean: float | None = None
    completeness: float | None = None
    accuracy: float | None = None
    f_1: float = 0.0
    f_2: float = 0.0
    f_5: float = 0.0


class ShapeScores(Record):
    """One made object against its true one, in one frame."""

    whole: SurfaceScores = SurfaceScores()
    hidden: SurfaceScores | None = SurfaceScores()
    """None if the camera sees all of the true surface."""
    normal_error_deg: float | None = None
    box_iou: float = 0.0
    extents_error: float | None = None
    depth_extent_error: float | None = None
    volume_error: float | None = None


class ObjectScores(Record):
    """One true object."""

    id: int
    category: str
    matched: int | None
    """Id of the made object, None if there is none."""
    unit_m: float
    hidden_share: float | None
    """Share of the true outer surface that the camera does not see."""
    mask_iou: float
    """IoU of the found and the true visible mask."""
    silhouette_iou: float
    silhouette_iou_amodal: float | None
    """None if the whole silhouette is not known."""
    raw: ShapeScores
    aligned: ShapeScores
    own: ShapeScores


class DepthScores(Record):
    scale: float
    abs_rel: float
    delta_1: float
    abs_rel_unscaled: float
    pixels: int


class PerceptionScores(Record):
    """Masks, depth and camera, before objects are made from them."""

    found: int
    labelled: int | None
    """Objects in the true masks. If there are no masks to compare with, this and the next three are None."""
    mask_precision: float | None
    mask_recall: float | None
    mask_iou: float | None
    """Mean over the true objects; 0 for one that is not matched."""
    depth: DepthScores | None
    fov_error_deg: float | None
    """Made minus true horizontal field of view."""


class Alignment(Record):
    """The similarity true = scale R made + t, camera frame."""

    scale: float
    rotation_deg: float
    translation_m: Vector
    pixels: int
    """Number of correspondences it was found from."""


class PrecisionRecall(Record):
    """Precision and recall, each None if there is nothing to take a share of."""

    precision: float | None
    recall: float | None
    count: int
    """Number of true edges."""


class Penetration(Record):
    volume_m3: float
    share: float
    left_out: tuple[int, ...]
    """Made objects whose meshes are not closed."""


class SettleScores(Record):
    """Shares of objects that stay under gravity."""

    made: float
    held: float
    true: float | None
    of_true: float | None
    penetration_m: float


class SceneShape(Record):
    """All made objects against all true ones, in one frame."""

    whole: SurfaceScores = SurfaceScores()
    hidden: SurfaceScores | None = SurfaceScores()
    """None if the camera sees all of the true surface."""
    box_iou: float = 0.0


class SceneScores(Record):
    """One made scene against the true one."""

    objects: tuple[ObjectScores, ...]
    """True objects with a visible pixel."""
    made: int
    unit_m: float
    raw: SceneShape
    aligned: SceneShape
    alignment: Alignment | None
    """None if too few pixels show matched objects; the aligned scores then are those of nothing made."""
    penetration: Penetration
    supports: PrecisionRecall
    supports_between_objects: PrecisionRecall
    settle: SettleScores | None = None
    """None unless it was asked for."""


class SceneEntry(Record):
    """One folder."""

    name: str
    layout: Literal["scene", "photo"] | None
    """None if the ground truth could not be read."""
    photos: int = 1
    """Number of photos that the scene was made from. `perception` is of the first."""
    perception: PerceptionScores | None
    """None if the ground truth could not be read."""
    scene: SceneScores | None
    """None for a photo."""
    error: str | None = None
    """Why nothing could be made."""
    failures: tuple[Failure, ...] = ()
    """Objects that are missing, and why."""


class Statistic(Record):
    """One metric over all objects or scenes that have it."""

    count: int
    mean: float
    mean_interval: tuple[float, float] | None
    """None if all values come from one scene."""
    median: float
    median_interval: tuple[float, float] | None


class SceneTiming(Record):
    """The cost of making a scene, without measuring it."""

    name: str
    seconds: float
    wall_seconds: float
    peak_memory_mb: float | None


class Evaluation(Record):
    """The file. The same input, settings and environment give the same text, timings apart."""

    schema_version: Literal[1] = SCHEMA_VERSION
    conventions: dict[str, str] = CONVENTIONS
    true_masks: bool
    """Whether the true masks were given to the scenes."""
    true_depth: bool
    """Whether the true depth and field of view were given to the scenes."""
    true_cameras: bool = False
    """Whether the true cameras of several photos were given to the scenes."""
    settings: EvaluateSettings
    resamples: int
    """Number of bootstrap resamples."""
    config: Config
    environment: Environment
    scenes: tuple[SceneEntry, ...]
    summary: dict[str, Statistic]
    """Metrics by dotted name: `object.` over true objects, `scene.` over scenes, `perception.` over everything."""
    timings: tuple[SceneTiming, ...]

    def text(self) -> str:
        """The text of the file: sorted keys, `DIGITS` significant digits."""
        values = _rounded(self.model_dump(mode="json"))
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
