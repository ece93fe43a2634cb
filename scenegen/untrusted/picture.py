"""Opening one untrusted picture with Pillow, and turning what its parsers raise into `InputError`."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path

# Formats register themselves when imported. Without these imports Pillow would import every format it knows.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from scenegen.errors import InputError, one_line
from scenegen.untrusted.formats import PICTURES

FORMATS = tuple(PICTURES)
COMMON = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are registered at once; the others when a file is none of these."""
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""What follows `ftyp` in the files of phones. AVIF has the same container and brands of its own."""


AVIF_BRANDS = frozenset({b"avif", b"avis"})
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
"""How files of the other formats begin."""


def refuse_bombs(max_pixels: int) -> None:
    """Makes Pillow refuse, for the rest of this process, every picture and frame of more than `max_pixels`."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


@contextlib.contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turns whatever a parser raises for the bytes of `what` into an `InputError` that names it.

    Errors for lack of memory and from the system (an `OSError` with a number) pass through.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        received = str(error).partition(" exceeds")[0]
        raise InputError(
            f"{what} is too large: {received}; at most {Image.MAX_IMAGE_PIXELS} pixels are allowed. Make it smaller, or raise "
            "`read.max_pixels`."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # Only the first line: what follows is advice for programmers.
        detail = one_line(str(error).strip().partition("\n")[0]).rstrip(".") or type(error).__name__
        raise InputError(f"{what} cannot be read: it is damaged or incomplete ({detail}). Save it again.") from error


def open_picture(path: Path, what: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The picture at `path` with its header read, its size checked, and its pixels not yet decoded.

    Args:
        path: the file.
        what: its name in messages.
        formats: Pillow's names of the allowed formats.

    Raises:
        InputError: if the file is empty, of another format, or has too many pixels (`refuse_bombs`).
    """
    if path.stat().st_size == 0:
        raise InputError(f"{what} is an empty file. Copy or save it again.")
    with parsing(what):
        common = [name for name in formats if name in COMMON]
        with contextlib.suppress(UnidentifiedImageError):
            if common:
                return Image.open(path, formats=common)
        rare = [name for name in formats if name not in COMMON and _registered(name)]
        with contextlib.suppress(UnidentifiedImageError):
            if rare:
                return Image.open(path, formats=rare)
    if "HEIF" in formats and "HEIF" not in rare and _is_heif(path):
        raise InputError(
            f"{what} is a HEIC picture, which needs a package that is not installed: pip install 'scenegen-3d[heif]'. Or "
            "save it as JPEG."
        )
    if _begins_like_a_picture(path):
        raise InputError(
            f"{what} is a picture that is damaged, incomplete or of a rare kind. Save it again, as PNG, or floats as .npy."
        )
    raise InputError(
        f"{what} is not a picture in a format that scenegen reads; allowed: {', '.join(formats)}. Convert it first."
    )


def _registered(name: str) -> bool:
    """Whether Pillow can be told of a format that is not common."""
    if name != "HEIF":
        module = {"TIFF": "Tiff", "AVIF": "Avif", "JPEG2000": "Jpeg2K", "PPM": "Ppm"}[name]
        importlib.import_module(f"PIL.{module}ImagePlugin")
        return True
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _begins_like_a_picture(path: Path) -> bool:
    head = _head(path)
    return head.startswith(MAGIC) or (head[4:8] == b"ftyp" and head[8:] in HEIF_BRANDS | AVIF_BRANDS)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _is_heif(path: Path) -> bool:
    head = _head(path)
    return head[4:8] == b"ftyp" and head[8:] in HEIF_BRANDS
