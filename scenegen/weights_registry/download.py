"""Fetches models from where they are published, or from a local copy.

A file is downloaded under a temporary name that survives an interruption, so that the next fetch resumes. Then it is
checked, flushed and renamed into place. Plain HTTP serves the hub and other hosts alike: a pinned revision has a fixed
address, so nothing has to be looked up first, and a dead network is noticed after one timeout.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from scenegen.compute.runtime import Runtime
from scenegen.errors import WeightsError
from scenegen.store.digest import LARGE_BYTES, remember, sha256_file, sha256_once
from scenegen.untrusted.documents import read_json
from scenegen.weights_registry.local import VERIFIED
from scenegen.weights_registry.model import Model, ModelFile
from scenegen.weights_registry.models import registered
from scenegen.weights_registry.place import put, writing

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Longest wait in seconds for a connection, and for the next bytes."""
BLOCK = 1 << 20
HUB = "https://huggingface.co"

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its size if that is known."""


def fetch(name: str, runtime: Runtime, progress: Progress | None = None, source: Path | None = None) -> Path:
    """Fetches the model `name` to this machine and verifies it; intact files are kept.

    Args:
        name: a registered model.
        runtime: where models are kept, and whether the network may be used.
        progress: called as each file advances.
        source: a folder with the model's files (or its one file), copied instead of downloaded.

    Returns:
        The model's folder.

    Raises:
        UsageError: if no model has that name.
        WeightsError: if this run is offline, or a file cannot be fetched or is not the registered one.
        ResourceError: if the models folder cannot be written.
    """
    model = registered(name)
    folder = runtime.models / name
    known = _verified_before(folder, model)
    files = {}
    for file in model.files:
        target = folder / file.name
        digest = sha256_once(target) if target.is_file() else None
        if digest is None or digest != (file.sha256 or known.get(file.name)):
            part = folder / f"{file.name}.part"
            if source is None and runtime.offline:
                raise WeightsError(
                    f"the weights `{name}` are incomplete in {folder}, and this run is offline; run "
                    f"`scenegen models fetch {name}` online, or copy them from a local folder with --source."
                )
            with writing(part.parent):
                part.parent.mkdir(parents=True, exist_ok=True)
            if source is not None:
                _copy(source if source.is_file() else source / file.name, part)
            else:
                _download(_address(model, file), part, file, progress or _silent)
            digest = _accept(part, target, file)
        files[file.name] = {"bytes": target.stat().st_size, "sha256": digest}
    verified = {"model": name, "repo": model.repo, "revision": model.revision, "files": files}
    part = folder / f"{VERIFIED}.part"
    with writing(folder):
        part.write_text(json.dumps(verified, indent=1, sort_keys=True), encoding="utf-8")
    put(part, folder / VERIFIED)
    logger.info("%s: verified in %s", name, folder)
    return folder


def _silent(name: str, done: int, total: int | None) -> None:
    """Ignores the progress."""


def _verified_before(folder: Path, model: Model) -> dict[str, str]:
    """Digests by file name from an earlier fetch of the same revision."""
    try:
        verified = read_json(folder / VERIFIED)
        if verified["revision"] != model.revision:
            return {}
        return {name: entry["sha256"] for name, entry in verified["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _address(model: Model, file: ModelFile) -> str:
    """The URL of `file`. `HF_ENDPOINT` names a mirror of the hub, as in the hub's own tools."""
    if file.url is not None:
        return file.url
    return f"{os.environ.get('HF_ENDPOINT', HUB).rstrip('/')}/{model.repo}/resolve/{model.revision}/{file.name}"


def _copy(path: Path, part: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"`source` has no file {path}; give the folder that holds the model's files.")
    with writing(part):
        shutil.copyfile(path, part)


def _download(url: str, part: Path, file: ModelFile, progress: Progress) -> None:
    """Downloads `url`, the address of `file`, to the end of `part`."""
    size = file.bytes
    done = part.stat().st_size if part.exists() else 0
    if size is not None and done >= size:
        return
    headers = {"User-Agent": "scenegen"} | ({"Range": f"bytes={done}-"} if done else {})
    request = Request(url, headers=headers)
    if file.url is None and (token := os.environ.get("HF_TOKEN")):
        # Not a header of the request itself: the hub sends on to other hosts, which must not see it.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    again = "run the same command again: it resumes where it stopped"
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            done = done if response.status == 206 else 0  # the server may not support resuming
            length = response.headers.get("Content-Length")
            total = size if length is None else done + int(length)
            if size not in (None, total):
                raise WeightsError(
                    f"{url} has {total} bytes instead of {size}; copy the registered file from elsewhere with --source."
                )
            with writing(part):
                opened = part.open("ab" if done else "wb")
            with opened:
                while block := response.read(BLOCK):
                    with writing(part):
                        opened.write(block)
                        opened.flush()
                    done += len(block)
                    progress(file.name, done, total)
    except HTTPError as error:
        if file.url is None and error.code in (401, 403):
            raise WeightsError(
                f"{url} answered {error.code} {error.reason}: its publisher grants access to accounts that ask. Ask on the "
                f"page of {url.partition('/resolve/')[0]}, then set HF_TOKEN to a token of that account, or copy the files from "
                "elsewhere with --source."
            ) from error
        if error.code == 416:  # nothing is left to send: the size was unknown, and the file is complete
            return
        raise WeightsError(
            f"{url} answered {error.code} {error.reason}; try again later, or copy the file from elsewhere with --source."
        ) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(f"{url} cannot be reached ({reason}); check the network and {again}.") from error
    if total is not None and done != total:
        raise WeightsError(f"{url} stopped after {done} of {total} bytes; {again}.")


def _accept(part: Path, target: Path, file: ModelFile) -> str:
    """Renames `part` to `target` if it is the registered file, and deletes it if it is not; returns its digest."""
    size, digest = part.stat().st_size, sha256_file(part)
    if file.bytes not in (None, size) or file.sha256 not in (None, digest):
        part.unlink()
        wanted = f"{file.bytes or 'any number of'} bytes with sha256 {file.sha256 or 'unknown'}"
        raise WeightsError(
            f"{file.name} has {size} bytes with sha256 {digest}, but {wanted} are registered; it was removed. Fetch it again."
        )
    put(part, target)
    if size >= LARGE_BYTES:
        remember(target, digest)
    return digest
