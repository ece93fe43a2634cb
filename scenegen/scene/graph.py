"""The scene graph: what is in the scene and how it hangs together, each relation with its evidence.

Nodes are names (`camera`, `floor`, `obj_03_mug`) with a `kind`: `camera`, `object` or `background`. Edges carry
`relations`, a mapping from the relation (`supports`, `contains`, `leans on`, `occludes`, `adjacent`) to its evidence. The graph's
own attribute `metres` says where the scale comes from, and how far it can be off.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float, Integer
from scipy.spatial import cKDTree

from scenegen.geometry.mesh import TexturedMesh
from scenegen.ids import shows_object
from scenegen.untrusted.documents import parse_json

CAMERA = "camera"
TOUCHING = 0.03
"""Objects are adjacent where they come closer than this share of the smaller one's size."""
SAMPLES = 2000


def object_name(object_id: int, label: str) -> str:
    """A unique, plain name for files, nodes and prims: `obj_03_mug`.

    Examples:
        >>> object_name(3, "Crème brûlée")
        'obj_03_creme_brulee'
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:32].strip("_")
    return f"obj_{object_id:02d}_{plain}" if plain else f"obj_{object_id:02d}"


def relate(graph: nx.DiGraph, source: str, target: str, relation: str, evidence: Mapping[str, Any]) -> None:
    """Adds a relation from `source` to `target`; both must be nodes.

    Examples:
        >>> graph = nx.DiGraph()
        >>> graph.add_nodes_from(["floor", "obj_01_mug"])
        >>> relate(graph, "floor", "obj_01_mug", "supports", {"gap_m": 0.0})
        >>> graph.edges["floor", "obj_01_mug"]["relations"]
        {'supports': {'gap_m': 0.0}}
    """
    if source not in graph or target not in graph:
        raise KeyError(f"`{source}` and `{target}` must both be nodes before they can be related")
    relations = graph.edges[source, target]["relations"] if graph.has_edge(source, target) else {}
    graph.add_edge(source, target, relations={**relations, relation: dict(evidence)})


def support_graph(supports: Iterable[tuple[int, int]]) -> nx.DiGraph:
    """Which objects stand on which, by their ids.

    Args:
        supports: (supporter, supported) pairs; the floor is 0.

    Examples:
        >>> stack = support_graph([(0, 1), (1, 2), (2, 3)])
        >>> sorted(nx.descendants(stack, 1))
        [2, 3]
    """
    return nx.DiGraph(supports)


def occlusions(
    ids: Integer[np.ndarray, "h w"], depth: Float[np.ndarray, "h w"]
) -> dict[tuple[int, int], dict[str, float]]:
    """(front, behind) pairs of objects that share an outline, with the pixels shared and the median step in depth, metres.

    Examples:
        >>> ids = np.array([[1, 2], [1, 2]])
        >>> occlusions(ids, np.array([[1.0, 1.5], [1.0, 1.5]]))
        {(1, 2): {'pixels': 2, 'depth_step_m': 0.5}}
    """
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for axis in (0, 1):
        a = np.moveaxis(ids, axis, 0)
        z = np.moveaxis(depth, axis, 0)
        first, second, z_first, z_second = a[:-1], a[1:], z[:-1], z[1:]
        border = (first != second) & shows_object(first) & shows_object(second) & (z_first > 0) & (z_second > 0)
        pairs = np.stack([first[border], second[border]], axis=1).astype(int)
        steps = (z_second - z_first)[border]
        for pair in np.unique(pairs, axis=0):
            mine = steps[(pairs == pair).all(axis=1)]
            low, high = sorted(int(i) for i in pair)
            found.setdefault((low, high), []).append(mine if pair[0] == low else -mine)
    result = {}
    for (low, high), steps in found.items():
        together = np.concatenate(steps)
        step = float(np.median(together))
        pair = (low, high) if step >= 0 else (high, low)
        result[pair] = {"pixels": len(together), "depth_step_m": round(abs(step), 5)}
    return result


def closeness(a: TexturedMesh, b: TexturedMesh) -> tuple[float, float]:
    """Smallest distance between two meshes' vertices (metres, one frame), and the smaller mesh's largest extent.

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.geometry.mesh import load_mesh
        >>> mesh = load_mesh(Path("mesh.npz"))
        >>> closeness(mesh, mesh)[0]
        0.0
    """
    points_a, points_b = (mesh.vertices[:: max(1, len(mesh.vertices) // SAMPLES)] for mesh in (a, b))
    distance, _ = cKDTree(points_a).query(points_b)
    size = min(float(np.ptp(points, axis=0).max()) for points in (points_a, points_b))
    return float(distance.min()), size


def containment(inner: TexturedMesh, outer: TexturedMesh) -> float:
    """Share of the inner mesh's vertices inside the outer one's box (world frame, so the box is upright).

    Examples:
        >>> from pathlib import Path
        >>> from scenegen.geometry.mesh import load_mesh
        >>> mesh = load_mesh(Path("mesh.npz"))
        >>> containment(mesh, mesh)
        1.0
    """
    low, high = outer.vertices.min(axis=0), outer.vertices.max(axis=0)
    return float(((inner.vertices >= low) & (inner.vertices <= high)).all(axis=1).mean())


def to_json(graph: nx.DiGraph) -> str:
    """The graph as node-link JSON, the same graph giving the same text.

    Examples:
        >>> from_json(to_json(nx.DiGraph([("floor", "obj_01_mug")]))).edges
        OutEdgeView([('floor', 'obj_01_mug')])
    """
    return json.dumps(nx.node_link_data(graph, edges="edges"), indent=1, sort_keys=True, allow_nan=False)


def from_json(text: str) -> nx.DiGraph:
    """Reads what `to_json` wrote.

    Raises:
        ValueError, LookupError, TypeError, networkx.NetworkXError: if it is something else.

    Examples:
        >>> from pathlib import Path
        >>> graph = from_json(Path("out/photo/scene_graph.json").read_text())
        >>> graph.nodes["floor"]["kind"]
        'background'
    """
    return nx.node_link_graph(parse_json(text), directed=True, multigraph=False, edges="edges")
