"""The edits of a scene as a list that only grows: undoing and redoing are steps too.

What the list comes to is a `Source` and a `Config`. An edit for which there is a setting is that setting; edits of masks are
part of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from scenegen.config import (
    MAX_LINES,
    MAX_SEED,
    BackendConfig,
    Config,
    KnownLength,
    Line,
    Metres,
    ObjectConfig,
    Stand,
    circle_of,
)
from scenegen.errors import UsageError
from scenegen.records import Artifact, GivenMesh, GivenPicture, MaskEdit, ObjectId, Place, Record, Source
from scenegen.registry import EXPORTERS, OBJECT_GENERATORS, Port

G = TypeVar("G", GivenMesh, GivenPicture)


class FieldOfViewEdit(Record):
    """The camera has this horizontal field of view. It takes the place of a given camera."""

    kind: Literal["field_of_view"] = "field_of_view"
    degrees: Annotated[float, Field(gt=1, lt=170)]


class LengthEdit(Record):
    """Two places that the photo shows are so far apart, which gives the scene its metres."""

    kind: Literal["length"] = "length"
    start: Place
    end: Place
    metres: Metres


class LengthsEdit(Record):
    """Two lengths are known, which gives the field of view and the metres. It takes the place of a given camera."""

    kind: Literal["lengths"] = "lengths"
    first: KnownLength
    second: KnownLength


class VerticalEdit(Record):
    """An edge that the photo shows is vertical, beside those that earlier edits say."""

    kind: Literal["vertical"] = "vertical"
    start: Place
    end: Place


class HorizonEdit(Record):
    """The horizon lies along a line: see `CameraConfig.horizon`."""

    kind: Literal["horizon"] = "horizon"
    start: Place
    end: Place


class FloorEdit(Record):
    """The photo shows the floor at this place."""

    kind: Literal["floor"] = "floor"
    at: Place


class SupportEdit(Record):
    """What carries the object."""

    kind: Literal["support"] = "support"
    object: ObjectId
    on: Stand | Literal["photo"]
    """`photo`: what the photo suggests."""


class OrderEdit(Record):
    """One object lies before another."""

    kind: Literal["order"] = "order"
    front: ObjectId
    behind: ObjectId


class DistanceEdit(Record):
    """The object lies at this multiple of the distance that depth says, and stays there; None takes that back."""

    kind: Literal["distance"] = "distance"
    object: ObjectId
    factor: Annotated[float, Field(ge=0.1, le=10)] | None


class RegenerateEdit(Record):
    """The object is made with another seed, and with another generator if `method` names one."""

    kind: Literal["regenerate"] = "regenerate"
    object: ObjectId
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    method: Annotated[str, Field(max_length=80)] | None = None
    """As `generate.method`; None: the scene's own generator."""


class MeshEdit(Record):
    """The object is a mesh of the user's; None: it is generated."""

    kind: Literal["mesh"] = "mesh"
    object: ObjectId
    mesh: Artifact | None
    """GLB."""


class PictureEdit(Record):
    """The object is made from a picture of the user's, which fills the box around its outline; None: from the photo."""

    kind: Literal["picture"] = "picture"
    object: ObjectId
    picture: Artifact | None
    """Of any kind that photos may have."""


class FormatsEdit(Record):
    """What is written beside GLB and USD."""

    kind: Literal["formats"] = "formats"
    formats: Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(max_length=16)]
    """As `export.formats`: methods of exporters."""
    usdz: bool = True


class Undo(Record):
    """Takes back the last edit in effect."""

    kind: Literal["undo"] = "undo"


class Redo(Record):
    """Makes the edit again that was taken back last, unless there was another edit since."""

    kind: Literal["redo"] = "redo"


Edit = (
    MaskEdit
    | FieldOfViewEdit
    | LengthEdit
    | LengthsEdit
    | VerticalEdit
    | HorizonEdit
    | FloorEdit
    | SupportEdit
    | OrderEdit
    | DistanceEdit
    | RegenerateEdit
    | MeshEdit
    | PictureEdit
    | FormatsEdit
)
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

    Raises:
        UsageError: if an edit names a back-end that is not there, or says what cannot be.

    Examples:
        >>> from scenegen.records import Artifact
        >>> photo = Source(name="photo", photo=Artifact(path="input/a", sha256="a", bytes=1))
        >>> resolved(photo, Config(), [FieldOfViewEdit(degrees=50)])[1].camera.fov_deg
        50.0
    """
    original = config
    for edit in edits:
        match edit:
            case FieldOfViewEdit():
                source = source.model_copy(update={"camera": ()})
                config = _with(config, "camera", fov_deg=edit.degrees, second_length=None)
            case LengthEdit():
                length = KnownLength(start=edit.start, end=edit.end, metres=edit.metres)
                config = _with(config, "camera", known_length=length, second_length=None)
            case LengthsEdit():
                source = source.model_copy(update={"camera": ()})
                config = _with(config, "camera", fov_deg=None, known_length=edit.first, second_length=edit.second)
            case VerticalEdit():
                line = Line(start=edit.start, end=edit.end)
                verticals = (*config.camera.verticals, line)[-MAX_LINES:]
                config = _with(config, "camera", verticals=verticals, horizon=None)
            case HorizonEdit():
                config = _with(config, "camera", horizon=Line(start=edit.start, end=edit.end), verticals=())
            case FloorEdit():
                config = _with(config, "layout", floor_at=edit.at)
            case SupportEdit():
                stands = {**config.compose.stands, edit.object: edit.on}
                config = _with(config, "compose", stands=_without(stands, "photo"))
            case OrderEdit():
                pair = (edit.front, edit.behind)
                others = [each for each in config.compose.before if set(each) != set(pair)]
                config = _with(config, "compose", before=(*others, pair))
            case DistanceEdit():
                distances = {**config.compose.distances, edit.object: edit.factor}
                config = _with(config, "compose", distances=_without(distances, None))
            case RegenerateEdit():
                config = _regenerated(config, edit, original)
            case MeshEdit():
                mesh = None if edit.mesh is None else GivenMesh(id=edit.object, mesh=edit.mesh)
                source = source.model_copy(update={"meshes": _with_given(source.meshes, edit.object, mesh)})
            case PictureEdit():
                picture = None if edit.picture is None else GivenPicture(id=edit.object, picture=edit.picture)
                source = source.model_copy(update={"pictures": _with_given(source.pictures, edit.object, picture)})
            case FormatsEdit():
                formats = tuple(_settings(EXPORTERS, name, original.export.formats) for name in edit.formats)
                config = _with(config, "export", formats=formats, usdz=edit.usdz)
            case _:
                source = source.model_copy(update={"edits": (*source.edits, edit)})
    if circle := circle_of(config.compose.stands):
        raise UsageError(f"objects cannot carry each other in a circle: {circle}. Undo one of these edits.")
    return source, config


def _with(config: Config, section: str, **values: Any) -> Config:
    """The settings with other values in one section."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def _with_given(given: Sequence[G], number: int, new: G | None) -> tuple[G, ...]:
    """What is given for objects, with this for one of them."""
    items: dict[int, G] = {each.id: each for each in given if each.id != number}
    if new is not None:
        items[number] = new
    return tuple(items[each] for each in sorted(items))


def _without(values: Mapping[int, Any], default: object) -> dict[int, Any]:
    """What is left to say if `default` goes without saying."""
    return {number: value for number, value in values.items() if value != default}


def _regenerated(config: Config, edit: RegenerateEdit, original: Config) -> Config:
    before = original.objects.get(edit.object, ObjectConfig())
    own = [original.generate] if before.generate is None else [before.generate, original.generate]
    generate = before.generate if edit.method is None else _settings(OBJECT_GENERATORS, edit.method, own)
    objects = {**config.objects, edit.object: ObjectConfig(seed=edit.seed, generate=generate)}
    return config.model_copy(update={"objects": objects})


def _settings(port: Port[Any], method: str, known: Iterable[BackendConfig]) -> Any:
    """Settings of the back-end called `method`: those of the scene, if it has some, else its defaults.

    Raises:
        UsageError: if there is no such back-end.
    """
    found = next((settings for settings in known if settings.method == method), None)
    return port.backend(method).config() if found is None else found
