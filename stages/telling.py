"""Logs the remarks of one photo's stages, each once, in every run, wherever and whenever they were computed."""

from __future__ import annotations

import logging
from typing import TypeVar

from scenegen.messages.progress import logged_stage
from scenegen.messages.remarks import level, of_object
from scenegen.records import ObjectMesh, Record, Scene
from stages.layers import Pending
from stages.stage import Outcome

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


class Remarks:
    """Those of one photo. Stages pass on what they inherit, so each is said once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def result(self, pending: Pending[Outcome[R]], object_id: int | None = None) -> Outcome[R]:
        """Waits for a stage, and logs what its record remarks. Raises the stage's error."""
        outcome = pending.result()
        label = outcome.stage if object_id is None else f"{outcome.stage} {object_id}"
        with logged_stage(label):
            for remark in _remarks(outcome.record):
                if remark not in self._said:
                    self._said.add(remark)
                    logger.log(level(remark), "%s", remark)
            if isinstance(outcome.record, Scene) and outcome.cached:
                for failure in outcome.record.failures:
                    if failure.stage == label:
                        logger.error("object %s failed and is left out: %s", failure.object, failure.error)
        return outcome


def _remarks(record: Record) -> tuple[str, ...]:
    remarks: tuple[str, ...] = getattr(record, "warnings", ())
    if isinstance(record, ObjectMesh):
        return tuple(of_object(record.id, remark) for remark in remarks)
    return remarks
