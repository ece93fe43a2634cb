"""Users have folders called `stages` and modules called `flows` too."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from scenegen.cli import deployed
from scenegen.cli.siblings import BESIDE, check_sibling, leave_current_folder
from scenegen.errors import UsageError


def python(folder: Path, *words: str, path: tuple[Path, ...] = (BESIDE,)) -> subprocess.CompletedProcess[str]:
    """Python in `folder`, with scenegen on its path as an installed package is: after the current folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A folder with a package `stages` and a module `flows` of the user's."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "flows.py").touch()
    return tmp_path


def test_the_command_line_does_not_look_into_the_current_folder(taken: Path) -> None:
    (taken / "photos").mkdir()
    done = python(taken, "-m", "scenegen", "batch", "photos", "-o", "out")
    assert "photos holds no picture" in done.stderr, done.stderr


@pytest.mark.slow
def test_neither_does_the_set_up_of_the_flows(taken: Path) -> None:
    done = python(taken, "-m", "scenegen", "prefect-setup")
    assert "no Prefect server is set" in done.stderr


@pytest.mark.slow
def test_nor_do_the_deployments(taken: Path) -> None:
    code = "from prefect.flows import load_flow_from_entrypoint as load; print(load('scenegen.cli.deployed.image_to_scene').fn)"
    done = python(taken, "-c", code)
    assert "function image_to_scene" in done.stdout, done.stderr


def test_whose_package_was_found_instead_is_said_in_one_line(tmp_path: Path) -> None:
    theirs, here = tmp_path / "theirs", tmp_path / "here"
    (theirs / "stages").mkdir(parents=True)
    (theirs / "stages" / "__init__.py").touch()
    here.mkdir()
    done = python(here, "-m", "scenegen", "doctor", path=(theirs, BESIDE))
    assert (done.returncode, done.stdout) == (UsageError.exit_code, "")
    (line,) = done.stderr.splitlines()
    assert f"`stages` would be imported from {theirs / 'stages'} instead of {BESIDE / 'stages'}, scenegen's own" in line


def test_a_deployment_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("flows")
    theirs.__spec__ = spec_from_file_location("flows", tmp_path / "flows.py")
    monkeypatch.setitem(sys.modules, "flows", theirs)
    with pytest.raises(UsageError, match=rf"`flows` would be imported from {tmp_path / 'flows.py'} instead of"):
        _ = deployed.image_to_scene
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deployed.nothing


def test_one_that_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="imported from None"):
        check_sibling("there_is_no_such_package")


def test_a_checkout_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BESIDE), "elsewhere"])
    monkeypatch.chdir(BESIDE)
    leave_current_folder()
    assert sys.path == [str(BESIDE), "elsewhere"]
    monkeypatch.chdir(tmp_path)
    leave_current_folder()
    assert sys.path == [str(BESIDE), "elsewhere"]
    for here in ("", str(tmp_path)):
        monkeypatch.setattr(sys, "path", [here, "elsewhere"])
        leave_current_folder()
        assert sys.path == ["elsewhere"]
