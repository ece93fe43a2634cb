"""Formats written on request in addition to GLB and USD: OBJ, PLY, STL, and a GLB for each object.

Each writer takes a scene and a folder: it writes into an existing folder and returns the paths it wrote. The
same scene gives the same bytes. OBJ, PLY and STL are in the world frame: metres, Y up, the floor at height 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scenegen.export.glb import write_object
from scenegen.export.parts import GENERATOR, Part, PartScene, about_part, prepared
from scenegen.geometry.interchange import to_trimesh

if TYPE_CHECKING:
    import trimesh


def write_obj(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `obj/scene.obj`, its `scene.mtl` and a PNG texture for each part, the background included.

    Args:
        scene: what to write.
        folder: an existing folder.

    Returns:
        The files, the OBJ first.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.glb import read_glb
        >>> scene = read_glb(Path("out/photo/scene.glb"))
        >>> [path.name for path in write_obj(scene, Path("out"))][:3]
        ['scene.obj', 'backdrop.png', 'floor.png']
    """
    from trimesh import Scene
    from trimesh.exchange.obj import export_obj

    scene = prepared(scene)
    meshes = {part.name: as_trimesh(part) for part in (*scene.objects, *scene.background)}
    text, beside = export_obj(Scene(meshes), return_texture=True, mtl_name="scene.mtl", header=GENERATOR)
    inner = folder / "obj"
    inner.mkdir(exist_ok=True)
    for name, content in {"scene.obj": text.encode(), **beside}.items():
        (inner / name).write_bytes(content)
    return [inner / name for name in ("scene.obj", *sorted(beside))]


def write_ply(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `scene.ply`, binary: every part as one mesh, coloured per vertex, since PLY has no textures of its own.

    Args:
        scene: what to write.
        folder: an existing folder.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.glb import read_glb
        >>> [path.name for path in write_ply(read_glb(Path("out/photo/scene.glb")), Path("out"))]
        ['scene.ply']
    """
    import trimesh
    from trimesh.exchange.ply import export_ply

    scene = prepared(scene)
    coloured = []
    for part in (*scene.objects, *scene.background):
        mesh = as_trimesh(part)
        mesh.visual = mesh.visual.to_color()
        coloured.append(mesh)
    path = folder / "scene.ply"
    path.write_bytes(export_ply(trimesh.util.concatenate(coloured)))
    return [path]


def write_stl(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `scene.stl`, binary: the objects as one mesh, without background and colours. Units are metres.

    Args:
        scene: what to write.
        folder: an existing folder.

    Returns:
        The file; nothing for a scene without objects.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.glb import read_glb
        >>> [path.name for path in write_stl(read_glb(Path("out/photo/scene.glb")), Path("out"))]
        ['scene.stl']
    """
    import trimesh
    from trimesh.exchange.stl import export_stl

    scene = prepared(scene)
    if not scene.objects:
        return []
    path = folder / "scene.stl"
    path.write_bytes(export_stl(trimesh.util.concatenate([as_trimesh(part) for part in scene.objects])))
    return [path]


def write_objects(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `objects/<name>/<name>.glb` for each object: its own frame, metres, Y up, the origin at the centre of its base.

    Args:
        scene: what to write.
        folder: an existing folder.

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.glb import read_glb
        >>> [path.as_posix() for path in write_objects(read_glb(Path("out/photo/scene.glb")), Path("out"))][:1]
        ['out/objects/obj_01_box/obj_01_box.glb']
    """
    written = []
    for part in prepared(scene).objects:
        path = folder / "objects" / part.name / f"{part.name}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        with about_part(part):
            write_object(path, part)
        written.append(path)
    return written


def as_trimesh(part: Part) -> trimesh.Trimesh:
    """A part as a `trimesh.Trimesh` in the world frame (metres, Y up), see `scenegen.geometry.interchange.to_trimesh`.

    Raises:
        ObjectError: if `part` is an object that cannot be converted.

    Examples:
        >>> from scenegen.export.glb import read_glb
        >>> as_trimesh(read_glb(Path("out/photo/scene.glb")).objects[0]).metadata["name"]
        'obj_01_box'
    """
    with about_part(part):
        return to_trimesh(part.mesh.transformed(part.world_from_part), part.name)
