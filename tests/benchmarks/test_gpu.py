"""`benchmarks/gpu.py`: what is carried to the machine and back arrives whole."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks import card, gpu
from benchmarks.gpu import copy_parts, join, make_archive, wanted


@pytest.mark.parametrize("length", [0, 1, 10, 11, 123])
def test_parts_joined_are_the_file(length: int, tmp_path: Path) -> None:
    """More than ten parts as well."""
    content = bytes(index % 251 for index in range(length))
    weights = tmp_path / "generator.safetensors"
    weights.write_bytes(content)
    out = tmp_path / "out"
    out.mkdir()
    copy_parts(weights, out, weights.name, 10)
    assert not (out / "partial").exists()
    parts = sorted(out.iterdir())
    assert len(parts) == -(-length // 10)
    assert all(part.stat().st_size <= 10 for part in parts)
    join(out)
    if length:
        assert (out / weights.name).read_bytes() == content
    assert not (out / "perception.safetensors").exists()


def test_newer_parts_replace_older_ones(tmp_path: Path) -> None:
    weights = tmp_path / "perception.safetensors"
    for content in (b"a" * 35, b"b" * 35):
        weights.write_bytes(content)
        copy_parts(weights, tmp_path, weights.name, 10)
    join(tmp_path)
    assert weights.read_bytes() == b"b" * 35


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        ("scenegen/train/pool.py", True),
        ("scenegen/weights/weights.sha256", True),
        ("scenegen/train/__pycache__/pool.cpython-311.pyc", False),
        ("scenegen/weights/generator.safetensors", False),
    ],
)
def test_neither_weights_nor_what_is_compiled_is_carried(name: str, carried: bool) -> None:
    entry = tarfile.TarInfo(name)
    assert wanted(entry) == (entry if carried else None)


def test_the_archive_holds_code_data_and_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder_of(name: str, file: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / file).write_bytes(b"content of " + file.encode())
        return folder

    def trunk(folder: Path) -> None:
        folder.mkdir()
        (folder / "trunk.pth").touch()

    root = folder_of("root", "README")
    monkeypatch.setattr(gpu, "ROOT", root)
    monkeypatch.setattr(gpu, "CODE", ("code",))
    (root / "code").mkdir()
    (root / "code" / "module.py").touch()
    (root / "code" / "weights.safetensors").touch()
    monkeypatch.setattr(gpu, "CARRIED", 40)
    monkeypatch.setattr(gpu, "pack_trunk", trunk)
    packed = folder_of("packed", "file.zip") / "file.zip"
    options = argparse.Namespace(
        photographs=packed,
        scenes=packed,
        meshes=packed,
        golden=None,
        wheels=folder_of("wheels", "one.whl"),
        out=tmp_path / "out" / "PACK",
    )
    assert make_archive(options) == 0
    parts = sorted((tmp_path / "out").glob("PACK.??"))
    assert len(parts) > 10
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(whole) as archive:
        names = {entry.name for entry in archive if entry.isfile()}
        assert names == {
            "code/module.py", "data/photographs.zip", "data/scenes.zip", "data/meshes.bin", "data/trunk/trunk.pth",
            "wheels/one.whl",
        }  # fmt: skip
        photographs = archive.extractfile("data/photographs.zip")
        assert photographs is not None
        assert photographs.read() == packed.read_bytes()


def test_an_archive_to_measure_with_holds_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("code", "wheels", "golden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "CODE", ("code",))
    words = ["gpu.py", "pack", "--wheels", str(tmp_path / "wheels"), "--golden", str(tmp_path / "golden")]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "out" / "PACK")])
    assert gpu.main() == 0
    with tarfile.open(tmp_path / "out" / "PACK.00") as archive:
        assert {entry.name for entry in archive if entry.isfile()} == {"code/file", "wheels/file", "golden/file"}


@pytest.mark.slow
def test_the_command_joins(tmp_path: Path) -> None:
    weights = tmp_path / "perception.safetensors"
    weights.write_bytes(b"0123456789")
    copy_parts(weights, tmp_path, weights.name, 4)
    weights.unlink()
    subprocess.run([sys.executable, gpu.__file__, "join", tmp_path], check=True, capture_output=True)
    assert weights.read_bytes() == b"0123456789"


@pytest.mark.slow  # every step of the script, the cascade twice
def test_a_dry_run_measures_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, at sizes that say nothing."""
    words = ["gpu.py", "measure", "--minutes", "9", "--out", str(tmp_path), "--device", "cpu", "--tiny"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setenv("PYTHONPATH", "")
    assert gpu.main() == 0
    found = json.loads((tmp_path / "card.json").read_text())
    assert list(found) == ["machine", *gpu.LIMITS_S]
    assert {name: entry for name, entry in found.items() if "failed" in entry} == {}
    assert found["cascade"]["equal bytes"]
    assert set(found["cascade"]["stages"]) == {"structure", "coarse shape", "fine shape", "texture", "decode"}
    assert all(entry["closed"] for name, entry in found["cpu_stages"].items() if name != "took")


def test_every_step_has_a_limit() -> None:
    assert set(gpu.LIMITS_S) == set(card.STEPS)
