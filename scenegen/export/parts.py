"""The scene that all formats are written from: named, textured parts with their placement, and the photo's camera."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakSet

import numpy as np
from jaxtyping import Float64, Int32, Integer
from scipy.spatial.transform import Rotation

from scenegen import __version__
from scenegen.camera import is_rotation
from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.errors import ExportError
from scenegen.faults import about_object
from scenegen.geometry.mesh import TexturedMesh, alpha_mode, check_mesh, has_area, is_watertight
from scenegen.physics.body import Hull
from scenegen.physics.rigid import Rigid
from scenegen.records import Intrinsics
from scenegen.scene.backdrop import kind_of

GENERATOR = f"scenegen {__version__}"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
"""Valid names: of prims in USD, and of nodes that neither three.js nor Blender renames."""

RESERVED = frozenset({"scene", "objects", "background", "camera", "ground", "light", "physics"})
"""Names of nodes and prims that every file has."""

RIGID_TOLERANCE = 1e-6

NEAR_M = 0.01
"""Near clipping distance of the exported camera."""

LARGEST = 2**63 - 1

Fact = str | int | float | bool

_CLEAN: WeakSet[TexturedMesh] = WeakSet()
"""Every format prepares the scene; only the first has to clean its meshes."""


@dataclass(frozen=True, eq=False)
class Part:
    """One mesh of the scene that can be selected, moved and replaced on its own."""

    name: str
    """Unique in the scene, see `NAME`; also a file name."""
    label: str
    """What it shows; any text, possibly empty."""
    mesh: TexturedMesh
    """Part frame: metres, Y up."""
    world_from_part: Float64[np.ndarray, "4 4"]
    """Rigid."""
    facts: Mapping[str, Fact]
    """Provenance and scores, written with the part."""
    rigid: Rigid | None = None
    """Part frame; see `scenegen.export.bodies.with_bodies`. Surfaces of the background have none."""
    obstacles: tuple[Hull, ...] = ()
    """What collides with a surface of the background, part frame; likewise. Objects have a body instead."""

    @property
    def hulls(self) -> tuple[Hull, ...]:
        """What others collide with, part frame."""
        return self.obstacles if self.rigid is None else self.rigid.body.hulls


@dataclass(frozen=True, eq=False)
class PartCamera:
    """The camera of a further photo of the scene."""

    name: str
    """Of its node: `camera_2`."""
    photo: str
    """Name of the photo."""
    intrinsics: Intrinsics
    world_from_camera: Float64[np.ndarray, "4 4"]
    """Rigid."""


@dataclass(frozen=True, eq=False)
class PartScene:
    """A scene ready to be written. The world frame is `scenegen.camera`'s: metres, Y up."""

    objects: tuple[Part, ...]
    background: tuple[Part, ...]
    intrinsics: Intrinsics
    """The photo's camera."""
    world_from_camera: Float64[np.ndarray, "4 4"]
    """Rigid."""
    facts: Mapping[str, Fact]
    """Provenance of the scene."""
    cameras: tuple[PartCamera, ...] = ()
    """Those of further photos."""


def surface_part(name: str, mesh: TexturedMesh, world_from_camera: Float64[np.ndarray, "4 4"]) -> Part:
    """A surface of the background, which is given in the camera's frame.

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.geometry.mesh import load_mesh
        >>> surface_part("wall_2", load_mesh(Path("mesh.npz")), np.eye(4)).facts["kind"]
        'wall'
    """
    return Part(name, name, mesh.transformed(world_from_camera), np.eye(4), {"kind": kind_of(name)})


def about_part(part: Part) -> contextlib.AbstractContextManager[None]:
    """Blames the object `part` for what the block raises, as `scenegen.faults.about_object` does; a background surface is
    not an object.

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.export.glb import read_glb
        >>> part = read_glb(Path("out/photo/scene.glb")).objects[0]
        >>> with about_part(part):
        ...     raise ValueError("the mesh has no faces")
        Traceback (most recent call last):
        scenegen.errors.ObjectError: object 1 cannot be part of the scene
    """
    return about_object(int(part.facts["id"])) if "id" in part.facts else contextlib.nullcontext()


def prepared(scene: PartScene) -> PartScene:
    """The scene checked and ready to be written, without triangles of no area and unused vertices.

    A closed mesh that would be open without its triangles of no area keeps them.

    A base colour keeps its fourth channel only if `alpha_mode` is not `OPAQUE`.

    Raises:
        ExportError: if a name is not safe or not unique, a mesh is empty, not finite or inconsistent, a placement is
            not rigid, or the formats cannot store a fact.

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.export.glb import read_glb
        >>> [part.name for part in prepared(read_glb(Path("out/photo/scene.glb"))).background]
        ['floor', 'backdrop']
    """
    parts = (*scene.objects, *scene.background)
    # Case is ignored, because the names become folders, on any disk.
    taken = {name.casefold() for name in RESERVED}
    for part in parts:
        if NAME.fullmatch(part.name) is None or part.name.casefold() in taken:
            raise ExportError(
                f"`name` of a part is {part.name!r}; it must match {NAME.pattern}, be unique whatever its case, and be "
                f"none of {', '.join(sorted(RESERVED))}."
            )
        taken.add(part.name.casefold())
        pose(part.world_from_part, part.name)
        _check_facts(part.facts, part.name)
    pose(scene.world_from_camera, "camera")
    for camera in scene.cameras:
        pose(camera.world_from_camera, camera.name)
    _check_facts(scene.facts, "scene")
    return replace(
        scene,
        objects=tuple(replace(part, mesh=_cleaned(part.mesh, part.name)) for part in scene.objects),
        background=tuple(replace(part, mesh=_cleaned(part.mesh, part.name)) for part in scene.background),
    )


def pose(matrix: Float64[np.ndarray, "4 4"], name: str) -> tuple[list[float], list[float]]:
    """Translation [x, y, z] in metres and unit quaternion [x, y, z, w] (w >= 0) of a rigid `matrix`.

    Raises:
        ExportError: if the matrix scales, shears, mirrors or is not finite; `name` tells whose it is.

    Examples:
        >>> pose(np.eye(4), "mug")
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    """
    rotation = matrix[:3, :3]
    rigid = (
        np.isfinite(matrix).all() and is_rotation(rotation, RIGID_TOLERANCE) and np.array_equal(matrix[3], [0, 0, 0, 1])
    )
    if not rigid:
        raise ExportError(f"{name}: the placement {matrix.tolist()} is not rigid; scale the mesh instead.")
    return matrix[:3, 3].tolist(), Rotation.from_matrix(rotation).as_quat(canonical=True).tolist()


def from_pose(translation: list[float], quaternion: list[float]) -> Float64[np.ndarray, "4 4"]:
    """The inverse of `pose`.

    Examples:
        >>> from_pose([1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 1.0])[:3, 3].tolist()
        [1.0, 2.0, 3.0]
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def _check_facts(facts: Mapping[str, Fact], name: str) -> None:
    for key, value in facts.items():
        if not isinstance(value, str) and not -LARGEST <= value <= LARGEST:
            raise ExportError(f"{name}: the fact {key} is {value}; numbers must be finite and within 64 bits.")


def _cleaned(mesh: TexturedMesh, name: str) -> TexturedMesh:
    if mesh in _CLEAN:
        return mesh
    try:
        check_mesh(mesh)
    except ValueError as error:
        raise ExportError(f"{name}: {error}.") from error
    used, faces = _needed(mesh)
    clean = replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=faces,
        uv=mesh.uv[used],
        base_color=mesh.base_color[..., :3] if alpha_mode(mesh.base_color) == "OPAQUE" else mesh.base_color,
    )
    _CLEAN.add(clean)
    return clean


@reused(OF_OBJECTS)
def _needed(mesh: TexturedMesh) -> tuple[Integer[np.ndarray, "w"], Int32[np.ndarray, "f 3"]]:
    """The vertices that a surface needs, and its faces among these."""
    faces = mesh.faces[has_area(mesh)]
    if is_watertight(mesh) and not is_watertight(replace(mesh, faces=faces)):
        faces = mesh.faces  # a sliver between larger faces: without it there would be a gap
    used, renumbered = np.unique(faces, return_inverse=True)
    return used, renumbered.reshape(faces.shape).astype(np.int32)
