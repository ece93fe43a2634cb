"""The photos of a batch: what a folder, glob pattern, list file or URL names, and how a photo is fetched."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator

from scenegen.errors import InputError, UsageError
from scenegen.inputs.listing import NO_PICTURE, Skipped, find_photos, pictures
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import Inputs, companions, entries_of, is_safe_name, safe_name, unique_names, views_of
from scenegen.messages.redaction import redacted_url
from scenegen.records import Record, digest_json
from scenegen.store.folder import connect, is_url, local_path, reaching, scheme
from scenegen.store.store import MAX_INPUT_BYTES, input_digest
from scenegen.untrusted.formats import PICTURE_SUFFIXES

logger = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".txt", ".list"})
WEB = frozenset({"http", "https"})
CHUNK_BYTES = 1 << 20
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def _checked_name(name: str) -> str:
    if not is_safe_name(name):
        raise ValueError(f"{name!r} is not a safe folder name; use one that scenegen.inputs.photos.safe_name returns")
    return name


class Beside(Record):
    """Files of this machine that belong to a photo, as in `scenegen.inputs.photos.Inputs`."""

    masks: tuple[str, ...] = ()
    depth: str | None = None
    camera: tuple[str, ...] = ()
    meshes: tuple[str, ...] = ()


class Item(Record):
    """One scene of a batch: of one photo, or of several."""

    image: str
    """Absolute path, or URL, of the photo; of several, the first."""
    others: tuple[str, ...] = ()
    """The same of further photos of the scene."""
    beside: tuple[Beside, ...] = ()
    """The files that belong to each photo; empty if there are none."""
    name: Annotated[str, AfterValidator(_checked_name)]
    """Name of its output folder: safe, and different from every other one on any file system."""
    version: str | None = None
    """The object store's name for this content (its ETags), so that a finished photo need not be fetched."""

    @property
    def photos(self) -> tuple[str, ...]:
        """All photos of the scene."""
        return self.image, *self.others

    def inputs(self, photos: Sequence[Path]) -> Inputs:
        """The files of the scene, whose photos are here as `photos`."""
        stems = [self.name] if len(photos) == 1 else unique_names(photos)
        beside = self.beside or (Beside(),) * len(photos)
        first, *others = (
            Inputs(
                stem,
                photo,
                tuple(map(local_path, files.masks)),
                None if files.depth is None else local_path(files.depth),
                camera=tuple(map(local_path, files.camera)),
                meshes=tuple(map(local_path, files.meshes)),
            )
            for stem, photo, files in zip(stems, photos, beside, strict=True)
        )
        return replace(first, others=tuple(others), scene=self.name if others else "")


@dataclass(frozen=True)
class Listing:
    """What a source names."""

    items: tuple[Item, ...]
    """Each photo once, sorted by path; those of a list in its order."""
    skipped: tuple[Skipped, ...]


def list_photos(source: str, options: InputOptions = InputOptions()) -> Listing:
    """The photos that `source` names, none of which is read.

    A photo whose files are not there is among what is skipped.

    Args:
        source: a photo; a folder (its pictures, not those of sub-folders); a glob pattern; a `.txt` or `.list` file
            with one path or URL per line, relative to the folder of the list, `#` for comments. Each can be local or a URL.
        options: folders with one entry per photo, named after it; then all photos must be here.

    Raises:
        UsageError: if it names nothing, or `options` go with a URL.
        WeightsError: if a package for the URL's protocol is missing.
        ResourceError: if it cannot be reached.
    """
    photos, skipped = _found(source)
    if not photos and not any(item.failed for item in skipped):
        raise UsageError(f"`SOURCE` {redacted_url(source)} names no photo.")
    names = unique_names([_pure_path(redacted_url(image)) for image in photos])
    items, left, brought = [], [*skipped], _brought(photos, options)
    for (image, version), name in zip(photos.items(), names, strict=True):
        try:
            beside = _beside(companions(local_path(image), name, options, single=False)) if brought else ()
        except InputError as error:
            left.append(Skipped(redacted_url(image), str(error), failed=True))
        else:
            items.append(Item(image=image, name=name, version=version, beside=beside))
    return Listing(tuple(items), tuple(left))


def list_scenes(source: str, options: InputOptions = InputOptions()) -> Listing:
    """The scenes of several photos that `source` names: one for each folder of photos. None is read.

    A folder of a single photo, and one whose files are not there, is among what is skipped.

    Args:
        source: a folder or URL, each of whose sub-folders holds the photos of one scene; or a `.txt` or `.list` file with one
            such sub-folder per line. The first photo of each, by name, is its main view.
        options: folders with one entry per scene, named after its folder, each as for `views_of`; then all must be here.

    Raises:
        UsageError: if it names no folder with photos, `options` go with a URL, or they have meshes.
        WeightsError: if a package for the URL's protocol is missing.
        ResourceError: if it cannot be reached.
    """
    found: dict[str, dict[str, str | None]] = {}
    skipped: list[Skipped] = []
    for folder in _inner_folders(source):
        photos, left = _remote(folder) if is_url(folder) else _local(folder)
        skipped += left
        if len(photos) > 1:
            found[folder] = photos
        elif not any(item.failed for item in left):
            reason = f"holds {len(photos)} photo(s); a scene of several needs two or more"
            skipped.append(Skipped(redacted_url(folder), reason, failed=bool(photos)))
    if not found and not any(item.failed for item in skipped):
        raise UsageError(
            f"`SOURCE` {redacted_url(source)} names no scene of several photos; give a folder with a folder of photos for each."
        )
    # A name with a dot is a folder's as a whole.
    names = unique_names([_pure_path(f"{redacted_url(folder).rstrip('/')}.jpg") for folder in found])
    items = []
    for (folder, photos), name in zip(found.items(), names, strict=True):
        image, *others = photos
        versions = [version for version in photos.values() if version is not None]
        version = digest_json(versions) if len(versions) == len(photos) else None
        try:
            beside: tuple[Beside, ...] = ()
            if _brought(photos, options):
                files = entries_of(options, local_path(folder))
                beside = _beside(views_of([local_path(photo) for photo in photos], name, files))
        except InputError as error:
            skipped.append(Skipped(redacted_url(folder), str(error), failed=True))
        else:
            items.append(Item(image=image, others=tuple(others), name=name, version=version, beside=beside))
    return Listing(tuple(items), tuple(skipped))


def _brought(photos: Iterable[str], options: InputOptions) -> bool:
    """Whether files belong to the photos.

    Raises:
        UsageError: if they do, and a photo is not here.
    """
    brought = options != InputOptions(depth_kind=options.depth_kind)
    away = next(filter(is_url, photos), None)
    if brought and away:
        raise UsageError(
            f"`masks`, `depth`, `camera` and `meshes` belong to photos of this machine, and {redacted_url(away)} is a URL; copy "
            "the photos here, or drop them."
        )
    return brought


def _beside(inputs: Inputs) -> tuple[Beside, ...]:
    """The files that belong to the photos of a scene."""
    return tuple(
        Beside(
            masks=tuple(map(_text, each.masks)),
            depth=None if each.depth is None else _text(each.depth),
            camera=tuple(map(_text, each.camera)),
            meshes=tuple(map(_text, each.meshes)),
        )
        for each in (inputs, *inputs.others)
    )


def _inner_folders(source: str) -> list[str]:
    """The folders in a folder, sorted, or those of a list in its order."""
    if PurePosixPath(source).suffix.lower() in LIST_SUFFIXES:
        return list(dict.fromkeys(_listed(source)))
    if is_url(source):
        files, path = connect(source)
        with reaching(source):
            try:
                entries = files.ls(path, detail=True)
            except FileNotFoundError:
                entries = []
        return sorted(str(files.unstrip_protocol(entry["name"])) for entry in entries if entry["type"] == "directory")
    folder = local_path(source)
    if not folder.is_dir():
        raise UsageError(f"`SOURCE` {source} is not a folder; it must hold a folder of photos for each scene.")
    return sorted(_text(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _local(folder: str) -> tuple[dict[str, str | None], list[Skipped]]:
    """The photos of a folder here, and what is skipped."""
    found, skipped = pictures(local_path(folder))
    return dict.fromkeys(map(_text, found)), skipped


def fetch(image: str, folder: Path) -> Path:
    """The photo as a local file: itself, or a copy in `folder` if it is a URL.

    Raises:
        InputError: if there is no file, or one of more than `MAX_INPUT_BYTES`.
        ResourceError: if it cannot be reached.
    """
    if not is_url(image):
        return local_path(image)
    files, path = connect(image)
    there = _pure_path(redacted_url(image))
    # The endings of masks, depth maps and cameras say what they are; those of photos do not matter.
    copy = folder / f"{safe_name(there.stem)}{there.suffix if SUFFIX.fullmatch(there.suffix) else ''}"
    with reaching(image):
        try:
            stream = files.open(path, "rb")
        except FileNotFoundError as error:
            raise InputError(f"{redacted_url(image)} does not exist.") from error
    with stream, copy.open("wb") as file:
        while chunk := _read(stream, image):
            file.write(chunk)
            if file.tell() > MAX_INPUT_BYTES:
                raise InputError(f"{redacted_url(image)} must be a file of at most {MAX_INPUT_BYTES} bytes.")
    return copy


def _read(stream: Any, image: str) -> bytes:
    with reaching(image):
        return stream.read(CHUNK_BYTES)


def _found(source: str) -> tuple[dict[str, str | None], Sequence[Skipped]]:
    """Photos with their versions, and what is skipped."""
    if PurePosixPath(source).suffix.lower() in LIST_SUFFIXES and not glob.has_magic(source):
        return dict.fromkeys(_listed(source)), ()
    if is_url(source):
        return _remote(source)
    path = local_path(source)
    if not path.exists() and not glob.has_magic(str(path)):
        raise UsageError(
            f"`SOURCE` {redacted_url(source)} does not exist; give a folder, a pattern, a list, a photo or a URL."
        )
    found = find_photos([str(path)])
    return dict.fromkeys(map(_text, found.photos)), found.skipped


def _remote(source: str) -> tuple[dict[str, str | None], list[Skipped]]:
    files, path = connect(source)
    with reaching(source):
        try:
            if "*" in path if scheme(source) in WEB else glob.has_magic(path):
                details = files.glob(path, detail=True)
            else:
                details = {entry["name"]: entry for entry in files.ls(path, detail=True)}
        except FileNotFoundError:
            details = {}
    photos: dict[str, str | None] = {}
    skipped: list[Skipped] = []
    for name in sorted(details):
        image = str(files.unstrip_protocol(name))
        # A photo named by the user may be called anything.
        named = str(name).rstrip("/") == path.rstrip("/")
        if details[name]["type"] != "file":
            continue
        if named or _pure_path(image).suffix.lower() in PICTURE_SUFFIXES:
            photos[image] = _version(details[name])
        else:
            skipped.append(Skipped(redacted_url(image), NO_PICTURE))
    return photos, skipped


def _version(entry: Mapping[str, Any]) -> str | None:
    tag = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash")
    return None if tag is None else f"{tag} {entry.get('size')}"


def _listed(source: str) -> Iterator[str]:
    try:
        text = _content(source).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"`SOURCE` {redacted_url(source)} is not a list: it is not text in UTF-8.") from error
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if is_url(line):
            yield line
        elif is_url(source):
            yield f"{source.rpartition('/')[0]}/{line}"
        else:
            yield _text(local_path(source).parent / local_path(line))


def _content(source: str) -> bytes:
    if not is_url(source):
        listing = local_path(source)
        try:
            input_digest(listing)
            return listing.read_bytes()
        except (InputError, OSError) as error:
            raise UsageError(f"`SOURCE` {error}") from error
    files, path = connect(source)
    with reaching(source):
        return bytes(files.cat_file(path))


def _text(path: Path) -> str:
    """An absolute path as text; a file:// URL if its bytes are not text."""
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return text


def _pure_path(image: str) -> PurePath:
    if not is_url(image):
        return local_path(image)
    name = image.partition("://")[2]
    # Only web URLs quote their paths and have queries; in a bucket, a per cent sign means itself.
    return PurePosixPath(unquote(re.split("[?#]", name, maxsplit=1)[0]) if scheme(image) in WEB else name)
