"""One photo from files to a published folder: ingest -> graph -> publish."""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Literal, TypeVar

import networkx as nx

from scenegen.compute.runtime import Runtime
from scenegen.config import MAX_SEED, Config, ObjectConfig
from scenegen.errors import InputError, UsageError, WeightsError, one_line
from scenegen.export.manifest import (
    FurtherPhoto,
    Given,
    Manifest,
    StageEntry,
    environment,
    heal,
    output_files,
    publish,
    read_manifest,
)
from scenegen.inputs.photos import Inputs, is_safe_name, mesh_number
from scenegen.perception.mask_labels import mask_labels
from scenegen.records import Artifact, GivenMesh, Kept, ObjectMesh, Record, Source, artifacts, digest_json
from scenegen.scene.graph import support_graph
from scenegen.store.destination import check_path
from scenegen.store.digest import sha256_file
from scenegen.store.store import MANIFEST, STORE, Store
from scenegen.weights_registry.needed import require_models
from stages.graph import SceneRun, image_to_scene
from stages.layers import Submit

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


class Result(Record):
    """The result for one photo."""

    folder: str
    """The published folder."""
    objects: int
    silhouette_iou: float | None
    """Median over the objects."""
    state: Literal["complete", "partial"]


def open_store(out: Path) -> Store:
    """The store of output folder `out`, after repairing what killed runs have left there.

    Raises:
        UsageError: if there can be no scene in such a folder.
        ResourceError: if something needs repair and the disk cannot be written.
    """
    check_path(out)
    store = Store(out / STORE)
    store.sweep()
    heal(store, out)
    return store


def photo_to_scene(inputs: Inputs, config: Config, store: Store, runtime: Runtime, submit: Submit) -> Result:
    """Makes and publishes the scene of one photo, or of several, in the folder `inputs.folder` beside the store.

    Raises:
        ScenegenError: from the ingest, the stage or the publication that failed.
    """
    with store.in_use():
        source, *others = (ingested(each, store.ingest) for each in (inputs, *inputs.others))
        with naming_all_missing((source, *others), config, runtime):
            run = image_to_scene(source, config, submit, others=others, name=inputs.scene)
        given = [names_of(each) for each in (inputs, *inputs.others)]
        return publish_scene(run, given, store.root.parent / inputs.folder, store, runtime)


def ingested(inputs: Inputs, ingest: Callable[[Path], Artifact]) -> Source:
    """The files of one photo, each as `Store.ingest` copies it into a store.

    Raises:
        InputError: if one cannot be read.
        ResourceError: if the store cannot be written.
    """
    return Source(
        name=inputs.name,
        photo=ingest(inputs.photo),
        masks=tuple(ingest(path) for path in inputs.masks),
        mask_names=tuple(_file_name(path) for path in inputs.masks),
        mask_labels=mask_labels(inputs.masks) if inputs.masks else (),
        depth=None if inputs.depth is None else ingest(inputs.depth),
        camera=tuple(ingest(path) for path in inputs.camera),
        meshes=tuple(GivenMesh(id=mesh_number(path), mesh=ingest(path)) for path in inputs.meshes),
    )


def content_digest(sources: Sequence[Source]) -> str:
    """One digest of the files of a scene: that of the only one, or of all."""
    digests = [_digest_of(source) for source in sources]
    return digests[0] if len(digests) == 1 else digest_json(digests)


def _digest_of(source: Source) -> str:
    """The same of one photo and what belongs to it."""
    if not (source.masks or source.depth or source.camera or source.meshes):
        return source.photo.sha256
    meshes = [[given.id, given.mesh.sha256] for given in source.meshes]
    files = [[file.sha256 for file in group] for group in (source.masks, source.camera)]
    depth = None if source.depth is None else source.depth.sha256
    return digest_json([source.photo.sha256, source.mask_names, *files, depth, meshes])


def names_of(inputs: Inputs) -> Given:
    """What the user gave, by the names of the files."""
    return Given(
        photo=_file_name(inputs.photo),
        masks=tuple(_file_name(path) for path in inputs.masks),
        depth=None if inputs.depth is None else _file_name(inputs.depth),
        camera=tuple(_file_name(path) for path in inputs.camera),
        meshes=tuple(_file_name(path) for path in inputs.meshes),
    )


def regenerate(
    folder: Path, object_id: int, seed: int | None, store: Store, runtime: Runtime, submit: Submit
) -> Result:
    """Makes one object of a published scene again; the others stay as they are, where they are: the files of their meshes and
    colliders, and those of the background, byte for byte. So the new object alone gives way where it would reach into another.
    Only what a simulation says of the others is found again, if that was asked for.

    Args:
        folder: the published folder; the store lies beside it.
        object_id: the object to make again, which may be one that failed.
        seed: its new seed; None takes the next after its last one.
        store: of the output folder that `folder` lies in.
        runtime: where to compute.
        submit: starts a stage.

    Raises:
        UsageError: if the scene has no such object.
        InputError: if the manifest cannot be read, or the store has lost the photo, the masks, the depth, or what the others
            are.
        ScenegenError: from the stage or the publication that failed.
    """
    manifest = read_manifest(folder)
    check_source(manifest, folder, store)
    ids = {placed.id for placed in manifest.objects}
    ids |= {failure.object for failure in manifest.failures if failure.object is not None}
    if object_id not in ids:
        known = ", ".join(str(known) for known in sorted(ids)) or "none"
        raise UsageError(f"No object {object_id} in {folder}; objects: {known}.")
    last = manifest.config.object_settings(object_id).seed
    new = (last + 1) % (MAX_SEED + 1) if seed is None else seed
    override = manifest.config.objects.get(object_id, ObjectConfig()).model_copy(update={"seed": new})
    config = manifest.config.model_copy(update={"objects": {**manifest.config.objects, object_id: override}})
    others = tuple(placed for placed in manifest.objects if placed.id != object_id)
    kept = Kept(objects=others, colliders=manifest.colliders)
    if manifest.colliders is None or not all(_is_stored(artifact, store) for artifact in artifacts(kept)):
        raise InputError(
            f"{store.root} no longer holds the meshes and colliders of {folder}, so its other objects cannot stay as they are; "
            f"make the scene again, with -o {store.root.parent}."
        )
    stands = support_graph((item.support, item.id) for item in manifest.objects if isinstance(item.support, int))
    if object_id in stands and (above := nx.descendants(stands, object_id)):
        listed = ", ".join(str(other) for other in sorted(above))
        logger.info("on object %d stand %s: they stay where they are; regenerate them to follow it", object_id, listed)
    with store.in_use():
        further = [photo.source for photo in manifest.others]
        with naming_all_missing((manifest.source, *further), config, runtime):
            run = image_to_scene(manifest.source, config, submit, kept, further, manifest.scene)
        given = [manifest.given, *(photo.given for photo in manifest.others)]
        return publish_scene(run, given, folder, store, runtime)


@contextlib.contextmanager
def naming_all_missing(sources: Sequence[Source], config: Config, runtime: Runtime) -> Iterator[None]:
    """Where weights are missing, the message names all that are, and not only those that were needed first."""
    try:
        yield
    except WeightsError:
        require_models(
            config,
            runtime,
            segments=not all(source.masks for source in sources),
            measures=any(source.depth is None for source in sources),
            several=len(sources) > 1,
        )
        raise


def publish_scene(run: SceneRun, given: Sequence[Given], target: Path, store: Store, runtime: Runtime) -> Result:
    """Makes folder `target` hold the scene of `run`, whose files are in `store`, and its manifest.

    `given` names the files of each photo.

    Raises:
        ResourceError: if the disk cannot be written, or a file lies at `target`.
    """
    scene = run.scene.record
    files = (*run.export.record.files, *run.report.record.files)
    manifest = Manifest(
        state="complete" if scene.objects and not scene.failures else "partial",
        environment=environment(runtime.device),
        config=run.config,
        given=given[0],
        source=run.source,
        others=tuple(
            FurtherPhoto(given=names, source=source) for names, source in zip(given[1:], run.others, strict=True)
        ),
        scene=run.name,
        stages=_stage_entries(run),
        metres=scene.metres,
        objects=scene.objects,
        settled=run.export.record.settled,
        colliders=run.export.record.colliders,
        failures=scene.failures,
        outputs=output_files(files),
    )
    for stage, backend in sorted({(entry.stage, entry.backend) for entry in manifest.stages if entry.backend}):
        logger.info("%s used %s", stage, backend)
    if not publish(store, target, files, manifest):
        logger.info("%s is up to date", target)
    ious = [placed.scores.silhouette_iou for placed in scene.objects]
    return Result(
        folder=str(target),
        objects=len(scene.objects),
        silhouette_iou=statistics.median(ious) if ious else None,
        state=manifest.state,
    )


def _stage_entries(run: SceneRun) -> tuple[StageEntry, ...]:
    return tuple(
        StageEntry(
            stage=outcome.stage,
            object=outcome.record.id if isinstance(outcome.record, ObjectMesh) else None,
            key=outcome.key,
            seconds=outcome.seconds,
            card_peak_bytes=outcome.card_peak_bytes,
            backend=getattr(outcome.record, "backend", None),
            licence=getattr(outcome.record, "licence", None),
            weights=dict(outcome.weights),
            warnings=getattr(outcome.record, "warnings", ()),
            check=getattr(outcome.record, "check", None),
        )
        for outcome in run.outcomes
    )


def check_source(manifest: Manifest, folder: Path, store: Store) -> None:
    """Fails unless the store still has what the user gave.

    A manifest is a file anyone may have written: its name must be that of a folder, its paths must stay in the store, its
    digests must hold.

    Args:
        manifest: of the scene.
        folder: that it was read from.
        store: beside that folder.

    Raises:
        InputError: if the name is none, or a file is gone or changed.
    """
    if not is_safe_name(manifest.name):
        raise InputError(f"{folder / MANIFEST} is damaged at `source.name`; make the scene again.")
    check_stored(manifest.given, manifest.source, store)
    for photo in manifest.others:
        check_stored(photo.given, photo.source, store)


def check_stored(given: Given, source: Source, store: Store, edited: Iterable[Artifact] = ()) -> None:
    """Fails unless the store has the files of one photo, and those that came with edits. Raises InputError."""
    stored = [("IMAGE", given.photo, source.photo)]
    stored += [("--masks", name or "masks", mask) for name, mask in zip_longest(given.masks, source.masks) if mask]
    if source.depth is not None:
        stored.append(("--depth", given.depth or "depth", source.depth))
    stored += [("--camera", name or "camera", file) for name, file in zip_longest(given.camera, source.camera) if file]
    stored += [
        ("--meshes", name or "meshes", file.mesh) for name, file in zip_longest(given.meshes, source.meshes) if file
    ]
    came = (*source.edits, *source.pictures)
    for artifact in (*edited, *(artifact for each in came for artifact in artifacts(each))):
        if not _is_stored(artifact, store):
            raise InputError(
                f"{store.root} no longer holds a mask, a mesh or a picture that came with an edit; make the scene again from "
                "the photo."
            )
    for argument, name, artifact in stored:
        if not _is_stored(artifact, store):
            name = one_line(name, 200)
            raise InputError(
                f"{store.root} no longer holds {name}; make the scene again, with {name} as `{argument}`, "
                f"and -o {store.root.parent}."
            )


def _is_stored(artifact: Artifact, store: Store) -> bool:
    path = store.path(artifact)
    try:
        inside = path.resolve().is_relative_to(store.root.resolve())
        return inside and path.is_file() and sha256_file(path) == artifact.sha256
    except OSError:
        return False


def _file_name(path: Path) -> str:
    """Name of a file as text that can be written anywhere: bytes that are not text become question marks."""
    return path.name.encode("utf-8", "replace").decode()
