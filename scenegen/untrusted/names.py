"""Whether what a file names is the photo that is read."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath


def is_name_of(name: str, file: str) -> bool:
    """Whether `name`, that of a scene's folder (`scenegen.inputs.photos.unique_names`), comes from a photo with the path `file`.

    >>> is_name_of("IMG_0001-2", "images/img_0001.JPG"), is_name_of("IMG_0001", "IMG_0002.jpg")
    (True, False)
    """
    stem = _plain(PurePosixPath(re.split(r"[/\\]", file)[-1]).stem)
    first, _, count = name.rpartition("-")
    return _plain(name) == stem or (count.isdecimal() and _plain(first) == stem)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", text).casefold())


def natural(name: str) -> list[str | int]:
    """A key that sorts names as people count: `2.png` before `10.png`.

    >>> sorted(["10.png", "2.png", "b1", "B0"], key=natural)
    ['2.png', '10.png', 'B0', 'b1']
    """
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
