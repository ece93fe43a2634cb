"""`scenegen models fetch --preset paper` as a whole, from a hub on this machine that offers small files by the released names."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scenegen.cli.commands import main
from scenegen.compute.runtime import Runtime
from scenegen.config import load_config
from scenegen.errors import WeightsError
from scenegen.weights_registry import MODELS, Model, ModelFile
from scenegen.weights_registry.local import locate_all
from scenegen.weights_registry.needed import models_needed
from tests.weights_registry.site_of_models import TOKEN, Site, served

NEEDED = models_needed(load_config("paper"))
LARGE = 40_000
"""Bytes of what stands in for weights; the other files have a few hundred."""
BROKEN = "dinov3-vitl16"
"""Its weights are what the connection breaks in."""


def content(model: Model, file: ModelFile) -> bytes:
    told = f"{model.name} {file.name} ".encode()
    return told * (LARGE // len(told) if file.name.endswith((".safetensors", ".pt", ".pth")) else 4)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The preset's models as they are registered, but for their content; the hub sends on who asks for weights."""
    site = Site({}, gated=(f"/{MODELS['sam3'].repo}/",), elsewhere="/large")
    monkeypatch.setattr("scenegen.compute.runtime.user_cache_path", lambda _: tmp_path / "cache")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with served(site) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        for model in map(MODELS.__getitem__, NEEDED):
            files = []
            for file in model.files:
                made = content(model, file)
                path = f"/elsewhere/{file.name}" if file.url else f"/{model.repo}/resolve/{model.revision}/{file.name}"
                site.files[f"/large{path}" if len(made) > 1000 and file.url is None else path] = made
                files.append(
                    replace(
                        file,
                        url=file.url and f"{address}{path}",
                        bytes=file.bytes and len(made),
                        sha256=file.sha256 and hashlib.sha256(made).hexdigest(),
                    )
                )
            small = replace(model, files=tuple(files), about_gb=model.gigabytes)
            monkeypatch.setitem(MODELS, model.name, small)  # type: ignore[arg-type]
        yield site


def fetch(*words: str) -> int:
    return main(["models", "fetch", "--preset", "paper", *words])


def intact(models: Path) -> bool:
    return all(
        (models / name / file.name).read_bytes() == content(MODELS[name], file)
        for name in NEEDED
        for file in MODELS[name].files
    )


def test_a_whole_preset_is_fetched_from_a_hub(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "cache" / "models"
    assert fetch() == WeightsError.exit_code
    said = capsys.readouterr()
    # Of every model, before the first one is asked for.
    told = said.out.splitlines()
    assert [line.split(":")[0] for line in told[: len(NEEDED)]] == list(NEEDED)
    assert all(MODELS[name].licence in line for name, line in zip(NEEDED, told, strict=False))
    assert told[len(NEEDED)].startswith("together 87.")
    assert "HF_TOKEN" in said.err

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    broken = MODELS[BROKEN]
    weights = next(file for file in broken.files if len(content(broken, file)) > 1000)
    cut = f"/large/{broken.repo}/resolve/{broken.revision}/{weights.name}"
    hub.breaks, hub.breaks_after = cut, 15_000
    assert fetch() == WeightsError.exit_code
    assert "it resumes where it stopped" in capsys.readouterr().err
    assert (models / BROKEN / f"{weights.name}.part").stat().st_size == 15_000

    came = {path for path, _ in hub.asked if path in hub.files} - {cut}
    hub.breaks_after, hub.asked = None, []
    assert fetch() == 0
    assert (cut, "bytes=15000-") in hub.asked
    assert not came & {path for path, _ in hub.asked}
    assert intact(models)
    assert not any(path.startswith("/large/") for path in hub.tokens)
    assert not list(models.glob("**/*.part"))

    hub.asked = []
    assert fetch() == 0
    assert hub.asked == []
    assert len(locate_all(NEEDED, Runtime(models=models))) == len(NEEDED)


def test_an_air_gapped_machine_takes_a_copy_of_the_fetched_models(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch() == 0
    models, medium = tmp_path / "cache" / "models", tmp_path / "medium"
    shutil.move(models, medium)
    damaged = next(file for file in MODELS["sam3"].files if file.bytes is None)
    hub.asked = []
    assert fetch("--offline", "--source", str(medium)) == 0
    assert hub.asked == []
    assert intact(models)
    for name in NEEDED:
        assert json.loads((models / name / "verified.json").read_text())["revision"] == MODELS[name].revision

    (models / "sam3" / damaged.name).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged"):
        locate_all(NEEDED, Runtime(models=models, offline=True))
    capsys.readouterr()
    assert fetch("--offline") == WeightsError.exit_code
    assert "--source" in capsys.readouterr().err
    assert fetch("--offline", "--source", str(medium)) == 0
    assert intact(models)
    weights = MODELS["moge-2-vitl-normal"].files[0]
    (medium / "moge-2-vitl-normal" / weights.name).write_bytes(b"another file")
    shutil.rmtree(models)
    assert fetch("--offline", "--source", str(medium)) == WeightsError.exit_code
    assert "are registered" in capsys.readouterr().err
