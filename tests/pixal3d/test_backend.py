"""The back-end of the generate stage: known decoder outputs through cleaning and baking, and which pipeline is loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh
from pixal3d.checkpoints import write_tree
from pixal3d.solids import Material, generated_ball, glassy, gradient, striped

from scenegen.camera import crop_from_latent, rays
from scenegen.compute import networks
from scenegen.compute.residency import Residency
from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import RELEASED_THREADS
from scenegen.config import Pixal3DConfig, TextureConfig
from scenegen.errors import LimitError, ResourceError, UsageError, WeightsError
from scenegen.geometry.generator import MadeObject, ObjectView, OtherView
from scenegen.geometry.mesh import AlphaMode, TexturedMesh, alpha_mode
from scenegen.geometry.render import RayCaster, render, sample_texture
from scenegen.geometry.solid import is_closed, volume
from scenegen.pixal3d.backend import (
    Opening,
    finish_pixal3d,
    generate_pixal3d,
    generate_pixal3d_views,
    opened,
    pixal3d_weights,
    plan,
    residency_for,
)
from scenegen.pixal3d.flow import FlowTransformer
from scenegen.pixal3d.generation import Generated, Images
from scenegen.pixal3d.pipeline import GeneratedObject, Pixal3DPipeline
from scenegen.pixal3d.projection import Cameras, fov_from_focal
from scenegen.pixal3d.residency import open_networks
from scenegen.pixal3d.selfcheck import Quality
from scenegen.pixal3d.settings import read_pipeline
from scenegen.records import CropCamera, Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.store import digest
from scenegen.store.digest import sha256_file
from scenegen.weights_registry import MODELS
from scenegen.weights_registry.pixal3d import pixal3d_demand

SIZE, FOCAL = 160, 1.1
CROP = Intrinsics(width=SIZE, height=SIZE, fx=FOCAL * SIZE, fy=FOCAL * SIZE, cx=SIZE / 2, cy=SIZE / 2)
FOV = fov_from_focal(FOCAL)
PLACE, RADIUS = np.array([0.06, 0.04, 0.1]), 0.3
TEXTURE = TextureConfig(size=256)
CPU = Runtime(device="cpu", offline=True)
DEMAND = pixal3d_demand(49_152)


def finished_one(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> MadeObject:
    return finish_pixal3d(generate_pixal3d(view, seed, config, texture, runtime), config, texture)


def finished_views(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> MadeObject:
    return finish_pixal3d(generate_pixal3d_views(view, seed, config, texture, runtime), config, texture)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("pixal3d"))


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    networks.release()
    yield
    networks.release()


def made(material: Material = gradient, fov: float = FOV) -> GeneratedObject:
    return GeneratedObject(
        generated=generated_ball(PLACE, RADIUS, material),
        crop_from_latent=crop_from_latent(CROP, fov),
        seed=3,
        fov=fov,
        quality=Quality(1.0, 1.0),
        usage=(),
        warnings=(),
    )


def config(**values: object) -> Pixal3DConfig:
    return Pixal3DConfig.model_validate({"max_faces": 4000, **values})


def centre() -> np.ndarray:
    """Of the ball, in the crop's frame."""
    return crop_from_latent(CROP, FOV)[:3] @ [*PLACE, 1]


def silhouette() -> np.ndarray:
    """The ball in the crop's pixels, in closed form."""
    direction = rays(CROP)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return centre() @ centre() - (direction @ centre()) ** 2 < RADIUS**2


def seen(mesh: TexturedMesh) -> np.ndarray:
    directions = rays(CROP).reshape(-1, 3)
    hits = RayCaster(mesh.vertices, mesh.faces).cast(np.zeros_like(directions), directions)
    return (hits.triangle >= 0).reshape(SIZE, SIZE)


def welded(mesh: TexturedMesh) -> tuple[np.ndarray, np.ndarray]:
    """Without the seams of its atlas."""
    points, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    return points, index.reshape(-1)[mesh.faces].astype(np.int32)


def test_a_known_ball_lands_on_its_pixels_with_its_material() -> None:
    mesh, warnings = made().textured(config(), TEXTURE)
    assert warnings == ()
    assert intersection_over_union(seen(mesh), silhouette()) > 0.98
    points, faces = welded(mesh)
    assert len(faces) <= 4000
    assert is_closed(faces)
    assert volume(points, faces) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)  # positive: faces outwards
    # Every vertex has the values of its own place in the latent cube.
    latent = (mesh.vertices - made().crop_from_latent[:3, 3]) @ made().crop_from_latent[:3, :3]
    on_ball = PLACE + RADIUS * (latent - PLACE) / np.linalg.norm(latent - PLACE, axis=1, keepdims=True)
    assert mesh.metallic_roughness is not None
    sampled = np.concatenate(
        [
            sample_texture(texture, mesh.uv.astype(np.float64))
            for texture in (mesh.base_color[..., :3], mesh.metallic_roughness)
        ],
        axis=1,
    )
    true = (on_ball + 0.5)[:, [0, 1, 2, 1, 0]]  # colours, then roughness in G, metallic in B
    off = np.abs(sampled[:, [0, 1, 2, 4, 5]] / 255 - true)
    assert off.max() < 0.06  # a chart's corner may lie a texel beyond it
    assert np.quantile(off, 0.99) < 0.02
    assert (mesh.metallic_roughness[..., 0] == 0).all()
    assert (mesh.metallic, mesh.roughness) == (1, 1)


def test_a_result_saves_itself(tmp_path: Path) -> None:
    made().save(tmp_path / "ball.glb", config(), TEXTURE)
    read = trimesh.load(tmp_path / "ball.glb").to_mesh()
    # glTF's axes: the camera looks along -z.
    x, y, z = centre()
    np.testing.assert_allclose(read.bounds.mean(axis=0), [x, -y, -z], atol=0.01)
    np.testing.assert_allclose(np.ptp(read.bounds, axis=0), 2 * RADIUS, atol=0.02)
    assert read.visual.material.metallicRoughnessTexture is not None
    with pytest.raises(UsageError, match=r"ball\.fbx; its suffix must be one of \.glb, \.obj"):
        made().save(tmp_path / "ball.fbx", config(), TEXTURE)
    with pytest.raises(ResourceError, match="cannot write"):
        made().save(tmp_path / "ball.glb" / "ball.glb", config(), TEXTURE)


def test_left_is_left_and_up_is_up_in_the_picture() -> None:
    """The material's red grows with latent x, to the right; its green with latent y, upwards; its blue towards the camera."""
    mesh, _ = made().textured(config(), TEXTURE)
    picture = render([mesh], CROP)
    rows, columns = np.nonzero(picture.ids == 0)
    colour = picture.color[rows, columns].astype(float)
    assert np.corrcoef(columns, colour[:, 0])[0, 1] > 0.95
    assert np.corrcoef(rows, colour[:, 1])[0, 1] < -0.95
    assert np.corrcoef(picture.depth[rows, columns], colour[:, 2])[0, 1] < -0.95


@pytest.mark.parametrize(("material", "mode"), [(gradient, "OPAQUE"), (striped, "MASK"), (glassy, "BLEND")])
def test_alpha_is_taken_by_its_content(material: Material, mode: AlphaMode) -> None:
    mesh, _ = made(material).textured(config(), TEXTURE)
    assert alpha_mode(mesh.base_color) == mode
    if mode == "MASK":  # half the ball is not there
        latent = (mesh.vertices - made().crop_from_latent[:3, 3]) @ made().crop_from_latent[:3, :3]
        alpha = sample_texture(mesh.base_color[..., 3:].repeat(3, axis=2), mesh.uv.astype(np.float64))[:, 0]
        assert (alpha[latent[:, 0] < -0.03] > 230).all()
        assert (alpha[latent[:, 0] > 0.03] < 25).all()


def test_the_shell_has_two_walls_and_the_true_surface_one() -> None:
    crossed = {}
    for surface in ("true", "shell"):
        mesh, _ = made().textured(config(surface=surface, max_faces=20000), TEXTURE)
        middle = centre()[None]
        caster = RayCaster(mesh.vertices, mesh.faces)
        walls, start = 0, np.zeros((1, 3))
        while walls < 10:
            hits = caster.cast(start, middle)
            if hits.triangle[0] < 0:
                break
            walls, start = walls + 1, start + (hits.distance[0] + 1e-4) * middle
        crossed[surface] = walls
    assert crossed == {"true": 2, "shell": 4}


def view() -> ObjectView:
    mask = silhouette()
    image = np.full((SIZE, SIZE, 3), 200, np.uint8)
    depth = np.where(mask, 3.0, 6.0).astype(np.float32)
    crop = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=CROP)
    return ObjectView(
        image, mask.astype(np.float32), depth, np.full_like(depth, 6), np.array([0, -1, 0], np.float32), crop
    )


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ball in place of the cascade."""

    def call(self: Pixal3DPipeline, *_: object, **__: object) -> Generated:
        return generated_ball(PLACE, RADIUS, gradient)

    monkeypatch.setattr(Pixal3DPipeline, "__call__", call)


@pytest.mark.usefixtures("planted")
def test_the_object_is_made_and_how_is_recorded(tree: Path) -> None:
    object_ = finished_one(view(), 5, config(checkpoint=tree), TEXTURE, CPU)
    assert intersection_over_union(seen(object_.mesh), silhouette()) > 0.98
    assert (object_.backend, object_.seed, object_.warnings) == (f"pixal3d from {tree.name}", 5, ())
    assert object_.licence == "unknown (local checkpoint)"
    assert object_.check is not None
    assert object_.check.passed
    assert object_.check.silhouette_iou > 0.97
    assert object_.check.size_ratio == pytest.approx(1, abs=0.03)
    assert object_.check.fov_deg == pytest.approx(np.degrees(FOV), abs=1e-3)


def test_an_object_of_several_views_is_made_in_metres_in_the_first_one_s_frame(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ball is in the middle of the cube that is framed about it, and as large in it as that cube's edge says."""

    def call(self: Pixal3DPipeline, images: Images, cameras: Cameras, **_: object) -> Generated:
        return generated_ball(np.zeros(3), RADIUS * float(cameras.mesh_scale[0]), gradient, 96)

    monkeypatch.setattr(Pixal3DPipeline, "__call__", call)
    several = tmp_path / "several"
    shutil.copytree(tree, several)
    (several / "pipeline.json").rename(several / "pipeline_mv.json")
    turns = [np.radians(degrees) * np.array([0.0, 1.0, 0.0]) for degrees in (75, 150, 230)]
    others = []
    for turn in turns:
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(turn)[0]
        pose[:3, 3] = centre() - pose[:3, :3] @ centre()
        others.append(OtherView(view(), pose))
    shown = replace(view(), others=tuple(others))
    object_ = finished_views(shown, 5, config(checkpoint=several), TEXTURE, CPU)
    assert object_.backend == "pixal3d from several, 4 views"
    middle = (object_.mesh.vertices.min(axis=0) + object_.mesh.vertices.max(axis=0)) / 2
    np.testing.assert_allclose(middle, centre(), atol=0.03)
    np.testing.assert_allclose(np.ptp(object_.mesh.vertices, axis=0), 2 * RADIUS, rtol=0.03)
    assert intersection_over_union(seen(object_.mesh), silhouette()) > 0.93
    assert object_.check is not None
    assert object_.check.silhouette_iou > 0.85
    assert pixal3d_weights(config(checkpoint=several), "several").keys() >= {"pixal3d-mv"}
    with pytest.raises(WeightsError, match=r"pipeline_mv\.json"):
        finished_views(shown, 5, config(checkpoint=tree), TEXTURE, CPU)


def test_the_networks_have_a_fixed_number_of_threads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()

    def call(self: Pixal3DPipeline, *_: object, **__: object) -> Generated:
        found.add(torch.get_num_threads())
        return generated_ball(PLACE, RADIUS, gradient)

    monkeypatch.setattr(Pixal3DPipeline, "__call__", call)
    finished_one(view(), 5, config(checkpoint=tree), TEXTURE, CPU)
    assert found == {RELEASED_THREADS}


@pytest.mark.usefixtures("planted")
def test_an_object_behind_another_is_checked_where_it_is_seen(tree: Path) -> None:
    whole = view()
    before = np.zeros((SIZE, SIZE), bool)
    before[: SIZE // 2] = True
    near = replace(
        whole, mask=np.where(before, 0, whole.mask), depth=np.where(before, 1.0, whole.depth).astype(np.float32)
    )
    object_ = finished_one(near, 5, config(checkpoint=tree), TEXTURE, CPU)
    assert object_.check is not None
    assert object_.check.passed
    apart = replace(near, depth=whole.depth)  # nothing is before it: half of the ball should not be there
    object_ = finished_one(apart, 5, config(checkpoint=tree), TEXTURE, CPU)
    assert object_.check is not None
    assert not object_.check.passed
    assert "does not pass" in object_.warnings[-1]


def test_one_pipeline_is_kept_until_another_is_asked_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_as = []
    read = Pixal3DPipeline.from_pretrained

    def counted(*args: object, **kwargs: object) -> Pixal3DPipeline:
        read_as.append(kwargs["residency"])
        assert kwargs["offline"]
        return read(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Pixal3DPipeline, "from_pretrained", counted)
    staged, streamed = (
        plan(config(checkpoint=tree, residency=residency), CPU).opening for residency in ("staged", "streamed")
    )
    with opened(staged, DEMAND) as first:
        pass
    with opened(staged, DEMAND) as again:
        assert again is first
    with opened(streamed, DEMAND):
        assert list(networks._loaded) == [streamed]
    with pytest.raises(ResourceError, match=r"memory$"), opened(streamed, DEMAND):
        raise LimitError("out of memory")
    assert not networks._loaded
    with pytest.raises(ResourceError, match="residency=streamed"), opened(staged, DEMAND):
        raise LimitError("out of memory.")
    assert read_as == ["staged", "streamed", "staged"]


@pytest.mark.parametrize(
    ("economy", "asked", "residency", "tokens"),
    [
        (0, "resident", "resident", 40000),
        (1, "resident", "staged", 20000),
        (1, "streamed", "streamed", 20000),
        (2, "staged", "streamed", 20000),
    ],
)
def test_memory_is_saved_on_demand_and_it_is_said(
    economy: int, asked: str, residency: str, tokens: int, tree: Path
) -> None:
    planned = plan(config(checkpoint=tree, residency=asked, max_tokens=40000), replace(CPU, economy=economy))
    assert (planned.opening.residency, planned.max_tokens) == (residency, tokens)
    assert bool(planned.warnings) == (economy > 0)
    if economy:
        assert residency in planned.warnings[0]
        assert f"{tokens} tokens instead of 40000" in planned.warnings[0]


@pytest.mark.usefixtures("planted")
def test_the_saving_is_a_warning_of_the_object(tree: Path) -> None:
    object_ = finished_one(view(), 5, config(checkpoint=tree), TEXTURE, replace(CPU, economy=2))
    assert "memory was short" in object_.warnings[0]


def test_precision_and_residency_follow_the_machine(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(config(checkpoint=tree), CPU).opening.precision == "float32"
    assert plan(config(checkpoint=tree, precision="released"), CPU).opening.precision == "released"
    pages = {"SC_PAGE_SIZE": 4096}
    for gib, residency in ((8, "streamed"), (15, "staged"), (600, "staged")):
        pages["SC_PHYS_PAGES"] = gib * 2**30 // 4096
        monkeypatch.setattr(os, "sysconf", pages.__getitem__)
        assert residency_for(torch.device("cpu"), config()) == residency
    for gib, residency in ((8, "streamed"), (16, "staged"), (80, "resident")):
        properties = type("Properties", (), {"total_memory": gib * 2**30})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, properties=properties: properties)
        assert residency_for(torch.device("cuda"), config()) == residency
    assert residency_for(torch.device("cuda"), config(), economy=2) == "streamed"


def test_compilation_is_asked_for_and_needs_a_compiler(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(FlowTransformer, "compile_blocks", lambda flow: asked.append(type(flow).__name__))
    _, stems = read_pipeline(tree, "one")
    for compiled, count in ((False, 0), (True, 1)):
        asked.clear()
        use = open_networks(stems, torch.device("cpu"), "staged", "float32", compiled)
        asked.clear()
        with use("shape_slat_flow_model_512"), use("shape_slat_decoder"):
            assert len(asked) == count
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not plan(config(checkpoint=tree), CPU).opening.compiled
    with pytest.raises(ResourceError, match="C\\+\\+ compiler"):
        plan(config(checkpoint=tree, compiled=True), CPU)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert plan(config(checkpoint=tree, compiled=True), CPU).opening.compiled


def test_what_is_missing_is_said_at_once_with_the_command(tmp_path: Path) -> None:
    absent = Runtime(device="cpu", offline=True, models=tmp_path)
    with pytest.raises(WeightsError, match=r"models fetch pixal3d dinov3-vitl16 naf.*offline"):
        finished_one(view(), 0, config(), TEXTURE, absent)
    with pytest.raises(WeightsError, match="not a folder"):
        finished_one(view(), 0, config(checkpoint=tmp_path / "nothing"), TEXTURE, absent)
    with pytest.raises(WeightsError, match=r"pipeline\.json"):
        finished_one(view(), 0, config(checkpoint=tmp_path), TEXTURE, absent)


def test_devices_that_are_not_there_are_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="`device`"):
        plan(config(checkpoint=tree), replace(CPU, device="tpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="cuda"):
            plan(config(checkpoint=tree), replace(CPU, device="cuda"))


def test_weights_are_known_by_revision_or_by_content(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pixal3d_weights(config())
    assert known["pixal3d"] == MODELS["pixal3d"].revision
    assert set(known) == {"pixal3d", "dinov3-vitl16", "naf"}
    read = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(digest, "sha256_file", counted)
    monkeypatch.setattr(digest, "_known", {})
    monkeypatch.setattr(digest, "SETTLED_NS", -1)
    local = pixal3d_weights(config(checkpoint=tree))
    assert set(local) == {"pixal3d"}
    assert len(read) == len(set(read)) + 2  # two configs and two weights of the image networks share their names
    assert pixal3d_weights(config(checkpoint=tree)) == local
    once = len(read)
    file = tree / "naf" / "model.safetensors"
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(file, ns=(1, 1))
        assert pixal3d_weights(config(checkpoint=tree)) != local
    finally:
        file.write_bytes(content)
    assert len(read) == once + 1
    with pytest.raises(WeightsError, match=r"pipeline\.json"):
        pixal3d_weights(config(checkpoint=tmp_path))


@pytest.mark.parametrize(
    ("device", "residency", "free_gib", "kept"),
    [
        ("cuda:0", "staged", 70, True),
        ("cuda:0", "staged", 10, False),
        ("cuda:0", "resident", 70, True),
        ("cuda:0", "resident", 20, False),
        ("cpu", "staged", 0, True),
    ],
)
def test_a_full_card_is_cleared_of_other_networks(
    monkeypatch: pytest.MonkeyPatch, device: str, residency: Residency, free_gib: int, kept: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib * 2**30, 80 * 2**30))
    monkeypatch.setattr(Pixal3DPipeline, "from_pretrained", lambda *_, **__: object.__new__(Pixal3DPipeline))
    network = networks.loaded("sam", list)
    with opened(Opening(Path("x"), "one", None, None, device, residency, "released"), DEMAND):
        pass
    assert (networks.loaded("sam", list) is network) == kept
