"""A card is told by its UUID, as the driver has it."""

from __future__ import annotations

import ctypes
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from scenegen.compute import card_uuid, slot

CARDS = [uuid.UUID(int=number) for number in (1, 2)]


def driver(visible: list[uuid.UUID], error: int = 0) -> Any:
    """Of a machine of which this process sees some cards."""

    def get(place: Any, index: int) -> int:
        place._obj.value = index
        return 0 if index < len(visible) else 101

    def ask(found: Any, device: Any) -> int:
        found[:] = visible[device.value].bytes
        return 0

    return SimpleNamespace(cuInit=lambda flags: error, cuDeviceGet=get, cuDeviceGetUuid=ask)


def test_one_card_has_one_lock_whatever_its_number_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(CARDS))
    (first, second), other = [slot._lock_files(f"cuda:{n}", None) for n in (0, 1)], CARDS[1:]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(other))
    assert slot._lock_files("cuda", None) == second != first
    assert second[0].name == f"cuda-{CARDS[1]}.lock"


def test_without_a_driver_or_a_card_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_uuid, "DRIVER", "no driver")
    assert card_uuid.card_uuid(0) is None
    for broken in (driver(CARDS, error=100), driver([])):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, broken=broken: broken)
        assert card_uuid.card_uuid(0) is None
