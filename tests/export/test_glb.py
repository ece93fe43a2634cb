from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from export.conftest import OFF_CENTRE
from export.khronos import khronos_report
from export.toy_scene import varied
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from scenegen.camera import intrinsics_from_fov, project, transform
from scenegen.errors import ExportError
from scenegen.export.glb import JSON_CHUNK, encode_texture, read_glb, write_glb
from scenegen.export.parts import Part, PartCamera, PartScene, prepared
from scenegen.geometry.mesh import TexturedMesh
from scenegen.records import Intrinsics


def parsed(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON and the binary of a GLB, by the container's layout alone."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def repacked(path: Path, document: Any, binary: bytes) -> None:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), JSON_CHUNK) + text
    body += struct.pack("<II", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)


def pixels(scene: PartScene, part: Part) -> np.ndarray:
    """Where the part's vertices are seen."""
    world = transform(part.world_from_part, part.mesh.vertices.astype(np.float64))
    return project(scene.intrinsics, transform(np.linalg.inv(scene.world_from_camera), world))


def assert_equal_scenes(read: PartScene, written: PartScene) -> None:
    assert read.intrinsics == written.intrinsics
    assert read.facts == written.facts
    np.testing.assert_allclose(read.world_from_camera, written.world_from_camera, atol=1e-12)
    for group in ("objects", "background"):
        for mine, theirs in zip(getattr(read, group), getattr(written, group), strict=True):
            assert (mine.name, mine.label, mine.facts) == (theirs.name, theirs.label, theirs.facts)
            np.testing.assert_allclose(mine.world_from_part, theirs.world_from_part, atol=1e-12)
            numbers = (
                (1, 1) if theirs.mesh.metallic_roughness is not None else (theirs.mesh.metallic, theirs.mesh.roughness)
            )
            assert (mine.mesh.metallic, mine.mesh.roughness) == numbers
            for field in ("vertices", "faces", "uv", "base_color", "metallic_roughness"):
                np.testing.assert_array_equal(getattr(mine.mesh, field), getattr(theirs.mesh, field))


def test_a_scene_comes_back_as_it_was(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    assert_equal_scenes(read_glb(tmp_path / "scene.glb"), part_scene)


def test_the_cameras_of_further_photos_come_back(part_scene: PartScene, tmp_path: Path) -> None:
    moved = part_scene.world_from_camera.copy()
    moved[0, 3] += 1
    cameras = (
        PartCamera("camera_2", 'left "side"', intrinsics_from_fov(64, 48, 50), moved),
        PartCamera("camera_3", "top", part_scene.intrinsics, part_scene.world_from_camera),
    )
    write_glb(tmp_path / "scene.glb", replace(part_scene, cameras=cameras))
    read = read_glb(tmp_path / "scene.glb").cameras
    assert [(each.name, each.photo, each.intrinsics) for each in read] == [
        (each.name, each.photo, each.intrinsics) for each in cameras
    ]
    for mine, theirs in zip(read, cameras, strict=True):
        np.testing.assert_allclose(mine.world_from_camera, theirs.world_from_camera, atol=1e-12)


def test_varied_materials_come_back_as_they_were(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", varied(part_scene))
    assert_equal_scenes(read_glb(tmp_path / "scene.glb"), prepared(varied(part_scene)))


def test_the_exported_camera_sees_every_vertex_at_its_pixel(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    read = read_glb(tmp_path / "scene.glb")
    for mine, theirs in zip(read.objects, part_scene.objects, strict=True):
        assert np.abs(pixels(read, mine) - pixels(part_scene, theirs)).max() < 0.01


@pytest.mark.parametrize("intrinsics", [intrinsics_from_fov(641, 480, 57.0), OFF_CENTRE])
def test_a_gltf_viewer_sees_every_vertex_at_its_pixel(
    part_scene: PartScene, intrinsics: Intrinsics, tmp_path: Path
) -> None:
    """If the principal point is off centre, the photo is a part of what the viewer shows, and reaches to two of its borders."""
    scene = replace(part_scene, intrinsics=intrinsics)
    half = np.array(
        [max(intrinsics.cx, intrinsics.width - intrinsics.cx), max(intrinsics.cy, intrinsics.height - intrinsics.cy)]
    )
    write_glb(tmp_path / "scene.glb", scene)
    document, _ = parsed(tmp_path / "scene.glb")
    lens = document["cameras"][0]["perspective"]
    node = next(node for node in document["nodes"] if node["name"] == "camera")
    world_from_eye = np.eye(4)
    world_from_eye[:3, :3] = Rotation.from_quat(node["rotation"]).as_matrix()
    world_from_eye[:3, 3] = node["translation"]
    for part in scene.objects:
        world = transform(part.world_from_part, part.mesh.vertices.astype(np.float64))
        eye = transform(np.linalg.inv(world_from_eye), world)
        # The projection matrix of glTF 2.0, section 3.10.3.1, then the viewport.
        slope = np.tan(lens["yfov"] / 2)
        x = eye[:, 0] / (lens["aspectRatio"] * slope) / -eye[:, 2]
        y = eye[:, 1] / slope / -eye[:, 2]
        seen = np.stack([x, -y], axis=-1) * half + [intrinsics.cx, intrinsics.cy]
        assert np.abs(seen - pixels(scene, part)).max() < 0.01


quaternions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


@st.composite
def scenes(draw: st.DrawFn) -> PartScene:
    def placement() -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_quat(draw(quaternions)).as_matrix()
        matrix[:3, 3] = draw(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
        return matrix

    def part(name: str) -> Part:
        generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

        def texture(channels: st.SearchStrategy[int]) -> np.ndarray:
            # So small that PNG wins over JPEG.
            shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), channels))
            return generator.integers(0, 256, shape).astype(np.uint8)

        count = draw(st.integers(3, 12))
        faces = np.stack([np.arange(count), (np.arange(count) + 1) % count, (np.arange(count) + 2) % count], axis=-1)
        mesh = TexturedMesh(
            vertices=generator.normal(size=(count, 3), scale=10.0 ** draw(st.integers(-3, 3))).astype(np.float32),
            faces=faces.astype(np.int32),
            uv=generator.uniform(-1, 2, (count, 2)).astype(np.float32),
            base_color=texture(st.sampled_from([3, 4])),
            metallic=draw(st.floats(0, 1)),
            roughness=draw(st.floats(0, 1)),
            metallic_roughness=texture(st.just(3)) if draw(st.booleans()) else None,
        )
        facts = draw(
            st.dictionaries(
                st.text(max_size=5).filter(lambda key: key != "label"),
                st.text(max_size=5) | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e9, 1e9),
                max_size=3,
            )
        )
        return Part(name, draw(st.text(max_size=8)), mesh, placement(), facts)

    names = st.lists(st.from_regex(r"[a-z]_[A-Za-z0-9_]{0,61}", fullmatch=True), max_size=4, unique_by=str.casefold)
    parts = tuple(part(name) for name in draw(names))
    split = draw(st.integers(0, len(parts)))
    width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    fx, fy, cx, cy = draw(st.lists(st.floats(1, 1e4), min_size=4, max_size=4))
    camera = Intrinsics(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)
    return PartScene(parts[:split], parts[split:], camera, placement(), {"photo": draw(st.text(max_size=5))})


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # beartype picks what it checks by chance
@settings(deadline=None, max_examples=60)
@given(scene=scenes())
def test_any_scene_comes_back_as_it_was(scene: PartScene, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.glb"
    write_glb(path, scene)
    assert_equal_scenes(read_glb(path), prepared(scene))


@pytest.mark.parametrize("change", [lambda scene: scene, varied], ids=["plain", "varied"])
def test_the_same_scene_gives_the_same_bytes(part_scene: PartScene, tmp_path: Path, change) -> None:
    write_glb(tmp_path / "a.glb", change(part_scene))
    write_glb(tmp_path / "b.glb", change(part_scene))
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_the_document_is_laid_out_as_promised(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    document, _ = parsed(tmp_path / "scene.glb")
    nodes = document["nodes"]

    def children(node: dict[str, Any]) -> list[str]:
        return [nodes[index]["name"] for index in node["children"]]

    by_name = {node["name"]: node for node in nodes}
    assert len(by_name) == len(nodes)
    (root,) = document["scenes"][document["scene"]]["nodes"]
    assert nodes[root]["name"] == "scene"
    assert children(nodes[root]) == ["objects", "background", "camera"]
    assert children(by_name["objects"]) == ["obj_01_box", "obj_02", "obj_03_tasse"]
    assert children(by_name["background"]) == ["floor", "backdrop"]
    sided = [material.get("doubleSided", False) for material in document["materials"]]
    assert sided == [False, False, False, True, True]
    assert not any("uri" in entry for kind in ("buffers", "images") for entry in document[kind])


def test_materials_are_what_their_textures_need(part_scene: PartScene, tmp_path: Path) -> None:
    scene = varied(part_scene)
    write_glb(tmp_path / "scene.glb", scene)
    document, binary = parsed(tmp_path / "scene.glb")

    def embedded(texture: dict[str, int]) -> np.ndarray:
        image = document["images"][document["textures"][texture["index"]]["source"]]
        assert image["mimeType"] == "image/png"
        view = document["bufferViews"][image["bufferView"]]
        data = binary[view["byteOffset"] :][: view["byteLength"]]
        return np.asarray(Image.open(io.BytesIO(data)))

    alpha = {
        "obj_01_box": {},
        "obj_02": {"alphaMode": "MASK", "alphaCutoff": 0.5, "doubleSided": True},
        "obj_03_tasse": {"alphaMode": "BLEND", "doubleSided": True},
        "floor": {"alphaMode": "MASK", "alphaCutoff": 0.5, "doubleSided": True},
        "backdrop": {"doubleSided": True},
    }
    for material, part in zip(document["materials"], (*scene.objects, *scene.background), strict=True):
        surface = material.pop("pbrMetallicRoughness")
        assert material.pop("name") == part.name
        assert material == alpha[part.name]
        channels = 4 if "alphaMode" in material else 3
        np.testing.assert_array_equal(embedded(surface.pop("baseColorTexture")), part.mesh.base_color[..., :channels])
        if part.mesh.metallic_roughness is None:
            assert surface == {"metallicFactor": part.mesh.metallic, "roughnessFactor": part.mesh.roughness}
        else:
            np.testing.assert_array_equal(
                embedded(surface.pop("metallicRoughnessTexture")), part.mesh.metallic_roughness
            )
            assert surface == {"metallicFactor": 1, "roughnessFactor": 1}


def test_trimesh_loads_the_same_nodes_at_the_same_places(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    loaded = trimesh.load_scene(tmp_path / "scene.glb")
    parts = (*part_scene.objects, *part_scene.background)
    assert set(loaded.graph.nodes_geometry) == {part.name for part in parts}
    for part in parts:
        matrix, geometry = loaded.graph[part.name]
        np.testing.assert_allclose(matrix, part.world_from_part, atol=1e-12)
        assert len(loaded.geometry[geometry].faces) == len(part.mesh.faces)


def test_normals_are_unit_and_point_away(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    ball = trimesh.load_scene(tmp_path / "scene.glb").geometry["obj_02"]
    away = ball.vertices - ball.bounds.mean(axis=0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    assert (ball.vertex_normals * away).sum(axis=1).min() > 0.999


def test_an_open_mesh_is_shown_from_both_sides(part_scene: PartScene, tmp_path: Path) -> None:
    box = part_scene.objects[0]
    opened = replace(box, mesh=replace(box.mesh, faces=box.mesh.faces[1:]))
    write_glb(tmp_path / "open.glb", replace(part_scene, objects=(opened,), background=()))
    document, _ = parsed(tmp_path / "open.glb")
    assert [material.get("doubleSided", False) for material in document["materials"]] == [True]


def test_large_meshes_get_long_indices(part_scene: PartScene, tmp_path: Path) -> None:
    kinds = {}
    for count in (65535, 65538):
        vertices = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
        mesh = TexturedMesh(
            vertices,
            np.arange(count, dtype=np.int32).reshape(-1, 3),
            np.zeros((count, 2), np.float32),
            np.zeros((1, 1, 3), np.uint8),
        )
        scene = replace(part_scene, objects=(replace(part_scene.objects[0], mesh=mesh),), background=())
        write_glb(tmp_path / "large.glb", scene)
        document, _ = parsed(tmp_path / "large.glb")
        (primitive,) = document["meshes"][0]["primitives"]
        kinds[count] = document["accessors"][primitive["indices"]]["componentType"]
        assert_equal_scenes(read_glb(tmp_path / "large.glb"), scene)
    assert kinds == {65535: 5123, 65538: 5125}


def photo_like(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 8) * 800 + 128 + noise
    return np.clip(smooth, 0, 255).astype(np.uint8)


def test_photos_are_embedded_as_good_jpeg_and_flat_pictures_as_png(part_scene: PartScene, tmp_path: Path) -> None:
    photo = photo_like(200, 300)
    assert encode_texture(photo)[0] == "jpeg"
    assert encode_texture(np.full((200, 300, 3), 80, np.uint8))[0] == "png"
    parts = tuple(replace(part, mesh=replace(part.mesh, base_color=photo)) for part in part_scene.background)
    write_glb(tmp_path / "scene.glb", replace(part_scene, background=parts))
    document, _ = parsed(tmp_path / "scene.glb")
    assert len(document["images"]) == 4  # the photo once
    assert encode_texture(photo, lossless=True)[0] == "png"
    assert encode_texture(np.dstack([photo, photo[..., 0]]))[0] == "png"
    for part in read_glb(tmp_path / "scene.glb").background:
        error = np.mean((part.mesh.base_color.astype(float) - photo) ** 2)
        assert 10 * np.log10(255**2 / error) > 38


SPOIL: dict[str, Callable[[dict[str, Any]], object]] = {
    "buffer outside": lambda d: d["buffers"][0].update(uri="scene.bin"),
    "image outside": lambda d: d["images"][0].update(uri="../../secret.png"),
    "view past the end": lambda d: d["bufferViews"][0].update(byteOffset=10**9),
    "view before the start": lambda d: d["bufferViews"][0].update(byteOffset=-4),
    "accessor too long": lambda d: d["accessors"][0].update(count=10**9),
    "accessor too short": lambda d: d["accessors"][0].update(count=1),
    "negative reference": lambda d: d["nodes"][-1].update(camera=-1),
    "mesh that is not there": lambda d: d["nodes"][0].update(mesh=99),
    "no scene": lambda d: d.pop("scenes"),
    "no camera": lambda d: d.pop("cameras"),
    "scaled quaternion": lambda d: d["nodes"][-1].update(rotation=[0, 0, 0, 0]),
    "camera without K": lambda d: d["cameras"][0].pop("extras"),
    "texture of another kind": lambda d: d["images"][0].update(bufferView=0),
    "alpha of a picture without": lambda d: d["materials"][0].update(alphaMode="BLEND"),
    "packed texture that is not there": lambda d: d["materials"][0]["pbrMetallicRoughness"].update(
        metallicRoughnessTexture={"index": 99}
    ),
    "index past the vertices": lambda d: d["meshes"][1]["primitives"][0].update(
        indices=d["meshes"][0]["primitives"][0]["indices"],
        attributes=dict.fromkeys(d["meshes"][0]["primitives"][0]["attributes"], 0)
        | {"POSITION": d["meshes"][3]["primitives"][0]["attributes"]["POSITION"]},
    ),
}


@pytest.mark.parametrize("spoil", [*SPOIL])
def test_documents_that_are_not_ours_are_refused(part_scene: PartScene, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "scene.glb"
    write_glb(path, part_scene)
    document, binary = parsed(path)
    if spoil == "mesh that is not there":
        next(node for node in document["nodes"] if "mesh" in node)["mesh"] = 99
    else:
        SPOIL[spoil](document)
    repacked(path, document, binary)
    with pytest.raises(ExportError, match=r"scene\.glb is not a GLB that scenegen wrote"):
        read_glb(path)


@pytest.mark.parametrize("data", [b"", b"glTF", b"{}" * 20, struct.pack("<4sII", b"glTF", 2, 12)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "other.glb").write_bytes(data)
    with pytest.raises(ExportError):
        read_glb(tmp_path / "other.glb")
    with pytest.raises(ExportError):
        read_glb(tmp_path / "absent.glb")


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject, small_glb: bytes, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.glb"
    damaged = bytearray(small_glb[: data.draw(st.integers(0, len(small_glb)) | st.just(len(small_glb)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with contextlib.suppress(ExportError):  # the only error there may be
        read_glb(path)


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "varied"])
def small_glb(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> bytes:
    path = tmp_path_factory.mktemp("small") / "small.glb"
    mesh = TexturedMesh(
        np.eye(3, dtype=np.float32),
        np.array([[0, 1, 2]], np.int32),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 2, 4 if request.param else 3), np.uint8),
        metallic_roughness=np.zeros((2, 2, 3), np.uint8) if request.param else None,
    )
    camera = Intrinsics(width=4, height=3, fx=3, fy=3, cx=2, cy=1.5)
    write_glb(path, PartScene((Part("obj_01", "", mesh, np.eye(4), {}),), (), camera, np.eye(4), {}))
    return path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [lambda scene: scene, lambda scene: replace(scene, objects=(), background=()), varied],
    ids=["whole", "empty", "varied"],
)
def test_the_khronos_validator_finds_nothing(part_scene: PartScene, tmp_path: Path, change) -> None:
    write_glb(tmp_path / "scene.glb", change(part_scene))
    assert khronos_report(tmp_path / "scene.glb")["messages"] == []


def test_the_khronos_validator_only_remarks_on_the_size_of_photos(part_scene: PartScene, tmp_path: Path) -> None:
    # A photo's side is no power of two. Only WebGL 1 minded; resampling it would blur it.
    parts = tuple(replace(p, mesh=replace(p.mesh, base_color=photo_like(213, 320))) for p in part_scene.background)
    write_glb(tmp_path / "scene.glb", replace(part_scene, background=parts))
    report = khronos_report(tmp_path / "scene.glb")
    assert {message["code"] for message in report["messages"]} == {"IMAGE_NPOT_DIMENSIONS"}
    assert (report["numErrors"], report["numWarnings"], report["numInfos"]) == (0, 0, 1)


def test_the_khronos_validator_is_awake(part_scene: PartScene, tmp_path: Path) -> None:
    write_glb(tmp_path / "scene.glb", part_scene)
    document, binary = parsed(tmp_path / "scene.glb")
    document["accessors"][0]["max"][0] += 1
    repacked(tmp_path / "scene.glb", document, binary)
    assert khronos_report(tmp_path / "scene.glb")["numErrors"] > 0
