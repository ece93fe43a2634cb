"""What can be known before any work is said before any work, without the packages that take seconds to import."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scenegen.cli import commands
from scenegen.compute import devices
from scenegen.compute.runtime import Runtime
from scenegen.errors import InputError, ResourceError, UsageError, WeightsError
from scenegen.store.destination import MAX_PATH, check_folder

ALL_AT_ONCE = """
import json, sys, time
from scenegen.cli.commands import main

for words in json.loads(sys.argv[1]):
    start = time.process_time()
    print(json.dumps([words, main(words), time.process_time() - start]), flush=True)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_nothing_heavy_is_imported_to_say_no(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.touch()
    there, out = str(photo), ["-o", str(tmp_path / "out")]
    expected = [
        (["doctro"], 2),
        (["missing.jpg"], 3),
        ([there, "--preset", "pixal"], 2),
        ([there, "--device", "mps" if sys.platform == "linux" else "cuda"], 5),
        ([there, "--preset", "pixal3d", "--offline", *out], 4),
        ([there, "--masks", "none.png", *out], 3),
        ([there, "--depth", "none.npy", *out], 3),
        ([there, "--set", "generate.method=pixal3d", "--set", "generate.checkpoint=/nowhere", *out], 4),
        ([there, "-o", str(photo)], 2),
        ([there, "-o", str(tmp_path / "q\\x")], 2),
        (["batch", there, "-o", str(tmp_path / "new\nline")], 2),
        (["regenerate", str(tmp_path / "nowhere"), "--object", "1"], 3),
        (["models", "fetch", "pixal"], 2),
        (["--help"], 0),
        (["--install-completion", "--help"], 0),
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, "-c", ALL_AT_ONCE, json.dumps([words for words, _ in expected])],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(commands.__file__).parents[2],
        check=True,
    )
    *answers, modules = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [(words, code) for words, code, _ in answers] == expected
    assert not set(modules) & {"torch", "scipy", "cv2", "pxr", "networkx", "prefect", "skimage", "trimesh"}
    errors = done.stderr.splitlines()
    assert len(errors) == len([code for _, code in expected if code])
    assert sum("missing.jpg" in line for line in errors) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"photo.jpg", "out", "cache"}


def command(*words: str | Path) -> int:
    return commands.main([str(word) for word in words])


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_ray_where_prefect_is_set(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert command(photo, "--ray", "auto") == UsageError.exit_code
    assert "PREFECT_API_URL" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "answer"), [("cuda", "0 0"), ("cuda:1", "1 0"), ("mps", "1 0")])
def test_a_device_that_is_not_there(
    device: str, answer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photo: Path
) -> None:
    monkeypatch.setattr(devices, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(devices, "QUERY", f"print({answer!r})")
    with pytest.raises(ResourceError, match=device):
        devices.require_device(Runtime(device=device))
    assert command(photo, "--device", device, "-o", tmp_path / "out") == ResourceError.exit_code
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(devices, "QUERY", "print('2 0')")
    for device in ("auto", "cpu", "cuda", "cuda:1"):
        devices.require_device(Runtime(device=device))


def test_weights_that_given_masks_and_depth_make_needless(
    bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scenegen.compute.runtime.user_cache_path", lambda _: tmp_path / "cache")
    words = [photo, "--set", "segment.method=sam", "--set", "depth.method=depth-anything", "-o", tmp_path / "out"]
    assert command(*words) == WeightsError.exit_code
    assert "models fetch sam-vit_b depth-anything-v2-metric-indoor-small`" in capsys.readouterr().err
    for name in ("masks.png", "depth.npy"):
        (tmp_path / name).write_text(name)
    assert command(*words, "--masks", tmp_path / "masks.png") == WeightsError.exit_code
    assert "models fetch depth-anything-v2-metric-indoor-small`" in capsys.readouterr().err
    assert command(*words, "--masks", tmp_path / "masks.png", "--depth", tmp_path / "depth.npy") == 0


@pytest.mark.parametrize(
    "name", ["q\\x", "a\nb", "tab\t", "\x7f", "\x80", "caf\udce9", "x" * 300, "a:SDF_FORMAT_ARGS:b", "file/below"]
)
def test_folders_there_can_be_no_scene_in(name: str, bench: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert command(photo, "-o", tmp_path / name) == UsageError.exit_code
    assert command("batch", photo, "-o", tmp_path / name) == UsageError.exit_code
    assert not bench.executed
    assert {path.name for path in tmp_path.iterdir()} == {"file", "photo.jpg"}


@pytest.mark.parametrize("name", ["a b", "[x]", "b[c].usdz", "a@b", "a'b\"c", "%20#?", "a:b", "$HOME", "é 日本", "{v}"])
def test_folders_of_any_other_name(name: str, bench: Any, photo: Path, tmp_path: Path) -> None:
    assert command(photo, "-o", tmp_path / name) == 0
    assert (tmp_path / name / "photo" / "manifest.json").is_file()


def test_a_path_that_leaves_no_room(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 200] * (MAX_PATH // 200))
    with pytest.raises(UsageError, match="too long"):
        check_folder(deep)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
def test_a_file_system_without_folders(bench: Any, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("/proc/x", "/proc"):
        assert command(photo, "-o", out) == UsageError.exit_code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_no_mistake_of_the_command(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ResourceError, match=os.strerror(code)):
        check_folder(tmp_path)


def test_a_file_for_numbers_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "x.json"):
        assert command("evaluate", "compare", tmp_path / "file", tmp_path / "file", "--json", bad) == 2


def test_missing_photos_are_named_once_and_the_others_made(
    bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "gone.jpg", photo, "-o", tmp_path / "out") == 6
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("gone.jpg") == 1
    assert captured.err.splitlines()[0] == f"ERROR: {tmp_path / 'gone.jpg'} does not exist."
    assert command(tmp_path / "gone.jpg", "-o", tmp_path / "out") == InputError.exit_code


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "scenegen.bash"
    assert command("--install-completion", "--shell", "bash", "--output", script) == 0
    text = script.read_text()
    for word in ("doctor", "regenerate", "--preset", "--device"):
        assert word in text
