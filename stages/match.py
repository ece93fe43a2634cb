"""Match: which objects of several photos are the same, and which photo shows each of them best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Integer

from scenegen.camera import matrix4, vector
from scenegen.config import ViewsConfig
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.messages.remarks import note
from scenegen.perception import UNNAMED
from scenegen.records import Instance, Registered, Removed, SeenView, Views
from scenegen.store.png import read_png, write_png
from scenegen.views.alignment import aligned
from scenegen.views.features import Matches, SeenFrom, Tie, load_matches, tie_points
from scenegen.views.ground import on_ground, shared_ground
from scenegen.views.matching import Masks, best_views, same_objects
from stages.stage import Stage, Work


def match(registered: Registered, removed: Removed, *, config: ViewsConfig, work: Work) -> Views:
    """The views with one id for each object of the scene, and one name; and each object's depth as the other views have it.

    Objects of the first view keep their ids; so do all where the user drew the masks. What was `removed` is in no view.
    """
    gone = {change.object: BACKGROUND if change.shows == "background" else UNKNOWN for change in removed.items}
    masks = [_masks(seen, work) for seen in registered.items]
    matches = load_matches(work.read(registered.matches))
    ties = _ties(matches, masks)
    names = same_objects(masks, ties)
    called = _called(registered, names)
    placed, apart = aligned(masks, names, ties)
    ground = shared_ground(placed, _ties(matches, placed), _down(registered))
    if ground is not None:
        placed = [on_ground(view, ground) for view in placed]
    items = []
    for index, seen in enumerate(registered.items):
        name = f"masks-{seen.photo.name}.png"
        write_png(work.write(name), _renamed(masks[index].ids, names[index], gone))
        instances = seen.instances.model_copy(
            update={
                "masks": work.artifact(name),
                "items": tuple(
                    sorted(
                        (
                            _named(item, names[index][item.id], called[names[index][item.id]])
                            for item in seen.instances.items
                            if names[index][item.id] not in gone
                        ),
                        key=lambda item: item.id,
                    )
                ),
            }
        )
        depth = f"depth-{seen.photo.name}.npy"
        np.save(work.write(depth), placed[index].z.astype(np.float32), allow_pickle=False)
        found = {"depth": work.artifact(depth), "uncertainty": placed[index].uncertainty}
        if ground is not None and not seen.depth.gravity_shown:
            found["gravity"] = vector(placed[index].world_from_camera[:3, :3].T @ ground.down)
        pose = matrix4(placed[index].world_from_camera)
        items.append(
            seen.model_copy(
                update={"instances": instances, "depth": seen.depth.model_copy(update=found), "main_from_camera": pose}
            )
        )
    best = best_views(
        [{item.id: item.area for item in seen.instances.items} for seen in items],
        [{item.id: _cut(item, seen) for item in seen.instances.items} for seen in items],
    )
    shown = {
        number: [seen.photo.name for seen in items if any(item.id == number for item in seen.instances.items)]
        for number in best
    }
    return Views(
        scene=registered.scene,
        items=tuple(items),
        made_from=tuple(best.items()),
        warnings=(
            *((note(f"by the objects, the cameras stand {apart:.3g} times as far apart."),) if apart != 1 else ()),
            *(
                note(f"object {number} is seen in {', '.join(photos)}, and made from {items[best[number]].photo.name}.")
                for number, photos in shown.items()
            ),
        ),
    )


def _ties(matches: Sequence[Matches], views: Sequence[Masks]) -> list[Tie]:
    posed = [SeenFrom(each.image, each.intrinsics, each.world_from_camera) for each in views]
    return [tie_points(each, posed) for each in matches]


def _down(registered: Registered) -> Float64[np.ndarray, "3"] | None:
    """Where gravity points in the frame of all, as the photos have it."""
    first = registered.items[0]
    return (
        None
        if first.depth.gravity is None
        else np.array(first.main_from_camera)[:3, :3] @ np.array(first.depth.gravity)
    )


def _masks(seen: SeenView, work: Work) -> Masks:
    return Masks(
        image=read_png(work.read(seen.photo.image)),
        ids=read_png(work.read(seen.instances.masks)),
        z=np.load(work.read(seen.depth.depth), allow_pickle=False).astype(np.float64),
        uncertainty=seen.depth.uncertainty,
        intrinsics=seen.depth.intrinsics,
        world_from_camera=np.array(seen.main_from_camera),
        drawn=seen.photo.masks is not None,
    )


def _called(registered: Registered, names: Mapping[int, Mapping[int, int]]) -> dict[int, Instance]:
    """The photo's object whose name each object of the scene gets: a given name, else the surest one."""
    best: dict[int, Instance] = {}
    for index, seen in enumerate(registered.items):
        for item in seen.instances.items:
            number = names[index][item.id]
            if number not in best or _sureness(item) > _sureness(best[number]):
                best[number] = item
    return best


def _sureness(item: Instance) -> tuple[bool, float]:
    given = item.label != UNNAMED and item.label_confidence is None
    return given, item.label_confidence or 0.0


def _named(item: Instance, number: int, called: Instance) -> Instance:
    return item.model_copy(
        update={
            "id": number,
            "label": called.label,
            "label_confidence": called.label_confidence,
            "guesses": called.guesses,
        }
    )


def _renamed(
    ids: Integer[np.ndarray, "h w"], names: Mapping[int, int], gone: Mapping[int, int]
) -> Integer[np.ndarray, "h w"]:
    table = np.full(UNKNOWN + 1, UNKNOWN, np.uint16)
    table[BACKGROUND] = BACKGROUND
    for old, new in names.items():
        table[old] = gone.get(new, new)
    return table[ids]


def _cut(item: Instance, seen: SeenView) -> bool:
    x0, y0, x1, y1 = item.box
    return x0 <= 0 or y0 <= 0 or x1 >= seen.photo.width or y1 >= seen.photo.height


MATCH = Stage(name="match", record=Views, run=match)
