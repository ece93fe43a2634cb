"""Scenes made from true masks and true depth, against the true objects: silhouettes and depth extents.

    python benchmarks/true_inputs.py SCENES [-o OUT] [--json FILE]

SCENES holds folders with image.png, masks.png (ids), depth.npy (metres), camera.json (fx, fy, cx, cy, width, height,
camera_to_world) and scene.json (objects with id and mesh in world coordinates). Prints, per object, the silhouette IoU of
the placed object and the ratio of its depth extent to the true one, and the medians.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import trimesh

from scenegen.camera import fov_x_deg, transform
from scenegen.config import load_config
from scenegen.export.manifest import read_manifest
from scenegen.geometry.mesh import load_mesh
from scenegen.inputs import Inputs
from scenegen.records import Intrinsics
from scenegen.runtime import Runtime
from stages.graph import local_submit
from stages.run import open_store, photo_to_scene


def measure(scene: Path, out: Path) -> list[dict[str, float | int | str]]:
    """One row per placed object."""
    camera = json.loads((scene / "camera.json").read_text())
    intrinsics = Intrinsics(**{name: camera[name] for name in ("width", "height", "fx", "fy", "cx", "cy")})
    store, runtime = open_store(out), Runtime()
    inputs = Inputs(name=scene.name, photo=scene / "image.png", masks=(scene / "masks.png",), depth=scene / "depth.npy")
    config = load_config(overrides=[{"camera": {"fov_deg": fov_x_deg(intrinsics)}}])
    with ThreadPoolExecutor(2) as executor:
        result = photo_to_scene(inputs, config, store, runtime, local_submit(store, runtime, executor))
    placed = {item.id: item for item in read_manifest(Path(result.folder)).objects}
    camera_from_true = np.linalg.inv(np.array(camera["camera_to_world"]))
    layout_world = json.loads((Path(result.folder) / "scene_graph.json").read_text())
    world_from_camera = np.array(next(n for n in layout_world["nodes"] if n["id"] == "camera")["world_from_camera"])
    rows: list[dict[str, float | int | str]] = []
    for item in json.loads((scene / "scene.json").read_text())["objects"]:
        if item["id"] not in placed:
            rows.append({"scene": scene.name, "id": item["id"], "category": item["category"], "iou": 0.0})
            continue
        mine = placed[item["id"]]
        true = transform(camera_from_true, np.asarray(trimesh.load(scene / item["mesh"], force="mesh").vertices))
        camera_from_object = np.linalg.inv(world_from_camera) @ np.array(mine.world_from_object)
        made = transform(camera_from_object, load_mesh(store.path(mine.mesh)).vertices.astype(float))
        rows.append(
            {
                "scene": scene.name,
                "id": item["id"],
                "category": item["category"],
                "iou": mine.scores.silhouette_iou,
                "depth_extent_ratio": round(float(np.ptp(made[:, 2]) / np.ptp(true[:, 2])), 4),
                "nearest_m_off": round(float(made[:, 2].min() - true[:, 2].min()), 4),
            }
        )
    return rows


def main() -> None:
    """Measures every scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/true_inputs"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for scene in sorted(path for path in options.scenes.iterdir() if (path / "camera.json").is_file()):
        for row in measure(scene, options.out):
            print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)
            rows.append(row)
    ious = np.array([row["iou"] for row in rows], dtype=float)
    ratios = np.array([row["depth_extent_ratio"] for row in rows if "depth_extent_ratio" in row], dtype=float)
    summary = {
        "objects": len(rows),
        "median_silhouette_iou": round(float(np.median(ious)), 4),
        "median_depth_extent_error": round(float(np.median(np.abs(ratios - 1))), 4),
    }
    print(json.dumps(summary))
    if options.json:
        options.json.write_text(json.dumps({"summary": summary, "objects": rows}, indent=1))


if __name__ == "__main__":
    main()
