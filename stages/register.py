"""Register: where the cameras of several photos of one scene stand, and their depth maps in one metre."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from scenegen.camera import matrix4, vector
from scenegen.config import ViewsConfig
from scenegen.errors import InputError
from scenegen.messages.remarks import note
from scenegen.records import Depth, Failure, Intrinsics, Perceived, Registered, SeenView, Vector
from scenegen.registry import MATCHERS, Chosen
from scenegen.store.png import read_png
from scenegen.views.agreement import Agreed, DepthOf, agreed, metres_per_unit
from scenegen.views.cameras import cannot_be_found, contradicting, is_rigid, one_camera, well_tied
from scenegen.views.duplicates import crops, duplicates, is_blank
from scenegen.views.features import Matches, SeenFrom, among, save_matches, tie_points
from scenegen.views.structure import structure_from_motion
from stages.stage import Stage, Work

NAME = "register"
MEASURED_FOCAL = ("camera", "depth file", "fov", "exif")
"""Of `Depth.intrinsics_source`: the others are guesses, which the photos refine."""
MATCHES = "matches.npz"
GIVEN, COLMAP = "given", "COLMAP"
COLMAP_LICENCE = "BSD-3-Clause (COLMAP)"


def register(perceived: Perceived, *, config: ViewsConfig, work: Work) -> Registered:
    """The photos that can be used together, in the frame of the first of them.

    Cameras that the user gave with their poses are taken as they are, once the pictures do not contradict them; otherwise
    COLMAP finds them. Their unit becomes the metre of the depth maps, and the depth maps are corrected by the points
    that two photos share. A photo that repeats another one, or does not belong to the others, is left out.

    Raises:
        InputError: if no two photos belong together.
        WeightsError: if the cameras are not given and `pycolmap` is not installed, or the matcher's weights are missing.
        ResourceError: if finding the cameras takes too long, or its process is lost.
    """
    photos = perceived.items
    images = [read_png(work.read(seen.photo.image)) for seen in photos]
    reasons = duplicates(images, [seen.photo.name for seen in photos]) | _empty(photos, images)
    kept = [index for index in range(len(photos)) if index not in reasons]
    if not kept:
        raise InputError(f"none of the photos can be used: photo {photos[0].photo.name} {reasons[0]}.")
    matcher = MATCHERS.of(config.match)
    pairs = matcher.run([images[index] for index in kept], config.match, work.runtime) if len(kept) > 1 else ()
    found = [replace(each, first=kept[each.first], second=kept[each.second]) for each in pairs]
    posed = sum(_pose(photos[index]) is not None for index in kept) >= 2
    if not posed:
        reasons |= crops(found, [seen.photo.name for seen in photos])
        kept = [index for index in kept if index not in reasons]
    backend = GIVEN
    if len(kept) == 1:
        views = {kept[0]: SeenFrom(images[kept[0]], photos[kept[0]].depth.intrinsics, np.eye(4))}
    elif posed:
        views = _given(kept, photos, images, found, reasons)
    else:
        backend = COLMAP
        views = _found(kept, photos, images, found, reasons, config, matcher.finds_cameras)
    used = sorted(views)
    ordered = [views[index] for index in used]
    maps = [
        DepthOf(
            np.load(work.read(photos[index].depth.depth), allow_pickle=False),
            read_png(work.read(photos[index].instances.masks)),
            photos[index].depth.uncertainty,
        )
        for index in used
    ]
    matches = among(found, used)
    save_matches(work.write(MATCHES), matches)
    ties = [tie_points(each, ordered) for each in matches]
    unit = metres_per_unit(maps, ties, ordered, backend == GIVEN) if len(used) > 1 else 1.0
    main_from_world = np.linalg.inv(ordered[0].world_from_camera)
    gravity = _gravity(ordered, [photos[index].depth for index in used])
    items = []
    for place, index in enumerate(used):
        main_from_camera = main_from_world @ ordered[place].world_from_camera
        main_from_camera[:3, 3] *= unit
        correction = agreed(place, maps[place], ties, unit)
        down = None if gravity is None else vector(ordered[place].world_from_camera[:3, :3].T @ gravity)
        items.append(_registered(photos[index], ordered[place].intrinsics, main_from_camera, correction, down, work))
    shared = sum(len(tie.depths[0]) for tie in ties)
    said = note(
        f"the cameras are {'as given' if backend == GIVEN else 'found by COLMAP'}; their unit is {unit:.4g} m by the depth maps; "
        f"the photos share {shared} points."
    )
    own = matcher.provider == "" and not matcher.weights(config.match)
    licences = [*([] if backend == GIVEN else [COLMAP_LICENCE]), *([] if own else [matcher.licence])]
    return Registered(
        scene=perceived.scene,
        items=tuple(items),
        left_out=tuple(
            Failure(stage=NAME, object=None, error=f"photo {photos[index].photo.name} {reasons[index]}")
            for index in sorted(reasons)
        ),
        matches=work.artifact(MATCHES),
        backend=backend if own else f"{backend}, by {matcher.signed(matcher.name)}",
        licence="; ".join(licences) or matcher.licence,
        warnings=(*((said,) if len(used) > 1 else ()), *_opaque([photos[index] for index in used])),
    )


def _empty(photos: Sequence[SeenView], images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> dict[int, str]:
    """Why photos that show nothing cannot be used, by their index."""
    found = {}
    for index, (seen, image) in enumerate(zip(photos, images, strict=True)):
        if is_blank(image):
            found[index] = "is of one colour everywhere, and so shows nothing"
        elif _is_cut_out(seen) and not seen.instances.items:
            found[index] = "is cut out, and what is opaque in it is too small for an object"
    return found


def _opaque(photos: Sequence[SeenView]) -> list[str]:
    """What is said of photos without transparency among cut-outs."""
    whole = [seen.photo.name for seen in photos if seen.photo.alpha is None and seen.photo.masks is None]
    if not whole or not any(_is_cut_out(seen) for seen in photos):
        return []
    return [
        f"{', '.join(whole)}: opaque among photos that are cut out, so its objects were looked for, and what is around them "
        "counts as background. Check that its transparency was not lost, or give --masks."
    ]


def _is_cut_out(seen: SeenView) -> bool:
    return seen.photo.alpha is not None and seen.photo.masks is None


def _pose(seen: SeenView) -> Float64[np.ndarray, "4 4"] | None:
    camera = seen.photo.camera
    return None if camera is None or camera.world_from_camera is None else np.array(camera.world_from_camera)


def _given(
    kept: Sequence[int],
    photos: Sequence[SeenView],
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
    matches: Sequence[Matches],
    reasons: dict[int, str],
) -> dict[int, SeenFrom]:
    """The photos with given cameras that can be right; what is wrong with the others goes to `reasons`.

    Raises:
        InputError: if the cameras of all contradict the pictures.
    """
    views: dict[int, SeenFrom] = {}
    for index in kept:
        pose = _pose(photos[index])
        if pose is None:
            reasons[index] = "has no pose, and others have: give its pose too, or none"
        elif not is_rigid(pose):
            reasons[index] = "has a pose that is not a rotation and a position"
        else:
            views[index] = SeenFrom(images[index], photos[index].depth.intrinsics, pose)
    order = sorted(views)
    wrong = contradicting(among(matches, order), [views[index] for index in order])
    said = {order[place]: text for place, text in wrong.items()}
    if len(said) > 0 and len(said) >= len(order) - 1:
        first = min(said)
        raise InputError(
            f"`camera`: the given cameras contradict the pictures: photo {photos[first].photo.name}: {said[first]}. Without "
            "--camera, they are looked for."
        )
    reasons |= said
    return {index: view for index, view in views.items() if index not in said}


def _found(
    kept: Sequence[int],
    photos: Sequence[SeenView],
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
    matches: Sequence[Matches],
    reasons: dict[int, str],
    config: ViewsConfig,
    by_matches: bool,
) -> dict[int, SeenFrom]:
    """The photos whose cameras COLMAP finds, by the matches or by its own; why the others cannot be used goes to `reasons`.

    Raises:
        InputError: if it finds none.
    """
    between = among(matches, kept)
    known = [photos[index].depth.intrinsics_source in MEASURED_FOCAL for index in kept]
    cameras = one_camera([photos[index].depth.intrinsics for index in kept], known)
    with tempfile.TemporaryDirectory(prefix="scenegen-views-") as folder:
        names = [f"{index:04d}.png" for index in kept]
        for name, index in zip(names, kept, strict=True):
            _write(images[index], Path(folder) / name)
        poses = structure_from_motion(
            Path(folder), names, cameras, known, config.timeout_s, between if by_matches else None
        )
    views = {
        index: SeenFrom(images[index], _refocused(cameras[place], poses[place].focal), poses[place].world_from_camera)
        for place, index in enumerate(kept)
        if place in poses
    }
    order = sorted(views)
    tied = well_tied(among(matches, order), [views[index] for index in order])
    views = {order[place]: views[order[place]] for place in sorted(tied)}
    if len(views) < 2:
        before = "".join(f" Photo {photos[index].photo.name} {why}." for index, why in sorted(reasons.items()))
        raise InputError(cannot_be_found(between, [photos[index].photo.name for index in kept]) + before)
    for index in kept:
        if index not in views:
            reasons[index] = (
                "shares too little with the others to say where it was taken from: another scene, or too far from the "
                "other cameras. Add photos in between, or give its camera with --camera"
            )
    return views


def _write(image: UInt8[np.ndarray, "h w 3"], path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, compress_level=1)


def _refocused(camera: Intrinsics, focal: float) -> Intrinsics:
    return camera.model_copy(update={"fx": focal, "fy": focal})


def _gravity(views: Sequence[SeenFrom], depths: Sequence[Depth]) -> Float64[np.ndarray, "3"] | None:
    """Down in the frame of the cameras: the mean of what the photos say, of which any may be off."""
    said = [
        view.world_from_camera[:3, :3] @ np.array(depth.gravity)
        for view, depth in zip(views, depths, strict=True)
        if depth.gravity is not None
    ]
    if not said:
        return None
    mean = np.median(said, axis=0)
    length = np.linalg.norm(mean)
    return np.asarray(mean / length) if length > 0.1 else np.asarray(said[0])


def _registered(
    seen: SeenView,
    intrinsics: Intrinsics,
    main_from_camera: Float64[np.ndarray, "4 4"],
    depth: Agreed,
    gravity: Vector | None,
    work: Work,
) -> SeenView:
    name = f"depth-{seen.photo.name}.npy"
    np.save(work.write(name), depth.z, allow_pickle=False)
    return SeenView(
        photo=seen.photo,
        instances=seen.instances,
        depth=seen.depth.model_copy(
            update={
                "depth": work.artifact(name),
                "intrinsics": intrinsics,
                "gravity": gravity,
                "uncertainty": depth.uncertainty,
            }
        ),
        main_from_camera=matrix4(main_from_camera),
    )


def register_backends(config: ViewsConfig) -> tuple[Chosen[Any], ...]:
    """The configured matcher."""
    return (MATCHERS.chosen(config.match),)


REGISTER = Stage(name=NAME, record=Registered, run=register, backends=register_backends)
