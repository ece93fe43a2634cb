"""Exporters: OBJ, PLY, STL, and one GLB per object. GLB and USD of the whole scene are always written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scenegen.config import BackendConfig
from scenegen.registry import Exporter

if TYPE_CHECKING:
    from scenegen.export.parts import PartScene


class ObjConfig(BackendConfig):
    """OBJ, with MTL and textures."""

    method: Literal["obj"] = "obj"


class PlyConfig(BackendConfig):
    """PLY, with a colour per vertex."""

    method: Literal["ply"] = "ply"


class StlConfig(BackendConfig):
    """STL, without colours."""

    method: Literal["stl"] = "stl"


class ObjectsConfig(BackendConfig):
    """One GLB per object."""

    method: Literal["objects"] = "objects"


def _obj(scene: PartScene, folder: Path, config: ObjConfig) -> list[Path]:
    from scenegen.export.formats import write_obj

    return write_obj(scene, folder)


def _ply(scene: PartScene, folder: Path, config: PlyConfig) -> list[Path]:
    from scenegen.export.formats import write_ply

    return write_ply(scene, folder)


def _stl(scene: PartScene, folder: Path, config: StlConfig) -> list[Path]:
    from scenegen.export.formats import write_stl

    return write_stl(scene, folder)


def _objects(scene: PartScene, folder: Path, config: ObjectsConfig) -> list[Path]:
    from scenegen.export.formats import write_objects

    return write_objects(scene, folder)


OBJ = Exporter(config=ObjConfig, run=_obj, gives=("files",))
PLY = Exporter(config=PlyConfig, run=_ply, gives=("files",))
STL = Exporter(config=StlConfig, run=_stl, gives=("files",))
OBJECTS = Exporter(config=ObjectsConfig, run=_objects, gives=("files",))
