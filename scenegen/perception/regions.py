"""Finds objects without weights: superpixels are merged into a tree of regions, and the most object-like ones are chosen.

Superpixels are merged two by two, the most alike neighbours first. Every node of the tree is a candidate. A candidate
looks like an object if its outline is closed and strong, and if it is compact, differs from its surroundings and
does not lie along the picture's border. Those are taken that do not overlap and whose values sum up highest, found
exactly over the tree. An object of many colours is not a node of it: if a compact patch of what stands out from the
background is worth clearly more than the nodes in it, the patch is taken in their place.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from scenegen.config import RegionsConfig
from scenegen.ids import UNKNOWN
from scenegen.perception import UNNAMED, Segmentation
from scenegen.perception.masks import snap_to_edges
from scenegen.perception.superpixels import Adjacency, adjacency, saliency, superpixels, weighted_lab

WORKING_SIDE = 480
"""Longer side of the copy the regions are found on, in pixels."""

WEAK_EDGE = 6.0
"""Lab distance below which an outline counts as open."""

SMALL = 0.005
"""Share of the picture below which a region merges more readily."""

THRESHOLD = 0.2
"""Probability a candidate must exceed to be taken."""

MAX_AREA = 0.5
"""Largest object, as a share of the picture."""

PATCH_LEVELS = (0.2, 0.35, 0.5, 0.65)
"""Saliencies above which connected superpixels make a patch."""

PATCH_GAIN = 1.3
"""How many times the value of the nodes in it a patch must be worth."""

MAX_PATCH_AREA = 0.3
"""Largest patch, as a share of the picture: in a cluttered picture the patches are heaps of things."""

MIN_PATCH_SOLIDITY = 0.7
"""Smallest share of its convex hull a patch fills."""

SALIENCY_WEIGHT = 30.0
"""Lab distance a full step of saliency counts as when regions merge."""

MAX_LEANING = 1.2
"""Border length over the root of the area beyond which a region is a wall, a floor or a table top."""

SEEN_THROUGH = 3.0
"""Lab distance to a piece of background nearby below which a region is more of it, seen through a gap."""

BACKGROUND = 0.1
"""Saliency below which a superpixel is background."""

NEARBY = 0.3
"""How near, as a share of the longer side."""

CARRIED = 0.5
"""Share of an object's outline that a surface it lies on has around it."""


@dataclass(frozen=True, eq=False)
class Tree:
    """Regions: first the superpixels, then every merge."""

    children: Int[np.ndarray, "m 2"]
    """Of the regions n, n + 1, ..., n + m - 1."""
    members: Bool[np.ndarray, "r n"]
    """Superpixels of every region."""


def segment_regions(image: UInt8[np.ndarray, "h w 3"], config: RegionsConfig) -> Segmentation:
    """The separate objects of a photo, from colour and shape alone.

    It works best for objects seen against a plain background. It misses objects rather than splitting them.

    Args:
        image: sRGB.
        config: number of superpixels, smallest area, largest number of objects.
    """
    height, width = image.shape[:2]
    scale = max(1.0, max(height, width) / WORKING_SIDE)
    small = image
    if scale > 1:
        size = (max(1, round(width / scale)), max(1, round(height / scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = weighted_lab(small)
    labels = superpixels(lab, config.superpixels)
    graph = adjacency(lab, labels)
    salient = saliency(graph)
    tree = merge_tree(graph, salient)
    patches = salient_patches(graph, salient, labels)
    members = np.concatenate([tree.members, patches])
    probability = objectness(graph, members, salient)
    value = _values(graph, members, probability, config.min_area)
    taken = _prefer_patches(_best_cut(tree, value), members, value, first_patch=len(tree.members))
    taken = _without_surfaces(graph, members, taken)
    taken = sorted(taken, key=lambda region: -probability[region])
    id_of = np.zeros(len(graph.area), dtype=np.uint16)
    id_of[members[taken].any(axis=0)] = UNKNOWN
    taken = taken[: config.max_objects]
    for number, region in enumerate(taken, start=1):
        id_of[members[region]] = number
    ids = id_of[labels]
    if scale > 1:
        ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
        ids = snap_to_edges(image, ids, reach=int(np.ceil(2 * scale)))
    return Segmentation(
        ids=ids,
        scores=tuple(round(float(probability[region]), 4) for region in taken),
        labels=(UNNAMED,) * len(taken),
        label_confidences=(None,) * len(taken),
        backend="regions (superpixel merging)",
        licence="none: no weights",
    )


def merge_tree(graph: Adjacency, salient: Float[np.ndarray, "n"]) -> Tree:
    """Merges neighbours, the most alike first, until no two regions touch.

    Two regions differ by the distance of their means, of colour and saliency, times the gradient along their border,
    less if one of them is small.
    """
    count = len(graph.area)
    total = graph.area.sum()
    area = list(graph.area)
    mean = list(np.column_stack([graph.mean, SALIENCY_WEIGHT * salient]))
    borders: list[dict[int, tuple[float, float]]] = [{} for _ in range(count)]
    for (first, second), length, edge in zip(graph.pairs.tolist(), graph.length, graph.edge, strict=True):
        borders[first][second] = borders[second][first] = (length, length * edge)

    def difference(one: int, other: int) -> float:
        length, gradient = borders[one][other]
        distance = np.sqrt(np.square(mean[one] - mean[other]).sum())
        smaller = min(area[one], area[other]) / total
        return float(distance * (1 + gradient / length) * np.sqrt(min(smaller / SMALL, 1)))

    queue = [(difference(one, other), one, other) for one, other in graph.pairs.tolist()]
    heapq.heapify(queue)
    children: list[tuple[int, int]] = []
    merged: set[int] = set()
    while queue:
        _, one, other = heapq.heappop(queue)
        if one in merged or other in merged:
            continue
        merged |= {one, other}
        parent = count + len(children)
        children.append((one, other))
        area.append(area[one] + area[other])
        mean.append((mean[one] * area[one] + mean[other] * area[other]) / area[parent])
        around: dict[int, tuple[float, float]] = {}
        for child in (one, other):
            for neighbour, (length, gradient) in borders[child].items():
                if neighbour not in (one, other):
                    before = around.get(neighbour, (0.0, 0.0))
                    around[neighbour] = (before[0] + length, before[1] + gradient)
                    del borders[neighbour][child]
        borders.append(around)
        for neighbour, shared in around.items():
            borders[neighbour][parent] = shared
            heapq.heappush(queue, (difference(parent, neighbour), neighbour, parent))
    members = np.zeros((count + len(children), count), dtype=bool)
    members[:count] = np.eye(count, dtype=bool)
    for index, (one, other) in enumerate(children):
        members[count + index] = members[one] | members[other]
    return Tree(np.array(children, dtype=int).reshape(-1, 2), members)


def salient_patches(
    graph: Adjacency, salient: Float[np.ndarray, "n"], labels: Int[np.ndarray, "h w"]
) -> Bool[np.ndarray, "p n"]:
    """Members of the compact connected patches that stand out from the background, at any of `PATCH_LEVELS`."""
    count = len(graph.area)
    first, second = graph.pairs.T
    patches: list[Bool[np.ndarray, "n"]] = []
    for level in PATCH_LEVELS:
        out = salient > level
        linked = graph.pairs[out[first] & out[second]]
        links = sparse.csr_matrix((np.ones(len(linked)), linked.T), shape=(count, count))
        _, component = connected_components(links, directed=False)
        patches.extend(out & (component == index) for index in np.unique(component[out]))
    total = graph.area.sum()
    compact = [
        patch
        for patch in patches
        if graph.area[patch].sum() <= MAX_PATCH_AREA * total and _solidity(patch[labels]) >= MIN_PATCH_SOLIDITY
    ]
    return np.array(compact, dtype=bool).reshape(-1, count)


def objectness(
    graph: Adjacency, members: Bool[np.ndarray, "r n"], salient: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "r"]:
    """How likely each region (a row of `members`) is one whole object, 0..1.

    A logistic model of seven numbers. Its coefficients were chosen on path-traced pictures of household objects and
    rounded; they are the module's only numbers that came from data.
    """
    count = len(graph.area)
    inside = members.astype(float)
    area = inside @ graph.area
    first, second = graph.pairs.T

    def symmetric(values: Float[np.ndarray, "e"]) -> Float[np.ndarray, "n n"]:
        matrix = np.zeros((count, count))
        matrix[first, second] = matrix[second, first] = values
        return matrix

    # outline[r, i]: length of the border between region r and superpixel i outside it.
    outline = (inside @ symmetric(graph.length)) * ~members
    contour = np.maximum(outline.sum(1), 1)
    step = np.linalg.norm(graph.mean[first] - graph.mean[second], axis=1)
    weak = (inside @ symmetric(graph.length * (step < WEAK_EDGE))) * ~members
    frame = inside @ graph.frame
    colour = (inside @ (graph.mean * graph.area[:, None])) / area[:, None]
    to_outside = cdist(colour, graph.mean)
    centre = (inside @ (graph.centre * graph.area[:, None])) / area[:, None]
    bottom = graph.centre[:, 0].max()
    logit = (
        -4.1
        + 1.0 * np.log(area / graph.area.sum())
        - 0.95 * frame / np.sqrt(area)
        - 4.4 * weak.sum(1) / contour
        + 2.4 * ((inside @ (salient * graph.area)) / area - (outline @ salient) / contour)
        + 0.95 * np.log1p((outline * to_outside).sum(1) / contour)
        + 4.2 * np.sqrt(4 * np.pi * area) / np.maximum(outline.sum(1) + frame, 1)
        + 0.95 * centre[:, 0] / max(bottom, 1e-9)
    )
    leaning = frame / np.sqrt(area) > MAX_LEANING
    nearby = cdist(centre, graph.centre) < NEARBY
    background = nearby & ~members & (salient < BACKGROUND)
    gap = (background & (to_outside < SEEN_THROUGH)).any(1)
    return np.where(leaning | gap, 0.0, 1 / (1 + np.exp(-logit)))


def _solidity(mask: Bool[np.ndarray, "h w"]) -> float:
    """Share of its convex hull that `mask` fills."""
    rows, columns = np.nonzero(mask)
    corners = np.concatenate([np.stack([columns + du, rows + dv], axis=1) for du in (0, 1) for dv in (0, 1)])
    return len(rows) / float(cv2.contourArea(cv2.convexHull(corners.astype(np.int32))))


def _values(
    graph: Adjacency, members: Bool[np.ndarray, "r n"], probability: Float[np.ndarray, "r"], min_area: float
) -> Float[np.ndarray, "r"]:
    """What it is worth to take each region, 0 where it must not be taken.

    The root of the area makes one whole worth more than its parts, yet not at any price.
    """
    share = (members @ graph.area) / graph.area.sum()
    allowed = (share >= min_area) & (share <= MAX_AREA)
    return np.where(allowed, np.maximum(probability - THRESHOLD, 0) * np.sqrt(share), 0.0)


def _best_cut(tree: Tree, value: Float[np.ndarray, "r"]) -> list[int]:
    """The nodes without overlap whose values sum up highest, by dynamic programming from the leaves up."""
    regions, count = tree.members.shape
    best = value[:regions].copy()
    whole = best > 0
    for region, (one, other) in enumerate(tree.children, start=count):
        parts = best[one] + best[other]
        whole[region] &= value[region] >= parts
        best[region] = max(value[region], parts)
    taken: list[int] = []
    open_regions = sorted(set(range(regions)) - set(tree.children.ravel().tolist()))
    while open_regions:
        region = open_regions.pop()
        if whole[region]:
            taken.append(region)
        elif region >= count:
            open_regions.extend(tree.children[region - count].tolist())
    return taken


def _prefer_patches(
    taken: list[int], members: Bool[np.ndarray, "r n"], value: Float[np.ndarray, "r"], first_patch: int
) -> list[int]:
    """`taken`, with the regions that a patch overlaps exchanged for it if it is worth clearly more."""
    patches = first_patch + np.argsort(-value[first_patch:], kind="stable")
    for patch in patches[value[patches] > 0].tolist():
        overlapped = [region for region in taken if (members[region] & members[patch]).any()]
        if value[patch] > PATCH_GAIN * sum(value[region] for region in overlapped):
            taken = [region for region in taken if region not in overlapped] + [patch]
    return taken


def _without_surfaces(graph: Adjacency, members: Bool[np.ndarray, "r n"], taken: list[int]) -> list[int]:
    """Drops a region that reaches the picture's border and surrounds a smaller object: it carries that object."""
    first, second = graph.pairs.T
    area = members @ graph.area
    frame = members @ graph.frame

    def carries(surface: int, item: int) -> bool:
        if area[surface] <= area[item] or frame[surface] <= 0.3 * np.sqrt(area[surface]):
            return False
        ours, theirs = members[surface], members[item]
        outline = theirs[first] != theirs[second]
        shared = outline & (ours[first] | ours[second])
        return bool(graph.length[shared].sum() > CARRIED * (graph.length[outline].sum() + frame[item]))

    return [surface for surface in taken if not any(carries(surface, item) for item in taken if item != surface)]
