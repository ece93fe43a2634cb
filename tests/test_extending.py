"""The package that docs/extending.md shows: installed as it stands there, and run from photo to scene."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from scenegen.cli import commands
from scenegen.config import load_config
from scenegen.errors import InputError
from scenegen.export.manifest import read_manifest
from scenegen.registry import port
from scenegen.store.png import write_png
from stages import code
from stages.code import code_key

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
SMALL = [
    "--preset",
    "training-free",
    "--set",
    "generate.resolution=24",
    "--set",
    "texture.size=64",
    "--set",
    "export.usdz=no",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_it_has_forty_lines() -> None:
    assert sum(text.count("\n") for language in ("toml", "python") for text in blocks(language)) <= 40


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is installed in, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (project,), (module,) = blocks("toml"), blocks("python")
    (source / "pyproject.toml").write_text(project)
    (source / "scenegen_slope.py").write_text(module)
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True)
    return target


@pytest.fixture
def _installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(package)
    port._offers.cache_clear()
    yield
    for remembered in (port._offers, port._loaded):
        remembered.cache_clear()
    sys.modules.pop("scenegen_slope", None)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture = np.full((96, 128, 3), 170, np.uint8)
    picture[30:70, 40:80] = (180, 40, 30)
    path = tmp_path / "photo.png"
    write_png(path, picture)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_the_page_is_true(photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the photo to the scene: in the configuration, the list of back-ends, the manifest and the report."""
    words = [str(photo), "-o", str(photo.parent / "out"), *SMALL, "--set", "depth=slope", "--set", "depth.far_m=4"]

    assert commands.main(words) == 0
    capsys.readouterr()
    manifest = read_manifest(photo.parent / "out" / "photo")
    assert [entry.backend for entry in manifest.stages if entry.stage == "depth"] == ["slope (scenegen-slope 0.1)"]
    assert manifest.config.depth.model_dump() == {"method": "slope", "near_m": 1.0, "far_m": 4.0}
    depth = np.load(photo.parent / "out" / "photo" / "depth.npy")
    np.testing.assert_allclose(depth[[0, -1], 0], [4 - 3 / 192, 1 + 3 / 192], rtol=1e-6)
    assert "slope (scenegen-slope 0.1)" in (photo.parent / "out" / "photo" / "report.html").read_text()

    assert commands.main(["config", "show", "--set", "depth=slope"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["depth"] == {"method": "slope", "near_m": 1.0, "far_m": 3.0}
    assert commands.main(["config", "show", "--set", "depth=slope", "--set", "depth.far_m=-1"]) == 2
    assert "`depth.far_m`: Input should be greater than" in capsys.readouterr().err
    assert commands.main(["config", "show", "--set", "depth=slop"]) == 2
    assert (
        "Did you mean slope? Installed: depth-anything, depth-pro, embedded, ground, moge, slope"
        in capsys.readouterr().err
    )
    assert commands.main(["config", "backends"]) == 0
    assert re.search(r"depth estimator +slope +depth +none: no weights +scenegen-slope 0\.1", capsys.readouterr().out)

    monkeypatch.setattr(port, "_of_others", lambda group: ())
    port._offers.cache_clear()
    with pytest.raises(
        InputError, match=r"`config\.depth` a back-end .* no depth estimator is called 'slope'.* Install the package"
    ):
        read_manifest(photo.parent / "out" / "photo")


@pytest.mark.usefixtures("_installed")
def test_its_code_is_in_the_key(package: Path) -> None:
    assert load_config(overrides=["depth=slope"]).depth.method == "slope"
    module = package / "scenegen_slope.py"
    text, keys = module.read_text(), []
    for changed in ("# Nothing.\n" + text, text, text.replace("uncertainty=0.3", "uncertainty=0.4")):
        module.write_text(changed)
        for remembered in (code._code_once, code._state, code._sources):
            remembered.cache_clear()
        keys.append(str(code_key("stages.depth:depth", "scenegen_slope:estimate")))
    module.write_text(text)
    assert keys[0] == keys[1] != keys[2]
