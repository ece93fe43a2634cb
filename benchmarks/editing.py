"""How long a person waits in the studio: from a click to the mask, and from an edit to the new scene.

    python benchmarks/editing.py [PHOTO]

The scene is made once. Then come clicks as the page sends them, and edits one after another, each followed by making the scene,
in one process that has loaded everything, as the studio's. Times are those of the clock; in brackets the processor's, of all
cores together, which say what an idle machine would take.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scenegen.compute.runtime import Runtime
from scenegen.config import load_config
from scenegen.edits.steps import DistanceEdit, RegenerateEdit, Step
from scenegen.inputs.photos import Inputs
from scenegen.records import MergeEdit, PromptEdit, RemoveEdit, RenameEdit
from stages.replay import begin, write_edits
from stages.run import open_store
from studio.making import make
from studio.session import Asked, Session

EXAMPLE = Path(__file__).parents[1] / "examples" / "table.jpg"
CLICKS = 20


def main() -> None:
    """Measures one photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLE)
    photo = parser.parse_args().photo
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "out" / photo.stem
        store = open_store(folder.parent)
        write_edits(folder, store, begin(Inputs(photo.stem, photo), load_config("embedded"), store), 0)
        session = Session(folder, store, Runtime(), 1, lambda: None)
        print(f"first scene: {said(timed(lambda: made(folder)))}")
        state = session.state()
        width, height = state.original
        rng = np.random.default_rng(0)
        session.answer(PromptEdit(object=state.next_id, inside=((width / 2, height / 2),)))  # encodes the photo
        times = []
        for _ in range(CLICKS):
            u, v = (rng.uniform(0.05, 0.95, 2) * (width, height)).tolist()
            asked = PromptEdit(object=state.next_id, inside=((u, v),))
            times.append(timed(lambda asked=asked: session.answer(asked)))
        print(f"click to mask, median of {CLICKS}: {said(tuple(np.median(times, axis=0)))}")
        first, second, third, fourth = (item.id for item in state.objects[:4])
        edits: dict[str, Step] = {
            "another name": RenameEdit(object=first, label="thing"),
            "another distance": DistanceEdit(object=first, factor=1.1),
            "another seed": RegenerateEdit(object=first, seed=5),
            "an object deleted": RemoveEdit(object=fourth, shows="unknown"),
            "two objects merged": MergeEdit(objects=(second, third)),
        }
        for name, edit in edits.items():
            asked = Asked(revision=session.revision(), step=edit)
            print(f"{name}: accepted after {said(timed(lambda asked=asked: session.take(asked)))}", end="")
            print(f", the new scene after {said(timed(lambda: made(folder)))} more")
        session.close()


def made(folder: Path) -> None:
    """Makes what the page shows of the scene, as the studio's child process does."""
    make(folder, "preview", Runtime(), os.cpu_count() or 1)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor, that it takes."""
    clock, processor = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - clock, sum(os.times()[:4]) - processor


def said(times: tuple[float, float]) -> str:
    """Both, in words."""
    return f"{times[0]:.2f} s ({times[1]:.2f})"


if __name__ == "__main__":
    main()
