"""The published folder: every output with its `manifest.json`, swapped in as a whole.

A folder is assembled under a temporary name in the store, which lies on the same disk, and flushed. Then the
published folder is renamed into the store, and the new one into its place. A process killed between the two renames
leaves no folder at all; `heal`, which every run starts with, puts the old one back.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from scenegen import __version__
from scenegen.config import Config
from scenegen.errors import ExportError, InputError, ResourceError, one_line
from scenegen.records import Artifact, Failure, Metres, PlacedObject, Record, SelfCheck, Settled, Shown, Source
from scenegen.registry import UNUSABLE
from scenegen.store.digest import sha256_file
from scenegen.store.store import MANIFEST, Store, disk_errors, flush
from scenegen.untrusted.documents import read_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Literal[1] = 1
REPLACED = "replaced"
"""Folder of the store where published folders wait, as `<token>@<name>`, while their successors move in."""
PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "embreex": "embreex",
        "fast-simplification": "fast_simplification",
        "manifold3d": "manifold3d",
        "networkx": "networkx",
        "numpy": "numpy",
        "opencv-python-headless": "cv2",
        "pillow": "PIL",
        "scikit-image": "skimage",
        "scipy": "scipy",
        "segment-anything": "segment_anything",
        "torch": "torch",
        "transformers": "transformers",
        "trimesh": "trimesh",
        "usd-core": "pxr",
        "xatlas": "xatlas",
    }
)
"""Packages whose version can change a result, each with its module."""


class Given(Record):
    """The names of the files that the user gave."""

    photo: str
    masks: tuple[str, ...] = ()
    depth: str | None = None
    camera: tuple[str, ...] = ()
    meshes: tuple[str, ...] = ()


class FurtherPhoto(Record):
    """A further photo of the scene."""

    given: Given
    source: Source


class StageEntry(Record):
    """How one stage's result was made."""

    stage: str
    object: int | None
    key: str
    seconds: float
    card_peak_bytes: int = 0
    """Of a graphics card's memory, the most that its tensors took; 0 if it ran on none."""
    backend: str | None
    licence: str | None
    weights: dict[str, str]
    warnings: tuple[Shown, ...]
    check: SelfCheck | None = None


class OutputFile(Record):
    """One published file."""

    name: str
    """Relative to the folder, with forward slashes."""
    sha256: str
    bytes: int


class Environment(Record):
    """The software and the machine that made the scene."""

    scenegen: str
    python: str
    packages: dict[str, str]
    platform: str
    device: str


class Manifest(Record):
    """Everything needed to tell how a scene was made, and to make it again."""

    schema_version: Literal[1] = SCHEMA_VERSION
    state: Literal["complete", "partial"]
    """`partial`: an object failed, or none was found."""
    environment: Environment
    config: Config
    given: Given
    source: Source
    others: tuple[FurtherPhoto, ...] = ()
    """If there are several photos of the scene."""
    scene: str = ""
    """Name of the folder, if there are several photos."""
    stages: tuple[StageEntry, ...]
    metres: Metres | None = None
    """None in scenes made before it was stated."""
    objects: tuple[PlacedObject, ...]
    settled: tuple[tuple[int, Settled], ...] = ()
    """What becomes of objects under gravity, by id; empty unless it was asked for."""
    colliders: Artifact | None = None
    """What each part collides with, a file in the store; None in scenes made before it was kept."""
    failures: tuple[Failure, ...]
    outputs: tuple[OutputFile, ...]
    """Every file of the folder except this one and those that the user added."""

    @property
    def name(self) -> str:
        """Of the scene's folder."""
        return self.scene or self.source.name

    def text(self) -> str:
        """The manifest as it is written."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"


def environment(device: str) -> Environment:
    """The environment of this process, computing on `device`."""
    return Environment(
        scenegen=__version__,
        python=platform.python_version(),
        packages=dict(package_versions()),
        platform=platform.platform(),
        device=device,
    )


@functools.cache
def package_versions() -> Mapping[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return MappingProxyType(found)


def output_files(files: Sequence[tuple[str, Artifact]]) -> tuple[OutputFile, ...]:
    """The manifest's entries for `files`, sorted by name.

    Raises:
        ExportError: if a name lies outside the folder, occurs twice, or is the manifest's own.
    """
    names = [name for name, _ in files]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or name in ("", ".", MANIFEST):
            raise ExportError(f"output file {name!r} must be a relative path inside the folder other than {MANIFEST}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(f"output files {', '.join(twice)} occur twice.")
    return tuple(OutputFile(name=name, sha256=file.sha256, bytes=file.bytes) for name, file in sorted(files))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a published folder.

    Raises:
        InputError: if there is none, or this version cannot read it.
    """
    path = folder / MANIFEST
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({one_line(str(error))}); give the folder of a scene.") from error
    found = values.get("schema_version") if isinstance(values, dict) else None
    if found != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {one_line(repr(found), 40)}, but this scenegen reads {SCHEMA_VERSION}; "
            "make the scene again from its photo."
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 200)
        if first["type"] == UNUSABLE:
            raise InputError(
                f"{path} names at `{where}` a back-end that cannot be used here: {one_line(first['msg'], 400)}. Install the "
                "package that brings it, or make the scene again."
            ) from error
        raise InputError(
            f"{path} is damaged at `{where}`: {one_line(first['msg'], 200)}; make the scene again."
        ) from error


def publish(store: Store, target: Path, files: Sequence[tuple[str, Artifact]], manifest: Manifest) -> bool:
    """Publishes `files` and `manifest` as the folder `target`, and keeps what the user has added to it.

    Args:
        store: where the files come from; its root must lie on the disk of `target`.
        target: the folder to publish.
        files: output name and artifact, as `manifest.outputs` names them.
        manifest: written last.

    Returns:
        False if the folder was already up to date, and nothing was written.

    Raises:
        ResourceError: if the disk cannot be written, the store is damaged, or a file lies at `target`.
    """
    heal(store, target.parent)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ResourceError(f"{target} is not a folder; move it away or choose another folder with -o.")
    text = manifest.text()
    if _is_published(target, manifest, text):
        return False
    with disk_errors(target), store.lock(), store.staging() as folder:
        for name, artifact in files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store.path(artifact), path)
            if sha256_file(path) != artifact.sha256:
                raise ResourceError(f"{store.path(artifact)} was damaged during this run; run again to recompute it.")
        if target.is_dir():
            _carry_over(target, folder)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        for path in (*sorted(folder.rglob("*")), folder):
            if not path.is_symlink() and (path.is_file() or path.is_dir()):
                flush(path)
        _swap(store, folder, target)
    return True


def heal(store: Store, out: Path) -> None:
    """Cleans up after killed processes: restores folders of `out` that were moved aside, and deletes replaced ones.

    Raises:
        ResourceError: if the disk cannot be written.
    """
    if not any((store.root / REPLACED).glob("*@*")):
        return
    with disk_errors(out), store.lock():
        for folder in sorted((store.root / REPLACED).glob("*@*")):
            target = out / folder.name.partition("@")[2]
            if target.exists():
                _discard(store, folder)
            else:
                folder.rename(target)
                logger.warning("%s: restored after an interrupted run", target)


def _is_published(target: Path, manifest: Manifest, text: str) -> bool:
    try:
        same = (target / MANIFEST).read_text(encoding="utf-8") == text
        return same and all(sha256_file(target / file.name) == file.sha256 for file in manifest.outputs)
    except (OSError, UnicodeDecodeError):
        return False


def _carry_over(old: Path, new: Path) -> None:
    """Copies to `new` what the user has added to `old`: every file that its manifest does not name."""
    try:
        ours = {file.name: file.sha256 for file in read_manifest(old).outputs}
    except InputError:
        ours = {}
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if name in ours:
            if path.is_file() and sha256_file(path) != ours[name]:
                logger.warning("%s has changed since scenegen wrote it, and is replaced", path)
        elif path.is_symlink() or (path.is_file() and name != MANIFEST):
            kept = new / name
            while kept.exists() or kept.is_symlink():
                kept = kept.with_name(f"{kept.name}.kept")
            if kept != new / name:
                logger.warning("%s was not written by scenegen and is kept as %s", path, kept.name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept, follow_symlinks=False)


def _swap(store: Store, folder: Path, target: Path) -> None:
    """Renames `folder` to `target`, after moving aside what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = store.root / REPLACED / f"{uuid.uuid4().hex}@{target.name}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    replaces = target.exists()
    if replaces:
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if replaces:
            aside.rename(target)
        raise
    flush(target.parent)
    if replaces:
        _discard(store, aside)


def _discard(store: Store, folder: Path) -> None:
    """Deletes a replaced folder, after moving it where `heal` does not look: half of one must never be restored."""
    with store.staging() as trash:
        folder.rename(trash / "replaced")
