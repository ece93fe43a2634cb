"""Faults of every kind, raised where an environment variable says, in this process and in those it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from scenegen.errors import InputError, ResourceError, TransientError, UsageError, WeightsError
from scenegen.export.manifest import Manifest
from scenegen.faults import described

WHERE = "SCENEGEN_TEST_FAULTS"
"""Environment variable: JSON from a place, such as `generate 2`, to the name of a fault."""


class ForeignError(Exception):
    """Of a library that nobody here imports."""


def opencv() -> Exception:
    """What OpenCV raises where it is given nothing."""
    import cv2

    try:
        cv2.resize(np.zeros((0, 0), np.uint8), (4, 4))
    except cv2.error as error:
        return error
    raise AssertionError


OF_ONE: Mapping[str, Callable[[], BaseException]] = {
    "input": lambda: InputError("the object shows too little"),
    "runtime": lambda: RuntimeError("shapes differ"),
    "cuda": lambda: RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might ..."),
    "opencv": opencv,
    "type": lambda: TypeError("unsupported operand"),
    "assertion": lambda: AssertionError("never"),
    "linear algebra": lambda: np.linalg.LinAlgError("Singular matrix"),
    "division": lambda: ZeroDivisionError("division by zero"),
    "key": lambda: KeyError("x"),
    "attribute": lambda: AttributeError("no such thing"),
    "file": lambda: FileNotFoundError(2, "No such file or directory", "x"),
    "end": lambda: StopIteration(),
    "recursion": lambda: RecursionError("maximum recursion depth exceeded"),
    "memory": lambda: MemoryError(),
    "foreign": lambda: ForeignError("of a library"),
}
"""Each costs the object that it is raised for."""

OF_ALL: Mapping[str, Callable[[], BaseException]] = {
    "disk": lambda: OSError(28, "No space left on device", "x"),
    "resource": lambda: ResourceError("no such device"),
    "network": lambda: TransientError("cannot reach the bucket"),
    "weights": lambda: WeightsError("weights are missing"),
    "usage": lambda: UsageError("no such limit"),
    "device": lambda: RuntimeError("No CUDA GPUs are available"),
    "cancelled": lambda: CancelledError("the worker was killed"),
}
"""Each ends the photo."""

FAULTS = {**OF_ONE, **OF_ALL}
NAMES = [*OF_ONE]


def raise_injected(place: str) -> None:
    """Raises the fault of `place`, if it has one."""
    name = json.loads(os.environ.get(WHERE, "{}")).get(place)
    if name is not None:
        raise FAULTS[name]()


def inject(monkeypatch: pytest.MonkeyPatch, places: Mapping[str, str]) -> None:
    monkeypatch.setenv(WHERE, json.dumps(places))


def one_object_each(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    """As many objects as there are faults, two of each: one in generate, one in compose; and one that is whole."""
    bench.objects = 2 * len(NAMES) + 1
    places = {f"generate {number}": name for number, name in enumerate(NAMES, 1)}
    inject(monkeypatch, places | {f"compose {number}": name for number, name in enumerate(NAMES, len(NAMES) + 1)})


def check_failures(manifest: Manifest) -> None:
    """Every fault is named at its object; only the whole object is left."""
    assert [placed.id for placed in manifest.objects] == [2 * len(NAMES) + 1]
    failures = {failure.object: failure for failure in manifest.failures}
    assert sorted(failures) == list(range(1, 2 * len(NAMES) + 1))
    for number, name in enumerate(NAMES, 1):
        of_generate, of_compose = failures[number], failures[len(NAMES) + number]
        assert (of_generate.stage, of_compose.stage) == ("generate", "compose")
        assert of_compose.error == described(OF_ONE[name]())
        # A worker says in its own words that it has tried again; Prefect's tasks are coroutines, which cannot raise "end".
        if name not in ("cuda", "memory", "end"):
            assert described(OF_ONE[name]()) in of_generate.error
        assert "\n" not in of_generate.error + of_compose.error
