"""The list of edits beside a scene, and the scene that it says.

`edits.json` lies in the published folder. It holds what the scene is made from without edits, and every step since: it grows
by whole steps, and nothing else is ever changed in it. Publishing carries it over, as everything that is not scenegen's own.
"""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.edits.again import OnEdited
from scenegen.edits.steps import (
    FieldOfViewEdit,
    History,
    HorizonEdit,
    LengthsEdit,
    PictureEdit,
    Step,
    VerticalEdit,
    history,
    resolved,
)
from scenegen.errors import InputError, OutdatedError, UsageError, one_line
from scenegen.export.manifest import FurtherPhoto, Given, read_manifest
from scenegen.inputs.photos import Inputs, is_safe_name
from scenegen.records import Record, Source, artifacts
from scenegen.store.folder import LocalFolder
from scenegen.store.store import EDITS, MANIFEST, STAGING, Store, disk_errors, input_digest
from scenegen.untrusted.documents import read_json
from stages.graph import PreviewRun, SceneRun, image_to_preview, image_to_scene
from stages.layers import Submit
from stages.run import (
    Result,
    check_stored,
    content_digest,
    ingested,
    names_of,
    naming_all_missing,
    photo_to_scene,
    publish_scene,
)

logger = logging.getLogger(__name__)

EDITS_VERSION: Literal[1] = 1
OF_ONE_PHOTO = (FieldOfViewEdit, LengthsEdit, VerticalEdit, HorizonEdit, PictureEdit)
"""Edits that other photos of the scene would contradict: they tell the cameras, and what an object looks like."""
ASIDE = "move it away to begin again from the scene."


class EditList(Record):
    """What a scene is made from: files, settings, and what a person put right."""

    version: Literal[1] = EDITS_VERSION
    given: Given
    source: Source
    """Without the edits of `steps`."""
    config: Config
    """Without the edits of `steps`."""
    others: tuple[FurtherPhoto, ...] = ()
    """If there are several photos of the scene. Steps are about the first."""
    scene: str = ""
    """As in `Manifest`."""
    steps: tuple[Step, ...] = ()

    @property
    def revision(self) -> int:
        """Number of steps: it only grows, and two lists of one scene with the same revision are the same."""
        return len(self.steps)

    @property
    def all_given(self) -> tuple[Given, ...]:
        """The names of the files of each photo."""
        return (self.given, *(other.given for other in self.others))

    @property
    def other_sources(self) -> tuple[Source, ...]:
        """What the other photos of the scene are made from."""
        return tuple(other.source for other in self.others)

    @property
    def history(self) -> History:
        """The edits in effect, and those that can be made again."""
        return history(self.steps)

    def resolved(self) -> tuple[Source, Config]:
        """What the scene is made from, with the edits in effect."""
        return resolved(self.source, self.config, self.history.done)

    def after(self, step: Step) -> EditList:
        """The list with one more step.

        Raises:
            UsageError: if the step is to undo or redo and there is nothing to, or is not for scenes of several photos.
        """
        self.history.after(step)
        if self.others and isinstance(step, OF_ONE_PHOTO):
            raise UsageError(
                "several photos show this scene: together they tell its cameras, and what objects look like. Edits of these are "
                "for scenes of a single photo."
            )
        return self.model_copy(update={"steps": (*self.steps, step)})

    def text(self) -> str:
        """The list as it is written: one step a line."""
        values = self.model_dump(mode="json")
        steps = ",\n".join(f"  {json.dumps(step, allow_nan=False)}" for step in values.pop("steps"))
        base = json.dumps(values, indent=1, sort_keys=True, allow_nan=False)
        return f'{base[:-2]},\n "steps": [\n{steps}\n ]\n}}\n'


def begin(inputs: Inputs, config: Config, store: Store) -> EditList:
    """The list of a photo, without edits.

    Raises:
        InputError: if a file cannot be read.
        ResourceError: if the store cannot be written.
    """
    return EditList(given=names_of(inputs), source=ingested(inputs, store.ingest), config=config)


def read_edits(folder: Path, store: Store) -> EditList:
    """The list of a scene; that of a scene which was never edited is made from its manifest.

    Args:
        folder: of the scene.
        store: beside it.

    Raises:
        InputError: if the list or the manifest cannot be read, or the store has lost something that they name.
    """
    # Publishing holds the same lock while it swaps the folder. Where there is no store, there is nothing to go on from.
    with store.lock() if store.root.exists() else contextlib.nullcontext():
        return _read(folder, store)


def _read(folder: Path, store: Store) -> EditList:
    path = folder / EDITS
    if not path.exists():
        manifest = read_manifest(folder)
        found = EditList(
            given=manifest.given,
            source=manifest.source,
            config=manifest.config,
            others=manifest.others,
            scene=manifest.scene,
        )
    else:
        try:
            found = EditList.model_validate(read_json(path))
            found.history  # noqa: B018 (a list may undo more than there is)
        except ValidationError as error:
            first = error.errors()[0]
            where = one_line(".".join(str(part) for part in first["loc"]), 200)
            raise InputError(f"{path} is damaged at `{where}`: {one_line(first['msg'], 200)}; {ASIDE}") from error
        except (OSError, ValueError, UsageError) as error:
            raise InputError(f"{path} cannot be read ({one_line(str(error))}); {ASIDE}") from error
    if not is_safe_name(found.source.name):
        raise InputError(f"{path if path.exists() else folder / MANIFEST} is damaged at `source.name`; {ASIDE}")
    check_stored(found.given, found.source, store, (artifact for step in found.steps for artifact in artifacts(step)))
    for other in found.others:
        check_stored(other.given, other.source, store)
    return found


def check_edits_of(photo: Path, folder: Path, store: Store) -> bool:
    """Whether `folder` has edits, or a scene, of this photo to go on from.

    Raises:
        UsageError: if they are of another picture.
        InputError: as `read_edits`.
    """
    if not (folder / EDITS).exists() and not (folder / MANIFEST).exists():
        return False
    if read_edits(folder, store).source.photo.sha256 != input_digest(photo)[0]:
        raise UsageError(f"{folder} has the scene of another picture than {photo}; choose another folder with -o.")
    return True


def write_edits(folder: Path, store: Store, edits: EditList, revision: int) -> None:
    """Writes a list that goes on from the one of `revision`. Whatever happens, the old list is there or the new one.

    Args:
        folder: of the scene; made if there is none.
        store: beside it.
        edits: the list.
        revision: of the list that it goes on from.

    Raises:
        OutdatedError: if somebody else has gone on from it.
        ResourceError: if the disk cannot be written.
    """
    with disk_errors(folder), store.lock():
        if (folder / EDITS).exists() and (now := _read(folder, store)).revision != revision:
            raise OutdatedError(
                f"{folder / EDITS} has {now.revision} steps, but {revision} were expected: it was edited elsewhere. Look at "
                "what it says now, and edit that."
            )
        LocalFolder(folder, store.root / STAGING).write(EDITS, edits.text().encode())


def edited_scene(edits: EditList, runtime: Runtime, submit: Submit) -> SceneRun:
    """Makes the scene that `edits` say, and publishes nothing.

    Raises:
        ScenegenError: from the stage that failed.
    """
    source, config = edits.resolved()
    with naming_all_missing((source, *edits.other_sources), config, runtime):
        return image_to_scene(source, config, submit, others=edits.other_sources, name=edits.scene)


def edited_preview(edits: EditList, runtime: Runtime, submit: Submit) -> PreviewRun:
    """As `edited_scene`, but makes only what it takes to look at the scene."""
    source, config = edits.resolved()
    with naming_all_missing((source, *edits.other_sources), config, runtime):
        return image_to_preview(source, config, submit, others=edits.other_sources, name=edits.scene)


def replay(folder: Path, store: Store, runtime: Runtime, submit: Submit) -> Result:
    """Makes and publishes the scene that the edits in `folder` say: what its photo, its settings and they alone come to.

    Raises:
        InputError: if there are no edits and no scene, or the store has lost something that they name.
        ScenegenError: from the stage or the publication that failed.
    """
    edits = read_edits(folder, store)
    with store.in_use():
        return publish_scene(edited_scene(edits, runtime, submit), edits.all_given, folder, store, runtime)


def make_scene(
    inputs: Inputs, config: Config, store: Store, runtime: Runtime, submit: Submit, on_edited: OnEdited
) -> Result:
    """Makes and publishes the scene of one photo, or of several, as `photo_to_scene` does, unless somebody has edited it.

    Args:
        inputs: the files.
        config: the resolved configuration.
        store: beside the scene's folder.
        runtime: where to compute.
        submit: starts a stage.
        on_edited: what becomes of edits.

    Raises:
        UsageError: if the scene was edited, and `on_edited` is `refuse`.
        ScenegenError: from the ingest, the stage or the publication that failed.
    """
    folder = store.root.parent / inputs.folder
    if (folder / EDITS).exists() and on_edited != "discard":
        with store.in_use():
            content = content_digest([ingested(each, store.ingest) for each in (inputs, *inputs.others)])
        if is_edited(folder, content, store):
            if on_edited == "apply":
                return replay(folder, store, runtime, submit)
            raise UsageError(
                f"{folder} was edited, and making it from the photo would undo that. Make it as edited with scenegen replay "
                f"{folder} or `--edits apply`, forget the edits with `--edits discard`, or choose another folder with -o."
            )
    result = photo_to_scene(inputs, config, store, runtime, submit)
    if on_edited == "discard":
        with disk_errors(folder), store.lock():
            (folder / EDITS).unlink(missing_ok=True)
    return result


def is_edited(folder: Path, content: str, store: Store) -> bool:
    """Whether somebody has edited the scene of these photos. Edits that were all taken back count as well, and so does a list
    that cannot be read.

    Args:
        folder: of the scene.
        content: `stages.run.content_digest` of the files that it would be made from.
        store: beside it.
    """
    if not (folder / EDITS).exists():
        return False
    try:
        edits = read_edits(folder, store)
    except InputError as error:
        logger.warning("%s", error)
        return True
    return bool(edits.steps) and content_digest([edits.source, *edits.other_sources]) == content
