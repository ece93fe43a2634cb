"""A component's material as a MaterialX document: OpenPBR, with the textures beside it.

It lies beside the USD files and not in them: USD without the MaterialX libraries, such as that of PyPI, finds unknown shaders in
a stage that has such a network, and UsdPreviewSurface shows the same.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

from scenegen.geometry.mesh import ALPHA_CUTOFF, TexturedMesh, alpha_mode

VERSION = "1.39"


def write_materialx(path: Path, name: str, mesh: TexturedMesh, base_color: str, metallic_roughness: str) -> None:
    """Writes the material of `mesh`.

    Args:
        path: the `.mtlx` to write.
        name: of the material.
        mesh: whose material it is.
        base_color: file of that texture, relative to the document.
        metallic_roughness: likewise; used if `mesh` has such a texture.

    Examples:
        >>> from scenegen.geometry.mesh import load_mesh
        >>> write_materialx(Path("mug.mtlx"), "mug", load_mesh(Path("mesh.npz")), "base_color.png", "metallic_roughness.png")
        >>> Path("mug.mtlx").read_text().count("open_pbr_surface")
        2
    """
    root = Xml.Element("materialx", version=VERSION, colorspace="lin_rec709")
    surface = Xml.Element("open_pbr_surface", name="surface", type="surfaceshader")
    mode = alpha_mode(mesh.base_color)
    if mode == "OPAQUE":
        _image(root, "base_color", "color3", base_color, "srgb_texture")
        _connect(surface, "base_color", "color3", "base_color")
    else:
        _image(root, "base_color", "color4", base_color, "srgb_texture")
        color = Xml.SubElement(root, "convert", name="color", type="color3")
        _connect(color, "in", "color4", "base_color")
        alpha = Xml.SubElement(root, "extract", name="alpha", type="float")
        _connect(alpha, "in", "color4", "base_color")
        Xml.SubElement(alpha, "input", name="index", type="integer", value="3")
        _connect(surface, "base_color", "color3", "color")
        opacity = "alpha"
        if mode == "MASK":
            opacity = "shown"
            cut = Xml.SubElement(root, "ifgreatereq", name=opacity, type="float")
            _connect(cut, "value1", "float", "alpha")
            for key, value in (("value2", ALPHA_CUTOFF), ("in1", 1.0), ("in2", 0.0)):
                _value(cut, key, value)
        _connect(surface, "geometry_opacity", "float", opacity)
    if mesh.metallic_roughness is None:
        _value(surface, "base_metalness", mesh.metallic)
        _value(surface, "specular_roughness", mesh.roughness)
    else:
        _image(root, "packed", "color3", metallic_roughness)
        for channel, (node, key) in ((1, ("roughness", "specular_roughness")), (2, ("metallic", "base_metalness"))):
            taken = Xml.SubElement(root, "extract", name=node, type="float")
            _connect(taken, "in", "color3", "packed")
            Xml.SubElement(taken, "input", name="index", type="integer", value=str(channel))
            _connect(surface, key, "float", node)
    root.append(surface)
    material = Xml.SubElement(root, "surfacematerial", name=name, type="material")
    _connect(material, "surfaceshader", "surfaceshader", "surface")
    Xml.indent(root)
    text = '<?xml version="1.0"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def _image(root: Xml.Element, name: str, kind: str, file: str, colorspace: str | None = None) -> None:
    image = Xml.SubElement(root, "image", name=name, type=kind)
    place = Xml.SubElement(image, "input", name="file", type="filename", value=file)
    if colorspace is not None:
        place.set("colorspace", colorspace)
    for key in ("uaddressmode", "vaddressmode"):
        Xml.SubElement(image, "input", name=key, type="string", value="clamp")


def _connect(node: Xml.Element, key: str, kind: str, source: str) -> None:
    Xml.SubElement(node, "input", name=key, type=kind, nodename=source)


def _value(node: Xml.Element, key: str, value: float) -> None:
    Xml.SubElement(node, "input", name=key, type="float", value=f"{value:.9g}")
