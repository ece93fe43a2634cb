"""Which photos, and which files beside them, make one scene."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenegen.cli import commands
from scenegen.cli.commands import main
from scenegen.errors import EXIT_PARTIAL, InputError, UsageError
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import Inputs, entries_of, holds_scenes, views_of


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_each_photo_gets_its_files_and_all_share_the_cameras(tmp_path: Path) -> None:
    photos = touched(tmp_path, "a.jpg", "b.jpg")
    touched(tmp_path / "masks", "a.png", "b.png")
    (cameras,) = touched(tmp_path, "transforms.json")
    found = views_of(photos, "", InputOptions(masks=tmp_path / "masks", camera=cameras))
    assert found.folder == "a"
    assert [each.name for each in (found, *found.others)] == ["a", "b"]
    assert [each.masks for each in (found, *found.others)] == [
        (tmp_path / "masks" / "a.png",),
        (tmp_path / "masks" / "b.png",),
    ]
    assert {each.camera for each in (found, *found.others)} == {(cameras,)}


def test_names_are_safe_and_of_the_scene(tmp_path: Path) -> None:
    photos = [*touched(tmp_path / "x", "a.jpg"), *touched(tmp_path / "y", "a.jpg")]
    found = views_of(photos, "a/desk", InputOptions())
    assert (found.folder, found.name, found.others[0].name) == ("a_desk", "a", "a-2")


def test_one_photo_and_meshes_are_refused(tmp_path: Path) -> None:
    photos = touched(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(UsageError, match="at least two photos"):
        views_of(photos[:1], "", InputOptions())
    with pytest.raises(UsageError, match="drop --meshes"):
        views_of(photos, "", InputOptions(meshes=tmp_path))


def test_a_folder_of_folders_holds_a_scene_each(tmp_path: Path) -> None:
    touched(tmp_path / "all" / "desk", "1.jpg", "2.jpg")
    touched(tmp_path / "all" / "bench", "1.jpg", "2.jpg")
    touched(tmp_path / "all" / "notes", "readme.txt")
    assert holds_scenes([str(tmp_path / "all")])
    assert not holds_scenes([str(tmp_path / "all" / "desk")])
    assert not holds_scenes(["a.jpg", "b.jpg"])
    (cameras,) = touched(tmp_path / "cameras", "desk.json")
    given = InputOptions(camera=tmp_path / "cameras")
    assert entries_of(given, tmp_path / "all" / "desk").camera == cameras
    with pytest.raises(InputError, match="one entry named bench"):
        entries_of(given, tmp_path / "all" / "bench")


def test_each_folder_of_a_folder_is_made_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error for each that cannot be, an exit code, and folders of different names on every file system."""
    for scene in ("desk", "Desk", "shelf"):
        touched(tmp_path / "all" / scene, "1.jpg", "2.jpg")
    touched(tmp_path / "all" / "alone", "1.jpg")
    for scene in ("desk", "Desk", "alone"):
        touched(tmp_path / "cameras", f"{scene}.json")
    made: list[Inputs] = []
    monkeypatch.setattr(commands, "_make_scenes", lambda todo, *given: made.extend(todo) or [0])
    words = ["views", str(tmp_path / "all"), "-o", str(tmp_path / "out"), "--camera", str(tmp_path / "cameras")]
    assert main([*words, "-q"]) == EXIT_PARTIAL
    assert [each.folder for each in made] == ["Desk", "desk-2"]
    assert {each.photo.parent.name: each.camera[0].stem for each in made} == {"Desk": "Desk", "desk": "desk"}
    assert main([*words, "-q", "--name", "one"]) == UsageError.exit_code
