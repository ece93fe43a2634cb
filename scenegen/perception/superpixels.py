"""Superpixels: small patches of one colour, their neighbours, and how much each stands out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from scipy import sparse
from scipy.sparse.csgraph import dijkstra, laplacian
from scipy.sparse.linalg import spsolve
from scipy.spatial.distance import cdist
from skimage.segmentation import slic

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


@dataclass(frozen=True, eq=False)
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


def weighted_lab(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """CIE Lab with its lightness scaled by `LIGHTNESS_WEIGHT`."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab * np.array([LIGHTNESS_WEIGHT, 1, 1], dtype=np.float32)


def superpixels(lab: Float32[np.ndarray, "h w 3"], count: int) -> Int[np.ndarray, "h w"]:
    """About `count` patches of one colour each (SLIC), labelled 0..n-1 without gaps."""
    labels = slic(
        lab, n_segments=count, compactness=COMPACTNESS, sigma=0.8, start_label=0, convert2lab=False, channel_axis=-1
    )
    _, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape)


def adjacency(lab: Float32[np.ndarray, "h w 3"], labels: Int[np.ndarray, "h w"]) -> Adjacency:
    """The graph of neighbouring superpixels, labelled 0..n-1 without gaps."""
    height, width = labels.shape
    count = int(labels.max()) + 1
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count).astype(float)

    def mean(values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "n c"]:
        sums = [np.bincount(flat, values[..., channel].ravel(), count) for channel in range(values.shape[2])]
        return np.stack(sums, axis=1) / area[:, None]

    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.0)
    steps = np.concatenate([np.linalg.norm(np.diff(smooth, axis=axis), axis=-1).ravel() for axis in (1, 0)])
    first = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    second = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
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
    colour = cdist(graph.mean, graph.mean)
    away = cdist(graph.centre, graph.centre, "sqeuclidean")
    contrast = (colour * np.exp(-away / (2 * NEAR**2))) @ (background * graph.area)
    contrast /= max(contrast.max(), 1e-9)
    alike = np.exp(-(difference**2) / (2 * COLOUR_SIGMA**2)) + 0.1
    links = sparse.csr_matrix((alike, (first, second)), shape=(count, count))
    system = laplacian(links + links.T) + sparse.diags(5 * background + contrast + 1e-9)
    solved = np.atleast_1d(spsolve(system.tocsc(), contrast))
    return np.clip(solved / max(solved.max(), 1e-9), 0, 1)
