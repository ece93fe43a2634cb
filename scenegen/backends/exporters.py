"""Exporters: OBJ, PLY, STL, one GLB per object, and MJCF and URDF for simulators. GLB and USD of the scene are always written."""

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


class MjcfConfig(BackendConfig):
    """MJCF, for MuJoCo."""

    method: Literal["mjcf"] = "mjcf"


class UrdfConfig(BackendConfig):
    """URDF, for most other simulators of robots."""

    method: Literal["urdf"] = "urdf"


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


def _mjcf(scene: PartScene, folder: Path, config: MjcfConfig) -> list[Path]:
    from scenegen.export.simulators import write_mjcf

    return write_mjcf(scene, folder)


def _urdf(scene: PartScene, folder: Path, config: UrdfConfig) -> list[Path]:
    from scenegen.export.simulators import write_urdf

    return write_urdf(scene, folder)


OBJ = Exporter(config=ObjConfig, run=_obj, gives=("files",))
PLY = Exporter(config=PlyConfig, run=_ply, gives=("files",))
STL = Exporter(config=StlConfig, run=_stl, gives=("files",))
OBJECTS = Exporter(config=ObjectsConfig, run=_objects, gives=("files",))
MJCF = Exporter(config=MjcfConfig, run=_mjcf, gives=("files",))
URDF = Exporter(config=UrdfConfig, run=_urdf, gives=("files",))
