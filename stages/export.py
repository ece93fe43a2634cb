"""Export: the scene as GLB and USD, validated before anything is published; and a preview of it, to look at."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scenegen.config import ExportConfig, Settings
from scenegen.errors import ExportError
from scenegen.export.bodies import body_remarks, settled, with_bodies
from scenegen.export.glb import read_glb, write_glb
from scenegen.export.parts import Fact, Part, PartCamera, PartScene, prepared, surface_part
from scenegen.geometry.mesh import load_mesh
from scenegen.physics.body import Hull
from scenegen.physics.collider_file import load_colliders, save_colliders
from scenegen.records import Export, Kept, Photo, PlacedObject, Preview, Scene, Settled
from scenegen.registry import EXPORTERS
from stages.stage import Stage, Work

COLLIDERS = "colliders.npz"
"""File in the stage's folder that is not published."""


def export(photo: Photo, scene: Scene, kept: Kept, *, config: ExportConfig, work: Work) -> Export:
    """The exported files: `scene.glb`, `scene.usd` with its components, `scene_graph.json`, and the formats asked for.

    What is in `kept` collides as it does there.

    Raises:
        ExportError: if a mesh cannot be exported, or a written file fails its validation.
    """
    from scenegen.export.usd import validate_stage, write_usd, write_usdz  # pxr is slow to import

    named = {"photo": photo.name, "decoded_photo_sha256": photo.image.sha256}
    parts = with_bodies(
        part_scene(scene, work, named), config.density_kg_m3, config.hulls, _kept_colliders(scene, kept, work)
    )
    save_colliders({part.name: part.hulls for part in (*parts.objects, *parts.background)}, work.write(COLLIDERS))
    found: dict[int, Settled] = {}
    if config.settle:
        found = {placed.id: result for placed, result in zip(scene.objects, settled(parts), strict=True)}
        parts = replace(
            parts,
            objects=tuple(
                replace(part, facts={**part.facts, **found[placed.id].model_dump()})
                for placed, part in zip(scene.objects, parts.objects, strict=True)
            ),
        )
    write_glb(work.write("scene.glb"), parts)
    names = ["scene.glb", "scene_graph.json", *write_usd(work.folder, parts)]
    shutil.copyfile(work.read(scene.graph), work.write("scene_graph.json"))
    if config.usdz:
        write_usdz(work.write("scene.usdz"), parts, work.folder)
        names.append("scene.usdz")
    for settings in config.formats:
        written = EXPORTERS.of(settings).run(parts, work.folder, settings)
        names += [path.relative_to(work.folder).as_posix() for path in written]
    findings = glb_findings(parts, read_glb(work.folder / "scene.glb"))
    for name in names:
        if name in ("scene.usd", "scene.usdz"):
            findings += [f"{name}: {finding}" for finding in validate_stage(work.folder / name)]
    if findings:
        raise ExportError(f"the exported scene failed its validation: {' '.join(findings)}")
    return Export(
        files=tuple((name, work.artifact(name)) for name in sorted(set(names))),
        settled=tuple(found.items()),
        colliders=work.artifact(COLLIDERS),
        warnings=body_remarks(parts),
    )


def preview(scene: Scene, *, config: Settings, work: Work) -> Preview:
    """The scene to look at: its meshes, placed, without what its files say of bodies, and not validated.

    Raises:
        ExportError: if a mesh cannot be written.
    """
    write_glb(work.write("preview.glb"), part_scene(scene, work, {}))
    return Preview(glb=work.artifact("preview.glb"))


def _kept_colliders(scene: Scene, kept: Kept, work: Work) -> dict[str, tuple[Hull, ...]]:
    """Colliders, by the name of the part, of objects that are kept and of the background."""
    if kept.colliders is None:
        return {}
    ids = {item.id for item in kept.objects}
    names = {placed.name for placed in scene.objects if placed.id in ids} | {surface.name for surface in scene.surfaces}
    return {name: hulls for name, hulls in load_colliders(work.read(kept.colliders)).items() if name in names}


def part_scene(scene: Scene, work: Work, facts: Mapping[str, Fact]) -> PartScene:
    """The scene's meshes and numbers in the form of the writers. Surfaces are moved from the camera to the world frame.

    Args:
        scene: whose files `work` can read.
        work: of a stage.
        facts: of the scene, besides its own.
    """
    world_from_camera = np.array(scene.world_from_camera)
    return PartScene(
        objects=tuple(
            Part(
                name=placed.name,
                label=placed.label,
                mesh=load_mesh(work.read(placed.mesh)),
                world_from_part=np.array(placed.world_from_object),
                facts=object_facts(placed),
            )
            for placed in scene.objects
        ),
        background=tuple(
            surface_part(surface.name, load_mesh(work.read(surface.mesh)), world_from_camera)
            for surface in scene.surfaces
        ),
        intrinsics=scene.intrinsics,
        world_from_camera=world_from_camera,
        cameras=tuple(
            PartCamera(f"camera_{number}", camera.photo, camera.intrinsics, np.array(camera.world_from_camera))
            for number, camera in enumerate(scene.cameras, start=2)
        ),
        facts={
            **facts,
            "metres": scene.metres.source,
            "metres_factor": scene.metres.factor,
        },
    )


def object_facts(placed: PlacedObject) -> dict[str, Fact]:
    """The facts written with an object; unknown scores are left out."""
    facts: dict[str, Fact | None] = {
        "id": placed.id,
        "label_confidence": placed.label_confidence,
        "backend": placed.backend,
        "licence": placed.licence,
        "seed": placed.seed,
        "score": placed.score,
        "support": "nothing" if placed.support is None else placed.support,
        "views": ", ".join(view.photo for view in placed.views) or None,
        **placed.scores.model_dump(),
        **(placed.topology.model_dump() if placed.topology else {}),
    }
    return {name: value for name, value in facts.items() if value is not None}


def glb_findings(wanted: PartScene, found: PartScene) -> list[str]:
    """How the content of a scene that was read back differs from the one that was written."""
    wanted = prepared(wanted)
    findings = []
    for group in ("objects", "background"):
        expected = [(part.name, len(part.mesh.faces)) for part in getattr(wanted, group)]
        received = [(part.name, len(part.mesh.faces)) for part in getattr(found, group)]
        if expected != received:
            findings.append(f"scene.glb: {group} (name, triangles) are {received}, not {expected}.")
    expected_cameras, cameras = (
        [scene.intrinsics, *(camera.intrinsics for camera in scene.cameras)] for scene in (wanted, found)
    )
    if cameras != expected_cameras:
        findings.append(f"scene.glb: the cameras are {cameras}, not {expected_cameras}.")
    return findings


EXPORT = Stage(
    name="export",
    record=Export,
    run=export,
    backends=lambda config: tuple(EXPORTERS.chosen(settings) for settings in config.formats),
)
PREVIEW = Stage(name="preview", record=Preview, run=preview)
