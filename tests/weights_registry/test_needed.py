"""What settings ask for is looked for before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from scenegen.cli.commands import main
from scenegen.compute.runtime import Runtime
from scenegen.config import Config, load_config
from scenegen.errors import WeightsError
from scenegen.records import Artifact, Source
from scenegen.weights_registry.needed import require_models
from stages.graph import image_to_scene

SETTLING: list[dict[str, Any]] = [{"export": {"settle": True}}, {"compose": {"settle": True}}]


def settings(changed: dict[str, Any]) -> Config:
    return Config.model_validate({**load_config().model_dump(), **changed})


@pytest.mark.parametrize("changed", SETTLING)
def test_gravity_is_refused_at_once_without_mujoco(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    require_models(settings(changed), Runtime(), segments=False, measures=False)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[physics\]"):
        require_models(settings(changed), Runtime(), segments=False, measures=False)
    source = Source(name="a", photo=Artifact(path="a.png", sha256="0" * 64, bytes=1))

    def started(*given: Any, **options: Any) -> Any:
        raise AssertionError("a stage was started")

    with pytest.raises(WeightsError, match="MuJoCo"):
        image_to_scene(source, settings(changed), started)


def test_gravity_that_is_not_asked_for_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    unused = {"compose": {"settle": True, "contact": False}}
    require_models(settings(unused), Runtime(), segments=False, measures=False)


def test_cameras_are_refused_at_once_without_pycolmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    needs = {"segments": False, "measures": False, "several": True}
    require_models(load_config(), Runtime(), **needs, finds_cameras=False)
    with pytest.raises(WeightsError, match=r"scenegen-3d\[views\]"):
        require_models(load_config(), Runtime(), **needs, finds_cameras=True)


@pytest.mark.parametrize(
    "words", [["a.png", "--set", "export.settle=true"], ["batch", ".", "--set", "compose.settle=true"], ["settle", "."]]
)
def test_every_command_says_so_before_it_works(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert main(words) == WeightsError.exit_code
    assert "MuJoCo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
