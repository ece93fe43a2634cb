"""The last answers of a network, or of a slow function: camera and depth of a photo, for example, come from the same network, and
whoever edits a scene makes most of it again as it was."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from scenegen.records import Record

A = TypeVar("A")
P = ParamSpec("P")


OF_OBJECTS = 128
"""Results to keep of what is found of each object, or of its texture."""


class Recent(Generic[A]):
    """Keeps the `most` answers that were used last. Of several threads that want the same, one computes it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, A] = OrderedDict()

    def of(self, key: Hashable, compute: Callable[[], A]) -> A:
        """The answer known by `key`, from `compute` if it is not kept. If that raises, nothing is kept.

        Examples:
            >>> recent = Recent(1)
            >>> [recent.of(key, lambda key=key: key.upper()) for key in "aab"]
            ['A', 'A', 'B']
        """
        with self._lock:
            if key not in self._kept:
                self._kept[key] = compute()
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Drops all answers."""
        with self._lock:
            self._kept.clear()


_REUSED: list[Recent[Any]] = []


def reused(most: int) -> Callable[[Callable[P, A]], Callable[P, A]]:
    """Of a function that depends on nothing but its arguments, the `most` results that were used last are kept.

    Arguments count by their content. They are numbers, texts, arrays, records, and dataclasses and tuples of these. The arrays of
    a result cannot be written to.

    Examples:
        >>> @reused(1)
        ... def doubled(values):
        ...     return 2 * values
        >>> doubled(np.ones(2)) is doubled(np.ones(2)), doubled(np.zeros(2)).flags.writeable
        (True, False)
    """

    def keeping(function: Callable[P, A]) -> Callable[P, A]:
        recent: Recent[A] = Recent(most)
        _REUSED.append(recent)

        @functools.wraps(function)
        def answered(*args: P.args, **kwargs: P.kwargs) -> A:
            key = (*map(_content, args), *((name, _content(kwargs[name])) for name in sorted(kwargs)))
            return recent.of(key, lambda: _frozen(function(*args, **kwargs)))

        return answered

    return keeping


def forget_reused() -> None:
    """Drops all results of functions that are `reused`, so that this process is as a new one."""
    for recent in _REUSED:
        recent.forget()


def _content(value: object) -> Hashable:
    """A name for what an argument holds."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
    if isinstance(value, Record):
        return type(value).__qualname__, value.digest()
    if is_dataclass(value):
        return type(value).__qualname__, *(_content(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple):
        return tuple(map(_content, value))
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return repr(value)
    raise TypeError(
        f"an argument is {type(value).__name__}, whose content cannot be told; give numbers, arrays and records."
    )


def _frozen(value: Any) -> Any:
    """A copy, with arrays that cannot be written to: a result may hold arrays of the caller's."""
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, tuple):
        return tuple(map(_frozen, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _frozen(getattr(value, field.name)) for field in fields(value)})
    return value


def digest_of_image(image: Any) -> str:
    """A name for the content and shape of an array."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
