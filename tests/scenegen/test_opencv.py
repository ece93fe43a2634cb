"""What is used of OpenCV gives the same bytes on any number of threads, wherever arrays lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (91, 117, 3), np.uint8)
VALUES = RNG.random((91, 117)).astype(np.float32)
BLOBS = (cv2.GaussianBlur(VALUES, (0, 0), 5) > 0.5).astype(np.uint8)
HOMOGRAPHY = np.array([[1.02, 0.03, 4], [-0.02, 0.98, 3], [1e-5, 2e-5, 1]])
DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        pytest.param(function, given, id=f"{name}-{given.dtype}")
        for name, function, inputs in (
            ("reduce", lambda a: cv2.resize(a, (43, 37), interpolation=cv2.INTER_AREA), (COLOURS, VALUES)),
            ("enlarge", lambda a: cv2.resize(a, (163, 197), interpolation=cv2.INTER_LINEAR), (COLOURS, VALUES)),
            ("cubic", lambda a: cv2.resize(a, (163, 197), interpolation=cv2.INTER_CUBIC), (COLOURS,)),
            ("blur", lambda a: cv2.GaussianBlur(a, (0, 0), 2.3), (COLOURS, VALUES)),
            ("median", lambda a: cv2.medianBlur(a, 5), (VALUES,)),
            ("warp", lambda a: cv2.warpPerspective(a, HOMOGRAPHY, (97, 97)), (COLOURS, VALUES)),
            ("lab", lambda a: cv2.cvtColor(a.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (COLOURS,)),
            ("gradient", lambda a: cv2.morphologyEx(a, cv2.MORPH_GRADIENT, DISC), (COLOURS,)),
            ("erode", lambda a: cv2.erode(a, np.ones((3, 3))), (VALUES,)),
            ("components", lambda a: cv2.connectedComponentsWithStats(a, connectivity=8)[1], (BLOBS,)),
            ("inpaint", lambda a: cv2.inpaint(a, BLOBS, 3, cv2.INPAINT_TELEA), (COLOURS,)),
            ("jpeg", lambda a: cv2.imencode(".jpg", a)[1], (COLOURS,)),
        )
        for given in inputs
    ],
)
def test_same_bytes(function: Callable[[np.ndarray], np.ndarray], given: np.ndarray) -> None:
    found, heap = set(), []
    for count in (1, 2, 3):
        cv2.setNumThreads(count)
        for size in RNG.integers(1, 2000, 8):
            # What else lies on the heap moves what comes next.
            heap += [np.empty(size, np.uint8), given.copy()]
            heap.append(function(heap[-1]))
            found.add(heap[-1].tobytes())
    assert len(found) == 1
