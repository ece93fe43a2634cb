"""The USD stage, imported by Blender. Its 400 MB are in no extra: `pip install bpy` runs this."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from scenegen.export.bodies import with_bodies
from scenegen.export.parts import PartScene
from scenegen.export.usd import write_usd

IMPORT = """
import json, sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.wm.usd_import(filepath=sys.argv[1])
meshes = {
    item.data.name: [
        [list(item.matrix_world @ corner.co) for corner in item.data.vertices],
        [slot.material.name for slot in item.material_slots],
    ]
    for item in bpy.data.objects if item.type == "MESH"
}
facts = {key: item[key] for item in bpy.data.objects for key in item.keys() if key == "mass_kg"}
(camera,) = bpy.data.cameras
print("\\n" + json.dumps({"meshes": meshes, "lens": camera.lens / camera.sensor_width, "facts": facts}))
"""


@pytest.mark.skipif(find_spec("bpy") is None, reason="`pip install bpy`")
@pytest.mark.slow  # Blender starts
def test_blender_imports_meshes_names_scores_and_camera(part_scene: PartScene, tmp_path: Path) -> None:
    scene = with_bodies(part_scene, 500.0, 16)
    write_usd(tmp_path, scene)
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "scene.usd")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(said.strip().splitlines()[-1])
    parts = {part.name: part for part in (*scene.objects, *scene.background)}
    assert set(found["meshes"]) == set(parts)  # colliders are not shown
    for name, (corners, materials) in found["meshes"].items():
        assert materials == [name]
        wanted = parts[name].mesh.transformed(parts[name].world_from_part).vertices
        low, high = np.array(corners).min(axis=0), np.array(corners).max(axis=0)
        np.testing.assert_allclose(low, [wanted[:, 0].min(), -wanted[:, 2].max(), wanted[:, 1].min()], atol=1e-5)
        np.testing.assert_allclose(high, [wanted[:, 0].max(), -wanted[:, 2].min(), wanted[:, 1].max()], atol=1e-5)
    assert found["lens"] == pytest.approx(scene.intrinsics.fx / scene.intrinsics.width, rel=1e-4)
    assert found["facts"]["mass_kg"] > 0
