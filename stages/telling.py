"""What the stages of one photo remark, in the log: once, in every run, wherever and whenever they were computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from scenegen.config import Settings
from scenegen.progress import logged_stage
from scenegen.records import ObjectMesh, Record, Scene
from scenegen.remarks import level, of_object
from stages.stage import Outcome, Stage

if TYPE_CHECKING:
    from stages.graph import Pending, Submit

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


def telling(submit: Submit) -> Submit:
    """`submit`, with the remarks of every stage's record logged when its outcome is there."""
    told: set[str] = set()

    def submit_and_tell(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        label = stage.name if object_id is None else f"{stage.name} {object_id}"
        return _Told(submit(stage, *inputs, config=config, object_id=object_id), label, told)

    return submit_and_tell


@dataclass(frozen=True)
class _Told(Generic[R]):
    """A submitted stage whose outcome is told."""

    pending: Pending[Outcome[R]]
    label: str
    told: set[str] = field(compare=False)
    """What has been said of this photo: stages pass on what they inherit."""

    def result(self) -> Outcome[R]:
        outcome = self.pending.result()
        with logged_stage(self.label):
            for remark in _remarks(outcome.record):
                if remark not in self.told:
                    self.told.add(remark)
                    logger.log(level(remark), "%s", remark)
            if isinstance(outcome.record, Scene) and outcome.cached:
                for failure in outcome.record.failures:
                    if failure.stage == self.label:
                        logger.error("object %s failed and is left out: %s", failure.object, failure.error)
        return outcome


def _remarks(record: Record) -> tuple[str, ...]:
    remarks: tuple[str, ...] = getattr(record, "warnings", ())
    if isinstance(record, ObjectMesh):
        return tuple(of_object(record.id, remark) for remark in remarks)
    return remarks
