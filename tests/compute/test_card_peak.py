"""The peak of a card's memory, on a card that only counts."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from scenegen.compute.card_peak import begin_part, job_peak, stage_peak, tell_peak
from scenegen.pixal3d.usage import UsageMeter
from stages.workers.child import Done, answer


class Card:
    """What torch counts."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def take(self, count: int) -> None:
        self.now += count
        self.peak = max(self.peak, self.now)

    def reset(self, device: object) -> None:
        self.peak = self.now


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: card.peak)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: card.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", card.reset)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return card


def test_a_job_counts_what_was_there_and_all_of_its_parts(card: Card) -> None:
    card.take(50)
    card.take(-40)
    with job_peak("cuda:0") as peak:
        meter = UsageMeter(torch.device("cuda:0"))
        for taken in (7, 3):
            with meter.stage("part"):
                card.take(taken)
                card.take(-taken)
    assert [part.peak_bytes for part in meter.stages] == [17, 13]
    assert peak.bytes == 17


def test_nothing_is_measured_elsewhere(card: Card) -> None:
    for place in ((), ("cpu",), ("mps",)):
        with job_peak(*place) as peak:
            card.take(5)
        assert peak.bytes == 0
    begin_part(torch.device("cuda:0"))  # outside of any job
    assert card.peak == 15


class Job:
    def __call__(self, device: str) -> str:
        return device


def test_a_child_answers_with_the_peak(card: Card) -> None:
    card.take(9)
    assert answer(pickle.dumps(Job()), "cuda:0") == Done("cuda:0", 9)
    assert answer(pickle.dumps(Job()), "cpu") == Done("cpu")


def test_a_stage_has_the_larger_of_its_halves_and_those_of_no_other_thread() -> None:
    tell_peak(99)
    with stage_peak() as peak, ThreadPoolExecutor(1) as thread:
        tell_peak(5)
        thread.submit(tell_peak, 50).result()
        tell_peak(3)
    assert peak.bytes == 5
