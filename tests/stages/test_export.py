from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

import stages.export
from scenegen.compute.runtime import Runtime
from scenegen.config import ExportConfig
from scenegen.errors import ExportError
from scenegen.export.glb import read_glb
from scenegen.geometry.mesh import TexturedMesh, save_mesh
from scenegen.records import (
    Artifact,
    Export,
    Intrinsics,
    Kept,
    Metres,
    Photo,
    PlacedObject,
    Scene,
    Scores,
    Surface,
    Topology,
)
from scenegen.store.store import Store
from stages.export import EXPORT
from stages.stage import execute

CAMERA = Intrinsics(width=64, height=48, fx=60, fy=60, cx=32, cy=24)
WORLD_FROM_CAMERA = ((1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 1.5), (0.0, 0.0, -1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
COMPONENT_FILES = ("base_color.png", "material.mtlx", "payload.usdc", "{}.usd")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def textured(vertices: np.ndarray, faces: np.ndarray) -> TexturedMesh:
    uv = np.zeros((len(vertices), 2), np.float32)
    color = np.full((4, 4, 3), 120, np.uint8)
    return TexturedMesh(vertices.astype(np.float32), np.asarray(faces, dtype=np.int32), uv, color)


def stored(store: Store, folder: Path, mesh: TexturedMesh) -> Artifact:
    save_mesh(mesh, folder / "mesh.npz")
    return store.ingest(folder / "mesh.npz")


def box_mesh() -> TexturedMesh:
    box = trimesh.creation.box((0.2, 0.4, 0.2))
    box.apply_translation([0, 0.2, 0])
    return textured(box.vertices, box.faces)


@pytest.fixture
def photo(store: Store, tmp_path: Path) -> Photo:
    (tmp_path / "photo.png").write_bytes(b"never opened by this stage")
    return Photo(
        name="table",
        image=store.ingest(tmp_path / "photo.png"),
        alpha=None,
        masks=None,
        depth=None,
        width=64,
        height=48,
        original_width=64,
        original_height=48,
        focal_35mm=None,
    )


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    """Two boxes, the second without measured depth, before a floor that is given in the camera frame."""
    mesh = stored(store, tmp_path, box_mesh())
    floor = np.array([[-1, 1.5, 1], [1, 1.5, 1], [1, 1.5, 4], [-1, 1.5, 4]])
    (tmp_path / "graph.json").write_text('{"nodes": []}')

    def placed(object_id: int, x: float, depth_error: float | None) -> PlacedObject:
        return PlacedObject(
            id=object_id,
            name=f"obj_{object_id:02d}_box",
            label="Büchse/1",
            mesh=mesh,
            world_from_object=((1, 0, 0, x), (0, 1, 0, 0), (0, 0, 1, -2), (0, 0, 0, 1)),
            scale=1.0,
            support=0,
            backend="inflate",
            licence="Apache-2.0",
            seed=object_id,
            score=0.75,
            scores=Scores(silhouette_iou=0.9, depth_error=depth_error, colour_psnr=None),
            topology=Topology(closed=True, pieces=1, genus=0),
        )

    return Scene(
        graph=store.ingest(tmp_path / "graph.json"),
        metres=Metres(source="known sizes", factor=1.25),
        intrinsics=CAMERA,
        world_from_camera=WORLD_FROM_CAMERA,
        objects=(placed(1, -0.3, 0.02), placed(2, 0.3, None)),
        surfaces=(Surface(name="floor", mesh=stored(store, tmp_path, textured(floor, [[0, 2, 1], [0, 3, 2]]))),),
        failures=(),
    )


def exported(store: Store, photo: Photo, scene: Scene, config: ExportConfig | None = None) -> Export:
    return execute(EXPORT, (photo, scene, Kept()), config or ExportConfig(), store, Runtime()).record


def test_every_promised_file_is_there(store: Store, photo: Photo, scene: Scene) -> None:
    files = dict(exported(store, photo, scene).files)
    components = ("objects/obj_01_box", "objects/obj_02_box", "background/floor")
    wanted = {f"{folder}/{file.format(Path(folder).name)}" for folder in components for file in COMPONENT_FILES}
    assert set(files) == wanted | {"scene.glb", "scene.usd", "scene.usdz", "scene_graph.json"}
    for artifact in files.values():
        assert store.path(artifact).stat().st_size == artifact.bytes
    assert store.path(files["scene_graph.json"]).read_text() == '{"nodes": []}'


def test_the_glb_holds_the_scene_in_the_world_frame(store: Store, photo: Photo, scene: Scene) -> None:
    read = read_glb(store.path(dict(exported(store, photo, scene).files)["scene.glb"]))
    assert read.facts == {
        "photo": "table",
        "decoded_photo_sha256": photo.image.sha256,
        "metres": "known sizes",
        "metres_factor": 1.25,
    }
    assert read.intrinsics == CAMERA
    np.testing.assert_allclose(read.world_from_camera, WORLD_FROM_CAMERA)
    first, second = read.objects
    assert first.label == "Büchse/1"
    assert first.facts == {
        "id": 1,
        "backend": "inflate",
        "licence": "Apache-2.0",
        "seed": 1,
        "score": 0.75,
        "support": 0,
        "silhouette_iou": 0.9,
        "closed": True,
        "pieces": 1,
        "genus": 0,
        "depth_error": 0.02,
        "mass_kg": pytest.approx(0.2 * 0.4 * 0.2 * 400),
        "mass_from": "mesh",
        "density_kg_m3": 400,
        "density_from": "default",
        "substance_assumed": "unknown",
        "friction_assumed": 0.5,
        "restitution_assumed": 0.2,
        "colliders": 1,
        "held": False,
    }
    assert "depth_error" not in second.facts
    np.testing.assert_array_equal(second.world_from_part[:3, 3], [0.3, 0, -2])
    (floor,) = read.background
    np.testing.assert_array_equal(floor.mesh.vertices[:, 1], 0)
    assert floor.mesh.vertices[:, 2].max() == -1


def test_the_package_is_made_only_when_asked_for(store: Store, photo: Photo, scene: Scene) -> None:
    assert "scene.usdz" not in dict(exported(store, photo, scene, ExportConfig(usdz=False)).files)


def test_formats_are_written_when_asked_for(store: Store, photo: Photo, scene: Scene) -> None:
    files = dict(
        exported(store, photo, scene, ExportConfig(usdz=False, formats=("obj", "ply", "stl", "objects"))).files
    )
    assert set(files) >= {
        "obj/scene.obj",
        "obj/scene.mtl",
        "scene.ply",
        "scene.stl",
        "objects/obj_01_box/obj_01_box.glb",
    }
    for artifact in files.values():
        assert store.path(artifact).stat().st_size == artifact.bytes


def test_a_scene_without_objects_is_exported(store: Store, photo: Photo, scene: Scene) -> None:
    files = dict(exported(store, photo, scene.model_copy(update={"objects": ()})).files)
    assert read_glb(store.path(files["scene.glb"])).objects == ()


def test_two_stores_get_the_same_bytes(store: Store, photo: Photo, scene: Scene, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "other")
    assert exported(store, photo, scene) == exported(Store(tmp_path / "other"), photo, scene)


def test_an_open_mesh_is_reported(store: Store, photo: Photo, scene: Scene, tmp_path: Path) -> None:
    opened = replace(box_mesh(), faces=box_mesh().faces[1:])
    first = scene.objects[0].model_copy(update={"mesh": stored(store, tmp_path, opened)})
    record = exported(store, photo, scene.model_copy(update={"objects": (first,)}))
    (remark,) = record.warnings
    assert remark.startswith("note: obj_01_box: the mesh is not closed")


def test_a_mesh_that_is_not_finite_is_refused(store: Store, photo: Photo, scene: Scene, tmp_path: Path) -> None:
    broken = replace(box_mesh(), vertices=box_mesh().vertices * np.float32(np.nan))
    first = scene.objects[0].model_copy(update={"mesh": stored(store, tmp_path, broken)})
    with pytest.raises(ExportError, match="obj_01_box"):
        exported(store, photo, scene.model_copy(update={"objects": (first,)}))


def test_what_usd_finds_ends_the_export(
    store: Store, photo: Photo, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    import scenegen.export.usd

    def spoiled(path: Path) -> list[str]:
        return ["usdGeomValidators:StageMetadataChecker: no up axis"] if path.suffix == ".usdz" else []

    monkeypatch.setattr(scenegen.export.usd, "validate_stage", spoiled)
    with pytest.raises(ExportError, match=r"scene\.usdz: usdGeomValidators:StageMetadataChecker: no up axis") as caught:
        exported(store, photo, scene)
    assert caught.value.exit_code == 7
    assert not (store.root / "export").exists()
    assert not [*(store.root / "staging").iterdir()]


def test_a_glb_that_lacks_something_ends_the_export(
    store: Store, photo: Photo, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.export, "read_glb", lambda path: replace(read_glb(path), objects=()))
    with pytest.raises(ExportError, match=r"scene\.glb: objects .* are \[\], not \[\('obj_01_box', 12\)"):
        exported(store, photo, scene)


def test_usd_is_not_loaded_with_the_stage() -> None:
    code = "import sys, stages.export; print('pxr' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"
