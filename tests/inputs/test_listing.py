"""Each photo once, whatever links lead where; what is left out is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scenegen.errors import UsageError
from scenegen.inputs.listing import NO_FILE, NO_PICTURE, Found, Skipped, find_photos, log_skipped


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "c.webp", "sub/d.jpg", "sub/deep/e.jpg", ".hidden/f.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of folders that nobody may read, whoever runs the tests."""
    names: list[str] = []
    plain = os.scandir

    def scandir(folder: Any) -> Any:
        if not isinstance(folder, int) and Path(folder).name in names:
            raise PermissionError(13, "Permission denied")
        return plain(folder)

    monkeypatch.setattr("os.scandir", scandir)
    return names


def found(*words: str | Path) -> Found:
    return find_photos([str(word) for word in words])


def names(*words: str | Path) -> list[str]:
    return [path.name for path in found(*words).photos]


def test_what_words_mean(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(album) == ["a.JPG", "b.png", "c.webp"]
    assert names(album / "*.png", album / "missing.jpg") == ["b.png", "missing.jpg"]
    assert names(album / "**" / "*.jpg") == ["d.jpg", "e.jpg"]
    assert names(album / "**" / "deep" / "*") == ["e.jpg"]
    assert names(album / "s*" / "d.jpg") == ["d.jpg"]
    assert names(album / ".h*" / "**") == ["f.jpg"]
    assert names(album / "c.webp", album) == ["c.webp", "a.JPG", "b.png"]
    assert names(album / "notes.txt") == ["notes.txt"]  # named by the user: reading it will tell
    (album / "x[1].jpg").touch()
    assert names(album / "x[1].jpg") == ["x[1].jpg"]
    with pytest.raises(UsageError, match="matches no file"):
        found(album / "*.xcf")
    (album / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        found(album / "empty")
    monkeypatch.chdir(album)
    assert names("sub/../*.png", "**/d.jpg") == ["b.png", "d.jpg"]


def test_links_that_lead_back(album: Path) -> None:
    """One made 40 copies of every photo, two never ended."""
    (album / "loop").symlink_to(album)
    (album / "sub" / "up").symlink_to(album)
    (album / "a-link").symlink_to(album / "sub")
    (album / "self").symlink_to(album / "self")
    assert found(album / "**" / "*.jpg").photos == (album / "sub" / "d.jpg", album / "sub" / "deep" / "e.jpg")
    assert found(album / "**" / "deep" / "**" / "*.jpg").photos == (album / "sub" / "deep" / "e.jpg",)
    (album / "away.jpg").symlink_to(album / "sub" / "d.jpg")
    assert names(album / "**" / "*.jpg") == ["away.jpg", "d.jpg", "e.jpg"]  # a link to a photo is a photo


def test_what_is_skipped_is_named(album: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(album / "pipe.jpg")
    (album / "gone.png").symlink_to(album / "nowhere")
    (album / "x.xcf").touch()
    skipped = found(album).skipped
    assert skipped == tuple(
        Skipped(str(album / name), reason)
        for name, reason in (
            ("gone.png", NO_FILE),
            ("notes.txt", NO_PICTURE),
            ("pipe.jpg", NO_FILE),
            ("x.xcf", NO_PICTURE),
        )
    )
    log_skipped(skipped)
    assert f"{album}: 2 skipped, {NO_PICTURE}: notes.txt, x.xcf" in caplog.text
    assert f"{album}: 2 skipped, {NO_FILE}: gone.png, pipe.jpg" in caplog.text
    assert found(album / "*.png", album).skipped == skipped  # each once


def test_folders_that_cannot_be_read(album: Path, locked: list[str], caplog: pytest.LogCaptureFixture) -> None:
    locked.append("sub")
    pattern = found(album / "**" / "*.jpg", album / "a.JPG")
    assert pattern.photos == (album / "a.JPG",)
    assert pattern.skipped == (Skipped(str(album / "sub"), "cannot be read: Permission denied.", failed=True),)
    alone = found(album / "sub")
    assert (alone.photos, alone.skipped) == ((), pattern.skipped)
    log_skipped(alone.skipped)
    assert f"{album / 'sub'} cannot be read: Permission denied." in caplog.text
