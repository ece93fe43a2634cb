"""The embedded perception on photographs with ground truth, in the layout of `scenegen.train.pictures`.

    python benchmarks/photographs.py FOLDER [--split test | held-out] [--weights FILE] [--sheet PNG]

`held-out` are the photographs of the split `train` that training leaves out: what is chosen is chosen on these.

- exhaustive photographs: precision and recall of the objects at an IoU above 0.5; true objects below 0.4 % of the picture are
  not counted, nor is what is found there; pixels marked as unknown count for neither;
- salient ones: IoU of the best object with the largest true one, and how many objects that one is cut into;
- prompts, on every true object of both: IoU after one click (in the middle: farthest from the outline), after two more in the
  middle of the largest error left, and of a box;
- names, of the 30 most frequent nouns: share of the true objects called right by the answer to their box;
- depth: AbsRel and share within a factor of 1.25 after the median ratio; field of view: mean error, and that of assuming 55
  degrees.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedDepthConfig, EmbeddedSegmentConfig
from scenegen.ids import shows_object
from scenegen.perception import embedded
from scenegen.perception.masks import clean_masks
from scenegen.perception.nouns import NOUNS
from scenegen.perception.prompted import Prompt, answer
from scenegen.train.perception import split as split_pictures
from scenegen.train.pictures import IGNORED, TrainingPicture, read_pictures

SMALLEST = 0.004
FREQUENT = 30
ASSUMED_FOV = 55.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="held-out", choices=("test", "held-out"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--sheet", type=Path, help="a picture of the objects found")
    parser.add_argument("--limit", type=int, default=10**9, help="photographs at most")
    options = parser.parse_args()
    if options.weights:
        embedded.WEIGHTS = options.weights
    pictures = read_pictures(options.folder)
    frequent = {noun for noun, _ in Counter(n for each in pictures for n in each.nouns.values()).most_common(FREQUENT)}
    chosen = [each for each in pictures if each.split == "test"]
    if options.split == "held-out":
        chosen = split_pictures(pictures)[1]
    chosen = chosen[:: max(1, len(chosen) // options.limit)]
    counts, rows, sheet = Counter(), {}, []
    for picture in chosen:
        score(picture, frequent, counts, rows, sheet)
    found, true, both = counts["found"], counts["true"], counts["both"]
    print(f"{len(chosen)} photographs")
    print(
        f"exhaustive: precision {both / max(found, 1):.3f}, recall {both / max(true, 1):.3f} ({found} found, {true} true)"
    )
    for name, values in rows.items():
        values = np.array(values)
        print(f"{name}: mean {values.mean():.3f}, median {np.median(values):.3f} ({len(values)})")
    if rows.get("salient IoU"):
        print(f"salient above 0.75: {np.mean(np.array(rows['salient IoU']) > 0.75):.3f}")
    if options.sheet:
        cv2.imwrite(str(options.sheet), contact_sheet(sheet))


def score(picture: TrainingPicture, frequent: set[int], counts: Counter, rows: dict, sheet: list) -> None:
    """Adds what one photograph says."""
    runtime, config = Runtime(device="cpu"), EmbeddedSegmentConfig()
    found = embedded.segment_embedded(picture.image, config, runtime)
    clean = clean_masks(found.ids, round(config.min_area * found.ids.size)).ids
    ids = np.where(shows_object(clean), clean, 0).astype(np.int64)
    sheet.append((picture.image, ids, found.labels))
    truth = picture.ids.astype(np.int64)
    known = truth != IGNORED
    salient = not picture.exhaustive and picture.nouns == {} and (truth[known] > 0).any()
    if picture.exhaustive or salient:
        ours, theirs = np.where(known, ids, 0), np.where(known, truth, 0)
        table = np.zeros((int(ours.max()) + 1, int(theirs.max()) + 1), int)
        np.add.at(table, (ours.ravel(), theirs.ravel()), 1)
        a, b = table.sum(1)[1:], table.sum(0)[1:]
        iou = table[1:, 1:] / np.maximum(a[:, None] + b[None] - table[1:, 1:], 1)
        if picture.exhaustive:
            counted = b >= SMALLEST * truth.size
            matched = iou > 0.5
            excused = matched[:, ~counted].any(1)
            counts["found"] += int(((a > 0) & ~excused).sum())
            counts["true"] += int(counted.sum())
            counts["both"] += int(matched[:, counted].sum())
        elif len(b):
            largest = int(b.argmax())
            rows.setdefault("salient IoU", []).append(float(iou[:, largest].max()) if len(a) else 0.0)
            rows.setdefault("salient objects per thing", []).append(int((table[1:, 1 + largest] > 0).sum()))
    for number in np.unique(truth[known & (truth > 0)]):
        mask = truth == number
        if np.count_nonzero(mask) >= SMALLEST * truth.size:
            for name, value in prompted(picture.image, mask, known, runtime).items():
                if name != "noun":
                    rows.setdefault(name, []).append(value)
                elif picture.nouns.get(int(number), -1) in frequent:
                    rows.setdefault("called right", []).append(float(value == NOUNS[picture.nouns[int(number)]]))
    if picture.log_depth is not None and np.isfinite(picture.log_depth).any():
        ours = np.log(embedded.estimate_depth_embedded(picture.image, found.ids, EmbeddedDepthConfig(), runtime).depth)
        valid = np.isfinite(picture.log_depth)
        ratio = np.exp(ours[valid] - picture.log_depth[valid])
        ratio /= np.median(ratio)
        rows.setdefault("AbsRel", []).append(float(np.abs(ratio - 1).mean()))
        rows.setdefault("within 1.25", []).append(float((np.maximum(ratio, 1 / ratio) < 1.25).mean()))
    if picture.camera is not None:
        true_fov = 2 * np.degrees(np.arctan(truth.shape[1] / 2 / picture.camera[0]))
        rows.setdefault("fov error", []).append(abs(embedded.perceive(picture.image, runtime).fov_x_deg - true_fov))
        rows.setdefault("fov error, 55 assumed", []).append(abs(ASSUMED_FOV - true_fov))


def prompted(image: np.ndarray, mask: np.ndarray, known: np.ndarray, runtime: Runtime) -> dict[str, float | str]:
    """IoU of the answers to clicks and a box, and the name."""
    results: dict[str, float | str] = {}
    inside, outside = [middle(mask)], []
    for clicks in (1, 2, 3):
        made = answer(image, Prompt(inside=tuple(inside), outside=tuple(outside)), runtime).mask
        results[f"IoU after {clicks}"] = overlap(made, mask, known)
        wrong = (made ^ mask) & known
        if not wrong.any():
            continue
        u, v = middle(largest_part(wrong))
        (inside if mask[int(v), int(u)] else outside).append((u, v))
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    made = answer(image, Prompt(box=tuple(float(x) for x in box)), runtime)
    results["IoU of a box"] = overlap(made.mask, mask, known)
    results["noun"] = made.guesses[0][0] if made.guesses else ""
    return results


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Centre of the pixel farthest from the outline."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), mask.shape)
    return column + 0.5, row + 0.5


def largest_part(mask: np.ndarray) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def overlap(made: np.ndarray, mask: np.ndarray, known: np.ndarray) -> float:
    return float((made & mask & known).sum() / max(1, ((made | mask) & known).sum()))


def contact_sheet(entries: list, columns: int = 6, side: int = 220) -> np.ndarray:
    """The photographs with their objects coloured."""
    tiles = []
    colours = np.random.default_rng(3).integers(40, 255, (256, 3))
    colours[0] = 0
    for image, ids, labels in entries:
        shown = (0.55 * image[..., ::-1] + 0.45 * np.where(ids[..., None] > 0, colours[ids], image[..., ::-1])).astype(
            np.uint8
        )
        scale = side / max(ids.shape)
        shown = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for number in np.unique(ids[ids > 0]):
            u, v = middle(ids == number)
            cv2.putText(
                shown, labels[number - 1][:12], (max(0, int(u * scale) - 20), int(v * scale)), 0, 0.35, (255, 255, 255)
            )
        tile = np.zeros((side, side, 3), np.uint8)
        tile[: shown.shape[0], : shown.shape[1]] = shown
        tiles.append(tile)
    tiles += [np.zeros((side, side, 3), np.uint8)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)], 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
