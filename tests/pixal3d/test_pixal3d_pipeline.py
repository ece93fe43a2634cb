"""The complete cascade on a small random checkpoint tree in the released format, from a cut-out picture to a coloured mesh."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from pixal3d.checkpoints import write_tree
from safetensors.torch import load_file, save_file

from scenegen.camera import crop_from_latent, rays, transform
from scenegen.compute.runtime import Runtime
from scenegen.errors import InputError, ResourceError, UsageError, WeightsError
from scenegen.geometry.render import RayCaster
from scenegen.pixal3d.generation import Generated, Images, one_picture
from scenegen.pixal3d.memory import WorkingMemory
from scenegen.pixal3d.pipeline import GeneratedObject, Pixal3DPipeline
from scenegen.pixal3d.projection import (
    Cameras,
    distance_from_fov,
    focal_pixels,
    fov_from_focal,
    front_cameras,
)
from scenegen.pixal3d.residency import Residency
from scenegen.pixal3d.sampler import Step
from scenegen.pixal3d.selfcheck import SEED_STEP
from scenegen.pixal3d.settings import SHAPE_NORMALISATION, read_pipeline
from scenegen.pixal3d.views import View, cameras_of_views, read_views
from scenegen.records import Intrinsics
from scenegen.scene.scoring import intersection_over_union
from scenegen.system.memory import resident_peak
from scenegen.weights_registry import MODELS, ModelFile, download, fetch

DINO_WEIGHTS, NAF_WEIGHTS = "dinov3/model.safetensors", "naf/model.safetensors"
FOV = 0.7


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("pixal3d"))


def cut_out() -> np.ndarray:
    y, x = np.mgrid[0:120, 0:140]
    rgba = np.zeros((120, 140, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 2] = x, y, 90
    rgba[..., 3] = 255 * ((x - 70) ** 2 + (y - 60) ** 2 < 40**2)
    return rgba


def cameras() -> Cameras:
    return front_cameras(torch.tensor([FOV]), torch.tensor([distance_from_fov(FOV)]), torch.ones(1))


def pipeline(tree: Path, residency: Residency = "staged") -> Pixal3DPipeline:
    return Pixal3DPipeline.from_pretrained(tree, device="cpu", residency=residency, precision="float32", offline=True)


def run(made: Pixal3DPipeline, seed: int = 1) -> Generated:
    return made(one_picture(cut_out()), cameras(), seed=seed)


def test_the_cascade_runs_and_its_parts_fit_together(expected: Generated) -> None:
    made = expected
    assert made.resolution == 1024
    assert len(made.vertices) == len(made.coords) == len(made.attributes) > 0
    assert made.vertices.abs().max() <= 0.5 + 0.5 / 1024 + 1e-6
    assert int(made.coords.max()) < 1024
    assert torch.isfinite(made.attributes).all()
    assert made.faces.numel() == 0 or int(made.faces.max()) < len(made.vertices)


def assert_equal(first: Generated, second: Generated) -> None:
    """Bit for bit."""
    for name in ("vertices", "faces", "coords", "attributes"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), rtol=0, atol=0)


@pytest.fixture(scope="module")
def expected(tree: Path) -> Generated:
    return run(pipeline(tree))


def test_a_seed_repeats_and_another_differs(tree: Path, expected: Generated) -> None:
    made = pipeline(tree)
    assert_equal(run(made), expected)
    other = run(made, seed=2)
    assert other.coords.shape != expected.coords.shape or not torch.equal(other.coords, expected.coords)


@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_residency_changes_nothing(residency: Residency, tree: Path, expected: Generated) -> None:
    assert_equal(run(pipeline(tree, residency)), expected)


def test_a_pipeline_goes_to_another_device(tree: Path) -> None:
    made = pipeline(tree)
    assert made.to("cpu") is made
    assert made.device.type == "cpu"
    with pytest.raises(UsageError, match="allowed: auto, cpu"):
        made.to("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="no such device"):
            made.to("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("residency", ["resident", "staged", "streamed"])
def test_on_a_graphics_card_it_computes_the_same(residency: Residency, tree: Path, expected: Generated) -> None:
    made = pipeline(tree, residency).to("cuda")
    assert (made.device.type, made.residency, made.precision) == ("cuda", residency, "float32")
    moved = run(made)
    assert moved.vertices.device.type == "cuda"
    assert moved.resolution == expected.resolution


def test_little_memory_to_work_in_changes_rounding_alone(tree: Path, expected: Generated) -> None:
    little = Pixal3DPipeline.from_pretrained(
        tree,
        device="cpu",
        precision="float32",
        offline=True,
        memory=WorkingMemory(rows=2**16, scores=2**20, products=0),
    )
    made = run(little)
    assert torch.equal(made.coords, expected.coords)
    torch.testing.assert_close(made.attributes, expected.attributes, rtol=0, atol=1e-3)
    torch.testing.assert_close(made.vertices, expected.vertices, rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="`scores`"):
        WorkingMemory(rows=1, scores=0, products=0)


def test_what_is_saved_is_what_was_read(tree: Path, expected: Generated, tmp_path: Path) -> None:
    first = pipeline(tree)
    replace(first, settings=replace(first.settings, max_tokens=40000)).save_pretrained(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    again = pipeline(tmp_path / "saved", "streamed")
    assert again.settings == replace(first.settings, max_tokens=40000)
    assert again.files.dino == tmp_path / "saved" / "dinov3" / "model.safetensors"
    assert_equal(run(again), expected)
    for name in ("ckpts/ss_flow.safetensors", "ckpts/tex_dec.json", "naf/model.safetensors"):
        assert (tmp_path / "saved" / name).read_bytes() == (tree / name).read_bytes()
    with pytest.raises(UsageError, match="not empty"):
        first.save_pretrained(tmp_path / "saved")


def test_a_folder_is_saved_whole_or_not_at_all(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, copy = pipeline(tree), shutil.copyfile

    def full(source: Path, target: Path) -> Path:
        if "tex_dec" in target.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return Path(copy(source, target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ResourceError, match="No space left"):
        made.save_pretrained(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def ring(count: int, distance: float) -> list[np.ndarray]:
    """Cameras about the vertical axis, looking at the origin; OpenGL's, in a Z-up world."""
    poses = []
    for angle in np.arange(count) * 2 * np.pi / count:
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        poses.append(turn @ np.array([[1.0, 0, 0, 0], [0, 0, -1, -distance], [0, 1, 0, 0], [0, 0, 0, 1]]))
    return poses


@pytest.fixture(scope="module")
def tree_for_several(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tree, tmp_path_factory.mktemp("several") / "tree")
    (folder / "pipeline.json").rename(folder / "pipeline_mv.json")
    return folder


def test_several_views_go_through_the_networks(tree: Path, tree_for_several: Path, tmp_path: Path) -> None:
    picture = cut_out()[:, 10:130]
    views = [View(picture, pose, FOV) for pose in ring(3, distance_from_fov(FOV))]
    many = Pixal3DPipeline.from_pretrained(
        tree_for_several, pictures="several", device="cpu", precision="float32", offline=True
    )
    made = many.generate_views(views, mesh_scale=1.0, seed=1)
    assert len(made.generated.vertices) == len(made.generated.attributes) > 0
    assert len(made.qualities) == 3
    assert [warning[:6] for warning in made.warnings] == ["view 0", "view 1", "view 2"]  # random weights
    many.save_pretrained(tmp_path / "saved")
    assert read_pipeline(tmp_path / "saved", "several")[0] == many.settings
    with pytest.raises(UsageError, match="pictures='one'"):
        many(one_picture(cut_out()), cameras())
    with pytest.raises(UsageError, match="pictures='several'"):
        pipeline(tree).generate_views(views, mesh_scale=1.0)
    with pytest.raises(WeightsError, match=r"pipeline_mv\.json"):
        Pixal3DPipeline.from_pretrained(tree, pictures="several", device="cpu", offline=True)


def test_an_object_of_several_views_is_seen_in_each_of_them(
    tree_for_several: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A ball off the middle of a world with other units, seen from four sides: its place in the latent cube is known."""
    scale, distance, centre, radius, size = 0.4, 3.1, np.array([0.3, -0.2, 0.25]), 0.5, 80
    first = ring(4, distance)[1]  # the front need not look along the world's axes
    poses = [first, *(pose for number, pose in enumerate(ring(4, distance)) if number != 1)]
    camera = Intrinsics(
        width=size, height=size, fx=focal_pixels(0.9, size), fy=focal_pixels(0.9, size), cx=size / 2, cy=size / 2
    )
    direction = rays(camera) * [1, -1, -1]  # OpenGL's
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    frames = []
    for number, pose in enumerate(poses):
        seen = np.linalg.inv(pose)[:3] @ [*centre, 1]
        mask = seen @ seen - (direction @ seen) ** 2 < radius**2
        rgba = np.dstack([np.full((size, size, 3), 90), 255 * mask]).astype(np.uint8)
        Image.fromarray(rgba).save(tmp_path / f"{number}.png")
        frames.append({"file_path": f"{number}.png", "transform_matrix": pose.tolist()})
    (tmp_path / "transforms.json").write_text(
        json.dumps({"camera_angle_x": 0.9, "mesh_scale": scale, "frames": frames})
    )
    views, read_scale = read_views(tmp_path / "transforms.json")
    assert read_scale == scale

    def cascade(*_: object, **__: object) -> Generated:
        # To the first camera (OpenGL's axes are the latent's), its distance taken off, in cube edges.
        place = (np.linalg.inv(first)[:3] @ [*centre, 1] + [0, 0, distance]) * scale
        mesh = trimesh.creation.icosphere(4, radius=radius * scale)
        vertices = torch.tensor(mesh.vertices + place, dtype=torch.float32)
        nothing = torch.zeros(len(vertices), 6)
        coords = torch.zeros(len(vertices), 3, dtype=torch.int32)
        return Generated(vertices, torch.tensor(mesh.faces, dtype=torch.int32), coords, nothing, 1024)

    monkeypatch.setattr("scenegen.pixal3d.pipeline.generate", cascade)
    many = Pixal3DPipeline.from_pretrained(tree_for_several, pictures="several", device="cpu", offline=True)
    made = many.generate_views(views, mesh_scale=scale)
    assert made.warnings == ()
    assert all(quality.silhouette_iou > 0.95 for quality in made.qualities)
    in_world = transform(made.world_from_latent, made.generated.vertices.numpy().astype(float))
    np.testing.assert_allclose(np.linalg.norm(in_world - centre, axis=1), radius, atol=1e-5)
    swapped = [views[0], views[2], views[1], views[3]]
    wrong = many.generate_views(
        [replace(view, picture=other.picture) for view, other in zip(views, swapped, strict=True)], mesh_scale=scale
    )
    assert [warning[:6] for warning in wrong.warnings] == ["view 1", "view 2"]


def test_views_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    square = View(np.zeros((8, 8, 4), np.uint8), ring(1, 2.0)[0], 0.5)
    for change, message in (
        ({"picture": np.zeros((8, 9, 4), np.uint8)}, "square"),
        ({"world_from_camera": np.diag([2.0, 1, 1, 1])}, "rotation"),
        ({"world_from_camera": np.eye(4)}, "other than the origin"),
        ({"fov": 50.0}, "radians"),
    ):
        with pytest.raises(InputError, match=message):
            cameras_of_views([square, replace(square, **change)], 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="empty"):
        cameras_of_views([], 1.0)
    with pytest.raises(InputError, match="mesh_scale"):
        cameras_of_views([square], 0.0)
    path = tmp_path / "inside" / "transforms.json"
    path.parent.mkdir()
    Image.new("RGBA", (4, 4)).save(tmp_path / "outside.png")
    frame = {"file_path": "../outside.png", "transform_matrix": np.eye(4).tolist()}
    for text in ("{", "[]", "{}", json.dumps({"camera_angle_x": 1, "frames": [frame]})):
        path.write_text(text)
        with pytest.raises(InputError, match="gives no views"):
            read_views(path)


class CancelError(Exception):
    """Raised by who watches."""


@pytest.mark.parametrize("residency", ["staged", "streamed"])
def test_steps_are_told_and_can_cancel_which_frees_the_networks(residency: Residency, tree: Path) -> None:
    made, told, opened = pipeline(tree, residency), [], []

    def networks(name: str) -> AbstractContextManager[Any]:
        context = made.networks(name)

        @contextlib.contextmanager
        def noted() -> Iterator[Any]:
            with context as network:
                opened.append(network)
                yield network

        return noted()

    def on_step(name: str, step: Step) -> None:
        told.append((name, step.done))
        if name == "coarse shape":
            raise CancelError

    with pytest.raises(CancelError):
        replace(made, networks=networks)(one_picture(cut_out()), cameras(), on_step=on_step)
    assert told == [
        ("structure", 1),
        ("structure", 2),
        ("coarse shape", 1),
    ]
    assert len(opened) == 3
    assert all(tensor.is_meta for network in opened for tensor in network.state_dict().values())


def test_a_streamed_block_has_its_weights_only_while_it_runs(tree: Path) -> None:
    made = pipeline(tree, "streamed")
    running = []

    def watch(blocks: torch.nn.ModuleList) -> None:
        def look(*_: object) -> None:
            running.append(sum(not block.state_dict()["norm2.weight"].is_meta for block in blocks))

        for block in blocks:
            block.register_forward_pre_hook(look)

    watch(made.extractor.dino.layer)
    features = made.extractor.encode(torch.rand(1, 1, 3, 160, 160))
    assert running == [1, 1]
    running.clear()
    with made.networks("sparse_structure_flow_model") as flow:
        assert not flow.input_layer.weight.is_meta
        watch(flow.blocks)
        x = torch.randn(1, flow.in_channels, 16, 16, 16)
        flow(x, torch.tensor([500.0]), features.global_tokens, torch.zeros(1, 16**3, 32))
    assert running == [1, 1, 1]
    assert all(tensor.is_meta for tensor in flow.state_dict().values())


def test_a_failing_block_leaves_a_streamed_network_usable(tree: Path) -> None:
    with pipeline(tree, "streamed").networks("sparse_structure_flow_model") as flow:
        inputs = (torch.randn(1, 8, 16, 16, 16), torch.tensor([1.0]), torch.zeros(1, 5, 32), torch.zeros(1, 16**3, 32))
        exact = flow(*inputs)

        def fail(*_: object) -> None:
            raise CancelError

        handle = flow.blocks[1].mlp.register_forward_pre_hook(fail)
        with pytest.raises(CancelError):
            flow(*inputs)
        handle.remove()
        assert torch.equal(flow(*inputs), exact)


def test_half_precision_is_streamed_as_it_is_staged(tree: Path) -> None:
    inputs = (torch.randn(1, 8, 16, 16, 16), torch.tensor([1.0]), torch.randn(1, 5, 32), torch.randn(1, 16**3, 32))
    results = []
    for residency in ("staged", "streamed"):
        made = Pixal3DPipeline.from_pretrained(tree, device="cpu", residency=residency)  # type: ignore[arg-type]
        with made.networks("sparse_structure_flow_model") as flow:
            assert flow.blocks[0].mlp.mlp[0].weight.dtype == torch.bfloat16
            results.append(flow(*inputs))
    assert torch.equal(*results)


def test_what_each_stage_took_is_told(expected: Generated) -> None:
    assert [usage.stage for usage in expected.usage] == ["structure", "coarse shape", "fine shape", "texture", "decode"]
    assert all(usage.seconds > 0 and usage.peak_of == "process so far" for usage in expected.usage)
    peaks = [usage.peak_bytes for usage in expected.usage]
    assert 2**20 < peaks[0] <= peaks[-1] <= resident_peak()


def test_a_size_that_cannot_be_is_refused_before_the_work(tree: Path) -> None:
    made = pipeline(tree)

    def networks(name: str) -> AbstractContextManager[Any]:
        raise AssertionError(f"{name} was asked for")

    with pytest.raises(UsageError, match="`resolution`"):
        replace(made, networks=networks)(one_picture(cut_out()), cameras(), resolution=900)


def test_settings_come_from_the_file(tree: Path) -> None:
    settings, stems = read_pipeline(tree)
    assert settings.structure_sampler.steps == 2
    assert settings.texture_sampler.guidance_interval == (0.6, 0.9)
    assert stems["shape_slat_decoder"] == (tree / "ckpts" / "shape_dec").resolve()


def test_normalisation_goes_both_ways() -> None:
    latent = torch.randn(5, 32)
    torch.testing.assert_close(SHAPE_NORMALISATION.apply(SHAPE_NORMALISATION.undo(latent)), latent)


def test_broken_folders_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a readable pipeline"):
        read_pipeline(tmp_path)
    content = json.loads((tree / "pipeline.json").read_text())
    content["args"]["models"]["tex_slat_decoder"] = "../../elsewhere"
    (tmp_path / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="outside its folder"):
        read_pipeline(tmp_path)
    del content["args"]["models"]["tex_slat_decoder"]
    (tmp_path / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="does not name tex_slat_decoder"):
        read_pipeline(tmp_path)
    (tmp_path / "pipeline.json").write_text((tree / "pipeline.json").read_text())
    with pytest.raises(WeightsError, match=r"ss_flow\.json is missing"):
        Pixal3DPipeline.from_pretrained(tmp_path, dino=tree / DINO_WEIGHTS, naf=tree / NAF_WEIGHTS, device="cpu")


def test_another_checkpoint_is_refused_when_the_pipeline_is_opened(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree")
    path = tmp_path / "tree" / "ckpts" / "tex_1024.safetensors"
    state = load_file(path)
    state["blocks.2.modulatoin"] = state.pop("blocks.2.modulation")
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"missing \(blocks\.2\.modulation\).*unexpected \(blocks\.2\.modulatoin\)"):
        pipeline(tmp_path / "tree")


def test_offline_what_is_missing_is_said_at_once(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(download, "urlopen", no_network)
    with pytest.raises(WeightsError, match=r"`pixal3d` are absent.*`naf` are absent.*models fetch.*offline"):
        Pixal3DPipeline.from_pretrained(device="cpu", offline=True, models=tmp_path)
    bare = shutil.copytree(tree, tmp_path / "bare", ignore=shutil.ignore_patterns("dinov3"))
    with pytest.raises(WeightsError, match=r"`dinov3-vitl16` are absent.*fetch dinov3-vitl16`"):
        Pixal3DPipeline.from_pretrained(bare, device="cpu", offline=True, models=tmp_path)
    with pytest.raises(WeightsError, match="neither a folder nor a known repository"):
        Pixal3DPipeline.from_pretrained("somebody/else", device="cpu", offline=True, models=tmp_path)
    with pytest.raises(WeightsError, match=r"holds no pipeline\.json"):
        Pixal3DPipeline.from_pretrained(tmp_path, device="cpu", offline=True)
    with pytest.raises(UsageError, match="`revision`"):
        Pixal3DPipeline.from_pretrained(tree, revision="main", device="cpu", offline=True)


def test_another_revision_is_an_explicit_choice(
    tree: Path, expected: Generated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The repository at another revision, as the cache has it once it was fetched without digests."""
    names = [path.relative_to(tree).as_posix() for path in sorted(tree.glob("*.json")) + sorted(tree.glob("ckpts/*"))]
    model = replace(MODELS["pixal3d"], files=tuple(ModelFile(name, None, 1, "0" * 64) for name in names))
    monkeypatch.setitem(MODELS, "pixal3d", model)  # type: ignore[index]
    fetch("pixal3d@v2", Runtime(offline=True, models=tmp_path), source=tree)
    made = Pixal3DPipeline.from_pretrained(
        "TencentARC/Pixal3D",
        revision="v2",
        dino=tree / DINO_WEIGHTS,
        naf=tree / NAF_WEIGHTS,
        device="cpu",
        precision="float32",
        offline=True,
        models=tmp_path,
    )
    assert made.files.folder == tmp_path / "pixal3d@v2"
    assert "revision v2" in caplog.text
    assert "not checked" in caplog.text
    assert_equal(run(made), expected)
    with pytest.raises(WeightsError, match=r"instead of 1;|but 1 bytes"):
        fetch("pixal3d", Runtime(offline=True, models=tmp_path), source=tree)
    for revision in ("../other", "a/b", ""):
        with pytest.raises(UsageError, match="after the @"):
            Pixal3DPipeline.from_pretrained(revision=revision, device="cpu", offline=True, models=tmp_path)


def test_nothing_generated_is_said(tree: Path) -> None:
    made = pipeline(tree)

    class Empty(torch.nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            return -torch.ones(1, 1, 64, 64, 64)

    def networks(name: str) -> AbstractContextManager[Any]:
        return contextlib.nullcontext(Empty()) if name == "sparse_structure_decoder" else made.networks(name)

    with pytest.raises(InputError, match="nothing was generated"):
        replace(made, networks=networks)(one_picture(cut_out()), cameras())


# --- from a crop ------------------------------------------------------------------------------------------------------

SIZE = 96
FOCAL = 0.8
CROP = Intrinsics(width=SIZE, height=SIZE, fx=FOCAL * SIZE, fy=FOCAL * SIZE, cx=SIZE / 2, cy=SIZE / 2)
CROP_FOV = fov_from_focal(FOCAL)
PLACE, RADIUS = np.array([0.1, 0.06, 0.2]), 0.22
"""A ball off the middle, in the latent frame; near the camera, where the field of view shows in its size."""


def planted() -> Generated:
    mesh = trimesh.creation.icosphere(4, radius=RADIUS)
    vertices = torch.tensor(mesh.vertices + PLACE, dtype=torch.float32)
    nothing = torch.zeros(len(vertices), 6)
    coords = torch.zeros(len(vertices), 3, dtype=torch.int32)
    return Generated(vertices, torch.tensor(mesh.faces, dtype=torch.int32), coords, nothing, 1024, ("a warning",))


def silhouette(camera: Intrinsics, latent_camera: Intrinsics | None = None) -> np.ndarray:
    """The ball in the crop's pixels, in closed form: rays that pass its centre closer than its radius."""
    centre = transform(crop_from_latent(latent_camera or camera), PLACE)
    direction = rays(latent_camera or camera)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return centre @ centre - (direction @ centre) ** 2 < RADIUS**2


def picture(mask: np.ndarray) -> np.ndarray:
    """Bright surroundings, and a gradient on the object."""
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    image[mask] = (np.indices((SIZE, SIZE)).sum(0)[mask] % 200)[:, None]
    return image


@pytest.fixture
def planting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """In place of the cascade: the ball, which belongs to a field of view 0.8 times the crop's where `wrong` is set."""
    seen: list[tuple[int, float]] = []

    def cascade(
        networks: object, extractor: object, images: Images, cameras: Cameras, *_: object, **told: Any
    ) -> Generated:
        fov = float(cameras.fov[0, 0])
        seen.append((told["seed"], fov))
        assert float(-cameras.world_from_camera[0, 0, 1, 3]) == pytest.approx(distance_from_fov(fov), rel=1e-5)
        for size in (64, SIZE):
            framed = images(size)
            assert framed.shape == (1, 1, 3, size, size)
            shown = framed[0, 0].amax(dim=0).numpy() > 0.02
            true = np.array(Image.fromarray(silhouette(CROP)).resize((size, size), Image.Resampling.BILINEAR))
            assert intersection_over_union(shown, true) > 0.5  # framed as it is, on black
        return planted()

    monkeypatch.setattr("scenegen.pixal3d.pipeline.generate", cascade)
    return seen


def test_the_object_lands_on_the_pixels_of_its_crop(tree: Path, planting: list[tuple[int, float]]) -> None:
    mask = silhouette(CROP)
    made = pipeline(tree).generate(picture(mask), mask.astype(np.float32), CROP, seed=5)
    assert planting == [(5, pytest.approx(CROP_FOV, rel=1e-6))]
    assert made.quality.good
    assert made.warnings == ("a warning",)
    np.testing.assert_allclose(made.crop_from_latent, crop_from_latent(CROP), atol=1e-9)
    assert rendered(made) > 0.97


def test_with_another_field_of_view_it_still_lands_on_the_pixels(tree: Path, planting: list[tuple[int, float]]) -> None:
    """The mask is the ball's through 0.8 of the field of view; in the crop's own camera it would be too small."""
    really = CROP.model_copy(
        update={"fx": focal_pixels(0.8 * CROP_FOV, SIZE), "fy": focal_pixels(0.8 * CROP_FOV, SIZE)}
    )
    mask = silhouette(CROP, latent_camera=really)
    made = pipeline(tree).generate(picture(mask), mask.astype(np.float32), CROP, seed=5)
    assert [seed for seed, _ in planting] == [5, 5 + SEED_STEP, 5]
    assert made.fov == pytest.approx(0.8 * CROP_FOV, rel=1e-6)
    assert made.quality.good
    assert "rescaled" in made.warnings[-1]
    assert rendered(made, mask) > 0.97


def rendered(made: GeneratedObject, mask: np.ndarray | None = None) -> float:
    """IoU of the object, seen by the crop's own camera, with its mask."""
    directions = rays(CROP).reshape(-1, 3)
    hits = RayCaster(made.vertices, made.generated.faces.numpy()).cast(np.zeros_like(directions), directions)
    seen = (hits.triangle >= 0).reshape(SIZE, SIZE)
    return intersection_over_union(seen, silhouette(CROP) if mask is None else mask)


def test_a_crop_goes_through_the_networks(tree: Path) -> None:
    mask = silhouette(CROP)
    made = pipeline(tree).generate(picture(mask), mask.astype(np.float32), CROP, seed=1, attempts=1)
    assert len(made.usage) == 5
    assert made.vertices.shape == made.generated.vertices.shape
    assert not made.quality.good  # random weights
    assert "does not pass" in made.warnings[-1]


def test_crops_that_do_not_fit_together_are_refused(tree: Path) -> None:
    made, mask = pipeline(tree), silhouette(CROP).astype(np.float32)
    image = picture(mask > 0)
    with pytest.raises(InputError, match="`mask` has no pixel"):
        made.generate(image, mask * 0.4, CROP)
    with pytest.raises(UsageError, match="one square crop"):
        made.generate(image, mask, CROP.model_copy(update={"width": 2 * SIZE}))
    with pytest.raises(UsageError, match="principal point"):
        made.generate(image, mask, CROP.model_copy(update={"cx": 40.0}))
