"""The material of a component as OpenPBR in MaterialX: its network of nodes, and that as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from scenegen.geometry.mesh import ALPHA_CUTOFF, TexturedMesh, alpha_mode

VERSION = "1.39"
SURFACE = "surface"
"""The node that the material shows."""
SRGB = "srgb_texture"


@dataclass(frozen=True)
class Input:
    """An input of a node."""

    name: str
    type: str
    """As MaterialX calls it."""
    value: str | float | int | None = None
    source: str | None = None
    """The node that it is connected to, if it has no value."""
    color_space: str | None = None


@dataclass(frozen=True)
class Node:
    """A node of a network."""

    name: str
    category: str
    type: str
    """Of its output."""
    definition: str
    """The name of its definition in MaterialX's library."""
    inputs: tuple[Input, ...]


def openpbr(mesh: TexturedMesh, base_color: str, metallic_roughness: str) -> tuple[Node, ...]:
    """The material of `mesh`, each node after those that it is connected to; the last is `SURFACE`.

    Args:
        mesh: whose material it is.
        base_color: file of that texture.
        metallic_roughness: likewise; used if `mesh` has such a texture.

    Examples:
        >>> from scenegen.geometry.mesh import load_mesh
        >>> [node.name for node in openpbr(load_mesh(Path("mesh.npz")), "base_color.png", "metallic_roughness.png")]
        ['base_color', 'surface']
    """
    nodes: list[Node] = []
    shown: list[Input] = []
    mode = alpha_mode(mesh.base_color)
    if mode == "OPAQUE":
        nodes.append(_image("base_color", "color3", base_color, SRGB))
        shown.append(Input("base_color", "color3", source="base_color"))
    else:
        nodes.append(_image("base_color", "color4", base_color, SRGB))
        whole = Input("in", "color4", source="base_color")
        nodes.append(Node("color", "convert", "color3", "ND_convert_color4_color3", (whole,)))
        nodes.append(_channel("alpha", "color4", "base_color", 3))
        shown.append(Input("base_color", "color3", source="color"))
        opacity = "alpha"
        if mode == "MASK":
            opacity = "shown"
            values = {"value2": ALPHA_CUTOFF, "in1": 1.0, "in2": 0.0}
            inputs = [Input("value1", "float", source="alpha"), *(Input(n, "float", v) for n, v in values.items())]
            nodes.append(Node(opacity, "ifgreatereq", "float", "ND_ifgreatereq_float", tuple(inputs)))
        shown.append(Input("geometry_opacity", "float", source=opacity))
    if mesh.metallic_roughness is None:
        shown.append(Input("base_metalness", "float", mesh.metallic))
        shown.append(Input("specular_roughness", "float", mesh.roughness))
    else:
        nodes.append(_image("packed", "color3", metallic_roughness))
        nodes.append(_channel("roughness", "color3", "packed", 1))
        nodes.append(_channel("metallic", "color3", "packed", 2))
        shown.append(Input("specular_roughness", "float", source="roughness"))
        shown.append(Input("base_metalness", "float", source="metallic"))
    surface = "ND_open_pbr_surface_surfaceshader"
    return (*nodes, Node(SURFACE, "open_pbr_surface", "surfaceshader", surface, tuple(shown)))


def write_materialx(path: Path, name: str, nodes: Sequence[Node]) -> None:
    """Writes a network as a document.

    Args:
        path: the `.mtlx` to write.
        name: of the material.
        nodes: from `openpbr`; its files are relative to the document.

    Examples:
        >>> from scenegen.geometry.mesh import load_mesh
        >>> nodes = openpbr(load_mesh(Path("mesh.npz")), "base_color.png", "metallic_roughness.png")
        >>> write_materialx(Path("mug.mtlx"), "mug", nodes)
        >>> Path("mug.mtlx").read_text().count("open_pbr_surface")
        2
    """
    root = Xml.Element("materialx", version=VERSION, colorspace="lin_rec709")
    material = Node(name, "surfacematerial", "material", "", (Input("surfaceshader", "surfaceshader", source=SURFACE),))
    for node in (*nodes, material):
        element = Xml.SubElement(root, node.category, name=node.name, type=node.type)
        for item in node.inputs:
            place = Xml.SubElement(element, "input", name=item.name, type=item.type)
            if item.source is not None:
                place.set("nodename", item.source)
            else:
                place.set("value", f"{item.value:.9g}" if isinstance(item.value, float) else str(item.value))
            if item.color_space is not None:
                place.set("colorspace", item.color_space)
    Xml.indent(root)
    text = '<?xml version="1.0"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def _image(name: str, kind: str, file: str, color_space: str | None = None) -> Node:
    modes = (Input(key, "string", "clamp") for key in ("uaddressmode", "vaddressmode"))
    picture = Input("file", "filename", file, color_space=color_space)
    return Node(name, "image", kind, f"ND_image_{kind}", (picture, *modes))


def _channel(name: str, kind: str, source: str, index: int) -> Node:
    inputs = (Input("in", kind, source=source), Input("index", "integer", index))
    return Node(name, "extract", "float", f"ND_extract_{kind}", inputs)
