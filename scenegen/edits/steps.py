"""The edits of a scene as a list that only grows: undoing and redoing are steps too.

What the list comes to is a `Source` and a `Config`. An edit for which there is a setting is that setting; edits of masks are
part of the source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from scenegen.config import MAX_SEED, Config, KnownLength, ObjectConfig
from scenegen.errors import UsageError
from scenegen.records import MaskEdit, ObjectId, Place, Record, Source


class FieldOfViewEdit(Record):
    """The camera has this horizontal field of view. It takes the place of a given camera."""

    kind: Literal["field_of_view"] = "field_of_view"
    degrees: Annotated[float, Field(gt=1, lt=170)]


class LengthEdit(Record):
    """Two places that the photo shows are so far apart, which gives the scene its metres."""

    kind: Literal["length"] = "length"
    start: Place
    end: Place
    metres: Annotated[float, Field(ge=0.001, le=10_000)]


class RegenerateEdit(Record):
    """The object is made with another seed."""

    kind: Literal["regenerate"] = "regenerate"
    object: ObjectId
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]


class Undo(Record):
    """Takes back the last edit in effect."""

    kind: Literal["undo"] = "undo"


class Redo(Record):
    """Makes the edit again that was taken back last, unless there was another edit since."""

    kind: Literal["redo"] = "redo"


Edit = MaskEdit | FieldOfViewEdit | LengthEdit | RegenerateEdit
Step = Annotated[Edit | Undo | Redo, Field(discriminator="kind")]


@dataclass(frozen=True)
class History:
    """What steps come to."""

    done: tuple[Edit, ...] = ()
    """The edits in effect."""
    undone: tuple[Edit, ...] = ()
    """Those that can be made again, the next one last."""

    def after(self, step: Step) -> History:
        """What they and one more step come to.

        Raises:
            UsageError: if it is to undo or redo and there is nothing to.

        Examples:
            >>> history = History().after(FieldOfViewEdit(degrees=50)).after(Undo())
            >>> history.done, len(history.undone)
            ((), 1)
            >>> history.after(Redo()).done
            (FieldOfViewEdit(kind='field_of_view', degrees=50.0),)
        """
        if isinstance(step, Undo):
            if not self.done:
                raise UsageError("there is nothing to undo.")
            return History(self.done[:-1], (*self.undone, self.done[-1]))
        if isinstance(step, Redo):
            if not self.undone:
                raise UsageError("there is nothing to redo: the last step was not to undo something.")
            return History((*self.done, self.undone[-1]), self.undone[:-1])
        return History((*self.done, step))


def history(steps: Iterable[Step]) -> History:
    """What steps come to, from the first one on.

    Raises:
        UsageError: if one is to undo or redo and there is nothing to.
    """
    found = History()
    for step in steps:
        found = found.after(step)
    return found


def resolved(source: Source, config: Config, edits: Iterable[Edit]) -> tuple[Source, Config]:
    """What a scene with `edits` is made from. `source` and `config` are what it is made from without.

    Examples:
        >>> from scenegen.records import Artifact
        >>> photo = Source(name="photo", photo=Artifact(path="input/a", sha256="a", bytes=1))
        >>> resolved(photo, Config(), [FieldOfViewEdit(degrees=50)])[1].camera.fov_deg
        50.0
    """
    for edit in edits:
        if isinstance(edit, FieldOfViewEdit):
            source = source.model_copy(update={"camera": ()})
            config = _with_camera(config, fov_deg=edit.degrees)
        elif isinstance(edit, LengthEdit):
            known = KnownLength(start=edit.start, end=edit.end, metres=edit.metres)
            config = _with_camera(config, known_length=known)
        elif isinstance(edit, RegenerateEdit):
            objects = {**config.objects, edit.object: ObjectConfig(seed=edit.seed)}
            config = config.model_copy(update={"objects": objects})
        else:
            source = source.model_copy(update={"edits": (*source.edits, edit)})
    return source, config


def _with_camera(config: Config, **values: float | KnownLength) -> Config:
    return config.model_copy(update={"camera": config.camera.model_copy(update=values)})
