"""How right the metres are that known sizes give, against assuming a distance.

    python benchmarks/metric_scale.py FOLDER ... [--limit N] [--json FILE]

FOLDER holds pictures with true depth in the layouts of `scenegen evaluate`. Of each picture: true over made depth, the median
over the objects that are made, as a factor above 1; with nothing given, with the true masks, and with their categories too,
where there are any. `assumed` is at the distance that is assumed where nothing is known, `found` as it comes out, `length` the
same of lengths across the picture, z / f, which a wrong field of view leaves alone. `known` says in how many pictures a known
size was found.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from scenegen.compute.runtime import Runtime
from scenegen.config import CameraConfig, DepthSettings, EmbeddedDepthConfig, EmbeddedSegmentConfig, ReadConfig
from scenegen.evaluate.ground_truth import find_folders, load_depth, load_masks, read_truth
from scenegen.evaluate.record import Truth
from scenegen.ids import shows_object
from scenegen.perception.mask_labels import label_of
from scenegen.records import Photo, Source
from scenegen.store.png import read_png
from scenegen.store.store import Store
from scenegen.untrusted.resample import nearest
from stages.depth import DEPTH
from stages.read import READ
from stages.segment import SEGMENT
from stages.stage import execute

DEPTH_SETTINGS = DepthSettings(depth=EmbeddedDepthConfig(), camera=CameraConfig(estimator="embedded"))


def main() -> None:
    """Measures every folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=10**9, help="pictures of a folder at most")
    parser.add_argument("--json", type=Path, help="file for every number")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for root in options.folders:
            places = find_folders(root)
            rows = [row for place in places[:: -(-len(places) // options.limit)] for row in measured(place, store)]
            results[str(root)] = rows
            print(f"{root}")
            for given in dict.fromkeys(row["given"] for row in rows):
                print(summary(given, [row for row in rows if row["given"] == given]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def measured(place: Path, store: Store) -> list[dict]:
    """One picture, with more and more given."""
    truth = read_truth(place, store)
    true_depth = load_depth(truth, store.path)
    if true_depth is None:
        return []
    names = {item.id: label_of(item.category) for item in truth.objects}
    ways = [("nothing", False, {})]
    if truth.masks is not None and shows_object(load_masks(truth, store.path)).any():
        ways.append(("masks", True, {}))
        ways += [("masks and names", True, names)] if names else []
    rows = []
    for given, masks, labels in ways:
        source = Source(
            name=place.name,
            photo=truth.image,
            masks=(truth.masks,) if masks and truth.masks else (),
            mask_labels=tuple(labels.get(number, "") for number in range(1, max(labels, default=0) + 1)),
        )
        rows.append({"picture": place.name, "given": given, **compared(source, truth, true_depth, store)})
    return rows


def compared(source: Source, truth: Truth, true_depth: np.ndarray, store: Store) -> dict:
    """Logarithms of true over made."""
    runtime = Runtime(device="cpu")
    photo: Photo = execute(READ, (source,), ReadConfig(), store, runtime).record
    instances = execute(SEGMENT, (photo,), EmbeddedSegmentConfig(), store, runtime).record
    depth = execute(DEPTH, (photo, instances), DEPTH_SETTINGS, store, runtime).record
    z, ids = np.load(store.path(depth.depth)), read_png(store.path(instances.masks))
    true = nearest(true_depth, (z.shape[1], z.shape[0]))
    known = (true > 0) & (z > 0)
    pixels = known & shows_object(ids)
    pixels = pixels if pixels.any() else known
    found = float(np.median(np.log(true[pixels] / z[pixels])))
    # The same map at the distance that is assumed where nothing is known.
    middle = float(np.median(z[shows_object(ids)] if shows_object(ids).any() else z))
    assumed = found + float(np.log(middle / EmbeddedDepthConfig().distance_m))
    row = {"assumed": assumed, "found": found, **depth.metres.model_dump()}
    if truth.intrinsics is not None:
        focal = truth.intrinsics.fx / truth.intrinsics.width, depth.intrinsics.fx / depth.intrinsics.width
        row["length"] = found - float(np.log(focal[0] / focal[1]))
    return row


def summary(given: str, rows: list[dict]) -> str:
    """Median factors, and how often the truth lies within what is stated."""
    known = [row for row in rows if row["source"] == "known sizes"]
    parts = [f"  {given}: {len(rows)} pictures"]
    parts += [f"{name} {factor(rows, name)}" for name in ("assumed", "found", "length")]
    parts.append(f"known {len(known)}")
    if known:
        parts += [f"of these {name} {factor(known, name)}" for name in ("assumed", "found", "length")]
        inside = np.mean([abs(row.get("length", row["found"])) < np.log(row["factor"]) for row in known])
        parts.append(f"within the stated factor {inside:.2f}")
    return ", ".join(parts)


def factor(rows: list[dict], name: str) -> str:
    """Median, as a factor above 1."""
    values = [abs(row[name]) for row in rows if name in row]
    return f"{np.exp(np.median(values)):.2f}" if values else "-"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
