"""The formats beside GLB and USD, read back by trimesh."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from export.khronos import khronos_report
from export.toy_scene import varied

from scenegen.camera import transform
from scenegen.errors import ExportError, ObjectError
from scenegen.export.formats import as_trimesh, write_obj, write_objects, write_ply, write_stl
from scenegen.export.parts import Part, PartScene
from scenegen.registry import EXPORTERS
from scenegen.store.digest import sha256_file


def in_world(part: Part) -> np.ndarray:
    return transform(part.world_from_part, part.mesh.vertices.astype(np.float64))


def every(scene: PartScene) -> tuple[Part, ...]:
    return (*scene.objects, *scene.background)


def test_a_part_as_trimesh_has_its_place_its_texture_and_its_name(part_scene: PartScene) -> None:
    part = part_scene.objects[0]
    mesh = as_trimesh(part)
    np.testing.assert_allclose(mesh.vertices, in_world(part), atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, part.mesh.faces)
    assert mesh.metadata["name"] == part.name
    assert mesh.visual.material.roughnessFactor == part.mesh.roughness
    # What trimesh reads at a vertex is the texel that glTF's v, counted from the top, leads to.
    texel = np.clip((part.mesh.uv * 16).astype(int), 0, 15)
    inner = (np.abs(part.mesh.uv * 4 - np.round(part.mesh.uv * 4)) > 0.2).all(axis=1)
    expected = part.mesh.base_color[texel[:, 1], texel[:, 0]]
    np.testing.assert_array_equal(mesh.visual.to_color().vertex_colors[inner, :3], expected[inner])
    assert mesh.volume == pytest.approx(0.4 * 0.6 * 0.2)


def test_obj_comes_back_with_names_places_and_textures(part_scene: PartScene, tmp_path: Path) -> None:
    paths = write_obj(varied(part_scene), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths[:1]] == ["obj/scene.obj"]
    assert {path.name for path in paths} >= {"scene.obj", "scene.mtl", "obj_01_box.png"}
    assert all(path.is_file() for path in paths)
    names = [line.split()[1] for line in paths[0].read_text().splitlines() if line.startswith("o ")]
    assert names == [part.name for part in every(part_scene)]
    read = trimesh.load(paths[0], split_object=True, group_material=False, process=False)
    found = {mesh.visual.material.name: mesh for mesh in read.geometry.values()}
    for part in every(part_scene):
        mesh = found[part.name]
        assert len(mesh.faces) == len(part.mesh.faces)
        np.testing.assert_allclose(mesh.bounds, [in_world(part).min(0), in_world(part).max(0)], atol=1e-5)
        assert mesh.visual.material.image is not None


def test_ply_holds_everything_in_colour(part_scene: PartScene, tmp_path: Path) -> None:
    (path,) = write_ply(part_scene, tmp_path)
    read = trimesh.load(path, process=False)
    assert len(read.vertices) == sum(len(part.mesh.vertices) for part in every(part_scene))
    np.testing.assert_allclose(read.vertices[:8], in_world(part_scene.objects[0])[:8], atol=1e-6)
    colours = as_trimesh(part_scene.objects[0]).visual.to_color().vertex_colors
    np.testing.assert_array_equal(read.visual.vertex_colors[: len(colours)], colours)


def test_stl_holds_the_objects(part_scene: PartScene, tmp_path: Path) -> None:
    (path,) = write_stl(part_scene, tmp_path)
    read = trimesh.load(path)
    volumes = [as_trimesh(part).volume for part in part_scene.objects]
    assert len(read.faces) == sum(len(part.mesh.faces) for part in part_scene.objects)
    assert read.volume == pytest.approx(sum(volumes), rel=1e-4)
    assert write_stl(replace(part_scene, objects=()), tmp_path) == []


def test_every_object_has_a_valid_glb_in_its_own_frame(part_scene: PartScene, tmp_path: Path) -> None:
    scene = varied(part_scene)
    paths = write_objects(scene, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"objects/{part.name}/{part.name}.glb" for part in scene.objects
    ]
    for path, part in zip(paths, scene.objects, strict=True):
        read = trimesh.load(path)
        low, high = part.mesh.vertices.min(axis=0), part.mesh.vertices.max(axis=0)
        np.testing.assert_allclose(read.bounds, [low, high], atol=1e-6)


def test_glbs_of_objects_are_faultless(part_scene: PartScene, tmp_path: Path) -> None:
    for path in write_objects(varied(part_scene), tmp_path):
        issues = khronos_report(path)
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


@pytest.mark.parametrize("name", EXPORTERS.offers())
def test_what_cannot_be_exported_is_refused(name: str, part_scene: PartScene, tmp_path: Path) -> None:
    twice = replace(part_scene, objects=(part_scene.objects[0], part_scene.objects[0]))
    exporter = EXPORTERS.backend(name)
    with pytest.raises(ExportError, match="be unique"):
        exporter.run(twice, tmp_path, exporter.config())
    assert not any(tmp_path.iterdir())


def test_an_object_that_cannot_be_converted_is_named(part_scene: PartScene) -> None:
    mesh = replace(part_scene.objects[1].mesh, base_color=np.zeros((4, 4, 7), np.uint8))
    with pytest.raises(ObjectError) as caught:
        as_trimesh(replace(part_scene.objects[1], mesh=mesh))
    assert caught.value.object_id == 2


WRITE = """
import sys
from pathlib import Path
from export.conftest import part_scene
from export.toy_scene import varied
from scenegen.export.bodies import with_bodies
from scenegen.registry import EXPORTERS
for exporter in EXPORTERS.usable():
    exporter.run(with_bodies(varied(part_scene.__wrapped__()), 400, 16), Path(sys.argv[1]), exporter.config())
"""


def test_same_bytes_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python hashes text differently in each."""
    digests = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        root = Path(__file__).parents[2]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "/usr/bin:/bin"}
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, env=environment)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.append({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
    assert digests[0] == digests[1]
    assert len(digests[0]) > 8
