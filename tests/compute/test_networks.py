"""Every network is built once a process, however many threads ask for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from scenegen.compute import networks
from scenegen.compute.networks import forget, loaded, make_room, release
from scenegen.compute.residency import Demand
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


def test_only_the_chosen_are_forgotten() -> None:
    first, second = loaded("first", list), loaded("second", list)
    forget(lambda key: key == "first")
    assert loaded("first", list) is not first
    assert loaded("second", list) is second


@pytest.mark.parametrize(
    ("free_gb", "cached_gb", "stays"),
    [(7, 0, True), (5, 2, True), (5, 0, False)],
)
def test_others_go_from_a_card_if_what_torch_holds_for_later_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, free_gb: int, cached_gb: int, stays: bool
) -> None:
    """The editor takes 3 GB while its layers are streamed, the guest before it 7."""
    free = [free_gb * 10**9]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 24 * 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.__setitem__(0, (free_gb + cached_gb) * 10**9))
    other, guest = loaded("other", list), loaded("guest", list)
    make_room("cuda:0", Demand((40.0,), 2.0, layer=1.0, guest=5.0), "streamed", "editor", "guest")
    assert (loaded("other", list) is other) == stays
    assert loaded("guest", list) is guest


def test_what_is_on_the_card_already_needs_no_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 10**9, 80 * 10**9))
    other = loaded("other", list)
    loaded("editor", list)
    make_room("cuda:0", Demand((40.0,), 2.0, layer=1.0), "resident", "editor")
    assert loaded("other", list) is other
    forget(lambda key: key == "editor")
    make_room("cuda:0", Demand((40.0,), 2.0, layer=1.0), "resident", "editor")
    assert loaded("other", list) is not other
