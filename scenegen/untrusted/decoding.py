"""Safe reading of what the user gave: a child process decodes it, within limits of pixels, memory and time.

The files are untrusted. Whatever one of them does to a decoder (a crash, an endless loop, gigabytes) ends that
child only, and becomes an `InputError`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from scenegen.errors import InputError
from scenegen.system.processes import ending

logger = logging.getLogger(__name__)

IMAGE = "image.png"
ALPHA = "alpha.png"
MASKS = "masks.png"
DEPTH = "depth.npy"
MESH, PICTURE = "mesh-{}.npz", "picture-{}.png"
"""By the id of the object."""

# Not `-m`, which would search the working directory first: a stray numpy.py there must not run.
CHILD = "import sys; sys.path.append(sys.argv[1]); from scenegen.untrusted.child import main; main()"


@dataclass(frozen=True)
class Request:
    """What the child decodes, and within which limits. Paths are absolute or relative to the working directory."""

    name: str
    """Name of the photo, for messages."""
    photo: str
    masks: tuple[str, ...]
    mask_names: tuple[str, ...]
    """Of their files, for messages."""
    mask_labels: tuple[str, ...]
    """What the objects of several masks are called."""
    depth: str | None
    camera: tuple[str, ...]
    """The file of the camera, and with COLMAP's cameras that of its images."""
    meshes: tuple[tuple[int, str], ...]
    """Objects, and the GLB of each."""
    pictures: tuple[tuple[int, str], ...]
    """Objects, and the picture of each."""
    folder: str
    """Where the child writes `IMAGE`, and `ALPHA`, `MASKS` and `DEPTH` if there are any."""
    max_side: int
    max_pixels: int
    max_memory_mb: int
    timeout_s: float
    depth_unit_m: float | None
    """Metres per unit of the depth map, if the user says."""
    depth_kind: str
    """What the values of the depth map are, as `scenegen.untrusted.depth.raw.Kind`."""


@dataclass(frozen=True)
class DecodedCamera:
    """A camera that the user gave. Lengths in pixels of the upright photo before downsampling."""

    fx: float
    fy: float
    cx: float
    cy: float
    world_from_camera: tuple[float, ...] | None = None
    """4x4, row by row, OpenCV axes, in the world and unit of the file; None if it does not say."""


@dataclass(frozen=True)
class Decoded:
    """What the child found. Sizes in pixels, of the upright photo."""

    width: int
    height: int
    original_width: int
    original_height: int
    focal_35mm: float | None
    alpha: bool
    """Whether `ALPHA` was written."""
    warnings: tuple[str, ...]
    focal_source: str = ""
    """Where in the EXIF data the focal length is from."""
    camera: DecodedCamera | None = None
    depth_kind: str = "auto"
    """As `GivenDepth.kind` of `scenegen.untrusted.depth`."""
    camera_of_depth: bool = False
    """Whether `camera` came with the depth map."""
    mask_labels: tuple[str, ...] = ()
    """Names of the objects 1, 2 and so on; empty where none is given."""


def decode(request: Request) -> Decoded:
    """Decodes the photo of `request` and what belongs to it into its folder, in a child process.

    Raises:
        InputError: if a file is of the wrong kind, is damaged, or exceeds a limit.
        OSError: if the system cannot read or write a file.
    """
    command = [sys.executable, "-P", "-c", CHILD, str(Path(__file__).parents[2])]
    # OpenBLAS reserves address space for every thread, which would count against the limit of memory.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        child = subprocess.run(
            command,
            input=json.dumps(asdict(request)).encode(),
            capture_output=True,
            env=environment,
            timeout=request.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"photo {request.name!r} and what belongs to it could not be decoded within {request.timeout_s:g} s. "
            "Make them smaller or save them again, or raise `read.timeout_s`."
        ) from error
    if child.returncode:
        raise InputError(_crash(request, child.returncode, child.stderr.decode(errors="replace")))
    reply = json.loads(child.stdout)
    if "refused" in reply:
        raise InputError(reply["refused"])
    if "system" in reply:
        raise OSError(*reply["system"])
    values = reply["decoded"]
    camera = values["camera"]
    if camera is not None:
        pose = camera["world_from_camera"]
        camera = DecodedCamera(**{**camera, "world_from_camera": None if pose is None else tuple(pose)})
    lists = {name: tuple(values[name]) for name in ("warnings", "mask_labels")}
    return Decoded(**{**values, **lists, "camera": camera})


def _crash(request: Request, code: int, errors: str) -> str:
    """The message for a child that died."""
    logger.debug("the decoder of %s ended with exit code %d:\n%s", request.name, code, errors)
    if code < 0:
        reason = f"the decoder was killed ({ending(code)})"
    else:
        reason = f"the decoder failed ({(errors.strip().splitlines() or ['no message'])[-1]})"
    return (
        f"photo {request.name!r}: {reason}. The photo or a file that belongs to it is damaged, or needs more than "
        f"{request.max_memory_mb} MB. Save it again or make it smaller, or raise `read.max_memory_mb`."
    )
