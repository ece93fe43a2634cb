"""Formats of simulators: MJCF for MuJoCo, URDF for most others. Metres, kilograms, Z up, a floor at height 0 below everything.

Meshes are OBJ files in each object's own frame, one to be seen and one for each convex part to collide with. The same scene gives
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.spatial.transform import Rotation

from scenegen.camera import USD_FROM_WORLD
from scenegen.export.bodies import body_of
from scenegen.export.parts import GENERATOR, Part, PartScene, about_part, pose, prepared
from scenegen.physics.body import Box, Hull
from scenegen.physics.rigid import Rigid
from scenegen.physics.settle import GRAVITY, ROLL, SPIN
from scenegen.store.png import write_png

TURN = USD_FROM_WORLD[:3, :3]
SEEN, COLLIDES = "2", "3"
"""MuJoCo's groups: by default its viewer shows the first and hides the second."""
GROUND_M = (1000.0, 1000.0, 1.0)
"""Size of the floor where a format has no endless one."""


def write_mjcf(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `mjcf/scene.xml` with its meshes and textures.

    Args:
        scene: from `scenegen.export.bodies.with_bodies`.
        folder: an existing folder.

    Returns:
        The files, the XML first.

    Raises:
        ExportError: if an object has no body.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.bodies import with_bodies
        >>> from scenegen.export.glb import read_glb
        >>> scene = with_bodies(read_glb(Path("out/photo/scene.glb")), density=400, hulls=16)
        >>> write_mjcf(scene, Path("out"))[0].as_posix()
        'out/mjcf/scene.xml'
    """
    scene = prepared(scene)
    home = folder / "mjcf"
    files = _write_meshes(scene, home)
    root = Xml.Element("mujoco", model="scene")
    root.append(Xml.Comment(f" {GENERATOR}; friction and density are assumed "))
    Xml.SubElement(root, "compiler", meshdir="meshes", texturedir="meshes", angle="radian")
    Xml.SubElement(root, "option", gravity=f"0 0 {-GRAVITY}", timestep="0.001")
    assets, world = Xml.SubElement(root, "asset"), Xml.SubElement(root, "worldbody")
    Xml.SubElement(world, "geom", name="ground", type="plane", size="0 0 1", rgba="0 0 0 0", priority="-1")
    Xml.SubElement(world, "light", pos="0 0 5", dir="0 0 -1", diffuse="0.9 0.9 0.9", castshadow="false")
    for part in (*scene.objects, *scene.background):
        Xml.SubElement(assets, "mesh", name=part.name, file=f"{part.name}.obj", inertia="shell")
        Xml.SubElement(assets, "texture", name=part.name, type="2d", file=f"{part.name}.png")
        Xml.SubElement(assets, "material", name=part.name, texture=part.name)
        place, turn = _pose(part)
        owner = Xml.SubElement(
            world, "body", name=part.name, pos=_numbers(place), quat=_numbers(turn.as_quat()[[3, 0, 1, 2]])
        )
        seen = {"contype": "0", "conaffinity": "0", "group": SEEN, "mass": "0"}
        Xml.SubElement(owner, "geom", name=part.name, type="mesh", mesh=part.name, material=part.name, attrib=seen)
        if part.rigid is not None:
            _add_mjcf_inertia(owner, part.name, part.rigid)
        _add_mjcf_colliders(owner, assets, part)
    return [_written(root, home / "scene.xml"), *files]


def write_urdf(scene: PartScene, folder: Path) -> list[Path]:
    """Writes `urdf/scene.urdf` with its meshes and textures: a link for each object, which floats unless it is held.

    Args:
        scene: from `scenegen.export.bodies.with_bodies`.
        folder: an existing folder.

    Returns:
        The files, the URDF first.

    Raises:
        ExportError: if an object has no body.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> from scenegen.export.bodies import with_bodies
        >>> from scenegen.export.glb import read_glb
        >>> scene = with_bodies(read_glb(Path("out/photo/scene.glb")), density=400, hulls=16)
        >>> write_urdf(scene, Path("out"))[0].as_posix()
        'out/urdf/scene.urdf'
    """
    scene = prepared(scene)
    home = folder / "urdf"
    files = _write_meshes(scene, home)
    root = Xml.Element("robot", name="scene")
    root.append(Xml.Comment(f" {GENERATOR}; density is assumed "))
    Xml.SubElement(root, "link", name="world")
    _add_urdf_ground(root)
    for part in (*scene.objects, *scene.background):
        link = Xml.SubElement(root, "link", name=part.name)
        if part.rigid is not None:
            _add_urdf_inertial(link, part.rigid)
        _add_urdf_mesh(Xml.SubElement(link, "visual"), part.name)
        for name, shape in zip(_collider_names(part), part.hulls, strict=True):
            _add_urdf_collider(Xml.SubElement(link, "collision"), name, shape)
        moves = part.rigid is not None and not part.rigid.held
        joint = Xml.SubElement(root, "joint", name=f"place_{part.name}", type="floating" if moves else "fixed")
        place, turn = _pose(part)
        Xml.SubElement(joint, "parent", link="world")
        Xml.SubElement(joint, "child", link=part.name)
        Xml.SubElement(joint, "origin", xyz=_numbers(place), rpy=_numbers(turn.as_euler("xyz")))
    return [_written(root, home / "scene.urdf"), *files]


def _add_mjcf_inertia(owner: Xml.Element, name: str, found: Rigid) -> None:
    if not found.held:
        Xml.SubElement(owner, "freejoint", name=name)
    centre, inertia = _inertia(found)
    full = inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    Xml.SubElement(owner, "inertial", pos=_numbers(centre), mass=_numbers([found.mass]), fullinertia=_numbers(full))


def _add_mjcf_colliders(owner: Xml.Element, assets: Xml.Element, part: Part) -> None:
    """Friction is that of the object that touches something, whatever it touches of the background."""
    touched = (
        {"priority": "-1"}
        if part.rigid is None
        else {"friction": _numbers([part.rigid.substance.friction, SPIN, ROLL])}
    )
    touched |= {"group": COLLIDES, "mass": "0"}
    for name, shape in zip(_collider_names(part), part.hulls, strict=True):
        if shape.box is None:
            Xml.SubElement(assets, "mesh", name=name, file=f"{name}.obj", inertia="shell")
            Xml.SubElement(owner, "geom", name=name, type="mesh", mesh=name, attrib=touched)
        else:
            place, turn, size = _box(shape.box)
            quaternion = turn.as_quat(scalar_first=True)
            numbers = {"pos": _numbers(place), "quat": _numbers(quaternion), "size": _numbers(size / 2)}
            Xml.SubElement(owner, "geom", name=name, type="box", attrib={**numbers, **touched})


def _add_urdf_inertial(link: Xml.Element, found: Rigid) -> None:
    centre, inertia = _inertia(found)
    inertial = Xml.SubElement(link, "inertial")
    Xml.SubElement(inertial, "origin", xyz=_numbers(centre), rpy="0 0 0")
    Xml.SubElement(inertial, "mass", value=_numbers([found.mass]))
    axes = {f"i{'xyz'[i]}{'xyz'[j]}": _numbers([inertia[i, j]]) for i in range(3) for j in range(i, 3)}
    Xml.SubElement(inertial, "inertia", attrib=axes)


def _add_urdf_collider(element: Xml.Element, name: str, shape: Hull) -> None:
    if shape.box is None:
        _add_urdf_mesh(element, name)
        return
    place, turn, size = _box(shape.box)
    Xml.SubElement(element, "origin", xyz=_numbers(place), rpy=_numbers(turn.as_euler("xyz")))
    Xml.SubElement(Xml.SubElement(element, "geometry"), "box", size=_numbers(size))


def _add_urdf_ground(root: Xml.Element) -> None:
    """URDF has no planes."""
    collision = Xml.SubElement(Xml.SubElement(root, "link", name="ground"), "collision")
    Xml.SubElement(collision, "origin", xyz=_numbers([0, 0, -GROUND_M[2] / 2]), rpy="0 0 0")
    Xml.SubElement(Xml.SubElement(collision, "geometry"), "box", size=_numbers(GROUND_M))
    joint = Xml.SubElement(root, "joint", name="place_ground", type="fixed")
    Xml.SubElement(joint, "parent", link="world")
    Xml.SubElement(joint, "child", link="ground")


def _add_urdf_mesh(element: Xml.Element, name: str) -> None:
    Xml.SubElement(Xml.SubElement(element, "geometry"), "mesh", filename=f"meshes/{name}.obj")


def _inertia(found: Rigid) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 3"]]:
    """Centre of mass and inertia about it, Z up."""
    return TURN @ found.body.centre_of_mass, TURN @ found.body.inertia @ TURN.T * found.density


def _box(box: Box) -> tuple[Float64[np.ndarray, "3"], Rotation, Float64[np.ndarray, "3"]]:
    """Centre, rotation and size, Z up."""
    return TURN @ box.centre, Rotation.from_matrix(TURN @ box.turn @ TURN.T), np.abs(TURN @ box.size)


def _pose(part: Part) -> tuple[Float64[np.ndarray, "3"], Rotation]:
    place, turn = pose(USD_FROM_WORLD @ part.world_from_part @ USD_FROM_WORLD.T, part.name)
    return np.array(place), Rotation.from_quat(turn)


def _collider_names(part: Part) -> list[str]:
    return [f"{part.name}.hull_{index:02d}" for index in range(len(part.hulls))]


def _write_meshes(scene: PartScene, home: Path) -> list[Path]:
    """Every part as `meshes/<name>.obj` with `<name>.png`, and its colliders."""
    meshes = home / "meshes"
    meshes.mkdir(parents=True, exist_ok=True)
    files = []
    for part in scene.objects:
        body_of(part)
    for part in (*scene.objects, *scene.background):
        with about_part(part):
            write_png(meshes / f"{part.name}.png", np.ascontiguousarray(part.mesh.base_color[..., :3]))
            material = f"newmtl {part.name}\nKd 1 1 1\nmap_Kd {part.name}.png\n"
            (meshes / f"{part.name}.mtl").write_text(material, encoding="ascii", newline="\n")
            uv = part.mesh.uv * [1, -1] + [0, 1]  # OBJ counts the rows of a picture from the bottom
            _write_obj(meshes / f"{part.name}.obj", part.mesh.vertices, part.mesh.faces, uv)
            files += [meshes / f"{part.name}.{kind}" for kind in ("obj", "mtl", "png")]
            for name, shape in zip(_collider_names(part), part.hulls, strict=True):
                if shape.box is None:
                    _write_obj(meshes / f"{name}.obj", shape.vertices, shape.faces)
                    files.append(meshes / f"{name}.obj")
    return files


def _write_obj(
    path: Path,
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    uv: Float[np.ndarray, "v 2"] | None = None,
) -> None:
    """A mesh of a Y-up frame, Z up; with its texture's coordinates it names its material."""
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in (vertices @ TURN.T).tolist()]
    corners = (faces + 1).tolist()
    if uv is None:
        lines += [f"f {a} {b} {c}" for a, b, c in corners]
    else:
        lines = [f"mtllib {path.stem}.mtl", *lines, *(f"vt {u:.7g} {v:.7g}" for u, v in uv.tolist())]
        lines += [f"usemtl {path.stem}", *(f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in corners)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _written(root: Xml.Element, path: Path) -> Path:
    Xml.indent(root)
    path.write_text(Xml.tostring(root, encoding="unicode") + "\n", encoding="utf-8", newline="\n")
    return path
