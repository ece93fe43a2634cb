"""Back-ends are found by their entry points; one that cannot be used costs one line."""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import scenegen
from scenegen.cli import commands, doctor
from scenegen.config import Config, EmbeddedDepthConfig, GroundConfig, load_config
from scenegen.errors import UsageError
from scenegen.registry import DEPTH_ESTIMATORS, PORTS, SEGMENTERS, port
from scenegen.registry.backend import no_weights
from scenegen.weights_registry.models import MODELS, all_models, registered

GROUP = DEPTH_ESTIMATORS.group
GOOD = """
from typing import Literal
from scenegen.config import BackendConfig
from scenegen.weights_registry import Model
from scenegen.registry import DepthEstimator
class C(BackendConfig):
    method: Literal["mine"] = "mine"
    size: int = 3
def run(image, ids, camera, config, runtime):
    return None
MODEL = Model("mine-large", "depth", "me/mine", "main", (), "MIT", "")
MINE = DepthEstimator(config=C, run=run, gives=("depth",), models=(MODEL,), weights=lambda config: {"mine-large": "main"})
"""

Install = Callable[..., None]


def forget() -> None:
    """What a process remembers of back-ends."""
    for remembered in (port._offers, port._loaded):
        remembered.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution on the path: its name, its module, what its entry point is called and names."""
    modules = []

    def put(name: str, text: str, method: str = "mine", attribute: str = "MINE", group: str = GROUP) -> None:
        module = name.replace("-", "_")
        folder = tmp_path / f"{module}-2.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{method} = {module}:{attribute}\n")
        (tmp_path / f"{module}.py").write_text(text)
        modules.append(module)
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield put
    forget()
    for module in modules:
        sys.modules.pop(module, None)


def test_every_own_back_end_is_what_its_entry_point_says() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["entry-points"]
    assert declared.keys() == {port.group for port in PORTS}
    for each in PORTS:
        assert [*each.offers()] == sorted(declared[each.group])
        for backend in each.usable():
            assert backend.provider == ""
            assert backend.config().method == backend.name  # every setting has a default
            assert (backend.weights is no_weights) == (backend.licence == "none: no weights")
            assert set(backend.needs(backend.config())) <= set(MODELS)


def test_an_installed_package_is_read_by_its_metadata(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    install("scenegen-3d", GOOD)
    assert "mine" not in DEPTH_ESTIMATORS.offers()  # of another version than this source
    monkeypatch.setattr(scenegen, "__file__", "/site-packages/scenegen/__init__.py")
    for remembered in (port._checkout, port._offers):
        remembered.cache_clear()
    try:
        assert DEPTH_ESTIMATORS.backend("mine").provider == ""
    finally:
        port._checkout.cache_clear()


def test_a_back_end_of_another_package(install: Install) -> None:
    install("my-depth", GOOD)
    config = load_config(overrides=["depth=mine", "depth.size=5"])
    assert config.depth.model_dump() == {"method": "mine", "size": 5}
    assert Config.model_validate_json(config.model_dump_json()) == config
    chosen = DEPTH_ESTIMATORS.chosen(config.depth)
    assert chosen.backend.provider == "my-depth 2.1"
    assert chosen.weights() == {"mine-large": "main"}
    assert all_models().keys() == {*MODELS, "mine-large"}
    assert registered("mine-large").repo == "me/mine"
    (check,) = [check for check in doctor.check_backends() if check.name == "depth estimator mine"]
    assert (check.state, check.detail) == ("ok", "from my-depth 2.1")
    with pytest.raises(UsageError, match=r"`depth\.size`: Input should be a valid integer"):
        load_config(overrides=["depth=mine", "depth.size=big"])


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        ("import nowhere", "MINE", r"cannot be imported: ModuleNotFoundError: No module named 'nowhere'\."),
        ("raise RuntimeError('two\\nlines')", "MINE", r"cannot be imported: RuntimeError: two lines\."),
        (GOOD, "OTHER", "cannot be imported: AttributeError"),
        (GOOD, "MODEL", "is my_depth:MODEL, a Model; it must be a DepthEstimator"),
        (GOOD.replace('"mine"', '"yours"'), "MINE", "has settings whose `method` is 'yours'; it must be 'mine'"),
    ],
)
def test_one_that_cannot_be_used_costs_a_line(
    install: Install,
    text: str,
    attribute: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    install("my-depth", text, attribute=attribute)
    assert load_config(overrides=["depth=ground"]).depth == GroundConfig()  # it is not asked for
    with pytest.raises(UsageError, match=f"`depth`: the depth estimator mine of my-depth 2.1 {message}") as refused:
        load_config(overrides=["depth=mine"])
    assert str(refused.value).isprintable()
    (check,) = [check for check in doctor.check_backends() if check.name == "depth estimator mine"]
    assert (check.state, check.fix) == ("warn", "pip install --force-reinstall my-depth")
    with caplog.at_level(logging.WARNING):
        assert all_models().keys() == MODELS.keys()
    assert len(caplog.records) == 1
    assert commands.main(["config", "backends"]) == 0
    assert "ground" in capsys.readouterr().out


def test_names_that_are_taken(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("my-depth", GOOD.replace('"mine"', '"embedded"'), method="embedded")
    with caplog.at_level(logging.WARNING):
        assert load_config().depth == EmbeddedDepthConfig()
    assert "my-depth 2.1 also has the depth estimator embedded; using scenegen's own" in caplog.text
    for name in ("one-depth", "other-depth"):
        install(name, GOOD)
    with pytest.raises(UsageError, match=r"comes from (one|other)-depth 2\.1 and (one|other)-depth 2\.1; uninstall"):
        load_config(overrides=["depth=mine"])


def test_settings_are_of_their_own_port() -> None:
    with pytest.raises(ValueError, match="no segmenter is called 'ground'"):
        SEGMENTERS.settings(GroundConfig())
    for value in (3, None, {}, {"method": 3}, []):
        with pytest.raises(ValueError, match="must name its `method`, one of: embedded, regions, sam"):
            SEGMENTERS.settings(value)


def test_nothing_is_looked_for_before_it_is_needed(install: Install) -> None:
    """Neither entry points for `import scenegen` and `--help`, nor a back-end's module for the configuration of another."""
    install("my-depth", "raise SystemExit('imported')")

    def modules(code: str) -> set[str]:
        command = [sys.executable, "-W", "error", "-c", f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"]
        path = {"PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, env=path, check=True)
        return set(done.stderr.split())

    assert not modules("import scenegen") & {"importlib.metadata", "pydantic", "numpy"}
    helped = modules("from scenegen.cli.commands import main\nmain(['--help'])")
    assert not helped & {"scenegen.registry", "scenegen.config", "pydantic", "numpy"}
    loaded = modules("from scenegen.config import load_config\nload_config()")
    assert not loaded & {"my_depth", "numpy", "torch", "scipy"}
