"""Where results and leases are kept: a local folder, or objects below an fsspec URL (s3://, gs://, memory://, ...).

Both offer the same few operations. On both, a write is complete or absent: locally by a rename, in an object store because
a PUT is atomic. Local folders need no fsspec.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

from scenegen.errors import ScenegenError, TransientError, UsageError, WeightsError
from scenegen.messages.redaction import clean_cause, redacted, redacted_url, remember

logger = logging.getLogger(__name__)

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 3}}},
}
"""Options by protocol, with which a dead network ends in an error, not in minutes of waiting. Credentials and endpoints come
from the environment, as each back-end documents (AWS_ENDPOINT_URL, FSSPEC_S3_KEY, ...)."""
IN_PROCESS = frozenset({"memory"})
"""Protocols that reach nothing outside this process."""


@runtime_checkable
class Folder(Protocol):
    """Small pieces of content by name. Names are relative, with forward slashes."""

    def read(self, name: str) -> bytes | None:
        """The content, or None if there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Replaces the content as a whole."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Writes only if there is nothing yet. Returns whether it did."""
        ...

    def remove(self, name: str) -> None:
        """Removes the content, if there is any."""
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, or of a disk it shares."""

    root: Path
    staging: Path
    """Folder on the same disk where files are written before they are renamed into place."""

    def read(self, name: str) -> bytes | None:
        """See `Folder.read`."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """See `Folder.write`. Raises OSError if the disk cannot be written."""
        target, new = self.root / name, self._new()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> bool:
        """See `Folder.create`. Raises OSError if the disk cannot be written."""
        target, new = self.root / name, self._new()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_bytes(content)
            try:
                os.link(new, target)  # the only way that is atomic and replaces nothing
            except FileExistsError:
                return False
            except OSError:  # no links on this disk
                return self._create_in_place(target, content)
            return True
        finally:
            new.unlink(missing_ok=True)

    def _create_in_place(self, target: Path, content: bytes) -> bool:
        try:
            with target.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return False
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return True

    def _new(self) -> Path:
        """The path of a new file on the same disk."""
        self.staging.mkdir(parents=True, exist_ok=True)
        return self.staging / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"

    def remove(self, name: str) -> None:
        """See `Folder.remove`."""
        (self.root / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFolder:
    """The objects below an fsspec URL.

    `create` is a conditional PUT (`If-None-Match: *` on S3, a generation match on Google) if the back-end has one;
    otherwise it is a check and then a write, between which another writer may slip in.

    Raises:
        UsageError: for a protocol that fsspec does not know.
        WeightsError: if fsspec, or the package for the protocol, is not installed.
        TransientError: if the back-end cannot be reached or refuses.
    """

    url: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return connect(self.url)

    def address(self, name: str) -> str:
        """URL of an object."""
        return f"{self.url.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes | None:
        """See `Folder.read`."""
        with self._at(name) as (files, path):
            try:
                return bytes(files.cat_file(path))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """See `Folder.write`."""
        with self._at(name) as (files, path):
            files.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> bool:
        """See `Folder.create`."""
        with self._at(name) as (files, path):
            try:
                files.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        """See `Folder.remove`."""
        with self._at(name) as (files, path), contextlib.suppress(FileNotFoundError):
            files.rm_file(path)

    def sizes(self, name: str) -> dict[str, int]:
        """Size in bytes of every object below `name`, by its name relative to that."""
        with self._at(name) as (files, path):
            try:
                found = files.find(path, detail=True)
            except FileNotFoundError:
                return {}
        # Some back-ends put a slash in front of their paths.
        return {place.strip("/").removeprefix(f"{path.strip('/')}/"): info["size"] for place, info in found.items()}

    def upload(self, file: Path, name: str) -> None:
        """Uploads a local file."""
        with self._at(name) as (files, path):
            files.put_file(str(file), path)

    def download(self, name: str, file: Path) -> bool:
        """Downloads an object to a local file. Returns False if there is none."""
        with self._at(name) as (files, path):
            try:
                files.get_file(path, str(file))
            except FileNotFoundError:
                return False
        return True

    @contextlib.contextmanager
    def _at(self, name: str) -> Iterator[tuple[Any, str]]:
        files, root = self._place
        with reaching(self.address(name)):
            yield files, f"{root.rstrip('/')}/{name}"


def is_url(text: str) -> bool:
    """Whether `text` is a URL rather than a local path. A `file://` URL is a local path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE) is not None and not text.lower().startswith("file:")


def local_path(text: str) -> Path:
    """The local path that `text`, a path or a `file://` URL, means."""
    if not text.lower().startswith("file://"):
        return Path(text)
    _, slash, path = text[len("file://") :].partition("/")
    return Path(os.fsdecode(unquote_to_bytes(slash + re.split("[?#]", path, maxsplit=1)[0])))


def scheme(url: str) -> str:
    """The protocol of a URL, in lower case."""
    return url.partition("://")[0].lower()


def refuse_network(url: str, argument: str) -> None:
    """Fails for a URL that needs the network, which `--offline` forbids.

    Raises:
        UsageError: unless the protocol stays within this process.
    """
    if scheme(url) not in IN_PROCESS:
        raise UsageError(
            f"`{argument}` is {redacted_url(url)}, which needs the network; give a local path, or drop --offline."
        )


def connect(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path on it. It does not connect yet. Raises as `RemoteFolder` does."""
    try:
        import fsspec
    except ImportError as error:
        raise WeightsError(
            f"{redacted_url(url)} needs fsspec, which is not installed: pip install 'scenegen-3d[batch]'"
        ) from error
    protocol = scheme(url)
    remember(url)
    try:
        # Listings are not cached, since other machines write there too.
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **OPTIONS.get(protocol, {}))
    except ImportError as error:
        raise WeightsError(
            f"{redacted_url(url)} needs a package for {protocol}:// that is not installed: {error}"
        ) from error
    except ValueError as error:
        raise UsageError(redacted(f"{redacted_url(url)} cannot be used: {error}")) from clean_cause(error)
    return files, str(path)


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turns whatever a back-end raises into a `TransientError` that says what to do. Back-ends share no error type."""
    try:
        yield
    except ScenegenError:
        raise
    except Exception as error:  # noqa: BLE001 (back-ends share no error type; all become one)
        shown = redacted_url(url)
        text = redacted(" ".join(str(error).split())) or type(error).__name__
        raise TransientError(
            f"cannot reach {shown}: {text}; check the address, the credentials and the network, then run again."
        ) from clean_cause(error)
