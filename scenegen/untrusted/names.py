"""What names in files say: whether they name the photo that is read, and what an object is called."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

GENERIC = frozenset(
    {"id", "ids", "image", "img", "instance", "mask", "masks", "obj", "object", "objects", "seg", "segment"}
)
"""Words that say what the file is, not what it shows."""
MAX_LABEL = 60
"""Characters."""
_BETWEEN_WORDS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])")


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


def label_of(text: str) -> str:
    """The words of a name that say what something is.

    >>> label_of("06_FruitApple")
    'fruit apple'
    """
    words = [word.lower() for word in _BETWEEN_WORDS.split(text)]
    return " ".join(word for word in words if len(word) > 1 and word not in GENERIC)[:MAX_LABEL].strip()
