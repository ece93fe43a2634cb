"""How long a click takes once the photo is encoded: for a page where objects are picked by hand.

    python benchmarks/clicks.py [PHOTO] [--clicks N]

Of one process: the first answer, which encodes the photo, then N prompts of one to five clicks, and of a box. Times are those of
the clock; in brackets the processor's, which say what an idle machine would take.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from scenegen.compute.runtime import Runtime
from scenegen.perception.prompted import answer
from scenegen.perception.prompts import Prompt

EXAMPLE = Path(__file__).parents[1] / "examples" / "table.jpg"


def main() -> None:
    """Measures one photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLE)
    parser.add_argument("--clicks", type=int, default=100)
    options = parser.parse_args()
    image = cv2.cvtColor(cv2.imread(str(options.photo)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    rng = np.random.default_rng(0)
    print(f"{options.photo.name}, {width}x{height}")
    print(f"first: {timed(image, Prompt(inside=((width / 2, height / 2),)))[0]:.0f} ms")
    rows = []
    for number in range(options.clicks):
        points = [tuple(point) for point in (rng.uniform(0.05, 0.95, (1 + number % 5, 2)) * (width, height)).tolist()]
        rows.append(timed(image, Prompt(inside=tuple(points[:1]), outside=tuple(points[1:]))))
    boxes = [timed(image, Prompt(box=(width * 0.2, height * 0.2, width * 0.6, height * 0.7))) for _ in range(20)]
    for name, found in (("click", np.array(rows)), ("box", np.array(boxes))):
        median, most = np.median(found, axis=0), np.percentile(found, 95, axis=0)
        print(f"{name}: median {median[0]:.0f} ms ({median[1]:.0f}), 95 % below {most[0]:.0f} ms ({most[1]:.0f})")


def timed(image: np.ndarray, prompt: Prompt) -> tuple[float, float]:
    """Milliseconds of the clock, and of the processor, that an answer takes."""
    clock, processor = time.perf_counter(), time.process_time()
    answer(image, prompt, Runtime(device="cpu"))
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor)


if __name__ == "__main__":
    main()
