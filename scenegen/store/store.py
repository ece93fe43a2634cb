"""The content-addressed store: every stage's result, under a key made of everything that determines it.

An entry is a folder `<stage>/<key[:2]>/<key>/` with the stage's files and `entry.json`. It is filled under a
temporary name, flushed, and renamed into place, so that a reader never sees half of one. `entry.json` has a digest of itself
and of every file, and whoever finds an entry checks them all: an entry that has changed counts as absent.

A store may have a mirror: the same entries in an object store that several machines share. There `entry.json` is written
last, and the local store is the cache that stages read from.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

from scenegen.errors import InputError, ResourceError, ScenegenError
from scenegen.records import Artifact, Record, artifacts
from scenegen.store.digest import sha256_file, sha256_once
from scenegen.store.entry import ENTRY, DamagedError, Entry, EntryFile, parse_entry
from scenegen.store.folder import Folder, LocalFolder, RemoteFolder
from scenegen.store.lease import LeaseTimes, held, is_gone, lease
from scenegen.system.locks import folder_locked, lock, lock_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")

STORE = ".scenegen"
"""Name of the store's folder inside an output folder."""
MANIFEST = "manifest.json"
"""Name of the manifest in a published folder: it lists every file, and every result that the scene was made from."""
EDITS = "edits.json"
"""Name of the list of edits in a published folder (`stages.replay`)."""
STAGING = "staging"
LEASES = "leases"
RUNNING = "run-"
"""Prefix of the names of leases of running jobs, before the time at which the job began."""
PRUNING = "prune.lock"
"""Lock that is held while something is pruned, and while a job registers that it begins."""
UNPUSHED = "unpushed"
INPUTS = "input"
ENTRY_PATH = re.compile(r"[a-z_]+/[0-9a-f]{2}/[0-9a-f]{64}")
"""Path of an entry's folder, relative to the root."""
MAX_INPUT_BYTES = 1 << 30
ABANDONED_AFTER_S = 24 * 3600


def input_digest(path: Path) -> tuple[str, int]:
    """sha256 (hex) and size of a file that the user gave. Pipes and devices, which may never end, are not opened.

    Raises:
        InputError: if it cannot be read, is not a regular file, or is larger than `MAX_INPUT_BYTES`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_INPUT_BYTES:
            found = f"has {status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "is not a regular file"
            raise InputError(f"{path} {found}; it must be a file of at most {MAX_INPUT_BYTES} bytes.")
        return sha256_file(path), status.st_size
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not a valid path: {error}.") from error
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
    errno.EIO: "the disk reports an error: choose another folder with -o",
    errno.EFBIG: "raise your limit of file sizes (ulimit -f)",
    errno.ENAMETOOLONG: "choose a folder with a shorter name with -o",
    errno.EXDEV: "the output folder and its .scenegen must lie on one disk: choose another folder with -o",
}


def disk_refusal(error: Exception) -> int | None:
    """The errno of an error that means that the disk cannot be written; None for any other."""
    if isinstance(error, OSError):
        # numpy reports a short write without an errno.
        short = error.errno is None and str(error).endswith(" written")
        return errno.ENOSPC if short else error.errno if error.errno in DISK_FIXES else None
    # USD and other libraries that write by themselves only quote the system's message.
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return next((code for code in full if os.strerror(code) in str(error)), None)


def flush(path: Path) -> None:
    """Flushes a file or folder to the disk. Windows flushes folders by itself."""
    if sys.platform == "win32":
        if path.is_dir():
            return
        handle = os.open(path, os.O_RDWR)
    else:
        handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Store:
    """Entries and ingested input files below one root folder.

    Args:
        root: the folder.
        mirror: missing entries are looked for there, and new ones are copied there.
        lease_times: times of the leases on what is being computed. Leases are kept in the mirror if there is one.
    """

    def __init__(self, root: Path, mirror: RemoteFolder | None = None, lease_times: LeaseTimes = LeaseTimes()) -> None:
        self.root = root
        self.mirror = mirror
        self._lease_times = lease_times
        self._here = LocalFolder(root, root / STAGING)
        self._leases: Folder = self._here if mirror is None else mirror
        self._damaged: set[tuple[str, str]] = set()
        """Damaged entries here, by stage and key, that have been reported."""
        self._bad_copies: dict[str, bytes] = {}
        """The `entry.json` of entries of the mirror that cannot be used, by folder."""

    def at(self, root: Path) -> Store:
        """The same store, with its files below another folder of this machine."""
        return Store(root, self.mirror, self._lease_times)

    def path(self, artifact: Artifact) -> Path:
        """The path of the file of `artifact`, which is fetched if only the mirror has it."""
        path = self.root / artifact.path
        parts = PurePosixPath(artifact.path).parts
        # An entry found here may point into one that another machine has made.
        if self.mirror is not None and len(parts) > 3 and not path.exists():
            self.find(parts[0], parts[2])
        return path

    def ingest(self, path: Path) -> Artifact:
        """Copies an input file into the store, under its digest.

        Raises:
            InputError: if the file cannot be read, is not a regular file, or is larger than `MAX_INPUT_BYTES`.
            ResourceError: if the store cannot be written.
        """
        digest, size = input_digest(path)
        suffix = path.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,8}", path.suffix.lower()) else ""
        artifact = Artifact(path=f"{INPUTS}/{digest[:2]}/{digest}{suffix}", sha256=digest, bytes=size)
        target = self.path(artifact)
        if self._has(artifact):
            _touch(target)
        else:
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
        with disk_errors(self.root / STAGING):
            folder, handle = _claimed(self.root / STAGING)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if handle is not None:
                os.close(handle)

    @contextlib.contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        """Holds a lock of this store, after waiting for other threads and processes; a process that dies gives it back."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("a", encoding="ascii") as file:
            lock(file)
            yield

    @contextlib.contextmanager
    def lease(self, stage: str, key: str, landed: Callable[[], T | None]) -> Iterator[T | None]:
        """Waits for the right to compute an entry, or for its result from whoever has it; see `scenegen.store.lease.lease`."""
        name = f"{LEASES}/{stage}-{key}"
        with disk_errors(self.root), lease(self._leases, name, self._lease_times, landed) as result:
            yield result

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Registers a job that reads from this store, so that nothing it has found is removed (`scenegen.store.prune`)."""
        with contextlib.ExitStack() as running:
            with disk_errors(self.root), self.lock(PRUNING):
                name = f"{LEASES}/{RUNNING}{time.time():.0f}-{uuid.uuid4().hex}"
                running.enter_context(held(self._here, name, self._lease_times))
            yield

    def running_since(self) -> float | None:
        """When the oldest job that reads from this store began, in seconds since the epoch; None if there is none."""
        with self.staging() as folder:
            now = folder.stat().st_mtime  # by the clock that also dates the leases
        begun = []
        for path in (self.root / LEASES).glob(f"{RUNNING}*-*"):
            with contextlib.suppress(OSError, ValueError):
                if not is_gone(path.read_bytes()) and now - path.stat().st_mtime < self._lease_times.expiry_s:
                    begun.append(float(path.name.split("-")[1]))
        return min(begun, default=None)

    def sweep(self) -> None:
        """Removes what processes that have ended left behind: staged files and leases."""
        for path in (self.root / LEASES).glob("*"):
            with contextlib.suppress(OSError):
                if is_gone(path.read_bytes()):
                    path.unlink()
        for path in (self.root / STAGING).glob("*"):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    with _unclaimed(path) as abandoned:
                        if abandoned:
                            shutil.rmtree(path, ignore_errors=True)
                elif _is_old(path):
                    path.unlink()

    def find(self, stage: str, key: str) -> Entry | None:
        """The entry of `stage` under `key`, or None. One that is damaged, or that only its own job may use, does not count.

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

    def reached(self, keys: Iterable[tuple[str, str]]) -> set[str]:
        """Folders of entries, by stage and key, and the folders and input files that their records refer to, relative to
        the root. An entry that is not here, or cannot be read, refers to nothing."""
        found: set[str] = set()
        for stage, key in keys:
            folder = entry_folder(stage, key)
            found.add(folder)
            with contextlib.suppress(OSError, ValueError, DamagedError):
                record = parse_entry((self.root / folder / ENTRY).read_bytes(), stage, key).record
                found |= {"/".join(PurePosixPath(artifact.path).parts[:3]) for artifact in artifacts(record)}
        return found

    def take(self, other: Store, path: str) -> None:
        """Copies what another store has at `path`, one of those that `reached` returns, unless it is here or missing there.

        Raises:
            ResourceError: if the disk cannot be written.
        """
        if path.startswith(f"{INPUTS}/"):
            self.ingest(other.root / path)
        if ENTRY_PATH.fullmatch(path) is None:
            return
        stage, _, key = path.split("/")
        if self.find(stage, key) is None and (entry := other.find(stage, key)) is not None:
            with self.staging() as folder, disk_errors(folder):
                for name in entry.files:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(other.root / path / name, folder / name)
                self._commit_here(folder, entry)

    def discard(self, stage: str, key: str, reason: str) -> None:
        """Removes an entry that was found and cannot be used."""
        self._say_damaged(stage, key, reason)
        name = entry_folder(stage, key)
        if self.mirror is not None:
            self._bad_copies[name] = self.mirror.read(f"{name}/{ENTRY}") or b""
        with disk_errors(self.root):
            self._remove(name)

    def _remove(self, name: str) -> None:
        """Removes a folder of the store, at once for all readers."""
        with contextlib.suppress(FileNotFoundError), self.staging() as trash:
            (self.root / name).rename(trash / "removed")

    def _say_damaged(self, stage: str, key: str, reason: str) -> None:
        """Logs damage, once per entry."""
        if (stage, key) not in self._damaged:
            self._damaged.add((stage, key))
            logger.warning("the stored result %s %s is damaged (%s); computing it again", stage, key[:12], reason)

    def _find_here(self, stage: str, key: str) -> Entry | None:
        folder = self.root / entry_folder(stage, key)
        # Touched before it is read: if it is removed afterwards, it shows as damaged.
        _touch(folder / ENTRY)
        try:
            entry = parse_entry((folder / ENTRY).read_bytes(), stage, key)
            if entry.provisional:
                return None
            self.check(entry)
        except DamagedError as error:
            self._say_damaged(stage, key, str(error))
            return None
        except OSError as error:
            if folder.is_dir():
                self._say_damaged(stage, key, f"{ENTRY}: {error.strerror or error}")
            return None
        return entry

    def check(self, entry: Entry) -> None:
        """Reads every file of an entry, and those of others that its record names, unless this process already has.

        Raises:
            DamagedError: if one is not as it was written.
        """
        folder = entry_folder(entry.stage, entry.key)
        for name, file in entry.files.items():
            if not _is_whole(self.root / folder / name, file.bytes, file.sha256):
                raise DamagedError(f"{name} has changed since it was written")
        try:
            named = tuple(artifacts(entry.record))
        except ValueError as error:
            raise DamagedError("its record names a path that cannot be in a store") from error
        for artifact in named:
            inside = artifact.path.removeprefix(f"{folder}/")
            if inside not in entry.files and not self._has(artifact):
                raise DamagedError(f"{artifact.path}, which belongs to it, has changed since it was written")

    def _has(self, artifact: Artifact) -> bool:
        """Whether the file of an artifact is here or in the mirror, unchanged since it was written."""
        return _is_whole(self.path(artifact), artifact.bytes, artifact.sha256)

    def commit(
        self, folder: Path, stage: str, key: str, record: Record, seconds: float, card_peak_bytes: int = 0
    ) -> None:
        """Moves a staging `folder` into place as the entry of `stage` under `key`, and copies it to the mirror.

        Args:
            folder: the folder with the files of the entry.
            stage: name of the stage.
            key: the key of the result.
            record: the result.
            seconds: how long it took.
            card_peak_bytes: as in `Entry`.

        Raises:
            ResourceError: if the disk cannot be written, or the mirror cannot be reached. Then the entry is only here, and
                is copied when it is next found.
        """
        if self.mirror is not None:
            unpushed = self._unpushed(stage, key)
            with disk_errors(unpushed):
                unpushed.parent.mkdir(parents=True, exist_ok=True)
                unpushed.touch()
        with disk_errors(folder):
            files = {
                path.relative_to(folder).as_posix(): EntryFile(sha256=sha256_file(path), bytes=path.stat().st_size)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        values = record.model_dump(mode="json")
        entry = Entry(
            stage=stage,
            key=key,
            seconds=seconds,
            card_peak_bytes=card_peak_bytes,
            record=values,
            files=files,
            provisional=record.provisional,
        )
        self._commit_here(folder, entry)
        if self.mirror is not None:
            self._push(self.mirror, stage, key)

    def _unpushed(self, stage: str, key: str) -> Path:
        """A file that exists while an entry computed here may be missing in the mirror, where results computed from it
        would otherwise refer to nothing."""
        return self.root / UNPUSHED / f"{stage}-{key}"

    def _commit_here(self, folder: Path, entry: Entry) -> None:
        target = self.root / entry_folder(entry.stage, entry.key)
        with disk_errors(target):
            (folder / ENTRY).write_text(entry.text(), encoding="utf-8")
            # Folders are not flushed: an entry that is lost or incomplete after a power cut is computed again.
            for name in (*entry.files, ENTRY):
                flush(folder / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and self._find_here(entry.stage, entry.key) is None:
                self._remove(entry_folder(entry.stage, entry.key))
            try:
                folder.rename(target)
            except OSError:
                # Another process may have committed the same key first; its entry is just as good.
                if self._find_here(entry.stage, entry.key) is None:
                    raise
        self._damaged.discard((entry.stage, entry.key))

    def _push(self, mirror: RemoteFolder, stage: str, key: str) -> None:
        """Copies an entry to the mirror, `entry.json` last. An entry that is already there stays, unless it is damaged."""
        name = entry_folder(stage, key)
        there = mirror.read(f"{name}/{ENTRY}")
        if there is None or there == self._bad_copies.get(name) or not _is_final(there, stage, key):
            text = (self.root / name / ENTRY).read_bytes()
            for file in parse_entry(text, stage, key).files:
                mirror.upload(self.root / name / file, f"{name}/{file}")
            mirror.write(f"{name}/{ENTRY}", text)
            self._bad_copies.pop(name, None)
        self._unpushed(stage, key).unlink(missing_ok=True)

    def _pull(self, mirror: RemoteFolder, stage: str, key: str) -> None:
        """Commits the mirror's entry here, if it has an intact one. It is checked, since anyone may have written it."""
        name = entry_folder(stage, key)
        text = mirror.read(f"{name}/{ENTRY}")
        if text is None or text == self._bad_copies.get(name):
            return
        with self.staging() as folder, disk_errors(folder):
            try:
                entry = parse_entry(text, stage, key)
                for file, expected in entry.files.items():
                    path = folder / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if not mirror.download(f"{name}/{file}", path) or sha256_file(path) != expected.sha256:
                        raise DamagedError(f"{file} is missing or damaged")
            except DamagedError as error:
                self._bad_copies[name] = text
                logger.warning("%s is ignored: %s", mirror.address(name), error)
                return
            self._commit_here(folder, entry)


def _is_whole(path: Path, size: int, sha256: str) -> bool:
    try:
        return path.stat().st_size == size and sha256_once(path) == sha256
    except OSError:
        return False


def _is_final(text: bytes, stage: str, key: str) -> bool:
    """Whether `text` describes an entry that anyone may use."""
    try:
        return not parse_entry(text, stage, key).provisional
    except DamagedError:
        return False


def _touch(path: Path) -> None:
    """Records that a file is used now. If that fails, the store cannot be pruned either."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S


def _claimed(parent: Path) -> tuple[Path, int | None]:
    """A fresh folder, and the handle that claims it: `_unclaimed` is false while it is open. However this process ends, the
    handle is closed."""
    while True:
        folder = parent / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            handle = lock_folder(folder)
        except FileNotFoundError:
            continue
        if handle is None or folder.exists():
            return folder, handle
        # Another process swept the folder before it could be locked.
        os.close(handle)


@contextlib.contextmanager
def _unclaimed(folder: Path) -> Iterator[bool]:
    """Whether no process has claimed `folder`; while the block runs, none can."""
    with folder_locked(folder) as locked:
        yield _is_old(folder) if locked is None else locked


def entry_folder(stage: str, key: str) -> str:
    """Folder of an entry, relative to the store's root."""
    return f"{stage}/{key[:2]}/{key}"
