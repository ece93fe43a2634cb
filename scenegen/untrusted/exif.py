"""The focal length that a photo's EXIF data states, if it can be that of this file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from PIL.ExifTags import IFD, Base
from PIL.Image import Exif

FILM_WIDTH = 36.0
FOCAL_35MM_RANGE = (3.0, 3000.0)
"""Focal lengths in millimetres on 36 x 24 mm that lenses can have."""
SENSOR_RANGE = (2.0, 70.0)
"""Longer sides of sensors in millimetres."""
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""EXIF's FocalPlaneResolutionUnit."""
CROP_TOLERANCE = 0.02
"""By how much a file may differ in shape from the picture that its EXIF data describes."""
SENSORS = (
    (r"canon eos(-1ds| [56]d| r[3568p]?\b(?!0)| ra\b)", 36.0),
    (r"canon eos (m|r7|r10|r50|r100|kiss|rebel|\d{2,4}d|7d|d\d)", 22.3),
    (r"nikon (d[345]s?\b|d6\b|d[678]\d\d|df\b|z ?[5-9])", 35.9),
    (r"nikon (d\d{2,4}|z ?fc|z ?30|z ?50)", 23.5),
    (r"(ilce-[179]|slt-a99|dsc-rx1\b|dsc-rx1r)", 35.8),
    (r"(ilce-[3-6]|slt-a|nex-|zv-e10|dslr-a)", 23.5),
    (r"(dsc-rx100|dsc-rx10)", 13.2),
    (r"(gfx)", 43.8),
    (r"(x-(a|e|h|m|pro|s|t)\d*|x100)", 23.5),
    (r"(pentax k-1)", 35.9),
    (r"(pentax k)", 23.5),
    (r"(dc-s[159]|leica (m|q|sl))", 35.9),
    (r"(dmc-g|dc-g|e-m\d|e-p\w|om-\d)", 17.3),
)
"""Longer side of the sensor in millimetres, by EXIF's Make and Model in lower case; the first pattern that is found counts."""


def focal_35mm(exif: Exif, size: tuple[int, int], warnings: list[str]) -> tuple[float | None, str]:
    """The focal length in millimetres on 36 x 24 mm, on the longer side, and where it is from; None if it is not known.

    From the 35 mm equivalent, else from the resolution of the focal plane, else from the camera's sensor (`SENSORS`). A file
    whose shape differs from the picture that the data describe was cropped, and its focal length is not believed.

    Args:
        exif: the data.
        size: width and height of the file, as stored.
        warnings: gets a line if the focal length is not believed.
    """
    tags = exif.get_ifd(IFD.Exif)
    described = _number(tags, Base.ExifImageWidth), _number(tags, Base.ExifImageHeight)
    found, source = _stated(exif, tags, max(described) or max(size))
    if found is None:
        return None, ""
    if min(described) > 0 and abs(max(described) / min(described) / (max(size) / min(size)) - 1) > CROP_TOLERANCE:
        warnings.append(
            f"the EXIF data describe a picture of {described[0]:.0f}x{described[1]:.0f} and the file is {size[0]}x{size[1]}: "
            "it was cropped, so the focal length is not used; give --fov or --camera if you know it"
        )
        return None, ""
    return found, source


def _stated(exif: Exif, tags: Mapping[int, Any], longer: float) -> tuple[float | None, str]:
    equivalent = _number(tags, Base.FocalLengthIn35mmFilm)
    if _within(equivalent, FOCAL_35MM_RANGE):
        return equivalent, "35 mm equivalent"
    focal = _number(tags, Base.FocalLength) * max(1.0, _number(tags, Base.DigitalZoomRatio))
    for sensor, source in (
        (_focal_plane(tags, longer), "resolution of the focal plane"),
        _sensor(f"{exif.get(Base.Make, '')} {exif.get(Base.Model, '')}"),
    ):
        if _within(sensor, SENSOR_RANGE) and _within(focal * FILM_WIDTH / sensor, FOCAL_35MM_RANGE):
            return focal * FILM_WIDTH / sensor, source
    return None, ""


def _focal_plane(tags: Mapping[int, Any], longer: float) -> float:
    """Longer side of the sensor in millimetres, by its pixels per unit; 0 if that is not stated."""
    resolution = _number(tags, Base.FocalPlaneXResolution)
    unit = UNIT_MM.get(int(_number(tags, Base.FocalPlaneResolutionUnit) or 2), 0.0)
    return longer / resolution * unit if resolution > 0 else 0.0


def _sensor(camera: str) -> tuple[float, str]:
    camera = " ".join(camera.lower().replace("corporation", "").split())
    for pattern, width in SENSORS:
        if re.search(pattern, camera):
            return width, "sensor of the camera's model"
    return 0.0, ""


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """The value of a tag; 0 if it is none, or no finite number."""
    try:
        value = float(tags.get(tag, 0))
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return value if math.isfinite(value) else 0.0


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
