"""PNG files that scenegen writes itself: lossless pictures and id maps. `scenegen.untrusted.decoding` reads any others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped


def write_png(path: Path, picture: Shaped[np.ndarray, "h w *c"]) -> None:
    """Writes 8- or 16-bit grey [h, w], RGB [h, w, 3] or RGBA [h, w, 4]."""
    path.write_bytes(encoded_png(picture))


def encoded_png(picture: Shaped[np.ndarray, "h w *c"]) -> bytes:
    """The content of such a file."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    written, data = cv2.imencode(".png", picture)
    if not written:
        raise ValueError(
            f"`picture` is {picture.dtype} {picture.shape}; PNG takes 8 or 16 bits and 1, 3 or 4 channels."
        )
    return bytes(data.tobytes())


def read_png(path: Path) -> Shaped[np.ndarray, "h w *c"]:
    """Reads what `write_png` wrote, with the same type and shape."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError(f"{path} is not a PNG that scenegen wrote.")
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return picture
