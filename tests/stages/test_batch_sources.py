"""`scenegen batch` over lists and folders that hold more than photos: each fault is a row, and the batch goes on."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenegen.cli import commands
from scenegen.errors import UsageError
from scenegen.inputs.sources import Item, list_photos
from stages import batch
from stages.batch import Job, Row, run_item


@pytest.fixture(autouse=True)
def _in_this_process(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are in this process only."""

    def run_items(items: Any, job: Job, workers: int, timeout_s: float) -> Any:
        yield from (run_item(item, job) for item in items)

    monkeypatch.setattr(batch, "run_items", run_items)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def command(*words: str | Path) -> int:
    return commands.main(["batch", *map(str, words)])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "batch.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lines_of_a_list_that_are_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenegen.store.store.MAX_INPUT_BYTES", 1000)
    (tmp_path / "good.jpg").write_text("picture")
    (tmp_path / "large.jpg").write_text("x" * 1001)
    os.mkfifo(tmp_path / "pipe.jpg")
    lines = [
        "\ufeffnul\0.jpg",
        "pipe.jpg",
        "/dev/zero",
        "large.jpg",
        ".",
        f"{'x' * 300}.jpg",
        "https://[torn/x.jpg",
        "file://[torn/x.jpg",
        "nope://x.jpg",
        "good.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert command(tmp_path / "list.txt", "-o", tmp_path / "out") == 6
    table = rows(tmp_path / "out")
    assert [row["state"] for row in table] == ["failed"] * 9 + ["complete"]
    assert "embedded null byte" in table[0]["error"]
    for row in table[1:5]:
        assert "must be a file of at most 1000 bytes" in row["error"]
    assert "File name too long" in table[5]["error"]
    stored = json.loads((tmp_path / "out" / "batch.json").read_text())["rows"]
    assert not [row for row in stored if row["exit_code"] == 1]
    assert command(tmp_path / "list.txt", "-o", tmp_path / "out", "--missing") == 6


def test_a_list_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UsageError, match="must be a file"):
        list_photos(str(tmp_path / "list.txt"))


def test_files_that_are_skipped_are_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jpg", "b.psd", "notes.md"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text(name)
    assert command(tmp_path / "photos", "-o", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert "b.psd, notes.md" in captured.err
    assert captured.out.endswith("1 photo: 1 complete; 2 files skipped\n")
    table = rows(tmp_path / "out")
    assert [(Path(row["image"]).name, row["state"]) for row in table] == [
        ("a.jpg", "complete"),
        ("b.psd", "skipped"),
        ("notes.md", "skipped"),
    ]
    assert all("not named like a picture" in row["error"] for row in table[1:])
    assert (tmp_path / "out" / "batch.html").read_text().count("notes.md") == 1


def test_an_unreadable_folder_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "locked").mkdir(parents=True)
    (tmp_path / "photos" / "a.jpg").write_text("picture")
    plain = os.scandir

    def scandir(folder: Any) -> Any:
        if not isinstance(folder, int) and Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(folder)

    monkeypatch.setattr("os.scandir", scandir)
    assert command(tmp_path / "photos" / "**" / "*.jpg", "-o", tmp_path / "out") == 6
    assert [row["state"] for row in rows(tmp_path / "out")] == ["complete", "failed"]
    assert command(tmp_path / "photos" / "locked", "-o", tmp_path / "other") == 3
    assert commands.main([str(tmp_path / "photos" / "locked"), "-o", str(tmp_path / "third")]) == 3


@pytest.fixture
def _no_connection_stays() -> Iterator[None]:
    """fsspec keeps file systems with the credentials they were made with."""
    import s3fs

    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("_no_connection_stays")
def test_a_secret_in_a_list_is_in_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """botocore quotes the name of a bucket, which s3fs takes to reach up to the first slash."""
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLE"
    (tmp_path / "list.txt").write_text(
        f"s3://AKIDHUSHHUSHHUSHHUSH:{secret}@bucket/x.jpg\ns3://AKIDHUSHHUSHHUSHHUSH:{secret}@bucket\n"
    )
    assert command(tmp_path / "list.txt", "-o", tmp_path / "out", "-v") == 5
    captured = capsys.readouterr()
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 5
    for text in (captured.out, captured.err, *(path.read_text() for path in written), *map(str, written)):
        for part in (secret, secret.split("/")[1], "AKIDHUSHHUSHHUSHHUSH"):
            assert part not in text


def test_rows_are_redacted_whole() -> None:
    row = Row(image="s3://KEY:SEC RET@bucket/x.jpg", name="x", state="failed", config_sha256="0")
    assert row.image == "s3://***@bucket/x.jpg"
    assert Item(image="s3://KEY:SEC RET@bucket/x.jpg", name="x").image.endswith("x.jpg")
