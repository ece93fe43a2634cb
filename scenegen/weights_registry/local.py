"""Finds, lists and checks the models on this machine. It never uses the network.

A fetched model is a folder `<models>/<name>/` with its files and `verified.json`, which records what a fetch verified.
Without that file, the fetch has not finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scenegen.compute.runtime import Runtime
from scenegen.errors import WeightsError
from scenegen.store.digest import sha256_once
from scenegen.untrusted.documents import parse_json
from scenegen.weights_registry.model import Model
from scenegen.weights_registry.models import all_models, registered

VERIFIED = "verified.json"


@dataclass(frozen=True)
class ModelStatus:
    """A registered model and its state on this machine."""

    model: Model
    folder: Path
    state: Literal["present", "absent", "damaged"]
    detail: str
    """What is damaged."""


def list_models(runtime: Runtime, hashes: bool = False) -> tuple[ModelStatus, ...]:
    """Every registered model with its state; `hashes` also reads the files and checks their digests."""
    return tuple(_inspect(model, runtime.models / model.name, hashes) for model in all_models().values())


def locate(name: str, runtime: Runtime) -> Path:
    """Folder of the fetched model `name`, after a check of its files, which are read once unless they change.

    Raises:
        UsageError: if no model has that name.
        WeightsError: if the model is absent or damaged.
    """
    return locate_all((name,), runtime)[0]


def locate_all(names: Sequence[str], runtime: Runtime) -> tuple[Path, ...]:
    """Folders of fetched models that are used together, in the order of `names`, checked as by `locate`.

    Raises:
        UsageError: if no model has one of the names.
        WeightsError: if any is absent or damaged; the message names them, and the command that fetches all.
    """
    rows = [_inspect(registered(name), runtime.models / name, hashes=True) for name in names]
    lacking = [
        f"`{row.model.name}` are {row.state} in {row.folder}{row.detail and f' ({row.detail})'}"
        for row in rows
        if row.state != "present"
    ]
    if lacking:
        network = " with a network (this run is offline)" if runtime.offline else ""
        raise WeightsError(
            f"the weights {', '.join(lacking)}. Run `scenegen models fetch {' '.join(names)}` once{network}."
        )
    return tuple(row.folder for row in rows)


def digest_of(path: Path) -> str:
    """sha256 (hex) of a weight file, which is read once unless it changes.

    Raises:
        WeightsError: if it cannot be read.
    """
    try:
        return sha256_once(path)
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be read: {error.strerror or error}.") from error


def check_digest(path: Path, expected: str) -> None:
    """Compares the sha256 of a weight file.

    Raises:
        WeightsError: if the file cannot be read or has another digest.
    """
    found = digest_of(path)
    if found != expected.lower():
        raise WeightsError(f"{path} has sha256 {found} instead of {expected}; fetch or copy it again.")


def _inspect(model: Model, folder: Path, hashes: bool) -> ModelStatus:
    try:
        text = (folder / VERIFIED).read_bytes()
    except OSError:
        return ModelStatus(model, folder, "absent", "")
    try:
        _check(model, folder, parse_json(text), hashes)
    except (WeightsError, ValueError, KeyError, TypeError) as error:
        return ModelStatus(model, folder, "damaged", f"{error}".rstrip("."))
    return ModelStatus(model, folder, "present", "")


def _check(model: Model, folder: Path, verified: Any, hashes: bool) -> None:
    """Raises if the folder differs from `verified`, or `verified` from what is registered."""
    if verified["revision"] != model.revision:
        raise WeightsError(f"it is revision {verified['revision']}, but {model.revision} is registered")
    for file in model.files:
        path, entry = folder / file.name, verified["files"][file.name]
        if file.sha256 not in (None, entry["sha256"]):
            raise WeightsError(
                f"{file.name} was fetched with sha256 {entry['sha256']}, but {file.sha256} is registered"
            )
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            raise WeightsError(f"{file.name} has {size or 'no'} bytes instead of {entry['bytes']}")
        if hashes:
            check_digest(path, entry["sha256"])
