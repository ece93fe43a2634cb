"""GLBs that other programs write, as one textured mesh."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scenegen.errors import InputError
from scenegen.geometry.mesh import check_object, load_mesh
from scenegen.untrusted.meshes import read_glb

RED, BLUE = (200, 20, 30), (10, 20, 220)


def saved(path: Path, *parts: trimesh.Trimesh) -> Path:
    path.write_bytes(trimesh.Scene(list(parts)).export(file_type="glb"))
    return path


def textured_box(**material: object) -> trimesh.Trimesh:
    """A box whose texture is red in its upper half and blue in its lower."""
    picture = np.empty((8, 8, 3), np.uint8)
    picture[:4], picture[4:] = RED, BLUE
    box = trimesh.creation.box((1, 2, 3))
    uv = np.stack([box.vertices[:, 0] + 0.5, box.vertices[:, 1] / 2 + 0.5], axis=1)  # trimesh: v from the bottom
    surface = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(picture), **material)
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=surface)
    return box


def test_a_texture_stays_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.glb", textured_box(metallicFactor=0.3, roughnessFactor=0.6))
    read_glb(path, "m").save(tmp_path / "m.npz")
    mesh = load_mesh(tmp_path / "m.npz")
    check_object(mesh)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), (1, 2, 3), rtol=1e-6)
    assert (mesh.metallic, mesh.roughness) == pytest.approx((0.3, 0.6))
    top = mesh.vertices[:, 1] > 0
    np.testing.assert_allclose(mesh.uv[top, 1], 0, atol=1e-6)  # glTF: v from the top
    np.testing.assert_array_equal(mesh.base_color[0, 0], RED)


def test_parts_of_several_colours_become_one(tmp_path: Path) -> None:
    plain = trimesh.creation.icosphere(1).apply_translation((-5, 0, 0))
    plain.visual.vertex_colors = (*RED, 255)
    far = trimesh.creation.box((1, 1, 1), trimesh.transformations.translation_matrix((5, 0, 0)))
    far.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=(*BLUE, 255))
    )
    mesh = read_glb(saved(tmp_path / "m.glb", plain, far, textured_box()), "m")
    assert len(mesh.faces) == 80 + 12 + 12
    corners = mesh.uv[mesh.faces]
    texel = np.floor(corners.mean(axis=1) * mesh.base_color.shape[0]).astype(int)
    colours = mesh.base_color[texel[:, 1], texel[:, 0]]
    at = mesh.vertices[mesh.faces].mean(axis=1)[:, 0]
    assert (np.abs(colours[at > 4].astype(int) - BLUE) <= 1).all()
    assert (colours[at < -3] == RED).all()


def test_nodes_move_and_scale_their_parts(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=trimesh.transformations.scale_matrix(3))
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=trimesh.transformations.translation_matrix((5, 0, 0)))
    (tmp_path / "m.glb").write_bytes(scene.export(file_type="glb"))
    mesh = read_glb(tmp_path / "m.glb", "m")
    np.testing.assert_allclose([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)], [[-1.5] * 3, [5.5, 1.5, 1.5]])


def test_uvs_that_repeat_become_colours(tmp_path: Path) -> None:
    box = textured_box()
    box.visual.uv = box.visual.uv * 3
    mesh = read_glb(saved(tmp_path / "m.glb", box), "m")
    assert 0 <= mesh.uv.min() <= mesh.uv.max() <= 1


def test_what_is_no_mesh_of_an_object(tmp_path: Path) -> None:
    (tmp_path / "empty.glb").touch()
    with pytest.raises(InputError, match="m is an empty file"):
        read_glb(tmp_path / "empty.glb", "m")
    (tmp_path / "text.glb").write_text("no mesh at all, but some text")
    with pytest.raises(InputError, match="m cannot be read"):
        read_glb(tmp_path / "text.glb", "m")
    lone = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    with pytest.raises(InputError, match="has 1 triangles; allowed: 4 to"):
        read_glb(saved(tmp_path / "lone.glb", lone), "m")
    (tmp_path / "points.glb").write_bytes(trimesh.Scene(trimesh.PointCloud(np.eye(3))).export(file_type="glb"))
    with pytest.raises(InputError, match="has no triangles, only points or lines"):
        read_glb(tmp_path / "points.glb", "m")


@pytest.mark.parametrize("extension", ["KHR_draco_mesh_compression", "EXT_meshopt_compression"])
def test_compressed_meshes_are_refused_by_name(tmp_path: Path, extension: str) -> None:
    document = json.dumps({"asset": {"version": "2.0"}, "extensionsUsed": [extension]}).encode()
    document += b" " * (-len(document) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 20 + len(document), len(document), 0x4E4F534A)
    (tmp_path / "m.glb").write_bytes(header + document)
    with pytest.raises(InputError, match=f"is compressed \\({extension}\\).*without compression"):
        read_glb(tmp_path / "m.glb", "m")


def test_nothing_beside_a_glb_is_read(tmp_path: Path) -> None:
    (tmp_path / "beside.bin").write_bytes(bytes(36))
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "buffers": [{"uri": "beside.bin", "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    (tmp_path / "m.glb").write_bytes(struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text)
    with pytest.raises(InputError, match="cannot be read"):
        read_glb(tmp_path / "m.glb", "m")


GLB = trimesh.Scene([trimesh.creation.icosphere(1)]).export(file_type="glb")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_mesh_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(GLB)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.glb"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    try:
        assert np.isfinite(read_glb(path, "m").vertices).all()
    except InputError:
        return
