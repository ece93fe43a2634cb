"""The child process: reads a request from stdin, limits itself, decodes, and answers on stdout, both in JSON."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PIL import Image

from scenegen.errors import InputError
from scenegen.messages.remarks import note
from scenegen.system.limits import limit_process
from scenegen.untrusted.decoding import ALPHA, DEPTH, IMAGE, MASKS, MESH, PICTURE, Decoded, DecodedCamera, Request
from scenegen.untrusted.photo import read_photo
from scenegen.untrusted.picture import refuse_bombs

if TYPE_CHECKING:
    from scenegen.untrusted.depth.raw import Kind

# Three times as fast as the default, for files that are a few per cent larger.
COMPRESS_LEVEL = 1


def main() -> None:
    """Answers one request.

    The answer is `{"decoded": ...}`, `{"refused": message}` for a bad file, or `{"system": [errno, reason, path]}`
    if the system could not read or write. Anything else ends the process with a code other than 0.
    """
    # Some decoders print to stdout (OpenEXR does). They get stderr; the answer keeps the pipe to itself.
    pipe = os.dup(1)
    os.dup2(2, 1)
    request = Request(**json.load(sys.stdin))
    # The parent watches the time too; the CPU limit ends a child whose parent was killed.
    missing = limit_process(math.ceil(request.timeout_s) + 1, request.max_memory_mb * 2**20)
    refuse_bombs(request.max_pixels)
    with os.fdopen(pipe, "w", encoding="utf-8") as stdout:
        json.dump(answer(request, missing), stdout)


def answer(request: Request, missing: tuple[str, ...] = ()) -> dict[str, object]:
    """Decodes what `request` asks for, and turns the failures of files and system into answers.

    Args:
        request: what to decode.
        missing: limits that this system could not set, which a note tells.
    """
    try:
        decoded = decode(request)
        if missing:
            text = (
                f"this system cannot limit {' and '.join(missing)} of the decoder; it limits pixels and waiting time."
            )
            decoded = replace(decoded, warnings=(*decoded.warnings, note(text)))
        return {"decoded": asdict(decoded)}
    except InputError as error:
        return {"refused": str(error)}
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return {"refused": _out_of_memory(request)}
        if error.errno is None:
            raise
        return {"system": [error.errno, error.strerror, error.filename]}
    except MemoryError:
        return {"refused": _out_of_memory(request)}


def decode(request: Request) -> Decoded:
    """Decodes and writes everything `request` names.

    Raises:
        InputError: if a file cannot be used.
    """
    folder = Path(request.folder)
    what = f"photo {request.name!r}"
    photo = read_photo(Path(request.photo), what, max_side=request.max_side)
    warnings = [*photo.warnings]
    _write_png(photo.rgb, folder / IMAGE)
    if photo.alpha is not None:
        _write_png(photo.alpha, folder / ALPHA)
    labels: tuple[str, ...] = ()
    camera: DecodedCamera | None = None
    kind: Kind = "auto"
    # numpy, which these import, takes longer to start than most photos take to decode.
    if request.masks:
        from scenegen.untrusted.masks import read_masks

        masks = read_masks(
            [Path(path) for path in request.masks], photo, request.name, request.mask_names, request.mask_labels
        )
        warnings += masks.notes
        labels = masks.labels
        _write_png(Image.fromarray(masks.ids), folder / MASKS)
    if request.depth is not None:
        import numpy as np

        from scenegen.untrusted.depth import read_depth

        depth = read_depth(
            Path(request.depth),
            photo,
            max_pixels=request.max_pixels,
            kind=cast("Kind", request.depth_kind),
            unit_m=request.depth_unit_m,
        )
        warnings += depth.notes
        camera, kind = depth.camera, depth.kind
        buffer = io.BytesIO()
        np.save(buffer, depth.values, allow_pickle=False)
        (folder / DEPTH).write_bytes(buffer.getbuffer())
    of_depth = camera is not None and not request.camera
    if request.camera:
        from scenegen.untrusted.camera import read_camera

        camera, notes = read_camera([Path(path) for path in request.camera], photo, request.name)
        warnings += notes
    for number, path in request.meshes:
        from scenegen.untrusted.meshes import read_glb

        read_glb(Path(path), f"the mesh of object {number}").save(folder / MESH.format(number))
    for number, path in request.pictures:
        what = f"the picture of object {number}"
        given = read_photo(Path(path), what, max_side=request.max_side)
        warnings += [f"{what}: {warning}" for warning in given.warnings]
        if given.alpha is not None:
            given.rgb.putalpha(given.alpha)
        _write_png(given.rgb, folder / PICTURE.format(number))
    width, height = photo.rgb.size
    original_width, original_height = photo.size
    return Decoded(
        width=width,
        height=height,
        original_width=original_width,
        original_height=original_height,
        focal_35mm=photo.focal_35mm,
        focal_source=photo.focal_source,
        camera=camera,
        camera_of_depth=of_depth,
        depth_kind=kind,
        mask_labels=labels,
        alpha=photo.alpha is not None,
        warnings=tuple(warnings),
    )


def _write_png(picture: Image.Image, path: Path) -> None:
    # Written through memory, so that a full disk always raises an error with a number.
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=COMPRESS_LEVEL)
    path.write_bytes(buffer.getbuffer())


def _out_of_memory(request: Request) -> str:
    return (
        f"photo {request.name!r}: the photo or a file that belongs to it needs more than {request.max_memory_mb} MB to decode. "
        "Make it smaller, or raise `read.max_memory_mb`."
    )
