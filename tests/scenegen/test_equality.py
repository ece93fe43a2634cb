"""Frozen records of arrays compare by identity: `==` between arrays has no truth value, and arrays have no hash."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scenegen.perception.masks import Masks

ROOT = Path(__file__).parents[2]
PACKAGES = ("scenegen", "stages", "flows", "benchmarks")


def test_dataclasses_that_hold_arrays_compare_by_identity() -> None:
    classes = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "@dataclass" in (source := path.read_text())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and is_dataclass(node)
    }
    assert len(classes) > 50
    missing = [place for place, node in classes.items() if holds_arrays(node) and not by_identity(node)]
    assert missing == []


def test_records_of_arrays_can_be_compared_and_hashed() -> None:
    one, other = (Masks(np.zeros((2, 2), np.uint16), ()) for _ in range(2))
    assert one in (one, other)
    assert one != other
    assert len({one, other, dataclasses.replace(one)}) == 3


def decorator(node: ast.ClassDef) -> ast.expr | None:
    for found in node.decorator_list:
        called = found.func if isinstance(found, ast.Call) else found
        if ast.unparse(called).rpartition(".")[2] == "dataclass":
            return found
    return None


def is_dataclass(node: ast.ClassDef) -> bool:
    return decorator(node) is not None


def by_identity(node: ast.ClassDef) -> bool:
    found = decorator(node)
    return isinstance(found, ast.Call) and any(
        word.arg == "eq" and ast.literal_eval(word.value) is False for word in found.keywords
    )


def holds_arrays(node: ast.ClassDef) -> bool:
    """Whether a field's annotation names an array: in itself or in a container. Functions of arrays hold none."""
    fields = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
    names = {ast.unparse(name) for field in fields for name in values(field)}
    return bool(names & {"np.ndarray", "Tensor", "torch.Tensor"})


def values(annotation: ast.AST) -> Iterator[ast.AST]:
    """The parts of an annotation, without what is in a `Callable`."""
    yield annotation
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Callable"):
        for part in ast.iter_child_nodes(annotation):
            yield from values(part)
