"""Compose: places every object in one frame, scores it against the photo, and relates it to the others."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import networkx as nx
import numpy as np
from jaxtyping import Float, Integer, UInt8

from scenegen.camera import camera_from_crop, matrix4
from scenegen.config import ComposeConfig, ExportConfig
from scenegen.errors import ObjectError
from scenegen.export.bodies import settled, with_bodies
from scenegen.export.parts import Part, PartScene, surface_part
from scenegen.faults import about_object, ends_photo
from scenegen.geometry.generator import THIN_SOLID, USER_MESH
from scenegen.geometry.mesh import TexturedMesh, load_mesh, save_mesh
from scenegen.geometry.solid import topology
from scenegen.ids import BACKGROUND, object_ids
from scenegen.messages.remarks import note, of_object
from scenegen.records import (
    BACKGROUND_SUPPORT,
    Carrier,
    Depth,
    Failure,
    Instance,
    Instances,
    Kept,
    Layout,
    Metres,
    ObjectMesh,
    Objects,
    Photo,
    PlacedCamera,
    PlacedObject,
    Scene,
    Scores,
    SeenView,
    Views,
    ViewScores,
)
from scenegen.scene.arrange import STEADY_DEG, Arranged, Told, Unplaced, View, arrange
from scenegen.scene.graph import (
    CAMERA,
    TOUCHING,
    closeness,
    containment,
    object_name,
    occlusions,
    relate,
    to_json,
)
from scenegen.scene.layout import FLOOR, Floor
from scenegen.scene.leaning import Lean, lean
from scenegen.scene.placement import Sighting, fit_scale, fit_scale_in_views, surface_depth
from scenegen.scene.scoring import score_objects
from scenegen.scene.steady import steadied
from scenegen.store.png import read_png
from stages.stage import Stage, Work

logger = logging.getLogger(__name__)

CARRIERS: Mapping[str, Carrier] = {"floor": FLOOR, "background": BACKGROUND_SUPPORT, "nothing": None}
POOR_IOU = 0.85
LEAST_IOU = 0.3
"""Silhouette IoU in its main view below which an object made from several photos is not what that one shows."""
FRAGMENT = 0.1
"""Visible area of an object, as a share of that in its best view, below which the first photo shows too little of it to judge."""


def compose(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    objects: Objects,
    kept: Kept,
    views: Views = Views(),
    *,
    config: ComposeConfig,
    work: Work,
) -> Scene:
    """The scene: see `Scene` for what comes back, `scenegen.scene.placement` for how.

    Those in `kept` stay just as they are there. Where there are several photos, `views` has them all, this one first; its
    camera's frame is that of the scene.

    Raises:
        ObjectError: if one of the objects cannot be placed, scored, moved or related to the others.
    """
    main = SeenView(photo=photo, instances=instances, depth=depth, main_from_camera=matrix4(np.eye(4)))
    looks = [_look(seen, work) for seen in (main, *views.others)]
    ids, z = looks[0].ids, looks[0].z
    warnings = [of_object(item.id, remark) for item in objects.items for remark in item.warnings]
    warnings += [
        f"object {number} is made and placed from {looks[views.best(number)].seen.photo.name} alone: by all photos together it "
        "lies elsewhere than that one shows it; check their cameras, and that the object has not moved."
        for number in views.alone
    ]
    there = {item.id for look in looks for item in look.seen.instances.items}
    if missing := [str(given.id) for given in photo.meshes if given.id not in there]:
        warnings.append(
            f"meshes: there is no object {', '.join(missing)}; name each mesh after the id of its object in masks.png."
        )
    failures: list[Failure] = list(objects.failures)
    found: dict[int, Unplaced] = {}
    for item in objects.items:
        with about_object(item.id):
            together = [looks[number] for number in views.together(item.id)]
            unplaced = _unplaced(item, load_mesh(work.read(item.mesh)), together, looks[0])
        if unplaced is None:
            error = "no depth is known where the object is visible; give a depth map that covers it"
            failures.append(Failure(stage="compose", object=item.id, error=error))
            logger.warning("object %d is left out: %s", item.id, error)
        else:
            found[item.id] = unplaced
    view = View(
        ids=ids,
        z=z,
        limit=np.load(work.read(layout.limit)),
        camera=layout.intrinsics,
        floor=Floor(np.array(layout.floor.normal), layout.floor.offset, layout.floor_source),
        supports=layout.supports,
        uncertainty=depth.uncertainty,
        relief_error=depth.relief_error,
    )
    reach = min(config.max_shift, 2 * depth.uncertainty) if config.contact else 0.0
    world_from_camera = np.array(layout.world_from_camera)
    before = {item.id: item for item in kept.objects if item.id in found}
    kept_places = {i: _arranged(item, world_from_camera, work) for i, item in before.items()}
    told = Told(
        {number: CARRIERS[on] if isinstance(on, str) else on for number, on in config.stands.items()},
        config.before,
        config.distances,
    )

    def arranged(begun: Mapping[int, Unplaced]) -> dict[int, Arranged]:
        return arrange(begun, view, kept_places, reach, told)

    if config.settle and config.contact:
        free = set(found) - set(kept_places) - set(config.distances)
        walls = tuple(
            surface_part(surface.name, load_mesh(work.read(surface.mesh)), world_from_camera)
            for surface in layout.surfaces
        )
        placed = steadied(found, free, depth.uncertainty, arranged, _Gravity(found, walls, layout).staying)
    else:
        placed = arranged(found)
    in_views = [_scores(placed, look) for look in looks]
    scores = {i: in_views[0 if i in in_views[0] else views.best(i)][i] for i in placed}
    scores |= {i: item.scores for i, item in before.items()}
    made_by = {item.id: item.backend for item in objects.items}
    for object_id, score in scores.items():
        if score.silhouette_iou < POOR_IOU:
            poor = f"object {object_id} covers its mask poorly: its silhouette IoU is {score.silhouette_iou:.2f}"
            again = f"; another seed may do better: scenegen regenerate OUT/{views.scene or photo.name} --object {object_id}"
            warnings.append(poor + ("." if made_by[object_id] in (USER_MESH, THIN_SOLID) else f"{again}."))
    in_world: dict[int, TexturedMesh] = {}
    members = []
    for item in objects.items:
        if item.id in placed:
            with about_object(item.id):
                in_world[item.id] = placed[item.id].mesh.transformed(world_from_camera)
                found_as = looks[views.best(item.id)].shown(item.id)
                if item.id in before:
                    members.append(_stored_again(before[item.id], object_name(item.id, found_as.label), work))
                    continue
                distance = placed[item.id].scale / found[item.id].fit.scale
                member = _member(item, placed[item.id], distance, in_world[item.id], found_as, scores[item.id], work)
                shown = _view_scores(item.id, looks, in_views) if views.others else ()
                members.append(member.model_copy(update={"views": shown}))
    cameras = tuple(
        PlacedCamera(
            photo=seen.photo.name,
            intrinsics=seen.depth.intrinsics,
            world_from_camera=matrix4(world_from_camera @ np.array(seen.main_from_camera)),
        )
        for seen in views.others
    )
    leans = _leans(placed, in_world)
    warnings += [remark for item_id, item in placed.items() for remark in _doubts(item_id, item, item_id in leans)]
    graph = _graph(members, placed, in_world, leans, ids, z, layout, depth.metres)
    _relate_cameras(graph, members, cameras, photo.name)
    work.write("scene_graph.json").write_text(to_json(graph), encoding="utf-8")
    return Scene(
        graph=work.artifact("scene_graph.json"),
        metres=depth.metres,
        intrinsics=layout.intrinsics,
        world_from_camera=layout.world_from_camera,
        objects=tuple(members),
        surfaces=layout.surfaces,
        failures=tuple(failures),
        cameras=cameras,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, eq=False)
class _Gravity:
    """The simulation of arrangements, among the surfaces of the background."""

    objects: Mapping[int, Unplaced]
    background: tuple[Part, ...]
    layout: Layout

    def staying(self, placed: Mapping[int, Arranged]) -> frozenset[int]:
        """Which objects stay where they are by themselves: what the background carries is held there.

        Raises:
            WeightsError: if MuJoCo is not installed.
        """
        world_from_camera = np.array(self.layout.world_from_camera)
        parts = []
        for number, item in placed.items():
            label = self.objects[number].label
            facts = {"id": number, "support": "nothing" if item.support is None else item.support}
            mesh = item.mesh.transformed(world_from_camera)
            parts.append(Part(object_name(number, label), label, mesh, np.eye(4), facts))
        scene = PartScene(
            objects=tuple(parts),
            background=self.background,
            intrinsics=self.layout.intrinsics,
            world_from_camera=world_from_camera,
            facts={},
        )
        settings = ExportConfig()
        found = settled(with_bodies(scene, settings.density_kg_m3, settings.hulls))
        stays = dict(zip(placed, (result.stays for result in found), strict=True))
        return frozenset(
            number for number, item in placed.items() if stays[number] and item.support != BACKGROUND_SUPPORT
        )


@dataclass(frozen=True, eq=False)
class _Look:
    """A photo of the scene, with what was found in it."""

    seen: SeenView
    image: UInt8[np.ndarray, "h w 3"]
    ids: Integer[np.ndarray, "h w"]
    z: Float[np.ndarray, "h w"]

    def shown(self, object_id: int) -> Instance:
        """What was found of an object."""
        return next(item for item in self.seen.instances.items if item.id == object_id)

    @property
    def camera_from_main(self) -> Float[np.ndarray, "4 4"]:
        return np.linalg.inv(np.array(self.seen.main_from_camera))


def _look(seen: SeenView, work: Work) -> _Look:
    image, ids = (read_png(work.read(file)) for file in (seen.photo.image, seen.instances.masks))
    return _Look(seen, image, ids, np.load(work.read(seen.depth.depth)))


def contradicted(scene: Scene, views: Views) -> Views:
    """The views, with those objects made from one alone that several together put elsewhere than their main view shows them.

    The main view of an object is the first photo, or its best view if the first shows nothing or a fragment of it.
    """
    made_from, alone = dict(views.made_from), list(views.alone)
    for placed in scene.objects:
        together = views.together(placed.id)
        if len(together) == 1:
            continue
        areas = {
            number: next(item.area for item in views.items[number].instances.items if item.id == placed.id)
            for number in together
        }
        main = 0 if areas.get(0, 0) >= FRAGMENT * areas[together[0]] else together[0]
        found = {view.photo: view.scores.silhouette_iou for view in placed.views}
        if found[views.items[main].photo.name] < LEAST_IOU:
            made_from[placed.id] = main
            alone.append(placed.id)
    return views.model_copy(update={"made_from": tuple(made_from.items()), "alone": tuple(alone)})


def _unplaced(item: ObjectMesh, mesh: TexturedMesh, together: Sequence[_Look], main: _Look) -> Unplaced | None:
    """The object before it is scaled; None if no depth says where it is.

    Args:
        item: the object.
        mesh: its mesh, in the frame of its crop camera.
        together: the photos that place it, the one that it was made from first.
        main: the photo in whose frame the scene is.
    """
    best = together[0]
    shown = best.shown(item.id)
    unit = mesh.transformed(camera_from_crop(item.crop, 1.0))
    own = _own_depth(unit, item.id, best)
    fit = fit_scale(own, best.z, best.ids == item.id)
    if fit is None:
        return None
    if len(together) > 1:
        fit = fit_scale_in_views(unit, fit, [_sighting(item.id, look, best) for look in together])
    if best is main:
        return Unplaced(unit, own, fit, shown.label, shown.label_confidence)
    moved = unit.transformed(np.diag([fit.scale] * 3 + [1.0])).transformed(np.array(best.seen.main_from_camera))
    found = _own_depth(moved, item.id, main)
    return Unplaced(moved, found, replace(fit, scale=1.0), shown.label, shown.label_confidence)


def _own_depth(mesh: TexturedMesh, object_id: int, look: _Look) -> Float[np.ndarray, "h w"]:
    return surface_depth(mesh.vertices, mesh.faces, look.seen.depth.intrinsics, look.ids == object_id)


def _sighting(object_id: int, look: _Look, made_in: _Look) -> Sighting:
    return Sighting(
        camera=look.seen.depth.intrinsics,
        camera_from_main=look.camera_from_main @ np.array(made_in.seen.main_from_camera),
        mask=look.ids == object_id,
        empty=look.ids == BACKGROUND,
        depth=look.z,
        uncertainty=look.seen.depth.uncertainty,
    )


def _scores(placed: Mapping[int, Arranged], look: _Look) -> dict[int, Scores]:
    """Scores, in one photo, of the objects that it shows."""
    meshes = {number: item.mesh.transformed(look.camera_from_main) for number, item in placed.items()}
    found = score_objects(meshes, look.image, look.ids, look.z, look.seen.depth.intrinsics)
    return {number: found[number] for number in object_ids(look.ids) if number in found}


def _view_scores(
    object_id: int, looks: Sequence[_Look], in_views: Sequence[Mapping[int, Scores]]
) -> tuple[ViewScores, ...]:
    return tuple(
        ViewScores(photo=look.seen.photo.name, scores=scores[object_id])
        for look, scores in zip(looks, in_views, strict=True)
        if object_id in scores
    )


def _leans(placed: Mapping[int, Arranged], in_world: Mapping[int, TexturedMesh]) -> dict[int, dict[int, Lean]]:
    """By object that its base does not carry: the others that it leans on, and where."""
    found = {}
    for number, item in placed.items():
        if _is_unsteady(item):
            with about_object(number):
                others = {other: lean(in_world[number], mesh) for other, mesh in in_world.items() if other != number}
            found[number] = {other: where for other, where in others.items() if where is not None}
    return {number: others for number, others in found.items() if others}


def _is_unsteady(item: Arranged) -> bool:
    return item.support is not None and item.evidence.get("steady_deg", STEADY_DEG) < STEADY_DEG


def _doubts(object_id: int, item: Arranged, leans: bool) -> list[str]:
    """What a simulator would not leave as it is, as notes."""
    doubts = []
    if item.support is None:
        doubts.append("nothing is known to carry it, so it falls under gravity.")
    elif _is_unsteady(item) and not leans:
        doubts.append("its base does not carry it, so it tips over under gravity.")
    return [of_object(object_id, note(text)) for text in doubts]


def _member(
    item: ObjectMesh,
    place: Arranged,
    distance: float,
    world: TexturedMesh,
    found_as: Instance,
    scores: Scores,
    work: Work,
) -> PlacedObject:
    """The object with its own frame: gravity-aligned, metres, origin at the centre of its base."""
    low, high = world.vertices.min(axis=0), world.vertices.max(axis=0)
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2], dtype=np.float64)
    world_from_object = np.eye(4)
    world_from_object[:3, 3] = origin
    name = object_name(item.id, found_as.label)
    save_mesh(world.transformed(np.linalg.inv(world_from_object)), work.write(f"{name}.npz"))
    return PlacedObject(
        id=item.id,
        name=name,
        label=found_as.label,
        label_confidence=found_as.label_confidence,
        mesh=work.artifact(f"{name}.npz"),
        world_from_object=matrix4(world_from_object),
        scale=place.scale,
        distance=round(distance, 6),
        support=place.support,
        level=place.level,
        backend=item.backend,
        licence=item.licence,
        seed=item.seed,
        score=found_as.score,
        scores=scores,
        topology=topology(world.vertices, world.faces),
    )


def _arranged(kept: PlacedObject, world_from_camera: Float[np.ndarray, "4 4"], work: Work) -> Arranged:
    """An object as an earlier run has arranged it."""
    with about_object(kept.id):
        camera_from_object = np.linalg.inv(world_from_camera) @ np.array(kept.world_from_object)
        mesh = load_mesh(work.read(kept.mesh)).transformed(camera_from_object)
        return Arranged(kept.scale, mesh, kept.support, kept.level, {})


def _stored_again(kept: PlacedObject, name: str, work: Work) -> PlacedObject:
    """An object of an earlier run, with a copy of its mesh, so that this scene needs nothing of that one."""
    shutil.copyfile(work.read(kept.mesh), work.write(f"{name}.npz"))
    return kept.model_copy(update={"name": name, "mesh": work.artifact(f"{name}.npz")})


def _graph(
    members: list[PlacedObject],
    placed: dict[int, Arranged],
    in_world: dict[int, TexturedMesh],
    leans: Mapping[int, Mapping[int, Lean]],
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
            support="nothing" if member.support is None else member.support,
            world_from_object=member.world_from_object,
        )
    names = {member.id: member.name for member in members}
    if any(member.support == BACKGROUND_SUPPORT for member in members):
        graph.add_node(BACKGROUND_SUPPORT, kind="background")
    for member in members:
        if member.support is not None:
            relate(graph, _carrier(member, names), member.name, "supports", placed[member.id].evidence)
    for (front, behind), evidence in occlusions(ids, z).items():
        if front in names and behind in names:
            relate(graph, names[front], names[behind], "occludes", evidence)
    _relate_pairs(graph, members, in_world)
    for number, others in leans.items():
        for other, where in others.items():
            relate(graph, names[number], names[other], "leans on", asdict(where))
    return graph


def _relate_cameras(
    graph: nx.DiGraph, members: Sequence[PlacedObject], cameras: Sequence[PlacedCamera], main: str
) -> None:
    """Adds the cameras of several photos, and which of them show which object."""
    if not cameras:
        return
    graph.nodes[CAMERA]["photo"] = main
    nodes = {main: CAMERA}
    for camera in cameras:
        nodes[camera.photo] = f"{CAMERA}_{len(nodes) + 1}"
        graph.add_node(
            nodes[camera.photo],
            kind="camera",
            photo=camera.photo,
            intrinsics=camera.intrinsics.model_dump(),
            world_from_camera=camera.world_from_camera,
        )
    for member in members:
        for view in member.views:
            relate(graph, nodes[view.photo], member.name, "shows", {"silhouette_iou": view.scores.silhouette_iou})


def _carrier(member: PlacedObject, names: Mapping[int, str]) -> str:
    """The node of what carries an object."""
    if isinstance(member.support, str):
        return member.support
    return "floor" if member.support == FLOOR else names[member.support or FLOOR]


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
