"""GLB (glTF 2.0, binary): a writer for scenes of textured parts, and a reader of what it wrote.

Nodes: `scene` holds the groups `objects` and `background`, which hold one node per part, and `camera`, with
`camera_2` and so on where there are further photos. A part's node
carries its placement and, as extras, its label and facts. glTF has no principal point, so the camera's extras carry
its whole matrix.
"""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, Shaped, UInt8

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, camera_matrix
from scenegen.compute.recent import OF_OBJECTS, reused
from scenegen.errors import ExportError
from scenegen.export.parts import GENERATOR, NEAR_M, Part, PartCamera, PartScene, about_part, from_pose, pose, prepared
from scenegen.geometry.mesh import ALPHA_CUTOFF, TexturedMesh, alpha_mode, is_watertight, vertex_normals
from scenegen.records import Intrinsics

MAGIC = b"glTF"
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
COMPONENTS = {"<u2": 5123, "<u4": 5125, "<f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3"}
# Bilinear with mipmaps, clamped at the edges.
SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
MAX_SHORT_INDEX_VERTICES = 65535
"""Index 65535 is reserved: it restarts a primitive."""
JPEG_QUALITY = 92

MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    cv2.error,
    struct.error,
)
"""Errors from parsing a file that scenegen did not write."""


def write_glb(path: Path, scene: PartScene) -> None:
    """Writes `scene` (the same scene gives the same bytes).

    Raises:
        ExportError: if `scenegen.export.parts.prepared` refuses the scene.
        ObjectError: if one of the objects cannot be written.

    Examples:
        >>> write_glb(Path("copy.glb"), read_glb(Path("out/photo/scene.glb")))
    """
    scene = prepared(scene)
    document = _Document()
    root = document.add("nodes", {"name": "scene"})
    groups = [
        document.group("objects", scene.objects, double_sided=False),
        document.group("background", scene.background, double_sided=True),
    ]
    cameras = [document.camera("camera", scene.intrinsics, scene.world_from_camera, {})]
    for other in scene.cameras:
        cameras.append(document.camera(other.name, other.intrinsics, other.world_from_camera, {"photo": other.photo}))
    document.json["nodes"][root]["children"] = [node for node in (*groups, *cameras) if node is not None]
    document.add("scenes", {"name": "scene", "nodes": [root], "extras": dict(scene.facts)})
    path.write_bytes(document.packed())


def write_object(path: Path, part: Part) -> None:
    """Writes one prepared object by itself, in its own frame (the same object gives the same bytes).

    Raises:
        ExportError: if its texture cannot be encoded.

    Examples:
        >>> write_object(Path("object.glb"), read_glb(Path("out/photo/scene.glb")).objects[0])
    """
    document = _Document()
    node = document.part(replace(part, world_from_part=np.eye(4)), double_sided=False)
    document.add("scenes", {"name": part.name, "nodes": [node]})
    path.write_bytes(document.packed())


def read_glb(path: Path) -> PartScene:
    """Reads a scene that `write_glb` wrote. Textures are returned as they were embedded, possibly as JPEG.

    Raises:
        ExportError: if the file cannot be read or `write_glb` did not write it. Nothing outside the file is read.

    Examples:
        >>> [part.name for part in read_glb(Path("out/photo/scene.glb")).objects]
        ['obj_01_box', 'obj_02', 'obj_03_tasse']
    """
    try:
        return prepared(_File(path.read_bytes()).scene())
    except MALFORMED as error:
        raise ExportError(f"{path} is not a GLB that scenegen wrote: {type(error).__name__}: {error}.") from error


class _Document:
    """A glTF document under construction."""

    def __init__(self) -> None:
        self.json: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._binary = bytearray()
        self._textures: dict[bytes, int] = {}

    def add(self, kind: str, value: dict[str, Any]) -> int:
        """Index of `value`, appended to the list `kind`."""
        self.json[kind].append(value)
        return len(self.json[kind]) - 1

    def group(self, name: str, parts: tuple[Part, ...], double_sided: bool) -> int | None:
        """A node over `parts`; None without any, because the validator rejects an empty node."""
        if not parts:
            return None
        children = []
        for part in parts:
            with about_part(part):
                children.append(self.part(part, double_sided))
        return self.add("nodes", {"name": name, "children": children})

    def camera(
        self,
        name: str,
        camera: Intrinsics,
        world_from_camera: Float64[np.ndarray, "4 4"],
        facts: Mapping[str, str],
    ) -> int:
        """The node of a photo's camera."""
        translation, rotation = pose(world_from_camera @ GLTF_CAMERA_FROM_CAMERA, name)
        # glTF cameras look through the middle of what they show: the smallest such view that holds the whole photo.
        right = max(camera.cx, camera.width - camera.cx) / camera.fx
        down = max(camera.cy, camera.height - camera.cy) / camera.fy
        perspective = {"yfov": 2 * math.atan(down), "aspectRatio": right / down, "znear": NEAR_M}
        extras = {"width": camera.width, "height": camera.height, "K": camera_matrix(camera).tolist(), **facts}
        index = self.add("cameras", {"name": name, "type": "perspective", "perspective": perspective, "extras": extras})
        return self.add("nodes", {"name": name, "camera": index, "translation": translation, "rotation": rotation})

    def packed(self) -> bytes:
        """The finished file."""
        document: dict[str, Any] = {"asset": {"version": "2.0", "generator": GENERATOR}, "scene": 0, **self.json}
        if self._binary:
            document["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        chunks = _chunk(JSON_CHUNK, text, b" ")
        if self._binary:
            chunks += _chunk(BINARY_CHUNK, bytes(self._binary), b"\0")
        return struct.pack("<4sII", MAGIC, 2, 12 + len(chunks)) + chunks

    def part(self, part: Part, double_sided: bool) -> int:
        """The node of a part, with its mesh and material."""
        mesh = part.mesh
        index_type = "<u2" if len(mesh.vertices) <= MAX_SHORT_INDEX_VERTICES else "<u4"
        primitive = {
            "attributes": {
                "POSITION": self._accessor(mesh.vertices, "<f4", ARRAY_BUFFER),
                "NORMAL": self._accessor(vertex_normals(mesh.vertices, mesh.faces), "<f4", ARRAY_BUFFER),
                "TEXCOORD_0": self._accessor(mesh.uv, "<f4", ARRAY_BUFFER),
            },
            "indices": self._accessor(mesh.faces.reshape(-1, 1), index_type, ELEMENT_ARRAY_BUFFER),
            "material": self._material(part, double_sided),
        }
        translation, rotation = pose(part.world_from_part, part.name)
        return self.add(
            "nodes",
            {
                "name": part.name,
                "mesh": self.add("meshes", {"name": part.name, "primitives": [primitive]}),
                "translation": translation,
                "rotation": rotation,
                "extras": {"label": part.label, **part.facts},
            },
        )

    def _material(self, part: Part, double_sided: bool) -> int:
        mesh = part.mesh
        surface: dict[str, Any] = {
            "baseColorTexture": {"index": self._texture(part.name, *encode_texture(mesh.base_color))},
            "metallicFactor": mesh.metallic,
            "roughnessFactor": mesh.roughness,
        }
        if mesh.metallic_roughness is not None:
            name, packed = f"{part.name}.metallic_roughness", encode_texture(mesh.metallic_roughness, lossless=True)
            surface |= {"metallicFactor": 1.0, "roughnessFactor": 1.0}
            surface["metallicRoughnessTexture"] = {"index": self._texture(name, *packed)}
        material: dict[str, Any] = {"name": part.name, "pbrMetallicRoughness": surface}
        mode = alpha_mode(mesh.base_color)
        if mode != "OPAQUE":
            material["alphaMode"] = mode
        if mode == "MASK":
            material["alphaCutoff"] = ALPHA_CUTOFF
        # Surfaces are seen from behind through holes and transparent parts.
        if double_sided or mode != "OPAQUE" or not is_watertight(mesh):
            material["doubleSided"] = True
        return self.add("materials", material)

    def _texture(self, name: str, kind: str, data: bytes) -> int:
        if not self.json["samplers"]:
            self.add("samplers", dict(SAMPLER))
        if data not in self._textures:
            view = self._view(data)
            image = self.add("images", {"name": name, "mimeType": f"image/{kind}", "bufferView": view})
            self._textures[data] = self.add("textures", {"name": name, "sampler": 0, "source": image})
        return self._textures[data]

    def _accessor(self, values: Shaped[np.ndarray, "n c"], kind: str, target: int) -> int:
        data = np.ascontiguousarray(values, dtype=kind)
        return self.add(
            "accessors",
            {
                "bufferView": self._view(data.tobytes(), target),
                "componentType": COMPONENTS[kind],
                "count": len(data),
                "type": TYPES[data.shape[1]],
                "min": data.min(axis=0).tolist(),
                "max": data.max(axis=0).tolist(),
            },
        )

    def _view(self, data: bytes, target: int | None = None) -> int:
        self._binary += bytes(-len(self._binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        self._binary += data
        return self.add("bufferViews", view if target is None else {**view, "target": target})


def _chunk(kind: int, data: bytes, padding: bytes) -> bytes:
    data += padding * (-len(data) % 4)
    return struct.pack("<II", len(data), kind) + data


@reused(OF_OBJECTS)
def encode_texture(picture: UInt8[np.ndarray, "h w c"], lossless: bool = False) -> tuple[str, bytes]:
    """`picture` as `png`, or as `jpeg` (quality 92, full colour resolution) if that is smaller and allowed.

    Args:
        picture: RGB, or RGBA, which needs PNG.
        lossless: whether it must be PNG, because its channels are numbers rather than colours, and JPEG mixes them.

    Raises:
        ExportError: if it cannot be encoded.

    Examples:
        >>> kind, data = encode_texture(np.zeros((8, 8, 3), dtype=np.uint8))
        >>> kind
        'png'
    """
    swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    try:
        png = cv2.imencode(".png", swapped)[1].tobytes()
        if lossless or picture.shape[2] == 4:
            return "png", png
        jpeg = cv2.imencode(".jpg", swapped, options)[1].tobytes()
    except cv2.error as error:
        raise ExportError(f"a texture of {picture.shape[1]}x{picture.shape[0]} cannot be encoded: {error}.") from error
    return ("jpeg", jpeg) if len(jpeg) < len(png) else ("png", png)


class _File:
    """A parsed GLB file. Every reference is checked before it is followed."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        if magic != MAGIC or version != 2 or length != len(data):
            raise ValueError("the header is not that of a complete GLB 2 file")
        chunks: dict[int, bytes] = {}
        start = 12
        while start < length:
            size, kind = struct.unpack_from("<II", data, start)
            start += 8 + size
            if start > length or kind in chunks:
                raise ValueError("a chunk extends past the end of the file, or occurs twice")
            chunks[kind] = data[start - size : start]
        self._json: dict[str, Any] = json.loads(chunks[JSON_CHUNK])
        self._binary = chunks.get(BINARY_CHUNK, b"")
        if any("uri" in value for kind in ("buffers", "images") for value in self._json.get(kind, [])):
            raise ValueError("it refers to other files")

    def scene(self) -> PartScene:
        """The scene that the document describes."""
        scene = self._item("scenes", self._json["scene"])
        (root,) = scene["nodes"]
        members = {node["name"]: node for node in self._children(self._item("nodes", root))}
        camera = members["camera"]
        return PartScene(
            objects=self._parts(members.get("objects", {})),
            background=self._parts(members.get("background", {})),
            intrinsics=self._intrinsics(camera["camera"]),
            world_from_camera=_pose_of(camera),
            facts=dict(scene["extras"]),
            cameras=tuple(
                PartCamera(
                    name,
                    self._item("cameras", node["camera"])["extras"]["photo"],
                    self._intrinsics(node["camera"]),
                    _pose_of(node),
                )
                for name, node in members.items()
                if "camera" in node and name != "camera"
            ),
        )

    def _item(self, kind: str, index: int) -> Any:
        values = self._json[kind]
        if not 0 <= index < len(values):
            raise IndexError(f"{kind}[{index}] does not exist")
        return values[index]

    def _children(self, node: Any) -> list[Any]:
        return [self._item("nodes", index) for index in node.get("children", [])]

    def _parts(self, group: Any) -> tuple[Part, ...]:
        parts = []
        for node in self._children(group):
            facts = dict(node["extras"])
            label = facts.pop("label")
            placement = from_pose(node["translation"], node["rotation"])
            parts.append(Part(node["name"], label, self._mesh(node["mesh"]), placement, facts))
        return tuple(parts)

    def _intrinsics(self, index: int) -> Intrinsics:
        extras = self._item("cameras", index)["extras"]
        (fx, _, cx), (_, fy, cy), _ = extras["K"]
        return Intrinsics(width=extras["width"], height=extras["height"], fx=fx, fy=fy, cx=cx, cy=cy)

    def _mesh(self, index: int) -> TexturedMesh:
        (primitive,) = self._item("meshes", index)["primitives"]
        attributes = primitive["attributes"]
        vertices = self._array(attributes["POSITION"]).astype(np.float32)
        faces = self._array(primitive["indices"]).reshape(-1, 3)
        if faces.max() >= len(vertices):
            raise IndexError(f"index {faces.max()} in a mesh of {len(vertices)} vertices")
        material = self._item("materials", primitive["material"])
        surface = material["pbrMetallicRoughness"]
        packed = surface.get("metallicRoughnessTexture")
        return TexturedMesh(
            vertices=vertices,
            faces=faces.astype(np.int32),
            uv=self._array(attributes["TEXCOORD_0"]).astype(np.float32),
            base_color=self._picture(
                surface["baseColorTexture"]["index"], alpha=material.get("alphaMode", "OPAQUE") != "OPAQUE"
            ),
            metallic=surface["metallicFactor"],
            roughness=surface["roughnessFactor"],
            metallic_roughness=None if packed is None else self._picture(packed["index"], alpha=False),
        )

    def _array(self, index: int) -> Shaped[np.ndarray, "n c"]:
        accessor = self._item("accessors", index)
        kind = {code: name for name, code in COMPONENTS.items()}[accessor["componentType"]]
        columns = {name: width for width, name in TYPES.items()}[accessor["type"]]
        data = self._view(accessor["bufferView"])
        if len(data) != accessor["count"] * columns * np.dtype(kind).itemsize or not data:
            raise ValueError(f"accessors[{index}] does not fill its buffer view")
        return np.frombuffer(data, dtype=kind).reshape(-1, columns)

    def _view(self, index: int) -> bytes:
        view = self._item("bufferViews", index)
        start, length = view["byteOffset"], view["byteLength"]
        if start < 0 or length < 0 or start + length > len(self._binary):
            raise IndexError(f"bufferViews[{index}] reaches outside the file")
        return self._binary[start : start + length]

    def _picture(self, index: int, alpha: bool) -> UInt8[np.ndarray, "h w c"]:
        image = self._item("images", self._item("textures", index)["source"])
        data = np.frombuffer(self._view(image["bufferView"]), dtype=np.uint8)
        flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        picture = cv2.imdecode(data, flags) if data.size else None
        if picture is None:
            raise ValueError("a texture is neither PNG nor JPEG")
        if not alpha:
            return np.ascontiguousarray(picture[..., ::-1])
        if picture.dtype != np.uint8 or picture.shape[2:] != (4,):
            raise ValueError(f"a texture with alpha is {picture.dtype} {picture.shape}, not 8-bit RGBA")
        return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)


def _pose_of(camera: Any) -> Float64[np.ndarray, "4 4"]:
    """The place of a camera's node, with OpenCV axes."""
    return from_pose(camera["translation"], camera["rotation"]) @ GLTF_CAMERA_FROM_CAMERA
