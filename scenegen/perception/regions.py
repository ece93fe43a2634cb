"""Objects without weights: superpixels, merged into a tree of regions, of which the most object-like are taken.

Superpixels (SLIC) are merged two by two, the most alike neighbours first. Every node of the tree is a candidate.
A candidate looks like an object where its outline is closed and strong, where it is compact, differs from what
surrounds it, and does not lean on the picture's border; what the border says about the background is the boundary
connectivity of Zhu et al. 2014, "Saliency optimization from robust background detection". The candidates taken are
those that do not overlap and whose values sum up highest, found exactly over the tree.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8, UInt16
from scipy import sparse
from scipy.sparse.csgraph import dijkstra, laplacian
from scipy.sparse.linalg import spsolve
from skimage.segmentation import slic

from scenegen.config import RegionsConfig
from scenegen.perception import Segmentation
from scenegen.perception.masks import snap_to_edges

WORKING_SIDE = 480
"""Longer side of the copy the regions are found on, in pixels."""

LIGHTNESS_WEIGHT = 0.8
"""Lightness counts less than the two colour axes, since shadows change little else."""

COMPACTNESS = 0.1
"""Of a superpixel, for Lab scaled to 0..1: low, so that superpixels follow edges."""

COLOUR_SIGMA = 10.0
"""Lab distance at which two colours begin to differ (Zhu et al., section 3.2)."""

COLOUR_SLACK = 3.0
"""Lab distance between neighbours that counts as none: shading adds up along a path."""

NEAR = 0.25
"""Reach of the contrast of a superpixel, as a share of the longer side (Zhu et al., section 4.1)."""

WEAK_EDGE = 6.0
"""Lab distance below which an outline counts as open."""

SMALL = 0.005
"""Share of the picture below which a region merges more readily."""

THRESHOLD = 0.2
"""Probability a candidate must exceed to be taken."""

MAX_AREA = 0.5
"""Largest object, as a share of the picture."""

MAX_LEANING = 1.2
"""Border length over the root of the area beyond which a region is a wall, a floor or a table top."""

CARRIED = 0.5
"""Share of an object's outline that a surface it lies on has around it."""


@dataclass(frozen=True)
class Adjacency:
    """Superpixels and the borders between them."""

    area: Float[np.ndarray, "n"]
    """In pixels."""
    mean: Float[np.ndarray, "n 3"]
    """Mean colour, weighted Lab."""
    centre: Float[np.ndarray, "n 2"]
    """Mean row and column, as shares of the longer side."""
    frame: Float[np.ndarray, "n"]
    """Length along the picture's border, in pixels."""
    pairs: Int[np.ndarray, "e 2"]
    """Neighbours, the smaller index first."""
    length: Float[np.ndarray, "e"]
    """Of the common border, in pixels."""
    edge: Float[np.ndarray, "e"]
    """Mean colour gradient across the common border, Lab units a pixel."""


@dataclass(frozen=True)
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
    superpixels = _superpixels(lab, config.superpixels)
    graph = adjacency(lab, superpixels)
    tree = merge_tree(graph)
    probability = objectness(graph, tree, saliency(graph))
    taken = _without_surfaces(graph, tree, _best_cut(graph, tree, probability, config.min_area))
    taken = sorted(taken, key=lambda region: -probability[region])[: config.max_objects]
    id_of = np.zeros(len(graph.area), dtype=np.uint16)
    for number, region in enumerate(taken, start=1):
        id_of[tree.members[region]] = number
    ids = id_of[superpixels]
    if scale > 1:
        ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
        ids = snap_to_edges(image, ids, reach=int(np.ceil(scale)))
    return Segmentation(
        ids=ids,
        scores=tuple(round(float(probability[region]), 4) for region in taken),
        labels=("object",) * len(taken),
        backend="regions (superpixel merging, no weights)",
        licence="Apache-2.0",
    )


def weighted_lab(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """CIE Lab with its lightness scaled by `LIGHTNESS_WEIGHT`."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab * np.array([LIGHTNESS_WEIGHT, 1, 1], dtype=np.float32)


def adjacency(lab: Float32[np.ndarray, "h w 3"], superpixels: Int[np.ndarray, "h w"]) -> Adjacency:
    """The graph of neighbouring superpixels, labelled 0..n-1 without gaps."""
    height, width = superpixels.shape
    count = int(superpixels.max()) + 1
    flat = superpixels.ravel()
    area = np.bincount(flat, minlength=count).astype(float)

    def mean(values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "n c"]:
        sums = [np.bincount(flat, values[..., channel].ravel(), count) for channel in range(values.shape[2])]
        return np.stack(sums, axis=1) / area[:, None]

    border = np.concatenate([superpixels[0], superpixels[-1], superpixels[:, 0], superpixels[:, -1]])
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.0)
    steps = np.concatenate(
        [np.linalg.norm(np.diff(smooth, axis=axis), axis=-1).ravel() for axis in (1, 0)]
    )
    first = np.concatenate([superpixels[:, :-1].ravel(), superpixels[:-1].ravel()])
    second = np.concatenate([superpixels[:, 1:].ravel(), superpixels[1:].ravel()])
    across = first != second
    code = np.minimum(first, second)[across].astype(np.int64) * count + np.maximum(first, second)[across]
    codes, which = np.unique(code, return_inverse=True)
    length = np.bincount(which, minlength=len(codes)).astype(float)
    rows, columns = np.mgrid[:height, :width]
    return Adjacency(
        area=area,
        mean=mean(lab.astype(float)),
        centre=mean(np.stack([rows, columns], axis=-1) / max(height, width)),
        frame=np.bincount(border, minlength=count).astype(float),
        pairs=np.stack([codes // count, codes % count], axis=1),
        length=length,
        edge=np.bincount(which, steps[across], len(codes)) / np.maximum(length, 1),
    )


def saliency(graph: Adjacency) -> Float[np.ndarray, "n"]:
    """How much each superpixel stands out from what the picture's border shows, 0..1 (Zhu et al. 2014).

    Superpixels that reach much of the border along paths of one colour are background. The contrast to those, and the
    wish to be background oneself, are weighed against each other by least squares, smoothly within a colour.
    """
    count = len(graph.area)
    first, second = graph.pairs.T
    difference = np.linalg.norm(graph.mean[first] - graph.mean[second], axis=1)
    # A tiny cost keeps the edge in the sparse matrix.
    cost = np.maximum(difference - COLOUR_SLACK, 0) + 1e-3
    path = dijkstra(sparse.csr_matrix((cost, (first, second)), shape=(count, count)), directed=False)
    same = np.exp(-(path**2) / (2 * COLOUR_SIGMA**2))
    connectivity = (same @ graph.frame) / np.sqrt(same @ graph.area)
    background = 1 - np.exp(-(connectivity**2) / 2)
    colour = np.linalg.norm(graph.mean[:, None] - graph.mean[None], axis=-1)
    away = np.square(graph.centre[:, None] - graph.centre[None]).sum(-1)
    contrast = (colour * np.exp(-away / (2 * NEAR**2))) @ (background * graph.area)
    contrast /= max(contrast.max(), 1e-9)
    alike = np.exp(-(difference**2) / (2 * COLOUR_SIGMA**2)) + 0.1
    links = sparse.csr_matrix((alike, (first, second)), shape=(count, count))
    system = laplacian(links + links.T) + sparse.diags(5 * background + contrast + 1e-9)
    solved = np.atleast_1d(spsolve(system.tocsc(), contrast))
    return np.clip(solved / max(solved.max(), 1e-9), 0, 1)


def merge_tree(graph: Adjacency) -> Tree:
    """Merges neighbours, the most alike first, until no two regions touch.

    Two regions differ by the distance of their mean colours times the gradient along their border, less where
    one of them is small.
    """
    count = len(graph.area)
    total = graph.area.sum()
    area = list(graph.area)
    mean = list(graph.mean)
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


def objectness(graph: Adjacency, tree: Tree, salient: Float[np.ndarray, "n"]) -> Float[np.ndarray, "r"]:
    """How likely each region is one whole object, 0..1.

    A logistic model of seven numbers. Its coefficients were chosen on path-traced pictures of household objects and
    rounded; they are the module's only numbers that came from data.
    """
    count = len(graph.area)
    inside = tree.members.astype(float)
    area = inside @ graph.area
    first, second = graph.pairs.T

    def symmetric(values: Float[np.ndarray, "e"]) -> Float[np.ndarray, "n n"]:
        matrix = np.zeros((count, count))
        matrix[first, second] = matrix[second, first] = values
        return matrix

    # outline[r, i]: length of the border between region r and superpixel i outside it.
    outline = (inside @ symmetric(graph.length)) * ~tree.members
    contour = np.maximum(outline.sum(1), 1)
    step = np.linalg.norm(graph.mean[first] - graph.mean[second], axis=1)
    weak = (inside @ symmetric(graph.length * (step < WEAK_EDGE))) * ~tree.members
    frame = inside @ graph.frame
    colour = (inside @ (graph.mean * graph.area[:, None])) / area[:, None]
    to_outside = np.linalg.norm(colour[:, None] - graph.mean[None], axis=-1)
    bottom = graph.centre[:, 0].max()
    logit = (
        -4.1
        + 1.0 * np.log(area / graph.area.sum())
        - 0.95 * frame / np.sqrt(area)
        - 4.4 * weak.sum(1) / contour
        + 2.4 * ((inside @ (salient * graph.area)) / area - (outline @ salient) / contour)
        + 0.95 * np.log1p((outline * to_outside).sum(1) / contour)
        + 4.2 * np.sqrt(4 * np.pi * area) / np.maximum(outline.sum(1) + frame, 1)
        + 0.95 * (inside @ (graph.centre[:, 0] * graph.area)) / area / max(bottom, 1e-9)
    )
    leaning = frame / np.sqrt(area) > MAX_LEANING
    return np.where(leaning, 0.0, 1 / (1 + np.exp(-logit)))


def _superpixels(lab: Float32[np.ndarray, "h w 3"], count: int) -> Int[np.ndarray, "h w"]:
    labels = slic(
        lab, n_segments=count, compactness=COMPACTNESS, sigma=0.8, start_label=0, convert2lab=False, channel_axis=-1
    )
    _, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape)


def _best_cut(graph: Adjacency, tree: Tree, probability: Float[np.ndarray, "r"], min_area: float) -> list[int]:
    """The regions without overlap whose values sum up highest, by dynamic programming from the leaves up."""
    count = len(graph.area)
    share = (tree.members @ graph.area) / graph.area.sum()
    allowed = (share >= min_area) & (share <= MAX_AREA)
    # The root of the area makes one whole worth more than its parts, yet not at any price.
    value = np.where(allowed, (probability - THRESHOLD) * np.sqrt(share), 0.0)
    best = np.maximum(value, 0)
    whole = value > 0
    for region, (one, other) in enumerate(tree.children, start=count):
        parts = best[one] + best[other]
        whole[region] &= value[region] >= parts
        best[region] = max(value[region], parts)
    taken: list[int] = []
    open_regions = sorted(set(range(len(share))) - set(tree.children.ravel().tolist()))
    while open_regions:
        region = open_regions.pop()
        if whole[region]:
            taken.append(region)
        elif region >= count:
            open_regions.extend(tree.children[region - count].tolist())
    return taken


def _without_surfaces(graph: Adjacency, tree: Tree, taken: list[int]) -> list[int]:
    """Drops a region that reaches the picture's border and surrounds a smaller object: it carries that object."""
    first, second = graph.pairs.T
    area = tree.members @ graph.area
    frame = tree.members @ graph.frame

    def carries(surface: int, item: int) -> bool:
        if area[surface] <= area[item] or frame[surface] <= 0.3 * np.sqrt(area[surface]):
            return False
        ours, theirs = tree.members[surface], tree.members[item]
        outline = theirs[first] != theirs[second]
        shared = outline & (ours[first] | ours[second])
        return bool(graph.length[shared].sum() > CARRIED * (graph.length[outline].sum() + frame[item]))

    return [surface for surface in taken if not any(carries(surface, item) for item in taken if item != surface)]
