"""The photos of a batch: what a folder, glob pattern, list file or URL names, and how one is brought here."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from scenegen.errors import InputError, UsageError
from scenegen.folder import connect, is_url, local_path, reaching
from scenegen.inputs import PICTURE_SUFFIXES, find_photos, is_safe_name, safe_name, unique_names
from scenegen.records import Record
from scenegen.redaction import redacted
from scenegen.store import MAX_INPUT_BYTES

logger = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".txt", ".list"})
WEB = frozenset({"http", "https"})
CHUNK_BYTES = 1 << 20


def _checked_name(name: str) -> str:
    if not is_safe_name(name):
        raise ValueError(f"{name!r} must be a folder name as scenegen.inputs.safe_name makes them")
    return name


class Item(Record):
    """One photo of a batch."""

    image: str
    """Absolute path, or URL."""
    name: Annotated[str, AfterValidator(_checked_name)]
    """Name of its output folder: safe, and unequal to every other's to any file system."""
    version: str | None = None
    """What the object store calls this content (its ETag), so that it is not fetched only to learn that it is done."""


def list_photos(source: str) -> tuple[Item, ...]:
    """The photos that `source` names. None of them is read.

    Args:
        source: a photo; a folder (its pictures, not those of sub-folders); a glob pattern; a `.txt` or `.list` file
            with a path or URL a line, relative ones from where the list lies, `#` for comments; each local or a URL.

    Returns:
        Each photo once; sorted by path, those of a list in its order.

    Raises:
        UsageError: if it names nothing.
        WeightsError: if a package for the URL's protocol is missing.
        ResourceError: if it cannot be reached.
    """
    found = dict(_found(source))
    if not found:
        raise UsageError(f"`SOURCE` {redacted(source)} names no photo.")
    names = unique_names([_pure_path(image) for image in found])
    return tuple(
        Item(image=image, name=name, version=version)
        for (image, version), name in zip(found.items(), names, strict=True)
    )


def fetch(image: str, folder: Path) -> Path:
    """The photo as a local file: itself, or a copy in `folder` of what the URL holds.

    Raises:
        InputError: if nothing is there, or more than `MAX_INPUT_BYTES`.
        ResourceError: if it cannot be reached.
    """
    if not is_url(image):
        return local_path(image)
    files, path = connect(image)
    there = _pure_path(image)
    copy = folder / f"{safe_name(there.stem)}{there.suffix if there.suffix.lower() in PICTURE_SUFFIXES else ''}"
    with reaching(image):
        try:
            stream = files.open(path, "rb")
        except FileNotFoundError as error:
            raise InputError(f"{redacted(image)} cannot be read: nothing is there.") from error
    with stream, copy.open("wb") as file:
        while chunk := _read(stream, image):
            file.write(chunk)
            if file.tell() > MAX_INPUT_BYTES:
                raise InputError(f"{redacted(image)} must be a file of at most {MAX_INPUT_BYTES} bytes.")
    return copy


def _read(stream: Any, image: str) -> bytes:
    with reaching(image):
        return stream.read(CHUNK_BYTES)


def _found(source: str) -> Iterator[tuple[str, str | None]]:
    """Photos and their versions."""
    if PurePosixPath(source).suffix.lower() in LIST_SUFFIXES and not glob.has_magic(source):
        yield from _listed(source)
    elif is_url(source):
        yield from _remote(source)
    else:
        path = local_path(source)
        if not path.exists() and not glob.has_magic(str(path)):
            raise UsageError(
                f"`SOURCE` {redacted(source)} is not there; give a folder, a pattern, a list, a photo or a URL."
            )
        yield from ((_text(photo), None) for photo in find_photos([str(path)]))


def _remote(source: str) -> Iterator[tuple[str, str | None]]:
    files, path = connect(source)
    with reaching(source):
        try:
            if "*" in path if urlsplit(source).scheme in WEB else glob.has_magic(path):
                details = files.glob(path, detail=True)
            else:
                details = {entry["name"]: entry for entry in files.ls(path, detail=True)}
        except FileNotFoundError:
            details = {}
    for name in sorted(details):
        image = str(files.unstrip_protocol(name))
        # A photo named by the user may be called anything.
        named = str(name).rstrip("/") == path.rstrip("/")
        if details[name]["type"] == "file" and (named or _pure_path(image).suffix.lower() in PICTURE_SUFFIXES):
            yield image, _version(details[name])


def _version(entry: Mapping[str, Any]) -> str | None:
    tag = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash")
    return None if tag is None else f"{tag} {entry.get('size')}"


def _listed(source: str) -> Iterator[tuple[str, str | None]]:
    try:
        text = _content(source).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"`SOURCE` {redacted(source)} is no list: it is not text in UTF-8.") from error
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if is_url(line):
            yield line, None
        elif is_url(source):
            yield f"{source.rpartition('/')[0]}/{line}", None
        else:
            yield _text(local_path(source).parent / local_path(line)), None


def _content(source: str) -> bytes:
    if not is_url(source):
        try:
            return local_path(source).read_bytes()
        except OSError as error:
            raise UsageError(f"`SOURCE` {redacted(source)} cannot be read: {error.strerror or error}.") from error
    files, path = connect(source)
    with reaching(source):
        return bytes(files.cat_file(path))


def _text(path: Path) -> str:
    """An absolute path as text; a file:// URL where its bytes are no text."""
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return text


def _pure_path(image: str) -> PurePath:
    if not is_url(image):
        return local_path(image)
    parts = urlsplit(image)
    # Only the web quotes its paths and has queries; in a bucket a per cent sign is one.
    return PurePosixPath(unquote(parts.path) if parts.scheme in WEB else image.partition("://")[2])
