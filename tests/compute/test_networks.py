"""Every network is built once a process, however many threads ask for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from scenegen.compute import networks
from scenegen.compute.networks import loaded, release
from scenegen.pixal3d import embedded
from scenegen.pixal3d.compact import CompactGenerator


@pytest.fixture(autouse=True)
def _none_loaded() -> None:
    release()


def test_threads_that_ask_at_once_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    together = threading.Barrier(4)

    class Network(CompactGenerator):
        def __init__(self) -> None:
            nn.Module.__init__(self)

        def to(self, device: str) -> Network:  # type: ignore[override]
            built.append(self)
            return self

    monkeypatch.setattr(embedded, "load_generator", lambda path: Network())

    def ask(_: int) -> object:
        together.wait(10)
        return embedded._generator("cpu")

    with ThreadPoolExecutor(4) as executor:
        found = set(executor.map(ask, range(4)))
    assert len(found) == len(built) == 1
    assert embedded._generator("meta") not in found


def test_a_failure_is_not_kept() -> None:
    with pytest.raises(ZeroDivisionError):
        loaded("x", lambda: 1 / 0)
    assert loaded("x", lambda: 3) == 3


def test_what_was_not_used_for_the_longest_goes_first() -> None:
    for number in range(networks.KEPT):
        loaded(number, lambda number=number: [number])
    first = loaded(0, list)
    loaded("one more", list)
    assert loaded(0, list) is first
    assert loaded(1, list) == []


def test_other_networks_make_room_for_one_that_does_not_fit() -> None:
    first = loaded("first", list)
    tries = []

    def large() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise MemoryError
        return "large"

    assert loaded("second", large) == "large"
    assert loaded("first", list) is not first
    release()
    tries.clear()
    with pytest.raises(MemoryError):
        loaded("second", large)
