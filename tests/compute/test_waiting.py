"""Waits are counted apart, and a job waits when all its parts do."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Generator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.compute.waiting import own_time, telling_waits, waiting


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100))))
def test_what_passes_is_either_waited_or_own(spans: list[tuple[bool, int]]) -> None:
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scenegen.compute.waiting.time", SimpleNamespace(monotonic=lambda: now))
        with own_time() as outer, own_time() as inner:
            for waits, seconds in spans:
                with waiting() if waits else contextlib.nullcontext():
                    now += seconds
        waited = sum(seconds for waits, seconds in spans if waits)
        for clock in (outer, inner):
            assert (clock.waited_s, clock.seconds) == (waited, now - waited)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_a_job_waits_when_a_part_does_and_none_works(turns: list[int]) -> None:
    """Each turn takes one of four parts from idleness to work, to waiting, to work again, and back."""
    told: list[bool] = []
    with telling_waits(told.append):
        parts = [(contextvars.copy_context(), _part()) for _ in range(4)]
        at, expected = [0] * 4, [False]
        for part in turns:
            context, steps = parts[part]
            context.run(next, steps)
            at[part] = (at[part] + 1) % 4
            waits = 2 in at and not {1, 3} & {*at}
            if waits != expected[-1]:
                expected.append(waits)
        assert told == expected[1:]
        for context, steps in parts:
            context.run(steps.close)


def _part() -> Generator[None, None, None]:
    while True:
        with own_time():
            yield
            with waiting():
                yield
            yield
        yield


def test_an_error_ends_a_wait() -> None:
    told: list[bool] = []
    with telling_waits(told.append), pytest.raises(KeyboardInterrupt), waiting():
        raise KeyboardInterrupt
    assert told == [True, False]
