"""The container images are built with what requirements.lock names; it must keep up with pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKED = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    )
}


def required() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [
        *project["dependencies"],
        *(line for extra in ("batch", "full", "prefect", "ray") for line in extras[extra]),
    ]


@pytest.mark.parametrize("line", required())
def test_the_lock_has_what_is_required(line: str) -> None:
    requirement = Requirement(line)
    version = LOCKED.get(canonicalize_name(requirement.name))
    assert version is not None, f"{line} is not in requirements.lock; run .ci/lock."
    assert requirement.specifier.contains(version), f"{line}, but requirements.lock has {version}; run .ci/lock."


def test_the_image_is_built_from_the_lock() -> None:
    installs = [line for line in (ROOT / "Containerfile").read_text().splitlines() if "pip install" in line]
    assert installs
    assert all("-c requirements.lock" in line for line in installs)
    assert "!requirements.lock" in (ROOT / ".dockerignore").read_text().splitlines()
