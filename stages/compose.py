"""Compose: places every object in one frame, scores it against the photo, and relates it to the others."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
from jaxtyping import Float, Integer

from scenegen.camera import camera_from_crop, matrix4
from scenegen.config import ComposeConfig
from scenegen.errors import ObjectError
from scenegen.faults import about_object, ends_photo
from scenegen.geometry.mesh import TexturedMesh, check_object, load_mesh, save_mesh
from scenegen.geometry.solid import topology
from scenegen.messages.remarks import of_object
from scenegen.records import (
    Depth,
    Failure,
    Instances,
    Kept,
    Layout,
    Metres,
    ObjectMesh,
    Objects,
    Photo,
    PlacedObject,
    Scene,
    Scores,
)
from scenegen.scene.graph import (
    CAMERA,
    TOUCHING,
    closeness,
    containment,
    object_name,
    occlusions,
    relate,
    support_graph,
    to_json,
)
from scenegen.scene.layout import FLOOR, Floor
from scenegen.scene.placement import (
    RESTING_SHARE,
    fit_scale,
    gap_above,
    scale_on_floor,
    scale_touching,
    surface_depth,
)
from scenegen.scene.scoring import score_objects
from scenegen.store.png import read_png
from stages.stage import Stage, Work

logger = logging.getLogger(__name__)

POOR_IOU = 0.85


@dataclass(frozen=True)
class Placed:
    """An object at its place."""

    scale: float
    mesh: TexturedMesh
    """Camera frame."""
    support: int
    evidence: dict[str, float | bool]
    """Of its support."""


def compose(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    objects: Objects,
    kept: Kept,
    *,
    config: ComposeConfig,
    work: Work,
) -> Scene:
    """The scene: see `Scene` for what comes back, `scenegen.scene.placement` for how.

    Objects are placed after what supports them. Those in `kept` keep the scale they have there.

    Raises:
        ObjectError: if one of the objects cannot be placed, scored, moved or related to the others.
    """
    image = read_png(work.read(photo.image))
    ids = read_png(work.read(instances.masks))
    z = np.load(work.read(depth.depth))
    floor = Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source)
    warnings = [of_object(item.id, remark) for item in objects.items for remark in item.warnings]
    failures: list[Failure] = list(objects.failures)
    placed: dict[int, Placed] = {}
    tolerance = min(config.max_shift, 2 * depth.uncertainty) if config.contact else 0.0
    for item in _supporters_first(objects.items, layout):
        fixed = dict(kept.scales).get(item.id)
        with about_object(item.id):
            mesh = load_mesh(work.read(item.mesh))
            result = _place(item, mesh, ids, z, layout, floor, placed, fixed, tolerance)
        if isinstance(result, Failure):
            failures.append(result)
            logger.warning("object %d is left out: %s", item.id, result.error)
            continue
        placed[item.id] = result
    scores = score_objects({i: p.mesh for i, p in placed.items()}, image, ids, z, layout.intrinsics)
    for object_id, score in scores.items():
        if score.silhouette_iou < POOR_IOU:
            warnings.append(
                f"object {object_id} covers its mask poorly: its silhouette IoU is {score.silhouette_iou:.2f}; another seed may "
                f"do better: scenegen regenerate OUT/{photo.name} --object {object_id}."
            )
    world_from_camera = np.array(layout.world_from_camera)
    in_world: dict[int, TexturedMesh] = {}
    members = []
    for item in objects.items:
        if item.id in placed:
            with about_object(item.id):
                in_world[item.id] = placed[item.id].mesh.transformed(world_from_camera)
                members.append(_member(item, placed[item.id], in_world[item.id], instances, scores[item.id], work))
    graph = _graph(members, placed, in_world, ids, z, layout, depth.metres)
    work.write("scene_graph.json").write_text(to_json(graph), encoding="utf-8")
    return Scene(
        graph=work.artifact("scene_graph.json"),
        metres=depth.metres,
        intrinsics=layout.intrinsics,
        world_from_camera=layout.world_from_camera,
        objects=tuple(members),
        surfaces=layout.surfaces,
        failures=tuple(failures),
        warnings=tuple(warnings),
    )


def _supporters_first(items: tuple[ObjectMesh, ...], layout: Layout) -> list[ObjectMesh]:
    """Sorted by the number of objects between each and the floor, then by id."""
    stands = support_graph((support.parent, support.child) for support in layout.supports)
    level = {child: number for number, children in enumerate(nx.topological_generations(stands)) for child in children}
    return sorted(items, key=lambda item: (level[item.id], item.id))


def _place(
    item: ObjectMesh,
    mesh: TexturedMesh,
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    layout: Layout,
    floor: Floor,
    placed: dict[int, Placed],
    fixed: float | None,
    tolerance: float,
) -> Placed | Failure:
    unit = mesh.transformed(camera_from_crop(item.crop, 1.0))
    mask = ids == item.id
    fit = fit_scale(surface_depth(unit.vertices, unit.faces, layout.intrinsics, mask), z, mask)
    if fit is None:
        return Failure(
            stage="compose",
            object=item.id,
            error="no depth is known where the object is visible; give a depth map that covers it",
        )
    contact = next(s for s in layout.supports if s.child == item.id)
    support = contact.parent if contact.parent in placed else FLOOR
    resting = contact.contact_share >= RESTING_SHARE
    scale = fit.scale
    if fixed is not None:
        scale = fixed
    elif support == FLOOR:
        scale = scale_on_floor(unit.vertices, floor, scale, tolerance, resting)
    elif resting:
        scale = scale_touching(unit.vertices, placed[support].mesh, floor, scale, tolerance) or scale
    final = replace(unit, vertices=(unit.vertices * scale).astype(np.float32))
    check_object(final)
    gap = (
        float(floor.heights(final.vertices).min())
        if support == FLOOR
        else gap_above(final.vertices, placed[support].mesh, floor)
    )
    evidence: dict[str, float | bool] = {
        "contact_share": contact.contact_share,
        "scale_from_depth": round(fit.scale, 6),
        "depth_spread": round(fit.spread, 6),
        "moved": round(scale / fit.scale - 1, 6),
    }
    if gap is not None:
        evidence["gap_m"] = round(gap, 5)
    return Placed(scale, final, support, evidence)


def _member(
    item: ObjectMesh, place: Placed, world: TexturedMesh, instances: Instances, scores: Scores, work: Work
) -> PlacedObject:
    """The object with its own frame: gravity-aligned, metres, origin at the centre of its base."""
    low, high = world.vertices.min(axis=0), world.vertices.max(axis=0)
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2], dtype=np.float64)
    world_from_object = np.eye(4)
    world_from_object[:3, 3] = origin
    name = object_name(item.id, item.label)
    save_mesh(world.transformed(np.linalg.inv(world_from_object)), work.write(f"{name}.npz"))
    return PlacedObject(
        id=item.id,
        name=name,
        label=item.label,
        label_confidence=item.label_confidence,
        mesh=work.artifact(f"{name}.npz"),
        world_from_object=matrix4(world_from_object),
        scale=place.scale,
        support=place.support,
        backend=item.backend,
        licence=item.licence,
        seed=item.seed,
        score=next(instance.score for instance in instances.items if instance.id == item.id),
        scores=scores,
        topology=topology(world.vertices, world.faces),
    )


def _graph(
    members: list[PlacedObject],
    placed: dict[int, Placed],
    in_world: dict[int, TexturedMesh],
    ids: Integer[np.ndarray, "h w"],
    z: Float[np.ndarray, "h w"],
    layout: Layout,
    metres: Metres,
) -> nx.DiGraph:
    graph: nx.DiGraph = nx.DiGraph(metres=metres.model_dump())
    graph.add_node(
        CAMERA, kind="camera", intrinsics=layout.intrinsics.model_dump(), world_from_camera=layout.world_from_camera
    )
    graph.add_node("floor", kind="background", source=layout.floor_source)
    for surface in layout.surfaces:
        if surface.name not in graph:
            graph.add_node(surface.name, kind="background")
    for member in members:
        graph.add_node(
            member.name,
            kind="object",
            id=member.id,
            label=member.label,
            label_confidence=member.label_confidence,
            backend=member.backend,
            seed=member.seed,
            score=member.score,
            scores=member.scores.model_dump(),
            world_from_object=member.world_from_object,
        )
    names = {member.id: member.name for member in members}
    for member in members:
        parent = "floor" if member.support == FLOOR else names[member.support]
        relate(graph, parent, member.name, "supports", placed[member.id].evidence)
    for (front, behind), evidence in occlusions(ids, z).items():
        if front in names and behind in names:
            relate(graph, names[front], names[behind], "occludes", evidence)
    _relate_pairs(graph, members, in_world)
    return graph


def _relate_pairs(graph: nx.DiGraph, members: list[PlacedObject], in_world: dict[int, TexturedMesh]) -> None:
    """Relates all pairs of objects. If some fail, the object in most of them is blamed."""
    failed: Counter[int] = Counter()
    cause: Exception | None = None
    for a, b in itertools.combinations(members, 2):
        try:
            _relate_pair(graph, a, b, in_world)
        except Exception as error:
            if ends_photo(error):
                raise
            failed.update((a.id, b.id))
            cause = error
    if cause is not None:
        raise ObjectError(failed.most_common(1)[0][0]) from cause


def _relate_pair(graph: nx.DiGraph, a: PlacedObject, b: PlacedObject, in_world: dict[int, TexturedMesh]) -> None:
    distance, size = closeness(in_world[a.id], in_world[b.id])
    if distance < TOUCHING * size:
        relate(graph, a.name, b.name, "adjacent", {"distance_m": round(distance, 5)})
    for inner, outer in ((a, b), (b, a)):
        share = containment(in_world[inner.id], in_world[outer.id])
        if inner.support == outer.id and share > 0.5:
            relate(graph, outer.name, inner.name, "contains", {"share_in_box": round(share, 3)})


COMPOSE = Stage(name="compose", record=Scene, run=compose)
