"""`scenegen batch` as it is used: from bucket to bucket, interrupted, gone on with by two machines at once."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scenegen.errors import EXIT_INTERRUPTED, EXIT_PARTIAL
from scenegen.export.manifest import Manifest
from scenegen.store.folder import RemoteFolder

PATIENCE_S = 240
SMALL = (
    "--preset",
    "training-free",
    "--set",
    "generate.resolution=48",
    "--set",
    "generate.max_faces=500",
    "--set",
    "texture.size=64",
)


def picture(shade: int) -> bytes:
    """A disc and a box, cut out by their alpha."""
    image = np.zeros((120, 160, 4), np.uint8)
    image[..., :3] = 190
    cv2.circle(image, (45, 70), 22, (40, shade, 200, 255), -1)
    cv2.rectangle(image, (105, 60), (135, 95), (90, 160, shade, 255), -1)
    return cv2.imencode(".png", image)[1].tobytes()


def start(bucket: RemoteFolder, cache: Path, *words: str) -> subprocess.Popen[str]:
    """A machine with a disk of its own."""
    command = [sys.executable, "-m", "scenegen", "batch", bucket.address("photos"), "-o", bucket.address("out")]
    return subprocess.Popen(
        [*command, "--cache", str(cache), "--log-json", "-v", *SMALL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def logged(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def computed(log: list[dict[str, Any]]) -> list[str]:
    """The keys of the stages that were executed."""
    messages = [line["message"].split() for line in log if line["logger"] == "stages.stage"]
    return [words[2] for words in messages if words[1:2] == ["computed"]]


@pytest.mark.slow
def test_from_bucket_to_bucket_with_an_interruption(bucket_url: str, tmp_path: Path) -> None:
    bucket = RemoteFolder(bucket_url)
    for name, shade in (("a", 60), ("b", 120)):
        bucket.write(f"photos/{name}.png", picture(shade))
    bucket.write("photos/torn.png", picture(180)[:200])

    first = start(bucket, tmp_path / "one", "--workers", "2", "--isolate")
    assert first.stderr is not None
    lines = []
    for line in first.stderr:
        lines.append(line)
        if '"stage": "layout"' in line and "computed" in line:
            first.send_signal(signal.SIGINT)
            break
    _, rest = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == EXIT_INTERRUPTED
    log = logged("".join(lines) + rest)
    done_before = computed(log)
    assert done_before
    half = bucket.read("out/batch.csv")
    assert half is not None
    assert "missing" in half.decode()

    machines = [start(bucket, tmp_path / name) for name in ("one", "two")]
    outputs = [machine.communicate(timeout=PATIENCE_S) for machine in machines]
    assert [machine.returncode for machine in machines] == [EXIT_PARTIAL] * 2
    logs = [logged(errors) for _, errors in outputs]
    # Whatever was finished before the interruption, by whomever, was not computed again; nor by both.
    assert set(Counter([*done_before, *computed(logs[0]), *computed(logs[1])]).values()) == {1}
    assert len({line["run"] for line in (*log, *logs[0], *logs[1])}) == 3
    about = {(line["image"], line["stage"], line["object"]) for line in (*log, *logs[0], *logs[1])}
    assert {(name, "generate", number) for name in "ab" for number in (1, 2)} <= about

    table = bucket.read("out/batch.csv")
    assert table is not None
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert [(row["state"], row["objects"]) for row in rows] == [("complete", "2"), ("complete", "2"), ("failed", "0")]
    assert [row["output"] for row in rows] == [bucket.address("out/a"), bucket.address("out/b"), ""]
    assert (bucket.read("out/batch.html") or b"").count(b"data:image/jpeg;base64,") == 2
    for name in "ab":
        manifest = bucket.read(f"out/{name}/manifest.json")
        assert manifest is not None
        entries = Manifest.model_validate_json(manifest).stages
        assert Counter(entry.stage for entry in entries)["generate"] == 2
        assert all(entry.seconds >= 0 for entry in entries)
        assert sum(entry.seconds for entry in entries) > 0
    secret = "a-secret-of-the-tests"
    everything = [text for output in outputs for text in output] + [table.decode(), *lines, rest]
    assert not any(secret in text for text in everything)

    again = start(bucket, tmp_path / "three", "--missing")
    _, errors = again.communicate(timeout=PATIENCE_S)
    assert (again.returncode, computed(logged(errors))) == (EXIT_PARTIAL, [])
