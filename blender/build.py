"""Packs the add-on into the zip that Blender installs: `python blender/build.py` writes `scenegen-blender.zip` beside this file.

The same files give the same bytes.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def build(target: Path) -> None:
    """Writes the zip."""
    sources = sorted(path for path in (HERE / "scenegen_blender").iterdir() if path.suffix in {".py", ".toml"})
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in (*sources, HERE.parent / "LICENSE"):
            packed.writestr(zipfile.ZipInfo(path.name, LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "scenegen-blender.zip")
