"""Whatever happens to the stored results, a run comes to the same scene, and says once what it computes anew."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.inputs.photos import Inputs
from scenegen.store.digest import sha256_file
from stages.layers import local_submit
from stages.run import open_store, photo_to_scene

TIMED = {"report.html", "manifest.json"}
"""Files that tell how long it took."""


def scene(photo: Path, out: Path) -> dict[str, str]:
    """A scene made and published; the digests of its files."""
    store, runtime = open_store(out), Runtime()
    with ThreadPoolExecutor(1) as executor:
        photo_to_scene(Inputs("photo", photo), Config(), store, runtime, local_submit(store, runtime, executor))
    folder = out / "photo"
    return {path.name: sha256_file(path) for path in folder.rglob("*") if path.is_file() and path.name not in TIMED}


def stored(out: Path) -> list[Path]:
    """Every file of every result, and the photo, in an order of their own."""
    return sorted(path for path in (out / ".scenegen").glob("*/??/*/**/*") if path.is_file()) + sorted(
        path for path in (out / ".scenegen" / "input").rglob("*") if path.is_file()
    )


SHARE = st.floats(0, 1, exclude_max=True)


def test_any_damage_to_any_file_leaves_the_scene_as_it_is(
    bench: Any, photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    before = scene(photo, out)

    @settings(max_examples=25)
    @given(
        st.sampled_from(["flipped", "cut", "longer", "gone", "other's"]),
        SHARE,
        SHARE,
        st.integers(0, 7).map(lambda n: 1 << n),
    )
    def damaged(kind: str, which: float, at: float, bit: int) -> None:
        """`which` file is damaged `at` what place of it, or by what other file, as shares of how many there are."""
        shutil.rmtree(out / "photo")
        files = stored(out)
        path = files[int(which * len(files))]
        content = path.read_bytes()
        place = int(at * len(content))
        if kind == "flipped":
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        elif kind == "cut":
            path.write_bytes(content[:place])
        elif kind == "longer":
            path.write_bytes(content + b"x")
        elif kind == "gone":
            path.unlink()
        else:
            path.write_bytes(files[int(at * len(files))].read_bytes())
        caplog.clear()
        assert scene(photo, out) == before
        # A report tells times: where they are those of an earlier example, it may be the one that was damaged there.
        assert sum("computing it again" in line and "result report" not in line for line in caplog.messages) <= 1
        bench.executed.clear()
        caplog.clear()
        assert scene(photo, out) == before
        assert not bench.executed
        assert "is damaged" not in caplog.text

    damaged()


def test_every_result_exchanged_for_another_of_its_stage(
    bench: Any, photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a disk gives the blocks of one file for another's."""
    out = tmp_path / "out"
    before = scene(photo, out)
    folders = sorted((out / ".scenegen" / "generate").glob("*/*"))
    for folder in folders:
        folder.rename(folder.with_name("aside"))
    asides = [folder.with_name("aside") for folder in folders]
    for aside, folder in zip(asides, [*folders[1:], folders[0]], strict=True):
        aside.rename(folder)
    bench.executed.clear()
    assert scene(photo, out) == before
    assert {name for name in bench.executed if name != "report"} == {
        "generate 1",
        "generate 2",
        "generate 3",
    }  # it tells times
    assert caplog.text.count("computing it again") == 3
