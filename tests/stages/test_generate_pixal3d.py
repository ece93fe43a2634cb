"""`generate: pixal3d` from the command line to the published scene: random weights in the released format, and a known ball."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.khronos import khronos_report
from PIL import Image
from pixal3d.checkpoints import write_tree
from pixal3d.solids import generated_ball, gradient
from pxr import Usd, UsdShade

from scenegen.camera import camera_from_crop, crop_camera, intrinsics_from_fov, latent_distance, rays, transform
from scenegen.cli.commands import main
from scenegen.compute import networks
from scenegen.errors import LimitError, ResourceError, WeightsError
from scenegen.export.glb import read_glb
from scenegen.export.manifest import Manifest, StageEntry, read_manifest
from scenegen.geometry.mesh import load_mesh
from scenegen.pixal3d import backend
from scenegen.pixal3d.generation import Generated
from scenegen.pixal3d.pipeline import Pixal3DPipeline
from scenegen.pixal3d.projection import Cameras, distance_from_fov
from scenegen.store.png import write_png
from scenegen.weights_registry.models import MODELS

FOV = 50.0
SIZE = (640, 480)
CAMERA = intrinsics_from_fov(*SIZE, FOV)
BALL, RADIUS = np.array([0.5, 0.28, 2.4]), 0.3
"""In the camera's frame, metres: off the axis, resting on nothing."""
FLOOR_Y, WALL_Z = 0.6, 4.0


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A ball over a floor before a wall, with its mask and depth beside it, all in closed form."""
    direction = rays(CAMERA)
    along, square = direction @ BALL, (direction**2).sum(axis=-1)
    root = along**2 - square * (BALL @ BALL - RADIUS**2)
    mask = root > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.minimum(np.where(direction[..., 1] > 0, FLOOR_Y / direction[..., 1], np.inf), WALL_Z)
        depth = np.where(mask, (along - np.sqrt(root.clip(min=0))) / square, room)
    image = np.full((*mask.shape, 3), 150, np.uint8)
    image[mask] = (180, 60, 50)
    write_png(tmp_path / "ball.png", image)
    write_png(tmp_path / "masks.png", mask.astype(np.uint16))
    np.save(tmp_path / "depth.npy", depth.astype(np.float32))
    return tmp_path / "ball.png"


def scene_of(photo: Path, *words: str, method: str = "pixal3d") -> int:
    folder = photo.parent
    given = ["--masks", str(folder / "masks.png"), "--depth", str(folder / "depth.npy"), "--fov", str(FOV)]
    small = ["texture.size=128", "export.usdz=false", f"generate.method={method}", "generate.max_faces=20000"]
    settings = [word for setting in small for word in ("--set", setting)]
    return main([str(photo), "-o", str(folder / "out"), "--device", "cpu", "--offline", *given, *settings, *words])


def made(photo: Path) -> tuple[Manifest, StageEntry]:
    manifest = read_manifest(photo.parent / "out" / "ball")
    (entry,) = (entry for entry in manifest.stages if entry.stage == "generate")
    return manifest, entry


def test_a_scene_with_random_weights_is_complete_and_valid(photo: Path, tree: Path) -> None:
    assert scene_of(photo, "--set", f"generate.checkpoint={tree}", "--set", "generate.attempts=2") == 0
    manifest, entry = made(photo)
    folder = photo.parent / "out" / "ball"
    assert manifest.state == "complete"
    assert (entry.backend, entry.licence) == (f"pixal3d from {tree.name}", "unknown (local checkpoint)")
    assert entry.weights == backend.pixal3d_weights(manifest.config.generate)  # type: ignore[arg-type]
    assert entry.check is not None
    assert not entry.check.passed  # the weights are random, and the scene says so
    assert any("does not pass" in warning for warning in entry.warnings)
    assert "does not pass" in (folder / "report.html").read_text()
    report = khronos_report(folder / "scene.glb")
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)
    (part,) = read_glb(folder / "scene.glb").objects
    assert part.mesh.metallic_roughness is not None
    assert part.mesh.metallic_roughness.shape == (128, 128, 3)
    assert len(part.mesh.faces) <= 20000


def planted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In place of the cascade: the ball of the photo, where the crop camera of its mask has it in the latent cube."""
    seeds: list[int] = []

    def call(self: Pixal3DPipeline, images: Any, cameras: Cameras, *, seed: int, **_: Any) -> Generated:
        seeds.append(seed)
        distance = distance_from_fov(float(cameras.fov[0, 0]))
        assert distance == pytest.approx(latent_distance(CROP), rel=1e-5)  # the stage has come to the same crop
        return generated_ball(LATENT, RADIUS / EDGE, gradient)

    monkeypatch.setattr(Pixal3DPipeline, "__call__", call)
    return seeds


def _crop() -> Any:
    direction = rays(CAMERA)
    along, square = direction @ BALL, (direction**2).sum(axis=-1)
    mask = along**2 - square * (BALL @ BALL - RADIUS**2) > 0
    return crop_camera(CAMERA, mask, 160)


CROP = _crop()
IN_CROP = np.array(CROP.crop_from_camera) @ BALL
EDGE = float(IN_CROP[2]) / latent_distance(CROP)
"""Of the latent cube in metres, its centre plane at the ball's distance."""
LATENT = np.array([IN_CROP[0], -IN_CROP[1], 0.0]) / EDGE


def test_a_known_ball_is_placed_where_the_photo_has_it(
    photo: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = planted(monkeypatch)
    assert scene_of(photo, "--set", f"generate.checkpoint={tree}", "--set", "compose.contact=false", "--seed", "4") == 0
    assert seeds == [4]
    manifest, entry = made(photo)
    assert entry.check is not None
    assert entry.check.passed
    assert entry.check.silhouette_iou > 0.97
    (placed,) = manifest.objects
    assert placed.seed == 4
    assert placed.scores.silhouette_iou > 0.97
    assert placed.scores.depth_error is not None
    assert placed.scores.depth_error < 0.01
    assert placed.scale == pytest.approx(EDGE, rel=0.02)
    graph = json.loads((photo.parent / "out" / "ball" / "scene_graph.json").read_text())
    (camera,) = (node for node in graph["nodes"] if node["id"] == "camera")
    camera_from_world = np.linalg.inv(np.array(camera["world_from_camera"]))
    mesh = load_mesh(photo.parent / "out" / ".scenegen" / placed.mesh.path)
    points = transform(camera_from_world @ np.array(placed.world_from_object), mesh.vertices.astype(float))
    np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, BALL, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(points - BALL, axis=1), RADIUS, atol=0.02)
    # Latent x, y and z, which the material shows, run to the right, up and towards the crop's camera.
    axes = np.array(camera_from_crop(CROP, 1.0))[:3, :3] @ np.diag([1, -1, -1])
    colour = mesh.base_color[tuple((mesh.uv[:, ::-1] * 127.99).astype(int).T)][:, :3].astype(float)
    for axis in range(3):
        assert np.corrcoef((points - BALL) @ axes[:, axis], colour[:, axis])[0, 1] > 0.95


def test_the_material_reaches_glb_and_usd(photo: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch)
    assert scene_of(photo, "--set", f"generate.checkpoint={tree}") == 0
    folder = photo.parent / "out" / "ball"
    (part,) = read_glb(folder / "scene.glb").objects
    packed = part.mesh.metallic_roughness
    assert packed is not None
    assert (packed[..., 0] == 0).all()
    texels = (part.mesh.uv[:, ::-1] * 127.99).astype(int)
    colour, surface = part.mesh.base_color[tuple(texels.T)].astype(int), packed[tuple(texels.T)].astype(int)
    # The material of `gradient`: metallic as red, roughness as green.
    assert np.abs(surface[:, 2] - colour[:, 0]).mean() < 6
    assert np.abs(surface[:, 1] - colour[:, 1]).mean() < 6
    stage = Usd.Stage.Open(str(folder / "scene.usd"))
    shaders = [UsdShade.Shader(prim) for prim in stage.Traverse() if prim.IsA(UsdShade.Shader)]
    (shown,) = (
        shader
        for shader in shaders
        if shader.GetIdAttr().Get() == "UsdPreviewSurface" and "objects" in str(shader.GetPath())
    )
    for name, channel in (("roughness", "g"), ("metallic", "b"), ("diffuseColor", "rgb")):
        (source,), _ = shown.GetInput(name).GetConnectedSources()
        assert source.sourceName == channel
        space = UsdShade.Shader(source.source).GetInput("sourceColorSpace").Get()
        assert space == ("sRGB" if name == "diffuseColor" else "raw")


def test_a_second_run_computes_nothing_and_other_weights_all(
    photo: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seeds = planted(monkeypatch)
    words = ("--set", f"generate.checkpoint={tree}")
    assert scene_of(photo, *words) == scene_of(photo, *words) == 0
    assert len(seeds) == 1
    other = write_tree(tmp_path / "other", steps=3)
    assert scene_of(photo, "--set", f"generate.checkpoint={other}") == 0
    assert len(seeds) == 2


def test_missing_weights_end_the_photo_with_the_one_command_that_brings_them(
    photo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scenegen.compute.runtime.user_cache_path", lambda _: tmp_path / "cache")
    assert scene_of(photo) == WeightsError.exit_code
    assert "models fetch pixal3d dinov3-vitl16 naf" in capsys.readouterr().err
    assert not (photo.parent / "out" / "ball").exists()
    words = ["--preset", "pixal3d", "--offline", "-o", str(tmp_path / "out")]
    opaque = tmp_path / "opaque.jpg"  # a PNG may hold its masks
    Image.open(photo).convert("RGB").save(opaque)
    assert main([str(opaque), *words]) == WeightsError.exit_code
    said = capsys.readouterr().err
    assert "models fetch sam-vit_b moge-2-vitl-normal pixal3d dinov3-vitl16 naf" in said
    assert {"pixal3d", "dinov3-vitl16", "naf", "sam-vit_b"} < set(MODELS)


def test_want_of_memory_ends_the_photo_too(photo: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise LimitError("out of memory on cuda")

    monkeypatch.setattr(Pixal3DPipeline, "__call__", full)
    assert scene_of(photo, "--set", f"generate.checkpoint={tree}") == ResourceError.exit_code
    assert not any(isinstance(key, backend.Opening) for key in networks._loaded)
