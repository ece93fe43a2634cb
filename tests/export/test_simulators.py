"""MJCF and URDF, loaded and run by MuJoCo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh
from export.conftest import textured
from physics.bowls import RADIUS, WALL, bowl

from scenegen.camera import USD_FROM_WORLD, transform
from scenegen.errors import ExportError
from scenegen.export.bodies import body_of, settled, with_bodies
from scenegen.export.glb import write_object
from scenegen.export.parts import Part, PartScene
from scenegen.export.simulators import write_mjcf, write_urdf
from scenegen.registry import EXPORTERS

mujoco = pytest.importorskip("mujoco")


@pytest.fixture
def bodied(part_scene: PartScene) -> PartScene:
    return with_bodies(part_scene, 500.0, 16)


def test_mujoco_loads_and_steps_the_mjcf(bodied: PartScene, tmp_path: Path) -> None:
    paths = write_mjcf(bodied, tmp_path)
    assert all(path.is_file() for path in paths)
    model = mujoco.MjModel.from_xml_path(str(paths[0]))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for part in bodied.objects:
        found = model.body(part.name)
        assert found.mass[0] == pytest.approx(body_of(part).mass, rel=1e-5)
        centre = transform(USD_FROM_WORLD @ part.world_from_part, body_of(part).body.centre_of_mass[None])[0]
        np.testing.assert_allclose(data.body(part.name).xipos, centre, atol=1e-5)
        inertia = np.linalg.eigvalsh(body_of(part).body.inertia * body_of(part).density)
        np.testing.assert_allclose(np.sort(found.inertia), inertia, rtol=1e-4)
    for _ in range(200):
        mujoco.mj_step(model, data)
    assert np.isfinite(data.qpos).all()


def test_what_stays_in_the_simulation_stays_in_the_file(bodied: PartScene, tmp_path: Path) -> None:
    model = mujoco.MjModel.from_xml_path(str(write_mjcf(bodied, tmp_path)[0]))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start = data.xipos.copy()
    for _ in range(2000):
        mujoco.mj_step(model, data)
    for part, result in zip(bodied.objects, settled(bodied), strict=True):
        number = model.body(part.name).id
        moved = float(np.linalg.norm(data.xipos[number] - start[number]))
        assert moved == pytest.approx(result.displacement_m, abs=0.01 + 0.2 * result.displacement_m)


def test_the_urdf_has_a_link_for_each_part_and_all_of_its_files(bodied: PartScene, tmp_path: Path) -> None:
    held = replace(bodied.objects[0], facts={**bodied.objects[0].facts, "support": "background"})
    scene = with_bodies(replace(bodied, objects=(held, *bodied.objects[1:])), 500.0, 16)
    paths = write_urdf(scene, tmp_path)
    robot = ElementTree.parse(paths[0]).getroot()
    links = {link.get("name"): link for link in robot.findall("link")}
    assert set(links) == {"world", "ground", *(part.name for part in (*scene.objects, *scene.background))}
    for mesh in robot.iter("mesh"):
        assert (paths[0].parent / mesh.attrib["filename"]).is_file()
    wall, ground = links["backdrop"].findall("collision"), links["ground"].find("collision/geometry/box")
    assert [
        collision.find("geometry/mesh") is not None or collision.find("geometry/box") is not None for collision in wall
    ]
    assert ground is not None
    kinds = {joint.get("name"): joint.get("type") for joint in robot.findall("joint")}
    assert kinds[f"place_{held.name}"] == "fixed"
    for part in scene.objects[1:]:
        assert kinds[f"place_{part.name}"] == "floating"
        mass = links[part.name].find("inertial/mass")
        assert mass is not None
        assert float(mass.attrib["value"]) == pytest.approx(body_of(part).mass, rel=1e-6)


@pytest.mark.parametrize("method", ["mjcf", "urdf"])
def test_the_same_scene_gives_the_same_bytes(bodied: PartScene, tmp_path: Path, method: str) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths = EXPORTERS.backend(method).run(bodied, tmp_path / name, EXPORTERS.backend(method).config())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in paths})
    assert found[0] == found[1]


def test_a_scene_without_bodies_is_refused(part_scene: PartScene, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="with_bodies"):
        write_mjcf(part_scene, tmp_path)


def test_a_ball_bounces_off_the_wall_and_comes_to_rest_in_the_bowl(part_scene: PartScene, tmp_path: Path) -> None:
    """As the file says, and as the simulation of the scene itself does."""
    dish, ball = bowl(), trimesh.creation.icosphere(3, radius=0.03)
    pose = np.eye(4)
    pose[:3, 3] = [0.02, 0.12, -3.8 + 0.01]
    table = np.eye(4)
    table[2, 3] = -3.8
    parts = [
        Part("dish", "bowl", textured(dish, 16, 1), table, {"id": 1, "support": 0}),
        Part("ball", "", textured(ball, 16, 2), pose, {"id": 2, "support": "nothing"}),
    ]
    scene = with_bodies(replace(part_scene, objects=tuple(parts)), 500.0, 24)
    model = mujoco.MjModel.from_xml_path(str(write_mjcf(scene, tmp_path)[0]))
    data = mujoco.MjData(model)
    for _ in range(2000):
        mujoco.mj_step(model, data)
    inside = data.body("ball").xpos - data.body("dish").xpos
    assert np.linalg.norm(inside[:2]) < RADIUS - WALL
    assert 0 < inside[2] < 0.06
    assert settled(scene)[0].stays
    data = mujoco.MjData(model)
    free = model.body("ball").jntadr[0]
    data.qpos[model.jnt_qposadr[free] : model.jnt_qposadr[free] + 3] = [1.0, 3.5, 1.5]
    data.qvel[model.jnt_dofadr[free] : model.jnt_dofadr[free] + 3] = [0.0, 3.0, 0.0]
    for _ in range(400):
        mujoco.mj_step(model, data)
    assert data.body("ball").xpos[1] < 4


def test_what_becomes_of_an_object_is_in_its_own_file(bodied: PartScene, tmp_path: Path) -> None:
    (result, *_) = settled(bodied)
    part = bodied.objects[0]
    write_object(tmp_path / "one.glb", replace(part, facts={**part.facts, **result.model_dump()}))
    data = (tmp_path / "one.glb").read_bytes()
    (node,) = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["nodes"]
    assert node["extras"]["stays"] == result.stays
    assert node["extras"]["displacement_m"] == result.displacement_m
