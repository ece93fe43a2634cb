"""The scene that a studio is open for: what its edits say, read from its folder and the store whenever it is asked.

Nothing that counts is kept in memory: a studio that is opened again, or a second one, finds the same.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from scenegen.compute.runtime import Runtime
from scenegen.config import Config, Stand
from scenegen.edits.steps import (
    Edit,
    FloorEdit,
    HorizonEdit,
    LengthEdit,
    LengthsEdit,
    MeshEdit,
    PictureEdit,
    Step,
    VerticalEdit,
)
from scenegen.errors import InputError, OutdatedError, UsageError
from scenegen.export.figures import paint_depth
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.ids import UNKNOWN
from scenegen.perception import UNNAMED
from scenegen.records import (
    Artifact,
    Instance,
    Instances,
    ObjectId,
    PaintEdit,
    Photo,
    PromptEdit,
    Record,
    Source,
    artifacts,
)
from scenegen.registry import EXPORTERS, OBJECT_GENERATORS
from scenegen.store.png import encoded_png, read_png
from scenegen.store.store import Store
from stages.edit import answered
from stages.graph import image_to_instances, image_to_layout, photos_to_views
from stages.layers import Submit, local_submit
from stages.read import READ
from stages.replay import EditList, read_edits, write_edits
from stages.telling import Remarks
from studio.making import Candidates, Choices, Extent, Job, Made, Maker
from studio.outlines import from_runs, outline

MAX_RUNS = 1 << 20
ABOUT_CAMERA = (LengthEdit, LengthsEdit, VerticalEdit, HorizonEdit, FloorEdit)
"""Edits that may turn out to say nothing, or what cannot be, once depth and camera are found."""
ARCHIVE = "scene.zip"


class PaintedStep(Record):
    """What was painted, as the page sends it."""

    kind: Literal["painted"] = "painted"
    object: ObjectId
    adds: bool
    """Whether it belongs to the object; else it does not."""
    runs: Annotated[tuple[int, ...], Field(max_length=MAX_RUNS)]
    """As `studio.outlines.from_runs` takes them, at working size."""


class Asked(Record):
    """One more step, as the page asks for it."""

    revision: int
    """Of the edits that the page shows."""
    step: Annotated[Step | PaintedStep, Field(discriminator="kind")]


class ShownObject(Record):
    """An object as the page shows it."""

    id: int
    label: str
    sure: float | None
    """How likely the label is right; None if it was given."""
    score: float
    box: tuple[int, int, int, int]
    area: int
    outline: str
    """As `studio.outlines.outline`, at working size."""
    locked: bool
    seed: int
    method: str
    """Of the generator."""
    given_mesh: bool
    """Whether the user gave its mesh."""
    given_picture: bool
    """Whether it is made from a picture of the user's."""
    stands: Stand | None
    """What carries it, if the user says so."""
    distance: float | None
    """Over what depth says, if the user moved it."""


class Answer(Record):
    """What clicks or a box mean. Nothing has changed."""

    label: str
    area: int
    outline: str


class State(Record):
    """All that the page shows."""

    name: str
    revision: int
    others: tuple[str, ...]
    """Names of the other photos of the scene. Edits are about the first."""
    size: tuple[int, int]
    """Width and height at working size: of the photo that is shown, its outlines and boxes."""
    original: tuple[int, int]
    """Of the photo as given, turned upright: places in edits are pixels of it."""
    objects: tuple[ShownObject, ...]
    next_id: int
    """For a new object: no edit was ever about it."""
    can_undo: bool
    can_redo: bool
    done: tuple[Edit, ...]
    """The edits in effect."""
    warnings: tuple[str, ...]
    published: bool
    """Whether the published folder holds the scene that the edits say."""
    generators: tuple[str, ...]
    """Those that an object can be made with."""
    exporters: tuple[str, ...]
    """Those that the scene can be written with, beside GLB and USD."""
    formats: tuple[str, ...]
    """Those of them that it is written with."""
    usdz: bool
    fov_deg: float | None
    """As the user gave it."""
    job: Job | None
    made: Made | None
    candidates: Candidates | None


class Session:
    """One scene that is edited.

    Args:
        folder: of the scene; its edits can be read (`stages.replay.read_edits`).
        store: beside it.
        runtime: where to compute.
        at_once: objects made at once.
        changed: called, from any thread, whenever the state has changed.
    """

    def __init__(self, folder: Path, store: Store, runtime: Runtime, at_once: int, changed: Callable[[], None]) -> None:
        self.folder, self.store, self._runtime, self._changed = folder, store, runtime, changed
        self.maker = Maker(folder, runtime, at_once, changed)
        self._executor = ThreadPoolExecutor(1)
        self._remarks = Remarks()
        self._busy = threading.Lock()
        """Held while objects are found or asked for: the network answers one at a time."""

    def state(self) -> State:
        """What the page shows.

        Raises:
            ScenegenError: if edits or photo cannot be read, or no objects can be found.
        """
        edits = read_edits(self.folder, self.store)
        seen = self._seen(edits)
        history = edits.history
        source, config = edits.resolved()
        published = self._published()
        made_from = (source, config, edits.others)
        return State(
            name=edits.scene or edits.source.name,
            revision=edits.revision,
            others=tuple(other.source.name for other in edits.others),
            size=(seen.photo.width, seen.photo.height),
            original=(seen.photo.original_width, seen.photo.original_height),
            objects=tuple(_shown(item, seen.ids, source, config) for item in seen.instances.items),
            next_id=seen.unused,
            can_undo=bool(history.done),
            can_redo=bool(history.undone),
            done=history.done,
            warnings=seen.instances.warnings,
            published=published is not None and (published.source, published.config, published.others) == made_from,
            generators=tuple(OBJECT_GENERATORS.offers()),
            exporters=tuple(EXPORTERS.offers()),
            formats=tuple(settings.method for settings in config.export.formats),
            usdz=config.export.usdz,
            fov_deg=config.camera.fov_deg,
            job=self.maker.job,
            made=self.maker.made,
            candidates=self.maker.candidates,
        )

    def revision(self) -> int:
        """Of the present edits."""
        return read_edits(self.folder, self.store).revision

    def photo(self) -> Path:
        """The picture that the page shows: PNG, at working size."""
        source, config = read_edits(self.folder, self.store).resolved()
        return self.store.path(self._photo(source, config).image)

    def other_photo(self, number: int) -> Path:
        """The picture of another photo of the scene, by its place in `State.others`: PNG, at working size.

        Raises:
            InputError: if there is none, or it cannot be read.
        """
        edits = read_edits(self.folder, self.store)
        if number >= len(edits.others):
            raise InputError(f"the scene has {len(edits.others)} other photos.")
        return self.store.path(self._photo(edits.others[number].source, edits.config).image)

    def scene(self) -> Path:
        """The GLB of the last scene that was made.

        Raises:
            InputError: if there is none.
        """
        return self.store.path(self._made().glb)

    def depth(self) -> bytes:
        """The depth of the last scene that was made, as a picture: PNG.

        Raises:
            InputError: if there is none.
        """
        z = np.load(self.store.path(self._made().depth), allow_pickle=False)
        return encoded_png(paint_depth(z))

    def made_file(self, name: str) -> Path:
        """A file of the last scene that was made.

        Raises:
            InputError: if there is none of this name.
        """
        return self.store.path(self._made().file(name))

    def archive(self, folder: Path) -> Path:
        """All files of the last scene that was made, in a new ZIP archive in `folder`.

        Raises:
            InputError: if there is none, or it has no files yet.
        """
        path, files = folder / ARCHIVE, self._made().files
        if not files:
            raise InputError("the files of this scene are not written yet; ask for them first.")
        with self.store.in_use(), ZipFile(path, "x", ZIP_DEFLATED) as archive:
            for name, file in files:
                archive.write(self.store.path(file), name)
        return path

    def thumbnail(self, number: int) -> Path:
        """The picture of a candidate, by its number.

        Raises:
            InputError: if there is none.
        """
        found = () if self.maker.candidates is None else self.maker.candidates.items
        picture = found[number].picture if 0 <= number < len(found) else None
        if picture is None:
            raise InputError("there is no candidate of this number; make some.")
        return self.store.path(picture)

    def answer(self, asked: PromptEdit) -> Answer:
        """What clicks or a box mean, without changing anything.

        Raises:
            UsageError: if they lie outside the photo, or there are none.
        """
        edits = read_edits(self.folder, self.store)
        source, config = edits.resolved()
        photo = self._photo(source, config)
        with self._busy:
            image = read_png(self.store.path(photo.image))
            found = answered(image, photo, asked, edits.config.segment, self._runtime)
        mask = found.ids == 1
        return Answer(
            label=found.labels[0] if found.labels else UNNAMED, area=int(np.count_nonzero(mask)), outline=outline(mask)
        )

    def take(self, asked: Asked) -> None:
        """Takes one more step. Only what can be done is written down, and what is written down stays.

        Raises:
            OutdatedError: if the page that asks does not show the present edits.
            UsageError: if the step cannot be done.
            ScenegenError: from the segmenter.
        """
        before = self._current(asked.revision)
        if any(artifacts(asked.step)):
            raise UsageError("a step cannot name a file; paint a mask, and give a mesh or a picture.")
        step = self._stored(asked.step, before) if isinstance(asked.step, PaintedStep) else asked.step
        self._take(step, before)

    def take_file(self, kind: Literal["mesh", "picture"], object_id: int, revision: int, content: bytes) -> None:
        """Takes a mesh (GLB) of an object, or a picture that it is made from.

        Raises:
            OutdatedError: if the page that asks does not show the present edits.
            UsageError: if the scene takes none.
            InputError: if it is no mesh, or no picture.
        """
        before = self._current(revision)
        file = self._ingested(content)
        step = MeshEdit(object=object_id, mesh=file) if kind == "mesh" else PictureEdit(object=object_id, picture=file)
        self._take(step, before)

    def make_candidates(self, asked: Choices) -> None:
        """Begins to make an object in several ways.

        Raises:
            OutdatedError: if something is being made.
        """
        self.maker.start_candidates(asked)

    def make(self, extent: Extent) -> None:
        """Begins to make the scene that the edits say.

        Raises:
            OutdatedError: if one is being made.
        """
        self.maker.start(extent)

    def close(self) -> None:
        """Ends what is running. What was done is kept."""
        self.maker.cancel()
        self._executor.shutdown()

    def _made(self) -> Made:
        if self.maker.made is None:
            raise InputError("no scene was made yet; make one.")
        return self.maker.made

    def _current(self, revision: int) -> EditList:
        """The edits, if a page shows them as they are."""
        edits = read_edits(self.folder, self.store)
        if revision != edits.revision:
            raise OutdatedError("the scene was edited elsewhere in the meantime; look at it, and try again.")
        return edits

    def _take(self, step: Step, before: EditList) -> None:
        """Writes a step down if it can be done."""
        after = before.after(step)
        self._seen(after)
        if isinstance(step, ABOUT_CAMERA):
            self._measured(after)
        write_edits(self.folder, self.store, after, before.revision)
        self._changed()

    def _seen(self, edits: EditList) -> _Seen:
        """The photo and its objects as edited."""
        source, config = edits.resolved()
        with self._submitting() as submit:
            photo, found = image_to_instances(source, config, submit, self._remarks)
        # Objects that other photos show alone have numbers, too, which edits may be about.
        used = {item.id for each in found for item in each.record.items} | {*config.objects}
        ids = read_png(self.store.path(found[-1].record.masks))
        return _Seen(photo.record, found[-1].record, ids, frozenset(used))

    def _photo(self, source: Source, config: Config) -> Photo:
        with self._submitting() as submit:
            return submit(READ, source.without_edits(), config=config.read).result().record

    def _measured(self, edits: EditList) -> None:
        """Depth, camera and room of what was edited: raises what is wrong with edits that are about them."""
        source, config = edits.resolved()
        with self._submitting() as submit:
            if edits.others:
                photos_to_views(source, config, submit, self._remarks, edits.other_sources, edits.scene)
            else:
                image_to_layout(source, config, submit, self._remarks)

    @contextlib.contextmanager
    def _submitting(self) -> Iterator[Submit]:
        """What runs stages, for one request at a time."""
        with self._busy, self.store.in_use():
            yield local_submit(self.store, self._runtime, self._executor)

    def _published(self) -> Manifest | None:
        try:
            return read_manifest(self.folder)
        except InputError:
            return None

    def _stored(self, step: PaintedStep, edits: EditList) -> PaintEdit:
        """What was painted as an edit: the object's mask after it, whose file is in the store."""
        seen = self._seen(edits)
        painted, mask = from_runs(step.runs, seen.photo.width, seen.photo.height), seen.ids == step.object
        mask = mask | painted if step.adds else mask & ~painted
        return PaintEdit(object=step.object, mask=self._ingested(encoded_png(mask.astype(np.uint8) * 255)))

    def _ingested(self, content: bytes) -> Artifact:
        """A file that came from the page, in the store."""
        with tempfile.TemporaryDirectory(prefix="scenegen-studio-") as folder:
            path = Path(folder) / "file"
            path.write_bytes(content)
            return self.store.ingest(path)


def _shown(item: Instance, ids: Shaped[np.ndarray, "h w"], source: Source, config: Config) -> ShownObject:
    settings = config.object_settings(item.id)
    return ShownObject(
        id=item.id,
        label=item.label,
        sure=item.label_confidence,
        score=item.score,
        box=item.box,
        area=item.area,
        outline=outline(ids == item.id),
        locked=item.locked,
        seed=settings.seed,
        method=settings.generate.method,
        given_mesh=any(given.id == item.id for given in source.meshes),
        given_picture=any(given.id == item.id for given in source.pictures),
        stands=config.compose.stands.get(item.id),
        distance=config.compose.distances.get(item.id),
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    photo: Photo
    instances: Instances
    ids: Shaped[np.ndarray, "h w"]
    used: frozenset[int]
    """Ids that any object had after any edit in effect."""

    @property
    def unused(self) -> int:
        """An id that no object ever had: the next one, or the first where there is no next one."""
        after = 1 + max(self.used, default=0)
        return after if after < UNKNOWN else min(set(range(1, UNKNOWN)) - self.used)
