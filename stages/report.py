"""Report: the page that shows what was made, from the exported file itself, and the pictures that go with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from scenegen.config import ReportConfig
from scenegen.errors import ExportError
from scenegen.export.figures import paint_outlines
from scenegen.export.glb import read_glb
from scenegen.export.parts import Part, PartScene
from scenegen.export.report import Findings, ShownView, report_page
from scenegen.export.side_view import side_view
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.render import render
from scenegen.records import (
    Completions,
    Depth,
    Export,
    Instances,
    Layout,
    Photo,
    PlacedObject,
    Report,
    Scene,
    Scores,
    Timings,
    Views,
)
from scenegen.scene.scoring import score_objects
from scenegen.store.png import read_png, write_png
from stages.stage import Stage, Work

GLB = "scene.glb"
IOU_TOLERANCE = 0.01
"""Difference between the silhouette IoU of the composed and of the exported scene that is worth a warning."""


def report(
    photo: Photo,
    instances: Instances,
    depth: Depth,
    layout: Layout,
    scene: Scene,
    export: Export,
    timings: Timings,
    views: Views = Views(),
    completions: Completions = Completions(),
    *,
    config: ReportConfig,
    work: Work,
) -> Report:
    """`report.html`, and next to it `masks.png`, `depth.npy`, `overlay.png` and `side.png`.

    The page shows all `views` if there are several photos.

    Overlay, comparison and side view are rendered from `scene.glb` as it was exported, through the camera it holds. The
    silhouettes are measured there again; if they differ from the scene's scores, page and log say so.

    Raises:
        ExportError: if the export has no readable `scene.glb`, or its objects are not those of the scene.
    """
    glb = next((file for name, file in export.files if name == GLB), None)
    if glb is None:
        names = ", ".join(name for name, _ in export.files) or "nothing"
        raise ExportError(f"`export` holds {names}; it must hold {GLB}, which the report shows.")
    exported = read_glb(work.read(glb))
    image, ids = read_png(work.read(photo.image)), read_png(work.read(instances.masks))
    z = np.load(work.read(depth.depth), allow_pickle=False)

    if sorted(part.name for part in exported.objects) != sorted(item.name for item in scene.objects):
        raise ExportError(
            f"{GLB} holds the objects {sorted(part.name for part in exported.objects)}, but "
            f"the scene has {sorted(item.name for item in scene.objects)}."
        )
    camera_from_world = np.linalg.inv(exported.world_from_camera)
    id_of = {item.name: item.id for item in scene.objects}
    objects = {id_of[part.name]: _moved(part, camera_from_world) for part in exported.objects}
    background = [_moved(part, camera_from_world) for part in exported.background]
    in_world = [_moved(part, np.eye(4)) for part in exported.objects]
    around = [_moved(part, np.eye(4)) for part in exported.background]
    camera, pose = exported.intrinsics, exported.world_from_camera
    with ThreadPoolExecutor(2) as threads:
        looked_at = threads.submit(side_view, in_world, around, pose, photo.width, photo.height)
        scored = threads.submit(score_objects, objects, image, ids, z, camera)
        picture = render([*objects.values(), *background], camera)
        from_the_side, scores = looked_at.result(), scored.result()
    warnings = disagreements([item for item in scene.objects if (ids == item.id).any()], scores)
    overlay = paint_outlines(np.where((picture.ids >= 0)[..., None], picture.color, image), ids)
    write_png(work.write("overlay.png"), overlay)
    write_png(work.write("side.png"), from_the_side.color)
    shutil.copyfile(work.read(instances.masks), work.write("masks.png"))
    shutil.copyfile(work.read(depth.depth), work.write("depth.npy"))
    beside = tuple((name, work.artifact(name)) for name in ("masks.png", "depth.npy", "overlay.png", "side.png"))

    findings = Findings(
        name=views.scene or photo.name,
        photo=photo,
        instances=instances,
        depth=depth,
        layout=layout,
        scene=scene,
        timings=timings,
        files=tuple((name, file.bytes) for name, file in (*export.files, *beside) if "/" not in name),
        image=image,
        ids=ids,
        z=z,
        render=picture,
        overlay=overlay,
        side_view=from_the_side.color,
        glb=work.read(glb).read_bytes(),
        warnings=distinct(photo, instances, depth, layout, completions, scene, export) + warnings,
        settled=dict(export.settled),
        side=config.picture_side,
        completions=completions,
        completed={
            item.id: np.dstack([read_png(work.read(item.picture)), read_png(work.read(item.mask))])
            for item in completions.items
        },
        views=_shown(views, exported, work) if views.others else (),
    )
    work.write("report.html").write_text(report_page(findings), encoding="utf-8", newline="\n")
    return Report(files=(("report.html", work.artifact("report.html")), *beside), warnings=warnings)


def _shown(views: Views, exported: PartScene, work: Work) -> tuple[ShownView, ...]:
    """The exported scene through the cameras that it holds, on their photos."""
    cameras = (
        (exported.intrinsics, exported.world_from_camera),
        *((camera.intrinsics, camera.world_from_camera) for camera in exported.cameras),
    )
    shown = []
    for seen, (intrinsics, world_from_camera) in zip(views.items, cameras, strict=True):
        camera_from_world = np.linalg.inv(world_from_camera)
        parts = (*exported.objects, *exported.background)
        picture = render([_moved(part, camera_from_world) for part in parts], intrinsics)
        image, ids = read_png(work.read(seen.photo.image)), read_png(work.read(seen.instances.masks))
        overlay = paint_outlines(np.where((picture.ids >= 0)[..., None], picture.color, image), ids)
        shown.append(ShownView(seen.photo.name, image, ids, overlay))
    return tuple(shown)


def disagreements(placed: Sequence[PlacedObject], exported: Mapping[int, Scores]) -> tuple[str, ...]:
    """A warning for every placed object whose silhouette in the exported file is not the one it was scored with.

    Args:
        placed: the objects with the scores of the composed scene.
        exported: scores of the exported file, by object id.
    """
    warnings = []
    for item in placed:
        composed, found = item.scores.silhouette_iou, exported[item.id].silhouette_iou
        if abs(composed - found) > IOU_TOLERANCE:
            warnings.append(
                f"object {item.id}: silhouette IoU is {found:.3f} in {GLB} but {composed:.3f} in the composed scene."
            )
    return tuple(warnings)


def _moved(part: Part, to_from_world: Float[np.ndarray, "4 4"]) -> TexturedMesh:
    return part.mesh.transformed(to_from_world @ part.world_from_part)


def distinct(*records: Photo | Instances | Depth | Layout | Completions | Scene | Export | Report) -> tuple[str, ...]:
    """The warnings of all records, each once: stages pass on what they inherit."""
    return tuple(dict.fromkeys(warning for record in records for warning in record.warnings))


REPORT = Stage(name="report", record=Report, run=report)
