"""The whole way from several photos to one scene, by the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trimesh
from pxr import Usd, UsdGeom

import scenegen
from scenegen.camera import rays
from scenegen.cli.commands import main
from scenegen.compute.runtime import Runtime
from scenegen.edits.steps import FloorEdit, LengthEdit, MeshEdit
from scenegen.export.glb import read_glb
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.geometry.generator import USER_MESH
from scenegen.records import RemoveEdit
from scenegen.scene.graph import from_json
from stages.replay import read_edits, write_edits
from stages.run import open_store
from studio.making import Choice, Choices, make_candidates
from tests.views.photographed import BOXES, Photographed, looking, photograph, write_photographs

pytestmark = pytest.mark.slow  # each makes objects with the embedded networks
FAST = ("generate.steps=2", "texture.size=64", "export.usdz=false", "report.picture_side=128")
ANGLES = (0, 20, 40)


def views(folder: Path, photos: list[str], *words: str) -> int:
    files = [str(folder / "shots" / name) for name in photos]
    settings = [word for setting in FAST for word in ("--set", setting)]
    given = ["--masks", str(folder / "masks"), "--depth", str(folder / "depth")]
    return main(["views", *files, "-o", str(folder / "out"), "--name", "table", "-q", *given, *settings, *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, Manifest]:
    """The scene of two photos, and that of a third and of a mirrored one too."""
    folder = tmp_path_factory.mktemp("views")
    photos = photograph([looking(angle) for angle in ANGLES], size=(320, 240), boxes=BOXES[:2])
    mirrored = Photographed(
        photos[0].camera, photos[0].camera_from_world, photos[0].image[:, ::-1], photos[0].ids[:, ::-1], photos[0].depth
    )
    write_photographs(folder, [*photos, mirrored])
    cameras = ("--camera", str(folder / "transforms.json"))
    assert views(folder, ["v0.png", "v1.png"], *cameras) == 0
    two = read_manifest(folder / "out" / "table")
    assert views(folder, ["v0.png", "v1.png", "v2.png", "v3.png"], *cameras) == 6
    return folder, two, read_manifest(folder / "out" / "table")


def test_objects_agree_with_every_photo_in_metres(made: tuple[Path, Manifest, Manifest]) -> None:
    _, two, more = made
    assert [photo.source.name for photo in two.others] == ["v1"]
    assert [item.id for item in more.objects] == [1, 2]
    for item in more.objects:
        assert [view.photo for view in item.views] == ["v0", "v1", "v2"]
        assert min(view.scores.silhouette_iou for view in item.views) > 0.8
    cameras = read_glb(made[0] / "out" / "table" / "scene.glb")
    apart = np.linalg.norm(cameras.cameras[0].world_from_camera[:3, 3] - cameras.world_from_camera[:3, 3])
    true = [looking(angle) for angle in ANGLES]
    assert apart == pytest.approx(np.linalg.norm((np.linalg.inv(true[0]) - np.linalg.inv(true[1]))[:3, 3]), rel=0.01)


def test_a_photo_that_repeats_another_is_left_out_and_said(made: tuple[Path, Manifest, Manifest]) -> None:
    folder, two, more = made
    assert two.failures == ()
    assert [failure.error for failure in more.failures] == ["photo v3 is v0, mirrored"]
    assert more.state == "partial"
    assert "v0, mirrored" in (folder / "out" / "table" / "report.html").read_text()


def test_every_file_has_every_camera_and_says_who_shows_what(made: tuple[Path, Manifest, Manifest]) -> None:
    folder, _, _ = made
    out = folder / "out" / "table"
    assert [camera.photo for camera in read_glb(out / "scene.glb").cameras] == ["v1", "v2"]
    stage = Usd.Stage.Open(str(out / "scene.usd"))
    assert [prim.GetName() for prim in stage.Traverse() if prim.IsA(UsdGeom.Camera)] == [
        "camera",
        "camera_2",
        "camera_3",
    ]
    graph = from_json((out / "scene_graph.json").read_text())
    shown = {(a, b) for a, b, data in graph.edges(data=True) if "shows" in data["relations"]}
    assert shown == {(a, b) for a in ("camera", "camera_2", "camera_3") for b in graph if b.startswith("obj_")}


def test_an_added_photo_leaves_what_was_perceived_as_it_is(made: tuple[Path, Manifest, Manifest]) -> None:
    _, two, more = made
    kept = {(entry.stage, entry.key) for entry in two.stages} & {(entry.stage, entry.key) for entry in more.stages}
    assert Counter(stage for stage, _ in kept) >= Counter({"read": 2, "segment": 2, "depth": 2})


def test_one_object_is_made_again_and_the_other_stays(made: tuple[Path, Manifest, Manifest]) -> None:
    folder, _, more = made
    assert main(["regenerate", str(folder / "out" / "table"), "--object", "1", "--seed", "5", "-q"]) == 6
    again = read_manifest(folder / "out" / "table")
    assert [item.seed for item in again.objects] == [5, 0]
    assert again.objects[1].mesh.sha256 == more.objects[1].mesh.sha256


def test_from_python_the_same_scene_comes_out(made: tuple[Path, Manifest, Manifest]) -> None:
    folder, two, _ = made
    scene = scenegen.make_views(
        [folder / "shots" / "v0.png", folder / "shots" / "v1.png"],
        name="table",
        masks=folder / "masks",
        depth=folder / "depth",
        camera=folder / "transforms.json",
        set=FAST,
    )
    assert (scene.name, scene.manifest.objects) == ("table", two.objects)
    saved = scene.save(folder / "saved")
    assert [camera.photo for camera in read_glb(saved / "scene.glb").cameras] == ["v1"]


def apart(folder: Path) -> float:
    """How far the second camera is from the first."""
    scene = read_glb(folder / "scene.glb")
    return float(np.linalg.norm((scene.cameras[0].world_from_camera - scene.world_from_camera)[:3, 3]))


def test_what_is_edited_in_the_first_photo_holds_in_all(made: tuple[Path, Manifest, Manifest], tmp_path: Path) -> None:
    folder = made[0] / "out" / "table"
    store, before = open_store(folder.parent), apart(folder)
    found = make_candidates(folder, Choices(object=1, choices=(Choice(seed=6),)), Runtime(), 1)
    assert found.items[0].picture is not None
    (tmp_path / "box.glb").write_bytes(trimesh.creation.box().export(file_type="glb"))
    ends = (60, 230), (260, 230)  # on the table, where the depth is true
    edits = read_edits(folder, store)
    for step in (
        RemoveEdit(object=2, shows="background"),
        MeshEdit(object=1, mesh=store.ingest(tmp_path / "box.glb")),
        FloorEdit(at=ends[0]),
        LengthEdit(start=ends[0], end=ends[1], metres=1.0),
    ):
        edits = edits.after(step)
    write_edits(folder, store, edits, 0)
    assert main(["replay", str(folder), "-q"]) == 6
    after = read_manifest(folder)
    assert [(item.id, item.backend) for item in after.objects] == [(1, USER_MESH)]
    assert after.metres is not None
    assert after.metres.source == "known length"
    # The cameras are as far apart as that length says.
    (first,) = photograph([looking(ANGLES[0])], size=(320, 240), boxes=BOXES[:2])
    directions = rays(first.camera, np.array(ends, float))
    points = [first.depth[v, u] * direction for (u, v), direction in zip(ends, directions, strict=True)]
    true = float(np.linalg.norm(points[1] - points[0]))
    assert apart(folder) == pytest.approx(before / true, rel=0.02)


def test_a_generator_for_one_view_is_refused(made: tuple[Path, Manifest, Manifest]) -> None:
    assert views(made[0], ["v0.png", "v1.png"], "--set", "generate=inflate") == 2
    assert views(made[0], ["v0.png"]) == 2
