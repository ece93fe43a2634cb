"""Thumbnail: a picture of one generated object, to be compared with others made of the same."""

from __future__ import annotations

import numpy as np

from scenegen.camera import camera_from_crop
from scenegen.config import Settings
from scenegen.export.side_view import side_view
from scenegen.geometry.mesh import load_mesh
from scenegen.records import Artifact, Layout, ObjectMesh, Record
from scenegen.store.png import write_png
from stages.stage import Stage, Work

SIDE = 224
TURNS_DEG = (30.0, 210.0)
"""The object is seen from beside the camera, and from the other side, which the photo does not show."""


class Thumbnail(Record):
    """A picture of an object."""

    picture: Artifact
    """PNG, RGB: square views, side by side."""


def thumbnail(item: ObjectMesh, layout: Layout, *, config: Settings, work: Work) -> Thumbnail:
    """The object from both sides, upright."""
    world_from_camera = np.array(layout.world_from_camera)
    mesh = load_mesh(work.read(item.mesh)).transformed(world_from_camera @ camera_from_crop(item.crop, 1.0))
    views = [side_view([mesh], [], world_from_camera, SIDE, SIDE, azimuth_deg=turn).color for turn in TURNS_DEG]
    write_png(work.write("thumbnail.png"), np.concatenate(views, axis=1))
    return Thumbnail(picture=work.artifact("thumbnail.png"))


THUMBNAIL = Stage(name="thumbnail", record=Thumbnail, run=thumbnail)
