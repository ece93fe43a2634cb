"""What names in files say: whether they name the photo that is read, and what an object is called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from scenegen.errors import InputError

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


def entry_of(name: str, entries: Sequence[Mapping[str, Any]], key: str, what: str) -> Mapping[str, Any]:
    """The one of several entries of a JSON file that is of the photo: the only one, or the one whose path has its name.

    Args:
        name: the photo's.
        entries: of the file.
        key: under which an entry has its path.
        what: the file and its entries in messages, with their number as `{}`.

    Raises:
        InputError: if none or several have the photo's name.

    >>> entry_of("b", [{"file": "a.jpg"}, {"file": "b.jpg"}], "file", "`masks` has {} images")["file"]
    'b.jpg'
    """
    named = [entry for entry in entries if is_name_of(name, str(entry.get(key, "")))]
    if len(named) != 1 and len(entries) != 1:
        raise InputError(
            f"{what.format(len(entries))}, {len(named)} of them with the name of photo {name!r}; one must have it."
        )
    return (named or entries)[0]


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
