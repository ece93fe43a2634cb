"""What a folder that scenegen published says of its scene. Nothing of Blender is needed here."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GLB, GRAPH, REPORT = "scene.glb", "scene_graph.json", "report.html"
PHOTO = re.compile(r'<img src="data:image/jpeg;base64,([A-Za-z0-9+/=]+)" alt="The photo\.">')
CARRIES = {"contains": "in", "supports": "on"}
"""Relations by which one part carries another, the closer one first, and how their collections are called."""


class SceneError(Exception):
    """A folder is no scene, or a scene could not be remade."""


def read_graph(folder: Path) -> dict[str, Any]:
    """The scene graph, in networkx' node-link form.

    Raises:
        SceneError: if the folder has none, or no GLB.
    """
    if missing := [name for name in (GLB, GRAPH) if not (folder / name).is_file()]:
        raise SceneError(f"{folder} has no {' and no '.join(missing)}; choose a folder that scenegen has made.")
    try:
        graph: dict[str, Any] = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SceneError(f"{folder / GRAPH} cannot be read ({error}); make the scene again.") from error
    return graph


def collections(graph: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """By name of each object and surface, the collections that hold it, from the outermost to its own.

    Examples:
        >>> nodes = [{"id": "floor", "kind": "background"}, {"id": "table", "kind": "object"}, {"id": "mug", "kind": "object"}]
        >>> edges = [("floor", "table"), ("table", "mug")]
        >>> links = [{"source": a, "target": b, "relations": {"supports": {}}} for a, b in edges]
        >>> collections({"nodes": nodes, "edges": links})["mug"]
        ('on floor', 'on table')
    """
    kinds = {node["id"]: node["kind"] for node in graph["nodes"]}
    carriers: dict[str, tuple[str, str]] = {}
    for relation, word in reversed(CARRIES.items()):
        for edge in graph["edges"]:
            if relation in edge["relations"]:
                carriers[edge["target"]] = (word, edge["source"])

    def path(name: str, below: frozenset[str]) -> tuple[str, ...]:
        if kinds[name] == "background":
            return ()
        if name not in carriers or name in below:
            return ("carried by nothing",)
        word, carrier = carriers[name]
        return (*path(carrier, below | {name}), f"{word} {carrier}")

    return {
        name: ("background",) if kind == "background" else path(name, frozenset())
        for name, kind in kinds.items()
        if kind != "camera"
    }


def camera_matrix(graph: Mapping[str, Any]) -> Mapping[str, float]:
    """Of the photo's camera: fx, fy, cx, cy, width and height in pixels."""
    found: Mapping[str, float] = next(node["intrinsics"] for node in graph["nodes"] if node["kind"] == "camera")
    return found


def lens(intrinsics: Mapping[str, float]) -> tuple[float, float, float]:
    """Focal length, shift to the right and shift upwards of a camera, in widths of its picture.

    Examples:
        >>> lens({"fx": 800.0, "fy": 800.0, "cx": 400.0, "cy": 320.0, "width": 800, "height": 600})
        (1.0, 0.0, 0.025)
    """
    width = intrinsics["width"]
    right = 0.5 - intrinsics["cx"] / width
    up = (intrinsics["cy"] - intrinsics["height"] / 2) / width
    return intrinsics["fx"] / width, right, up


def photo(folder: Path) -> bytes | None:
    """The photo, upright, as the report shows it (JPEG); None without a report."""
    if not (folder / REPORT).is_file():
        return None
    found = PHOTO.search((folder / REPORT).read_text(encoding="utf-8"))
    return None if found is None else base64.b64decode(found[1])


def regenerate_command(program: str, folder: Path, number: int, seed: int) -> list[str]:
    """What remakes an object of the scene in `folder`.

    Args:
        program: as one calls scenegen in a shell.
        folder: of the scene.
        number: of the object.
        seed: to make it with.

    Examples:
        >>> regenerate_command("python -m scenegen", Path("out/photo"), 3, 7)[:4]
        ['python', '-m', 'scenegen', 'regenerate']
    """
    return [*shlex.split(program), "regenerate", str(folder), "--object", str(number), "--seed", str(seed)]
