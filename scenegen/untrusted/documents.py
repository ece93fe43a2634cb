"""Reads JSON and YAML that anyone may have written or damaged, within limits: a few lines of YAML can expand to gigabytes
of values, and a long row of brackets can nest deeper than Python can follow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from scenegen.errors import one_line

MAX_JSON_BYTES = 1 << 28
MAX_CHARACTERS = 1 << 18
"""Limit for YAML, which people write."""
MAX_SCALAR = 4096
MAX_DEPTH = 16
MAX_NODES = 10_000
"""Every alias counts as everything it stands for."""


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not JSON, or exceeds the limits.
    """
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"it is larger than {MAX_JSON_BYTES} bytes")
    return parse_json(content)


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON document, whose numbers must be finite.

    Raises:
        ValueError: if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def parse_yaml(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        ValueError: if it is not YAML, or exceeds the limits. The message is one line and quotes no value.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_CHARACTERS} characters")
    try:
        _check_limits(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise ValueError(f"{one_line(error.problem or 'a syntax error', 120)}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(one_line(str(error), 120)) from error
    # An error that the constructors of dates and numbers let through.
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"a value does not match its tag ({type(error).__name__})") from error


def _check_limits(events: Iterable[yaml.Event]) -> None:
    """Fails as soon as the events exceed a limit, before any value is built from them."""
    sizes: dict[str, int] = {}
    begun: list[tuple[str | None, int]] = []
    """Anchor and size so far of every collection that is open."""
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, 1))
            if len(begun) > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
            if len(event.value) > MAX_SCALAR:
                raise ValueError(f"a value is longer than {MAX_SCALAR} characters")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError("an alias refers to something it is part of, or to nothing")
            anchor, size = None, sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = begun.pop()
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if begun:
            begun[-1] = (begun[-1][0], begun[-1][1] + size)
            if begun[-1][1] > MAX_NODES:
                raise ValueError(f"it holds more than {MAX_NODES} values")
