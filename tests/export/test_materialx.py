"""Materials as MaterialX documents, valid for the library itself where it is installed (`pip install materialx`)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from export.toy_scene import varied

from scenegen.export.materialx import openpbr, write_materialx
from scenegen.export.parts import PartScene, prepared


def documents(scene: PartScene, folder: Path) -> list[Path]:
    paths = []
    for part in prepared(varied(scene)).objects:
        paths.append(folder / f"{part.name}.mtlx")
        write_materialx(paths[-1], part.name, openpbr(part.mesh, "base_color.png", "metallic_roughness.png"))
    return paths


def test_every_input_has_its_node_and_the_surface_its_values(part_scene: PartScene, tmp_path: Path) -> None:
    parts = prepared(varied(part_scene)).objects
    for part, path in zip(parts, documents(part_scene, tmp_path), strict=True):
        root = ElementTree.parse(path).getroot()
        nodes = {node.attrib["name"]: node for node in root}
        for item in root.iter("input"):
            assert item.get("nodename") is None or item.attrib["nodename"] in nodes
        inputs = {item.attrib["name"]: item for item in nodes["surface"]}
        assert ("geometry_opacity" in inputs) == (part.mesh.base_color.shape[-1] == 4)
        if part.mesh.metallic_roughness is None:
            assert float(inputs["base_metalness"].attrib["value"]) == pytest.approx(part.mesh.metallic)
            assert float(inputs["specular_roughness"].attrib["value"]) == pytest.approx(part.mesh.roughness)
        else:
            assert inputs["specular_roughness"].attrib["nodename"] == "roughness"


def test_the_library_finds_them_valid(part_scene: PartScene, tmp_path: Path) -> None:
    materialx = pytest.importorskip("MaterialX", reason="`pip install materialx`")
    library = materialx.createDocument()
    materialx.loadLibraries(materialx.getDefaultDataLibraryFolders(), materialx.getDefaultDataSearchPath(), library)
    for path in documents(part_scene, tmp_path):
        document = materialx.createDocument()
        materialx.readFromXmlFile(document, str(path))
        document.setDataLibrary(library)
        valid, message = document.validate()
        assert valid, message
        for node in document.getNodes():
            assert node.getNodeDef() is not None, node.getName()
    for part in prepared(varied(part_scene)).objects:
        for made in openpbr(part.mesh, "base_color.png", "metallic_roughness.png"):
            found = library.getNodeDef(made.definition)
            assert found.getNodeString() == made.category
            inputs = {item.getName(): item.getType() for item in found.getActiveInputs()}
            assert all(inputs[item.name] == item.type for item in made.inputs)
