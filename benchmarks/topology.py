"""How the meshes of finished scenes hang together, as a reader of their GLB finds them.

    python benchmarks/topology.py SCENE_FOLDER... [--json FILE]

Vertices at one place count as one. A mesh is manifold if every edge then has two faces, and closed if the faces at every edge,
two or more, run along it as often one way as the other. Printed for each folder and for all: objects; those closed; those
manifold; those whose largest piece is 95 % of the surface or more; median and maximum of pieces, and of handles (the genus).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np

from scenegen.export.glb import read_glb
from scenegen.geometry.mesh import TexturedMesh
from scenegen.geometry.solid import connected, topology, welded

WHOLE = 0.95
"""Share of the surface that the largest piece has in a mesh counted as whole."""


def measured(name: str, mesh: TexturedMesh) -> dict[str, object]:
    """The numbers of one object."""
    points, place = welded(mesh.vertices)
    faces = place[mesh.faces]
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    corners = points[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    pieces = np.bincount(connected(faces)[1], area)
    manifold = bool((np.unique(edges, axis=0, return_counts=True)[1] == 2).all())
    largest = round(float(pieces.max() / pieces.sum()), 4)
    return {"name": name, "manifold": manifold, "largest": largest, **topology(points, faces).model_dump()}


def line(name: str, rows: list[dict]) -> str:
    """The sums of some objects."""
    pieces, handles = [row["pieces"] for row in rows], [row["genus"] for row in rows if row["genus"] is not None]
    counts = {key: sum(row[key] for row in rows) for key in ("closed", "manifold")}
    whole = sum(row["largest"] >= WHOLE for row in rows)
    return (
        f"{name:28} objects {len(rows):3}  closed {counts['closed']:3}  manifold {counts['manifold']:3}  whole {whole:3}  "
        f"pieces {median(pieces):g} (most {max(pieces)})  handles {median(handles or [0]):g} (most {max(handles, default=0)})"
    )


def main() -> None:
    """Measures every folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        folder.name: [measured(part.name, part.mesh) for part in read_glb(folder / "scene.glb").objects]
        for folder in options.folders
    }
    for name, rows in found.items():
        if rows:
            print(line(name, rows))
    if every := [row for rows in found.values() for row in rows]:
        print(line("all", every))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
