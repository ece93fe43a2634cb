"""Measures what was made against what is true, one picture at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from manifold3d import Manifold
from scipy.spatial import cKDTree

from scenegen.camera import fov_x_deg, resized, transform, unproject, vector
from scenegen.evaluate.alignment import IDENTITY, Similarity, robust_similarity
from scenegen.evaluate.ground_truth import FLOOR, TrueScene
from scenegen.evaluate.metrics import (
    FOUND_IOU,
    MATCHED_IOU,
    box_iou,
    box_ious,
    depth_scores,
    extents_error,
    hungarian,
    mask_ious,
    normal_error_deg,
    penetration,
    precision_recall,
    solid,
    surface_scores,
)
from scenegen.evaluate.record import (
    Alignment,
    EvaluateSettings,
    ObjectScores,
    PerceptionScores,
    SceneScores,
    SceneShape,
    ShapeScores,
    SurfaceScores,
    TrueObject,
)
from scenegen.evaluate.sampling import Samples, Triangles, sample_outside, visible
from scenegen.evaluate.settling import settle_scores
from scenegen.export.parts import PartScene
from scenegen.geometry.mesh import TexturedMesh, joined
from scenegen.geometry.render import RayCaster, render
from scenegen.ids import object_ids
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.untrusted.resample import nearest

DENSITY = 2
"""Target samples for each query sample."""
MIN_PIXELS = 100
"""Fewest correspondences from which a similarity is found."""


@dataclass(frozen=True, eq=False)
class MadeScene:
    """What was made of a picture."""

    meshes: Mapping[int, TexturedMesh]
    """Camera frame, by object id."""
    supports: Mapping[int, int]
    """What supports each object, 0 for the floor."""
    ids: Integer[np.ndarray, "h w"]
    """Masks the objects were made from."""
    camera: Intrinsics
    """Camera of a picture of that size."""
    bodies: PartScene | None = None
    """The objects of `meshes`, in their order, with rigid bodies, among obstacles; None if nothing is to settle."""


def nothing_made(camera: Intrinsics) -> MadeScene:
    """The measurements of a picture from which no scene could be made."""
    return MadeScene({}, {}, np.zeros((camera.height, camera.width), np.uint16), camera)


@dataclass(frozen=True, eq=False)
class Cloud:
    """A surface as samples, with the part of it that the camera does not see."""

    queries: Samples
    hidden: Bool[np.ndarray, "n"]
    """Which of the queries are hidden."""
    targets: Samples
    tree: cKDTree
    """Tree of the targets."""
    hidden_tree: cKDTree | None
    """Tree of the hidden targets; None if there are none."""


@dataclass(frozen=True)
class Body:
    """One object, camera frame."""

    mesh: Triangles
    cloud: Cloud
    solid: Manifold | None
    """None if the mesh is not closed."""


def measure_perception(
    ids: Integer[np.ndarray, "h w"],
    depth: Float[np.ndarray, "h w"],
    camera: Intrinsics,
    true_ids: Integer[np.ndarray, "hi wi"] | None,
    true_depth: Float[np.ndarray, "hd wd"] | None,
    true_camera: Intrinsics | None,
) -> PerceptionScores:
    """Scores of masks, depth and camera, at working size; what is true is resampled to it (nearest).

    Args:
        ids: found objects.
        depth: estimated z-depth, 0 where unknown.
        camera: assumed or estimated.
        true_ids: true objects, of any size; None if they are not known.
        true_depth: true z-depth, of any size, 0 where unknown; None if it is not known.
        true_camera: None if it is not known.
    """
    size = ids.shape[1], ids.shape[0]
    found, labelled, precision, recall, mean = len(object_ids(ids)), None, None, None, None
    if true_ids is not None:
        made, true, ious = mask_ious(ids, nearest(true_ids, size))
        pairs = hungarian(ious, 0.0)
        right = sum(ious[pair] >= FOUND_IOU for pair in pairs)
        labelled = len(true)
        precision = float(right / len(made)) if made else None
        recall = float(right / labelled) if labelled else None
        mean = float(sum(ious[pair] for pair in pairs) / labelled) if labelled else None
    return PerceptionScores(
        found=found,
        labelled=labelled,
        mask_precision=precision,
        mask_recall=recall,
        mask_iou=mean,
        depth=None if true_depth is None else depth_scores(depth, nearest(true_depth, size)),
        fov_error_deg=None if true_camera is None else fov_x_deg(camera) - fov_x_deg(true_camera),
    )


def nothing_seen(true_ids: Integer[np.ndarray, "h w"] | None) -> PerceptionScores:
    """Scores of a picture in which nothing was found, with its true objects if they are known."""
    labelled = None if true_ids is None else len(object_ids(true_ids))
    missed = 0.0 if labelled else None
    return PerceptionScores(
        found=0,
        labelled=labelled,
        mask_precision=None,
        mask_recall=missed,
        mask_iou=missed,
        depth=None,
        fov_error_deg=None,
    )


def measure_scene(made: MadeScene, true: TrueScene, settings: EvaluateSettings) -> SceneScores:
    """Scores of every true object and of the scene; `record.CONVENTIONS` says how they are taken."""
    size = made.camera.width, made.camera.height
    true_ids, true_depth = nearest(true.ids, size), nearest(true.depth, size)
    made_of, mask_iou = _matched(made, true_ids, true.objects, settings)
    order = list(made.meshes)
    together = render([made.meshes[number] for number in order], made.camera)
    shown = np.array([*order, 0])[together.ids]
    both = {i: (shown == mine) & (true_ids == i) & (true_depth > 0) for i, mine in made_of.items()}
    made_points = unproject(made.camera, together.depth.astype(np.float64))
    true_points = unproject(resized(true.camera, *size), true_depth.astype(np.float64))
    similarity, pixels = _similarity(made_points, true_points, both.values())
    triangles = {i: Triangles(mesh.vertices.astype(np.float64), mesh.faces) for i, mesh in made.meshes.items()}
    ours = _bodies(triangles, made.camera, settings, role=0)
    theirs = _bodies(true.meshes, true.camera, settings, role=1)

    objects = []
    for item in (item for item in true.objects if (true_ids == item.id).any()):
        mine, theirs_here = made_of.get(item.id), theirs[item.id]
        in_world = transform(true.world_from_camera, theirs_here.mesh.vertices)
        unit = float(np.ptp(in_world, axis=0).max())
        raw = aligned = own = ShapeScores()
        silhouette, amodal = 0.0, 0.0 if item.id in true.amodal else None
        if mine is not None:
            silhouette = intersection_over_union(shown == mine, true_ids == item.id)
            if item.id in true.amodal:
                alone = render([made.meshes[mine]], made.camera).ids >= 0
                amodal = intersection_over_union(alone, nearest(true.amodal[item.id], size))
            raw = shape_scores(ours[mine], theirs_here, IDENTITY, true.world_from_camera, unit)
            if similarity is not None:
                aligned = shape_scores(ours[mine], theirs_here, similarity, true.world_from_camera, unit)
            moved, _ = _similarity(made_points, true_points, [both[item.id]])
            if moved is not None:
                own = shape_scores(ours[mine], theirs_here, moved, true.world_from_camera, unit)
        objects.append(
            ObjectScores(
                id=item.id,
                category=item.category,
                matched=mine,
                unit_m=unit,
                hidden_share=float(theirs_here.cloud.hidden.mean()),
                mask_iou=mask_iou.get(item.id, 0.0),
                silhouette_iou=silhouette,
                silhouette_iou_amodal=amodal,
                raw=raw,
                aligned=aligned,
                own=own,
            )
        )

    corners = np.concatenate([transform(true.world_from_camera, mesh.vertices) for mesh in true.meshes.values()])
    diagonal = float(np.linalg.norm(np.ptp(corners, axis=0)))
    edges, true_edges = _support_edges(made, made_of), [(item.id, item.support) for item in true.objects]
    return SceneScores(
        objects=tuple(objects),
        made=len(made.meshes),
        unit_m=diagonal,
        raw=_together(list(ours.values()), list(theirs.values()), IDENTITY, true.world_from_camera, diagonal),
        aligned=_together(list(ours.values()), list(theirs.values()), similarity, true.world_from_camera, diagonal),
        alignment=None
        if similarity is None
        else Alignment(
            scale=similarity.scale,
            rotation_deg=similarity.angle_deg,
            translation_m=vector(similarity.translation),
            pixels=pixels,
        ),
        penetration=penetration({number: body.solid for number, body in ours.items()}),
        supports=precision_recall(edges, true_edges),
        supports_between_objects=precision_recall(
            [edge for edge in edges if edge[1] != FLOOR], [edge for edge in true_edges if edge[1] != FLOOR]
        ),
        settle=settle_scores(made.bodies, list(made.meshes), true, made_of, settings.density_kg_m3, settings.hulls)
        if settings.settle
        else None,
    )


def shape_scores(
    made: Body, true: Body, moved: Similarity, world_from_camera: Float[np.ndarray, "4 4"], unit: float
) -> ShapeScores:
    """One made object, moved, against its true one (camera frame); boxes are those of the world frame."""
    whole, hidden, angle = cloud_scores(made.cloud, true.cloud, moved, unit)
    placed = moved.apply(made.mesh.vertices)
    box, true_box = transform(world_from_camera, placed), transform(world_from_camera, true.mesh.vertices)
    volume_error = None
    if made.solid is not None and true.solid is not None:
        volume_error = abs(made.solid.volume() * moved.scale**3 / true.solid.volume() - 1)
    return ShapeScores(
        whole=whole,
        hidden=hidden,
        normal_error_deg=angle,
        box_iou=box_iou(box, true_box),
        extents_error=extents_error(box, true_box),
        depth_extent_error=extents_error(placed[:, 2:], true.mesh.vertices[:, 2:]),
        volume_error=volume_error,
    )


def cloud(mesh: Triangles, count: int, rng: np.random.Generator, caster: RayCaster, camera: Intrinsics) -> Cloud:
    """`count` query samples and `DENSITY` times as many targets of a mesh (camera frame), seen past `caster`."""
    drawn = sample_outside(mesh, (1 + DENSITY) * count, rng)
    hidden = ~visible(drawn.points, caster, camera)
    cut = len(drawn.points) // (1 + DENSITY)
    targets = drawn[cut:]
    unseen = targets.points[hidden[cut:]]
    return Cloud(
        queries=drawn[:cut],
        hidden=hidden[:cut],
        targets=targets,
        tree=cKDTree(targets.points),
        hidden_tree=cKDTree(unseen) if len(unseen) else None,
    )


def cloud_scores(
    made: Cloud, true: Cloud, moved: Similarity, unit: float
) -> tuple[SurfaceScores, SurfaceScores | None, float]:
    """Scores of the whole surface and of its hidden part (None if the true one has none), and the normals' error in degrees.

    `moved` is applied to what was made. It keeps nearest neighbours, so one tree serves every similarity.
    """
    placed = moved.apply(made.queries.points)
    to_made, made_nearest = made.tree.query(moved.undo(true.queries.points))
    to_made = to_made * moved.scale
    to_true, true_nearest = true.tree.query(placed)
    angle = normal_error_deg(
        np.concatenate([true.queries.normals, true.targets.normals[true_nearest]]),
        np.concatenate([made.targets.normals[made_nearest], made.queries.normals]) @ moved.rotation.T,
    )
    hidden = None
    if true.hidden.any() and true.hidden_tree is not None:
        hidden_to_true, _ = true.hidden_tree.query(placed[made.hidden])
        hidden = surface_scores(to_made[true.hidden], hidden_to_true, unit)
    return surface_scores(to_made, to_true, unit), hidden, angle


def _matched(
    made: MadeScene,
    true_ids: Integer[np.ndarray, "h w"],
    objects: Iterable[TrueObject],
    settings: EvaluateSettings,
) -> tuple[dict[int, int], dict[int, float]]:
    """The made object of each true one that has one, and the IoU of their masks."""
    made_ids, labelled, ious = mask_ious(made.ids, true_ids)
    if settings.matching == "id":
        wanted = {item.id for item in objects}
        pairs = [(made_ids.index(i), labelled.index(i)) for i in made_ids if i in labelled and i in wanted]
    else:
        pairs = hungarian(ious, MATCHED_IOU)
    kept = [(labelled[column], made_ids[row], float(ious[row, column])) for row, column in pairs]
    present = [(true_id, made_id, iou) for true_id, made_id, iou in kept if made_id in made.meshes]
    return {true_id: made_id for true_id, made_id, _ in present}, {true_id: iou for true_id, _, iou in kept}


def _bodies(
    meshes: Mapping[int, Triangles], camera: Intrinsics, settings: EvaluateSettings, role: int
) -> dict[int, Body]:
    """Every mesh with its samples, each from its own seed; `role` keeps those of made and true objects apart."""
    if not meshes:
        return {}
    caster = RayCaster(*joined([mesh.vertices for mesh in meshes.values()], [mesh.faces for mesh in meshes.values()]))
    bodies = {}
    for number, mesh in meshes.items():
        rng = np.random.default_rng([settings.seed, role, number])
        bodies[number] = Body(mesh, cloud(mesh, settings.samples, rng, caster, camera), solid(mesh))
    return bodies


def _similarity(
    made: Float[np.ndarray, "h w 3"], true: Float[np.ndarray, "h w 3"], masks: Iterable[Bool[np.ndarray, "h w"]]
) -> tuple[Similarity | None, int]:
    """Similarity of points made and true at the same pixel, each mask with the same weight; None if there are too few."""
    masks = [mask for mask in masks if mask.any()]
    counts = [int(mask.sum()) for mask in masks]
    if sum(counts) < MIN_PIXELS:
        return None, sum(counts)
    source, target = (np.concatenate([points[mask] for mask in masks]) for points in (made, true))
    weights = np.concatenate([np.full(count, 1 / count) for count in counts])
    return robust_similarity(source, target, weights), sum(counts)


def _together(
    made: Sequence[Body],
    true: Sequence[Body],
    moved: Similarity | None,
    world_from_camera: Float[np.ndarray, "4 4"],
    unit: float,
) -> SceneShape:
    """Scores over the query samples and the boxes of all objects. `moved` is None if made and true could not be aligned."""
    hidden_true = np.concatenate([body.cloud.hidden for body in true])
    if moved is None or not made:
        return SceneShape(hidden=SurfaceScores() if hidden_true.any() else None)
    ours = moved.apply(np.concatenate([body.cloud.queries.points for body in made]))
    theirs = np.concatenate([body.cloud.queries.points for body in true])
    to_made = cKDTree(ours).query(theirs)[0]
    hidden = None
    if hidden_true.any():
        hidden_made = np.concatenate([body.cloud.hidden for body in made])
        to_hidden = cKDTree(theirs[hidden_true]).query(ours[hidden_made])[0]
        hidden = surface_scores(to_made[hidden_true], to_hidden, unit)
    boxes = [transform(world_from_camera, moved.apply(body.mesh.vertices)) for body in made]
    ious = box_ious(boxes, [transform(world_from_camera, body.mesh.vertices) for body in true])
    return SceneShape(
        whole=surface_scores(to_made, cKDTree(theirs).query(ours)[0], unit),
        hidden=hidden,
        box_iou=float(sum(ious[pair] for pair in hungarian(ious, 0.0)) / len(true)),
    )


def _support_edges(made: MadeScene, made_of: Mapping[int, int]) -> list[tuple[int, int]]:
    """Made (child, parent) edges in true ids. Objects that match no true one get negative ids: their edges are wrong."""
    true_of = {FLOOR: FLOOR, **{mine: number for number, mine in made_of.items()}}
    return [(true_of.get(child, -child), true_of.get(parent, -parent)) for child, parent in made.supports.items()]
