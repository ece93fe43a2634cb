"""The content-addressed store: every stage's result, under a key made of everything that decides it.

An entry is a folder `<stage>/<key[:2]>/<key>/` with the stage's files and `entry.json`. It is filled under a
temporary name, flushed, and renamed into place, so that a reader never sees half of one.

A store may have a mirror: the same entries as objects that several machines share. There `entry.json` is written last,
and names the digest of every file. The local store is then the cache that stages read from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

from scenegen.digest import sha256_file
from scenegen.errors import InputError, ResourceError, ScenegenError
from scenegen.folder import Folder, LocalFolder, RemoteFolder
from scenegen.lease import LeaseTimes, lease
from scenegen.records import Artifact

logger = logging.getLogger(__name__)

T = TypeVar("T")

ENTRY = "entry.json"
STAGING = "staging"
LEASES = "leases"
UNPUSHED = "unpushed"
MAX_INPUT_BYTES = 1 << 30
ABANDONED_AFTER_S = 24 * 3600


def input_digest(path: Path) -> tuple[str, int]:
    """sha256 (hex) and size of a file the user gave. Pipes and devices, which may never end, are not opened.

    Raises:
        InputError: if it cannot be read, is no regular file, or is larger than `MAX_INPUT_BYTES`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_INPUT_BYTES:
            raise InputError(f"{path} must be a file of at most {MAX_INPUT_BYTES} bytes.")
        return sha256_file(path), status.st_size
    except ValueError as error:
        raise InputError(f"{str(path)!r} cannot be a file: {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write into a `ResourceError` that says what to do."""
    try:
        yield
    except ScenegenError:
        raise
    except Exception as error:
        code = disk_refusal(error)
        if code is None:
            raise
        where = getattr(error, "filename", None) or target
        raise ResourceError(f"cannot write {where}: {os.strerror(code)}; {DISK_FIXES[code]}.") from error


DISK_FIXES = {
    errno.ENOSPC: "free some space or choose another folder with -o",
    errno.EDQUOT: "free some of your quota or choose another folder with -o",
    errno.EROFS: "the disk is read-only: choose another folder with -o",
    errno.EACCES: "you may not write there: choose another folder with -o",
    errno.EPERM: "you may not write there: choose another folder with -o",
    errno.ENOTDIR: "a file is in the way: choose another folder with -o",
    errno.EEXIST: "a file is in the way: choose another folder with -o",
    errno.EIO: "the disk fails: choose another folder with -o",
    errno.EFBIG: "the file would pass your limit (ulimit -f): raise it",
    errno.ENAMETOOLONG: "choose another folder with -o, with a shorter name",
    errno.EXDEV: "the output folder and its .scenegen must lie on one disk: choose another folder with -o",
}


def disk_refusal(error: Exception) -> int | None:
    """The errno of an error that says that the disk cannot be written; None for any other."""
    if isinstance(error, OSError):
        # numpy reports a short write without an errno.
        short = error.errno is None and str(error).endswith(" written")
        return errno.ENOSPC if short else error.errno if error.errno in DISK_FIXES else None
    # USD and other libraries with writers of their own only quote the system.
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return next((code for code in full if os.strerror(code) in str(error)), None)


def flush(path: Path) -> None:
    """Forces a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Store:
    """Entries and ingested input files below one root folder.

    Args:
        root: the folder.
        mirror: entries that are not here are looked for there, and new ones are put there too.
        lease_times: of the leases on what is being computed. They lie in the mirror where there is one.
    """

    def __init__(self, root: Path, mirror: RemoteFolder | None = None, lease_times: LeaseTimes = LeaseTimes()) -> None:
        self.root = root
        self.mirror = mirror
        self._lease_times = lease_times
        self._leases: Folder = LocalFolder(root, root / STAGING) if mirror is None else mirror

    def path(self, artifact: Artifact) -> Path:
        """Where the file of `artifact` lies; it is fetched where only the mirror has it."""
        path = self.root / artifact.path
        parts = PurePosixPath(artifact.path).parts
        # An entry found here may point into one that another machine has made.
        if self.mirror is not None and len(parts) > 3 and not path.exists():
            self.find(parts[0], parts[2])
        return path

    def ingest(self, path: Path) -> Artifact:
        """Copies an input file into the store, under its digest.

        Raises:
            InputError: if the file cannot be read, is no regular file, or is larger than `MAX_INPUT_BYTES`.
            ResourceError: if the store cannot be written.
        """
        digest, size = input_digest(path)
        suffix = path.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,8}", path.suffix.lower()) else ""
        artifact = Artifact(path=f"input/{digest[:2]}/{digest}{suffix}", sha256=digest, bytes=size)
        target = self.path(artifact)
        if not target.is_file() or target.stat().st_size != artifact.bytes:
            with disk_errors(target), self.staging() as folder:
                copy = folder / "input"
                shutil.copyfile(path, copy)
                if sha256_file(copy) != digest:
                    raise InputError(f"{path} changed while it was read; run again.")
                flush(copy)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy.replace(target)
        return artifact

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder on the store's disk, removed afterwards unless it was committed."""
        folder = self.root / STAGING / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        with disk_errors(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other thread or process holds this store's lock; a process that dies gives it back."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def lease(self, stage: str, key: str, landed: Callable[[], T | None]) -> Iterator[T | None]:
        """Waits for the right to compute an entry, or for its result from whoever has it; see `scenegen.lease.lease`."""
        name = f"{LEASES}/{stage}-{key}"
        with disk_errors(self.root), lease(self._leases, name, self._lease_times, landed) as result:
            yield result

    def sweep(self) -> None:
        """Removes what killed processes left in the staging folder, once it is a day old."""
        for path in (self.root / STAGING).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()

    def find(self, stage: str, key: str) -> dict[str, object] | None:
        """The entry of `stage` under `key`, or None. A damaged entry (a file gone or of another size) does not count.

        Raises:
            ResourceError: if there is a mirror and it cannot be reached.
        """
        entry = self._find_here(stage, key)
        if self.mirror is None:
            return entry
        if entry is None:
            self._pull(self.mirror, stage, key)
            return self._find_here(stage, key)
        if self._unpushed(stage, key).exists():
            self._push(self.mirror, stage, key)
        return entry

    def _find_here(self, stage: str, key: str) -> dict[str, object] | None:
        folder = self.root / entry_folder(stage, key)
        try:
            entry = json.loads((folder / ENTRY).read_text())
            complete = all((folder / name).stat().st_size == size for name, size in entry["files"].items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return entry if complete else None

    def commit(self, folder: Path, stage: str, key: str, entry: dict[str, object]) -> None:
        """Moves a staging `folder` into place as the entry of `stage` under `key`, and puts it into the mirror.

        Raises:
            ResourceError: if the disk cannot be written, or the mirror not be reached; then the entry is here only, and
                goes there when it is next found.
        """
        if self.mirror is not None:
            unpushed = self._unpushed(stage, key)
            with disk_errors(unpushed):
                unpushed.parent.mkdir(parents=True, exist_ok=True)
                unpushed.touch()
        self._commit_here(folder, stage, key, entry)
        if self.mirror is not None:
            self._push(self.mirror, stage, key)

    def _unpushed(self, stage: str, key: str) -> Path:
        """A file that is there while an entry computed here may be missing in the mirror. What others compute from it
        would else point to nothing."""
        return self.root / UNPUSHED / f"{stage}-{key}"

    def _commit_here(self, folder: Path, stage: str, key: str, entry: dict[str, object]) -> None:
        target = self.root / entry_folder(stage, key)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        with disk_errors(target):
            text = json.dumps({**entry, "files": sizes}, indent=1, sort_keys=True)
            (folder / ENTRY).write_text(text)
            # Not the folders: an entry that a power cut takes, or leaves without a file, is computed anew.
            for path in [*files, folder / ENTRY]:
                flush(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and self._find_here(stage, key) is None:
                target.rename(self.root / STAGING / f"damaged-{uuid.uuid4().hex[:12]}")
            try:
                folder.rename(target)
            except OSError:
                # Another process may have committed the same key first; its entry is as good.
                if self._find_here(stage, key) is None:
                    raise

    def _push(self, mirror: RemoteFolder, stage: str, key: str) -> None:
        """Puts an entry into the mirror, `entry.json` last. The first that is there stands."""
        name = entry_folder(stage, key)
        if mirror.read(f"{name}/{ENTRY}") is None:
            entry = json.loads((self.root / name / ENTRY).read_text())
            digests = {file: sha256_file(self.root / name / file) for file in entry["files"]}
            for file in entry["files"]:
                mirror.upload(self.root / name / file, f"{name}/{file}")
            mirror.write(f"{name}/{ENTRY}", json.dumps({**entry, "sha256": digests}, indent=1, sort_keys=True).encode())
        self._unpushed(stage, key).unlink(missing_ok=True)

    def _pull(self, mirror: RemoteFolder, stage: str, key: str) -> None:
        """Commits the mirror's entry here, if it has a whole one. What it says is checked: anyone may have written it."""
        name = entry_folder(stage, key)
        text = mirror.read(f"{name}/{ENTRY}")
        if text is None:
            return
        with self.staging() as folder, disk_errors(folder):
            try:
                entry = json.loads(text)
                files: dict[str, str] = dict(entry.pop("sha256"))
                if not all(_stays_inside(file) for file in files):
                    raise ValueError("a file leaves the entry")
                for file, digest in files.items():
                    path = folder / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if not mirror.download(f"{name}/{file}", path) or sha256_file(path) != digest:
                        raise ValueError(f"{file} is missing or damaged")
                if {file: (folder / file).stat().st_size for file in files} != entry["files"]:
                    raise ValueError("sizes differ")
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                logger.warning("%s does not count: %s", mirror.address(name), error)
                return
            self._commit_here(folder, stage, key, entry)


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name and name not in (".", ENTRY)


def entry_folder(stage: str, key: str) -> str:
    """Folder of an entry, relative to the store's root."""
    return f"{stage}/{key[:2]}/{key}"
