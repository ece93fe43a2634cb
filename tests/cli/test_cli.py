"""The command line: words in, exit codes and one line per photo out."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from processes import has_ended

from scenegen import __version__
from scenegen.cli import commands
from scenegen.config import load_config, preset_names
from scenegen.errors import ExportError, InputError, ResourceError, UsageError, WeightsError
from scenegen.export.manifest import read_manifest
from scenegen.messages import progress


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, no variables that leak from one test into the next."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def command(*words: str | Path) -> int:
    return commands.main([str(word) for word in words])


def untimed(text: str) -> str:
    """Results without how long they took."""
    return re.sub(r", \d+\.\d s$", "", text, flags=re.MULTILINE)


def python(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=600, check=False, **options
    )


# Usage ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "IMAGES requires an argument"),
        (["--nope"], "Unknown option"),
        (["a.jpg", "--seed", "x"], "--seed"),
        (["a.jpg", "--device", "tpu"], "allowed: auto, cpu"),
        (["a.jpg", "--jobs", "0"], "at least 1"),
        (["a.jpg", "--preset", "nope"], "training-free"),
        (["a.jpg", "--set", "nope=1"], "Extra inputs"),
        (["a.jpg", "--fov", "0"], "greater than 1"),
        (["doctro"], "Did you mean doctor?"),
        (["a.jpg", "--preset", "pixal"], "Did you mean pixal3d?"),
        (["a.jpg", "--presett", "x"], "Did you mean --preset?"),
        (["a.jpg", "--set", "generate.guidence=1"], "Did you mean guidance?"),
        (
            ["a.jpg", "--export", "obj,fbx"],
            "`export.formats.1`: no exporter is called 'fbx'. Installed: mjcf, obj, objects, ply, stl, urdf",
        ),
        (["models", "fetch", "sam-vitb"], "Did you mean sam-vit_b?"),
        (["a.jpg", "--device", "cudaa"], "Did you mean cuda?"),
        (["a.jpg", "--quiet", "--verbose"], "contradict"),
        (["a.jpg", "--ray", "auto", "--prefect"], "--ray and --prefect contradict"),
        (["a.jpg", "--ray", "auto", "--isolate"], "contradict"),
        (["batch", ".", "--ray", "auto", "--isolate"], "contradict"),
        (["batch", ".", "--cache", "c"], "`cache`"),
        (["regenerate", "out/a", "--object", "1", "--ray", "auto"], "Unknown option"),
        (["regenerate", "out/a", "--object", "1", "--jobs", "2"], "Unknown option"),
        (["a.jpg", "--seed", "-1"], "`seed`"),
        (["a.jpg", "--config", "missing.yaml"], "cannot be read"),
        (["*.nothing"], "matches no file"),
        (["regenerate"], "FOLDER"),
        (["regenerate", "out/a"], "--object"),
        (["regenerate", "out/a", "--object", "1", "--seed", "-1"], "at least 0"),
        (["regenerate", "out/a", "--object", "0"], "at least 1"),
        (["regenerate", "out/a", "--object", "1", "--seed", str(2**53)], "at most 9007199254740991"),
        (["a.jpg", "--jobs", "257"], "at most 256"),
        (["batch", "x", "--workers", "257"], "at most 256"),
        (["batch", "x", "--timeout", "inf"], "finite"),
        (["batch", "x", "--timeout", "nan"], "finite"),
        (["a.jpg", "--fov", "nan"], "finite number"),
        (["a.jpg", "--box", "1,2,3"], "give x0,y0,x1,y1"),
        (["a.jpg", "--box", "1,2,3,inf"], "give x0,y0,x1,y1"),
        (["a.jpg", "--point", "10"], 'give x,y or "x,y x,y,0"'),
        (["a.jpg", "--point", "10,20 a,b"], "'a,b'"),
        (["a.jpg", "--point", "10,20,2"], "segment.points"),
        (["a.jpg", "--point", " "], "empty"),
        (["a.jpg", "--point", "1,2", "--masks", "m.png"], "--masks and --box or --point contradict"),
        (["a.jpg", "b.jpg", "--point", "1,2"], "give one photo"),
        (["a.jpg", "--point", "1,2", "--preset", "training-free"], "--preset embedded or pixal3d"),
        (["a.jpg", "--find", "mug,,book"], "give nouns with commas between them"),
        (["a.jpg", "--find", "mug", "--point", "1,2"], "--find and --box or --point contradict"),
        (["a.jpg", "--find", "mug", "--masks", "m.png"], "--masks and --find contradict"),
        (["a.jpg", "--find", "mug", "--preset", "pixal3d"], "--find needs a segmenter that knows things by name"),
        (["a.jpg", "--set", "segment.find=mug", "--set", "segment.points=[[1,2]]"], "contradict each other"),
        (["a.jpg", "--preset", ""], "an argument is empty"),
        (["a.jpg", "--preset="], "--preset= is empty"),
        ([""], "an argument is empty"),
        (["a.jpg", "-o", ""], "an argument is empty"),
        (["models", "fetch", "nope"], "not a registered model"),
        (["config", "show", "--set", "x"], "name=value"),
    ],
)
def test_usage_errors(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words) == UsageError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--version") == 0
    assert capsys.readouterr().out.strip() == __version__
    for words in ([], ["regenerate"], ["doctor"], ["config", "show"], ["models", "fetch"]):
        assert command(*words, "--help") == 0
        assert "Usage: scenegen" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from scenegen.cli.commands import main; main(['--help']); print(sorted(sys.modules))"
    done = python("-c", code)
    loaded = set(eval(done.stdout.splitlines()[-1]))
    assert not loaded & {"numpy", "cv2", "pydantic", "torch", "pxr", "prefect", "networkx", "stages.graph"}


def test_config_show_is_what_config_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("config", "show", "--preset", "pixal3d", "--set", "generate.resolution=1152") == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_config(file=shown) == load_config("pixal3d", overrides=["generate.resolution=1152"])
    assert command("config", "show", "--config", shown) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(shown.read_text())
    assert command("config", "presets") == 0
    assert capsys.readouterr().out.split() == preset_names()


def test_models_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("models", "list") == 0
    assert "sam-vit_b" in capsys.readouterr().out


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_photo(bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [photo, "-o", out, "--set", "generate.guidance=0.8", "--fov", "40", "--seed", "3", "--jobs", "1"]
    assert command(*words) == 0
    captured = capsys.readouterr()
    assert untimed(captured.out) == f"{out / 'photo'}/report.html: 3 objects, silhouette IoU 0.920, complete\n"
    assert "generate 3: " in captured.err
    assert "segment used embedded" in captured.err
    manifest = read_manifest(out / "photo")
    assert (manifest.config.seed, manifest.config.camera.fov_deg, manifest.config.generate.guidance) == (3, 40, 0.8)
    bench.executed.clear()
    assert command(*words, "-q") == 0
    again = capsys.readouterr()
    assert (untimed(again.out), again.err) == (untimed(captured.out), "")
    assert not bench.executed


def test_a_photo_inside_out(bench: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo").write_text("a picture without suffix")
    assert command(out / "photo", "-o", out) == 0
    assert (out / "photo").read_text() == "a picture without suffix"
    assert read_manifest(out / "photo-2").given.photo == "photo"
    (out / "photo-2" / "photo-2.jpg").write_text("a picture in a published folder")
    assert command(out / "photo-2" / "photo-2.jpg", "-o", out) == 0
    assert (out / "photo-2" / "photo-2.jpg").read_text() == "a picture in a published folder"


def test_several_photos_one_bad(bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("bad")
    bench.unreadable = "bad"
    out = tmp_path / "out"
    assert command(bad, tmp_path / "missing.jpg", photo, "-o", out) == 6
    captured = capsys.readouterr()
    assert untimed(captured.out) == f"{out / 'photo'}/report.html: 3 objects, silhouette IoU 0.920, complete\n"
    assert captured.err.count("missing.jpg") == 1
    assert f"{bad}: `photo` is no picture" in captured.err
    assert "Traceback" not in captured.err
    assert command(bad, tmp_path / "missing.jpg", "-o", out) == InputError.exit_code


def test_json_logs(bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_text(name)
    bench.unreadable = "b"
    assert command(tmp_path / "a.jpg", tmp_path / "b.jpg", "-o", tmp_path / "out", "--log-json", "-v") == 6
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert {tuple(line)[:7] for line in lines} == {("time", "level", "logger", "run", "image", "stage", "object")}
    assert len({line["run"] for line in lines}) == 1
    made = [line for line in lines if line["message"].startswith("generate: computed")]
    assert {(line["image"], line["stage"], line["object"]) for line in made} == {
        ("a", "generate", i) for i in (1, 2, 3)
    }
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert (failed["image"], "Traceback" in failed["traceback"]) == ("b", True)
    assert command(tmp_path / "a.jpg", "-o", tmp_path / "out", "--nope") == 2
    assert capsys.readouterr().err.startswith("ERROR: Unknown option")  # the next command logs as usual


def test_names_that_collide(bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jpg", "a.png", "A.webp"):
        (tmp_path / name).write_text(name)
    assert command(tmp_path, "-o", tmp_path / "out") == 0
    assert "is taken" in capsys.readouterr().err
    given = {name: read_manifest(tmp_path / "out" / name).given.photo for name in ("A", "a-2", "a-3")}
    assert given == {"A": "A.webp", "a-2": "a.jpg", "a-3": "a.png"}


def test_prompts_become_settings_of_the_segmenter(bench: Any, photo: Path, tmp_path: Path) -> None:
    words = ["--box", "1,2,30,40", "--point", "5,6", "--point", "7,8.5 9,10,0", "--box", "0,0,9,9"]
    assert command(photo, "-o", tmp_path / "out", *words) == 0
    segment = read_manifest(tmp_path / "out" / "photo").config.segment
    assert segment.boxes == ((1, 2, 30, 40), (0, 0, 9, 9))
    assert segment.points == (((5, 6, 1),), ((7, 8.5, 1), (9, 10, 0)))


def test_names_become_settings_of_the_segmenter(bench: Any, photo: Path, tmp_path: Path) -> None:
    assert command(photo, "-o", tmp_path / "out", "--find", "mug, wooden chair") == 0
    assert read_manifest(tmp_path / "out" / "photo").config.segment.find == ("mug", "wooden chair")


def test_mask_pictures_bring_the_names_of_their_objects(bench: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("01_coffee_mug.png", "02.png"):
        (tmp_path / "masks" / name).write_text(name)
    assert command(photo, "-o", tmp_path / "out", "--masks", tmp_path / "masks") == 0
    assert read_manifest(tmp_path / "out" / "photo").source.mask_labels == ("coffee mug", "")


def test_masks_of_several_photos(bench: Any, tmp_path: Path) -> None:
    for name in ("photos/a.jpg", "photos/b.jpg", "masks/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert command(tmp_path / "photos", "-o", tmp_path / "out", "--masks", tmp_path / "masks") == 6
    assert read_manifest(tmp_path / "out" / "a").given.masks == ("a.png",)
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WeightsError("no weights"), 4),
        (ResourceError("no memory"), 5),
        (ExportError("not valid"), 7),
        (MemoryError(), 5),
        (RuntimeError("a\nsurprise"), 1),
    ],
)
def test_errors_end_with_their_code(
    bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    bench.errors["layout"] = error
    assert command(photo, "-o", tmp_path / "out") == code
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("ERROR") for line in lines) == 1
    assert not any("Traceback" in line for line in lines)
    if code == 1:
        assert lines[-1].endswith("unexpected RuntimeError: a surprise; run again with -v for the traceback")
    assert command(photo, "-v", "-o", tmp_path / "out") == code
    assert "Traceback" in capsys.readouterr().err


def test_a_partial_scene(bench: Any, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.errors["generate 1"] = ValueError("no")
    assert command(photo, "-o", tmp_path / "out") == 6
    assert "2 objects, silhouette IoU 0.925, partial" in capsys.readouterr().out
    bench.objects = 0
    assert command(photo, "-o", tmp_path / "other") == 6
    assert "0 objects, silhouette IoU -, partial" in capsys.readouterr().out


def test_regenerate(bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert command(photo, "-o", out) == 0
    assert command("regenerate", out / "photo", "--object", "2") == 0
    assert [placed.seed for placed in read_manifest(out / "photo").objects] == [0, 1, 0]
    monkeypatch.chdir(out / "photo")  # the folder may be given from inside
    assert command("regenerate", ".", "--object", "3", "--seed", "7") == 0
    assert [placed.seed for placed in read_manifest(out / "photo").objects] == [0, 1, 7]
    assert command("regenerate", out / "photo", "--object", "9") == UsageError.exit_code
    assert command("regenerate", tmp_path / "nowhere", "--object", "1") == InputError.exit_code
    assert not (tmp_path / ".scenegen").exists()


def test_offline_is_set_before_anything_reads_it(bench: Any, photo: Path, tmp_path: Path) -> None:
    assert command(photo, "-o", tmp_path / "out", "--offline") == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_prefect_missing(
    bench: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command(photo, "-o", tmp_path / "out", "--prefect") == WeightsError.exit_code
    assert "pip install 'scenegen-3d[prefect]'" in capsys.readouterr().err
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert command(photo, "-o", tmp_path / "out") == WeightsError.exit_code
    assert not bench.executed


CODES = st.sampled_from([0, 0, 6, 3, 4, 1])


@given(st.lists(CODES, min_size=1, max_size=6))
def test_overall_code(codes: list[int]) -> None:
    code = commands.overall(codes)
    if all(value == 0 for value in codes):
        assert code == 0
    elif any(value in (0, 6) for value in codes):
        assert code == 6
    else:
        assert code == codes[0]


# Display --------------------------------------------------------------------------------------------------------------


def test_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    console = Console(force_terminal=True, width=80, record=True, stderr=True)
    monkeypatch.setattr(progress, "console", lambda: console)
    progress.set_verbosity(20)
    with progress.watching("photo.jpg") as watch:
        assert watch != progress.log_event
        watch(progress.Event("read", None, "done", 1.25))
        watch(progress.Event("generate", 2, "running"))
        watch(progress.Event("generate", 2, "running", detail="texture, step 3 of 12"))
    text = console.export_text()
    assert "photo.jpg" in text
    assert "1.2 s" in text
    assert "generate 2" in text
    assert "step 3 of 12" in text


def test_the_table_counts_objects_and_tells_the_time_left() -> None:
    from rich.console import Console

    now = [0.0]
    board = progress._Board("q[/b].jpg", lambda: now[0])

    def text() -> str:
        console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
        console.print(board.shown())
        return console.export_text()

    board.show(progress.Event("read", None, "done", 1.0))
    assert "objects" not in text()
    for number in range(1, 8):
        board.show(progress.Event("generate", number, "waiting"))
    board.show(progress.Event("generate", 1, "found"))
    assert "1 of 7 objects" in text()
    assert "left" not in text()  # what the store had tells nothing about the rest
    board.show(progress.Event("generate", 2, "running"))
    board.show(progress.Event("generate", 3, "running"))
    now[0] = 20.0
    board.show(progress.Event("generate", 2, "done", 20.0))
    board.show(progress.Event("generate", 3, "failed"))
    assert "3 of 7 objects" in text()
    assert "\u2501" in text()  # the bar
    assert "about 0:00:40 left" in text()
    assert "q[/b].jpg" in text()
    for number in range(4, 8):
        board.show(progress.Event("generate", number, "done", 5.0))
    assert "7 of 7 objects" in text()
    assert "left" not in text()


@pytest.mark.parametrize("name", ["q[/b].jpg", "[red]x.jpg", ":smile:.jpg"])
def test_names_are_no_markup(
    name: str, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, where tables and log lines are drawn."""
    from rich.console import Console

    screen = io.StringIO()
    console = Console(force_terminal=True, color_system=None, width=1000, file=screen, markup=True)
    monkeypatch.setattr(progress, "console", lambda: console)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("bad")
    bench.unreadable = "bad"
    assert command(tmp_path / name, "-o", tmp_path / "out") == InputError.exit_code
    assert name in screen.getvalue()
    bench.unreadable = ""
    assert command(tmp_path / name, "-o", tmp_path / "out") == 0


def test_quiet_shows_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(progress, "console", lambda: Console(force_terminal=True, stderr=True))
    progress.set_verbosity(40)
    with progress.watching("photo.jpg") as watch:
        assert watch == progress.log_event


# Interruption ---------------------------------------------------------------------------------------------------------

STUCK = """
import subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
import scenegen.__main__ as entry
from scenegen.cli import commands
from scenegen.system.processes import descendants

sleep = "import time; time.sleep(900)"
parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', '{sleep}']); time.sleep(900)"

def stuck(waits: bool):
    child = subprocess.Popen([sys.executable, "-c", parent])
    while not descendants(child.pid):
        time.sleep(0.01)
    executor = ThreadPoolExecutor(1)
    try:
        future = executor.submit(time.sleep, 99)
        print(child.pid, *descendants(child.pid), flush=True)
        future.result()
    finally:
        executor.shutdown(wait=waits)

commands.app.command(stuck)
entry.GRACE_S = 1
sys.argv[0] = "scenegen"
sys.exit(entry.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("waits", ["False", "True"])
def test_interrupted(number: signal.Signals, waits: str) -> None:
    """Ends soon with 130 and no traceback, though a thread still works or is waited for; takes its children along."""
    words = [sys.executable, "-c", STUCK, "stuck", waits]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    children = [int(word) for word in process.stdout.readline().split()]
    assert len(children) == 2
    process.send_signal(number)
    assert process.wait(300) == 130  # and nobody has waited for the 900 s of what it has started
    assert process.stderr.read() == f"ERROR: {commands.INTERRUPTED}\n"
    process.stdout.close()
    process.stderr.close()
    assert all(has_ended(child) for child in children)


def test_module_runs() -> None:
    done = python("-m", "scenegen", "--version")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")
    done = python("-m", "scenegen", "doctor", "--nope")
    assert done.returncode == UsageError.exit_code


def test_doctor_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scenegen.cli import doctor

    checks = [doctor.Check("a", "ok", "fine"), doctor.Check("b", "warn", "so so", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda out, runtime: checks)
    assert command("doctor", "--json", "-o", tmp_path) == 0
    assert json.loads(capsys.readouterr().out)[1] == {"name": "b", "state": "warn", "detail": "so so", "fix": "mend it"}
    checks.append(doctor.Check("c", "fail", "broken", "replace it"))
    assert command("doctor") == 1
    assert "-> replace it" in capsys.readouterr().out
