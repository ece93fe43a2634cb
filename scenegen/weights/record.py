"""The record of the digests of the weight files in a folder, against which they are checked before they are used.

Its format is that of `sha256sum`.
"""

from __future__ import annotations

import os
from pathlib import Path

from scenegen.errors import WeightsError
from scenegen.store.digest import sha256_file, sha256_once

RECORD = "weights.sha256"


def recorded_digest(path: Path) -> str:
    """sha256 (hex) of a weight file, after a check against the record beside it.

    Raises:
        WeightsError: if the file or its record cannot be read, or the two disagree.
    """
    record = path.with_name(RECORD)
    try:
        lines = [line.split() for line in record.read_text(encoding="utf-8").splitlines()]
        expected, found = {name: digest for digest, name in lines}[path.name], sha256_once(path)
    except (OSError, ValueError, LookupError) as error:
        raise WeightsError(
            f"the weights {path} or their record {record.name} cannot be read ({error}). They are part of this package; "
            "install the package again."
        ) from error
    if found != expected:
        raise WeightsError(
            f"the weights {path} have sha256 {found}; {record.name} has {expected}. The file is damaged or was "
            "replaced: install the package again or, if you replaced it, run `python -m scenegen.weights`."
        )
    return found


def write_record(folder: Path) -> Path:
    """Records the digests of the weight files that lie in `folder` now. Returns the record."""
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors"))]
    record = folder / RECORD
    part = record.with_name(f"{RECORD}.{os.getpid()}")
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(record)
    return record
