"""The report page: one HTML file that opens from disk, needs no network, and shows what was made and how well.

The page is `viewer/report.html` with one function per section below. Its script is built from `viewer/` at the top of the
repository. Text that comes from outside (names, labels, messages) is escaped, and a content security policy admits only
the page's own script and style, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib.resources import files
from statistics import median
from string import Template
from urllib.parse import quote

import numpy as np
from jaxtyping import Float32, Int32, Integer, UInt8

import scenegen
from scenegen.camera import fov_x_deg
from scenegen.export import figures
from scenegen.export.manifest import package_versions
from scenegen.geometry.render import Picture
from scenegen.messages.remarks import NOTE, is_note
from scenegen.records import (
    Completions,
    Depth,
    Failure,
    Instances,
    Layout,
    Photo,
    PlacedObject,
    Scene,
    Settled,
    Timings,
    Topology,
)

THUMBNAIL_SIDE = 160
COMPLETED_SIDE = 320
INTRINSICS_SOURCES = {
    "camera": "of the given camera",
    "depth file": "of the camera beside the depth map",
    "fov": "given",
    "exif": "from EXIF",
    "horizon": "by the horizon that was shown",
    "two lengths": "by two lengths that are known",
    "default": "assumed",
}
FLOOR_SOURCES = {
    "ransac": "fitted to the depth",
    "assumed": "assumed; none was seen",
    "shown": "where it was shown",
}


@dataclass(frozen=True, eq=False)
class ShownView:
    """One of several photos of the scene."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    ids: Integer[np.ndarray, "h w"]
    """The masks."""
    overlay: UInt8[np.ndarray, "h w 3"]
    """The exported scene through the photo's camera, with the outlines of the masks."""


@dataclass(frozen=True, eq=False)
class Findings:
    """The content of the page."""

    name: str
    """Of the scene's folder."""

    photo: Photo
    instances: Instances
    depth: Depth
    layout: Layout
    scene: Scene
    timings: Timings
    files: tuple[tuple[str, int], ...]
    """Names and sizes in bytes of the files next to the page."""
    image: UInt8[np.ndarray, "h w 3"]
    ids: Integer[np.ndarray, "h w"]
    """The masks."""
    z: Float32[np.ndarray, "h w"]
    """The depth map."""
    render: Picture
    """The exported scene through the photo's camera."""
    overlay: UInt8[np.ndarray, "h w 3"]
    side_view: UInt8[np.ndarray, "hs ws 3"]
    glb: bytes
    warnings: tuple[str, ...]
    settled: Mapping[int, Settled]
    """What becomes of objects under gravity, by id; empty unless it was simulated."""
    side: int
    """Longer side of the page's pictures in pixels."""
    views: tuple[ShownView, ...] = ()
    """All photos, the main one first, if there are several."""
    completions: Completions = field(default_factory=Completions)
    completed: Mapping[int, UInt8[np.ndarray, "_ _ 4"]] = field(default_factory=dict)
    """Whole pictures (RGBA) of objects that were completed, by id; larger than the photo where its border cuts them."""

    @cached_property
    def small_ids(self) -> Int32[np.ndarray, "h2 w2"]:
        """The masks at the size of the page's pictures."""
        return figures.fitted(self.ids.astype(np.int32), self.side, ids=True)

    def jpeg(self, picture: UInt8[np.ndarray, "h w 3"]) -> str:
        """`picture` as a data URI at the size of the page's pictures."""
        return figures.data_uri(figures.fitted(picture, self.side), "jpeg")


@dataclass(frozen=True)
class Column:
    """A measured column of the table of objects."""

    title: str
    hint: str
    value: Callable[[PlacedObject], float | None]
    form: str
    higher_is_better: bool
    tiers: tuple[float, float] | None
    """Limits of good and of fair values."""

    def tier(self, value: float) -> str:
        """CSS class of a value."""
        if self.tiers is None:
            return ""
        sign = 1 if self.higher_is_better else -1
        good, fair = (sign * tier for tier in self.tiers)
        return "good" if sign * value >= good else "fair" if sign * value >= fair else "poor"


COLUMNS = (
    Column("Score", "how sure the segmenter is", lambda item: item.score, "{:.2f}", True, None),
    Column(
        "Silhouette IoU",
        "overlap of the rendered object with its mask",
        lambda item: item.scores.silhouette_iou,
        "{:.3f}",
        True,
        (0.9, 0.75),
    ),
    Column(
        "Depth error",
        "median relative difference from the depth map",
        lambda item: item.scores.depth_error,
        "{:.1%}",
        False,
        (0.03, 0.08),
    ),
    Column(
        "Colour PSNR",
        "likeness of the colours to the photo",
        lambda item: item.scores.colour_psnr,
        "{:.1f} dB",
        True,
        (24.0, 18.0),
    ),
)


def report_page(findings: Findings) -> str:
    """The whole page as HTML."""
    folder = files("scenegen.export") / "viewer"
    style = (folder / "report.css").read_text(encoding="utf-8")
    script = (folder / "viewer.js").read_text(encoding="utf-8")
    template = Template((folder / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{escape(findings.name)} - scenegen report",
        style=style,
        style_hash=_digest_source(style),
        script=script,
        script_hash=_digest_source(script),
        glb=base64.b64encode(findings.glb).decode(),
        header=header(findings),
        problems=problems(findings),
        view=view(findings),
        compare=compare(findings),
        pictures=pictures(findings) + completed(findings),
        views=views(findings),
        objects=objects(findings),
        facts=facts(findings),
        timings=timings(findings),
        licences=licences(findings),
        versions=versions(),
    )


def header(findings: Findings) -> str:
    """Name of the photo, the verdict, and links to the files next to the page."""
    placed = findings.scene.objects
    gone = missing(findings)
    state, tier = ("Empty", "poor") if not placed else ("Partial", "fair") if gone else ("Complete", "good")
    parts = [f"{len(placed)} object{'' if len(placed) == 1 else 's'}"]
    if placed:
        parts.append(f"median silhouette IoU {median(item.scores.silhouette_iou for item in placed):.3f}")
    parts.append(f"missing: {', '.join(gone)}" if gone else "nothing missing")
    if findings.settled:
        parts.append(
            f"{sum(each.stays for each in findings.settled.values())} of {len(findings.settled)} stay under gravity"
        )
    links = "".join(
        f'<li><a href="{escape(quote(name))}">{escape(name)} <span>{_size(size)}</span></a></li>'
        for name, size in findings.files
    )
    return (
        f'<header><p class="eyebrow">Scene report</p><h1>{escape(findings.name)}</h1>'
        f'<p class="verdict"><span class="chip {tier}">{state}</span><span>{escape(" · ".join(parts))}</span></p>'
        f'<ul class="files" aria-label="Files of this scene">{links}</ul></header>'
    )


def missing(findings: Findings) -> list[str]:
    """What the scene lacks, as text: failed objects by id and label, other failures by stage."""
    return [_failed(failure, findings.instances) for failure in findings.scene.failures]


def problems(findings: Findings) -> str:
    """Failures, warnings and notes; nothing if there are none."""
    rows = [
        ("Missing", "poor", f"{_failed(item, findings.instances)}: {item.error}") for item in findings.scene.failures
    ]
    rows += [("Warning", "fair", remark) for remark in findings.warnings if not is_note(remark)]
    rows += [("Note", "", remark.removeprefix(NOTE)) for remark in findings.warnings if is_note(remark)]
    if not rows:
        return ""
    items = "".join(
        f'<li><span class="chip {tier}">{kind}</span><span>{escape(text)}</span></li>' for kind, tier, text in rows
    )
    return _card("problems", "What to know", "", f"<ul>{items}</ul>", css="problems")


def view(findings: Findings) -> str:
    """The 3D view: the side picture, which the page's script replaces by the scene if the browser can draw it."""
    toggles = (
        ("turning", "Orbit", False),
        ("objects", "Objects", True),
        ("background", "Background", True),
        ("shaded", "Shading", False),
        ("wireframe", "Wireframe", False),
    )
    buttons = '<button type="button" data-action="photo" aria-pressed="true">Photo view</button>' + "".join(
        f'<button type="button" data-toggle="{name}" aria-pressed="{str(on).lower()}">{label}</button>'
        for name, label, on in toggles
    )
    body = (
        f'<div class="frame"><img src="{findings.jpeg(findings.side_view)}" alt="The scene seen from the side.">'
        '<canvas tabindex="0" role="img" aria-label="The scene in 3D. Drag to turn it, click an object to select it; '
        'with the keyboard, hold Ctrl and use the arrow keys."></canvas></div>'
        f'<div class="toolbar" role="group" aria-label="3D view">{buttons}</div>'
        '<p class="note" role="status">The picture shows the scene from the side; the 3D view needs scripts.</p>'
    )
    return _card("view", "Scene", "Drag to turn, click an object, then scroll to zoom", body)


def compare(findings: Findings) -> str:
    """Photo and render, one over the other."""
    hit = findings.render.ids >= 0
    difference = figures.paint_difference(findings.image, findings.render.color, hit)
    layers = (
        ("render", findings.render.color, "The exported scene, rendered through the photo's camera."),
        ("outlines", findings.overlay, "The rendered scene on the photo, with the outlines of the masks."),
        ("difference", difference, "Difference between photo and render; brighter is larger."),
    )
    images = "".join(
        f'<img class="layer {name}" src="{findings.jpeg(picture)}" alt="{escape(text)}">'
        for name, picture, text in layers
    )
    modes = "".join(
        f'<label><input type="radio" name="compare" value="{mode.lower()}"{checked}>{mode}</label>'
        for mode, checked in (("Slide", " checked"), ("Blink", ""), ("Outlines", ""), ("Difference", ""))
    )
    body = (
        f'<div class="frame stack" data-mode="slide"><img src="{findings.jpeg(findings.image)}" alt="The photo.">{images}'
        '<span class="edge"></span><span class="tag left">Photo</span><span class="tag right">Scene</span>'
        '<input type="range" min="0" max="100" value="50" aria-label="Share of the photo shown, in percent"></div>'
        f'<fieldset class="toolbar" aria-label="How to compare">{modes}</fieldset>'
    )
    return _card("compare", "Photo and scene", "Rendered from scene.glb through its own camera", body)


def pictures(findings: Findings) -> str:
    """Photo, masks, depth and a view from the side."""
    near, far = figures.depth_range(findings.z)
    image = figures.fitted(findings.image, findings.side)
    colors = figures.depth_scale()
    stops = "".join(
        f'<stop offset="{index / (len(colors) - 1):.3f}" stop-color="{color}"/>' for index, color in enumerate(colors)
    )
    middle = 2 * near * far / max(near + far, 1e-9)
    scale = (
        '<div class="scale"><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="Colour scale from {near:.2f} to {far:.2f} metres"><defs><linearGradient id="depth-scale">{stops}'
        '</linearGradient></defs><rect width="100" height="10" fill="url(#depth-scale)"/></svg>'
        f"<span>{near:.2f} m</span><span>{middle:.2f} m</span><span>{far:.2f} m</span></div>"
    )
    metres = f"Metres are {findings.depth.metres.in_words()}."
    found = len(findings.instances.items)
    shown = (
        _figure("Photo", "As it was read.", findings.jpeg(findings.image), "The photo."),
        _figure(
            "Masks",
            f"{found} object{'' if found == 1 else 's'} found.",
            findings.jpeg(figures.paint_masks(image, findings.small_ids)),
            "The photo with every object tinted and numbered.",
            over=_marks(findings),
        ),
        _figure(
            "Depth", metres, findings.jpeg(figures.paint_depth(findings.z)), "The depth map in colours.", under=scale
        ),
        _figure(
            "From the side", "The exported scene.", findings.jpeg(findings.side_view), "The scene seen from the side."
        ),
    )
    return _card("pictures", "What was seen", "", f'<div class="gallery">{"".join(shown)}</div>')


def views(findings: Findings) -> str:
    """Every photo with the scene drawn over it through its own camera; nothing if there is one photo only."""
    if not findings.views:
        return ""
    shown = []
    for each in findings.views:
        scores = [
            f"{item.id} {view.scores.silhouette_iou:.2f}"
            for item in findings.scene.objects
            for view in item.views
            if view.photo == each.name
        ]
        note = f"Silhouette IoU by object: {', '.join(scores)}." if scores else "It shows none of the objects."
        shown.append(
            _figure(
                each.name,
                note,
                findings.jpeg(each.overlay),
                f"The scene through the camera of {each.name}.",
                under=f'<div class="frame"><img src="{findings.jpeg(each.image)}" alt="The photo {escape(each.name)}."></div>',
            )
        )
    return _card(
        "views",
        "Views",
        "The scene through the camera of each photo, with the outlines of its masks; below it the photo",
        f'<div class="gallery">{"".join(shown)}</div>',
    )


def completed(findings: Findings) -> str:
    """Each partly hidden object as it is seen, which placed it, and whole, which it was made from; empty if there is none."""
    names = {item.id: item.name for item in findings.scene.objects}
    shown = []
    for item in findings.completions.items:
        name = names.get(item.id, f"object {item.id}")
        whole = findings.completed[item.id]
        main = (findings.image, findings.ids)
        image, ids = next(((each.image, each.ids) for each in findings.views if (each.ids == item.id).any()), main)
        seen = figures.cut_out(image, ids == item.id, COMPLETED_SIDE)
        drawn = figures.cut_out(np.ascontiguousarray(whole[..., :3]), whole[..., 3] > 0, COMPLETED_SIDE)
        note = f"{100 * item.hidden_outline:.0f} % of its outline is hidden"
        shown.append(_figure(f"{name}, seen", note, figures.data_uri(seen, "png"), f"What is seen of {name}."))
        note = f"{100 * (item.growth - 1):.0f} % larger"
        shown.append(_figure(f"{name}, completed", note, figures.data_uri(drawn, "png"), f"All of {name}."))
    if not shown:
        return ""
    how = "Objects are made from the completed pictures, and placed by what is seen."
    return _card("completed", "What was hidden", how, f'<div class="gallery">{"".join(shown)}</div>')


def objects(findings: Findings) -> str:
    """The table of objects."""
    placed = sorted(findings.scene.objects, key=lambda item: item.id)
    if not placed:
        return _card("objects", "Objects", "", '<p class="note">No object is in the scene.</p>')
    measured = "".join(
        f'<th scope="col" role="columnheader" class="number" title="{escape(column.hint)}">{column.title}</th>'
        for column in COLUMNS
    )
    plain = "".join(
        f'<th scope="col" role="columnheader">{title}</th>'
        for title in ("Mesh", "Stands on", "Made by", "Make it again")
    )
    rows = "".join(_row(item, placed, findings) for item in placed)
    body = (
        '<table role="table"><thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">Picture</th>'
        f'<th scope="col" role="columnheader">Object</th>{measured}{plain}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )
    return _card(
        "objects", "Objects", "Green, amber, red: good, fair, poor. Click a row to find it in the scene.", body
    )


def facts(findings: Findings) -> str:
    """Camera, depth and floor."""
    photo, depth = findings.photo, findings.depth
    camera = findings.scene.intrinsics
    size = f"{photo.width} x {photo.height} pixels"
    if (photo.original_width, photo.original_height) != (photo.width, photo.height):
        size += f", from {photo.original_width} x {photo.original_height}"
    exif = f" ({photo.focal_source})" if depth.intrinsics_source == "exif" and photo.focal_source else ""
    source = INTRINSICS_SOURCES.get(depth.intrinsics_source, f"estimated from the picture ({depth.intrinsics_source})")
    floor = FLOOR_SOURCES.get(findings.layout.floor_source, findings.layout.floor_source)
    rows = (
        ("Photo", size),
        ("Field of view", f"{fov_x_deg(camera):.1f} degrees across, {source}{exif}"),
        ("Principal point", f"{camera.cx:.1f}, {camera.cy:.1f} pixels"),
        ("Metres", depth.metres.in_words()),
        ("Depth uncertainty", f"{depth.uncertainty:.0%} of the depth"),
        ("Floor", floor),
        ("Gravity", _gravity(findings)),
        ("Camera height", f"{findings.scene.world_from_camera[1][3]:.2f} m above the floor"),
    )
    return _card("facts", "Camera and room", "", _pairs(rows))


def _gravity(findings: Findings) -> str:
    """How the world's vertical was found."""
    if findings.depth.gravity_shown:
        return "along lines that were shown"
    assumed = findings.layout.floor_source == "assumed"
    if findings.depth.gravity is None:
        return "along the picture's vertical, assumed" if assumed else "the floor's normal"
    if assumed:
        return "estimated from the picture"
    cosine = -float(np.dot(findings.layout.floor.normal, findings.depth.gravity))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return f"the floor's normal, {angle:.0f} degrees from what is estimated from the picture"


def timings(findings: Findings) -> str:
    """Time by stage as bars, the objects of a stage added up."""
    seconds: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for item in findings.timings.items:
        seconds[item.stage] = seconds.get(item.stage, 0.0) + item.seconds
        counts[item.stage] += 1
    longest = max([*seconds.values(), 1e-9])
    rows = "".join(
        f"<li><span>{escape(stage)}{f' x {counts[stage]}' if counts[stage] > 1 else ''}</span>"
        '<svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="14"/><rect class="bar" width="{100 * spent / longest:.2f}" height="14"/>'
        f'</svg><span class="number">{spent:.2f} s</span></li>'
        for stage, spent in seconds.items()
    )
    note = f"{sum(seconds.values()):.1f} s in total; stored results count with the time they took"
    return _card("timings", "Time by stage", note, f'<ul class="bars">{rows}</ul>')


def licences(findings: Findings) -> str:
    """Which back-ends made the parts, and the licences of their weights."""
    rows = [
        ("Masks", findings.instances.backend, findings.instances.licence),
        ("Depth", findings.depth.backend, findings.depth.licence),
        ("Room", findings.layout.backend, ""),
    ]
    if findings.completions.items:
        rows.append(("Hidden parts", findings.completions.backend, findings.completions.licence))
    makers = Counter((item.backend, item.licence) for item in findings.scene.objects)
    rows += [(f"Objects ({count})", backend, licence) for (backend, licence), count in sorted(makers.items())]
    rows.append(("This page", "three.js", "MIT, text in the page's script"))
    described = [(part, f"{backend} - {licence}" if licence else backend) for part, backend, licence in rows]
    return _card("licences", "Back-ends and licences", "", _pairs(described))


def versions() -> str:
    """Versions of scenegen, Python and the packages that matter."""
    rows = [("scenegen", scenegen.__version__), ("Python", platform.python_version())]
    return _card("versions", "Versions", "", _pairs([*rows, *package_versions().items()]))


def _row(item: PlacedObject, placed: Sequence[PlacedObject], findings: Findings) -> str:
    names = {other.id: other.label or other.name for other in placed}
    red, green, blue = figures.object_color(item.id)
    pictured = ((findings.image, findings.ids), *((view.image, view.ids) for view in findings.views))
    thumbnail = next(
        (
            f'<img src="{figures.data_uri(figures.cut_out(image, ids == item.id, THUMBNAIL_SIDE), "png")}" '
            f'alt="{escape(names[item.id])}, cut out of the photo">'
            for image, ids in pictured
            if (ids == item.id).any()
        ),
        "",
    )
    if item.support is None:
        support = "nothing known"
    elif isinstance(item.support, str):
        support = item.support
    else:
        support = "floor" if item.support == 0 else f"{item.support} {names.get(item.support, '')}".strip()
    cells = "".join(_measured(column, item, placed) for column in COLUMNS)
    return (
        f'<tr role="row" id="object-{item.id}" data-object="{item.id}" data-name="{escape(item.name)}">'
        f'<td role="cell" class="thumbnail">{thumbnail}</td>'
        '<td role="cell" class="name"><button type="button" class="pick" aria-pressed="false">'
        f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="6" '
        f'fill="rgb({red},{green},{blue})"/></svg><span>{item.id} {escape(names[item.id])}</span></button>{_sureness(item)}</td>'
        f'{cells}<td role="cell" data-label="Mesh">{_mesh(item.topology)}</td>'
        f'<td role="cell" data-label="Stands on">{escape(support)}{_falls(findings.settled.get(item.id))}</td>'
        f'<td role="cell" data-label="Made by"><span>{escape(item.backend)}, '
        f'<span class="seed">seed {item.seed}</span></span></td>'
        f'<td role="cell" class="command"><div>{_command(findings.name, item)}<button type="button" class="copy" '
        f'aria-label="Copy the command for object {item.id}">Copy</button></div></td></tr>'
    )


def _falls(found: Settled | None) -> str:
    """What becomes of an object under gravity, in words."""
    if found is None:
        return ""
    text = "stays" if found.stays else f"moves {1000 * found.displacement_m:.0f} mm, tilts {found.tilt_deg:.0f} degrees"
    return f'<p class="note" title="after two seconds of gravity">{text}</p>'


def _sureness(item: PlacedObject) -> str:
    """How likely the label is right, if it is estimated."""
    if item.label_confidence is None:
        return ""
    return f'<p class="note" title="how likely the label is right">{item.label_confidence:.0%} sure</p>'


def _mesh(topology: Topology | None) -> str:
    """The topology of a mesh, in words."""
    if topology is None:
        return '<span title="not measured">-</span>'
    pieces = f"{topology.pieces} piece{'' if topology.pieces == 1 else 's'}"
    if topology.genus is None:
        return f"open, {pieces}"
    handles = f", {topology.genus} handle{'' if topology.genus == 1 else 's'}" if topology.genus else ""
    return f"closed, {pieces}{handles}"


def _measured(column: Column, item: PlacedObject, placed: Sequence[PlacedObject]) -> str:
    value = column.value(item)
    if value is None:
        return f'<td role="cell" class="number" data-label="{column.title}"><span title="not measured">-</span></td>'
    values = [found for other in placed if (found := column.value(other)) is not None]
    worst, best = (min(values), max(values)) if column.higher_is_better else (max(values), min(values))
    mark, css = "", ""
    if value == worst != best:
        mark, css = f'<span class="extreme">{"lowest" if column.higher_is_better else "highest"}</span>', " worst"
    shown = f'<span class="value {column.tier(value)}">{column.form.format(value)}</span>'
    return f'<td role="cell" class="number measure{css}" data-label="{column.title}"><span>{shown}{mark}</span></td>'


def _marks(findings: Findings) -> str:
    """The ids of the objects, to lie over a picture of the page's size."""
    height, width = findings.small_ids.shape
    radius = max(height, width) / 42
    marks = []
    for object_id, (u, v) in figures.label_places(findings.small_ids).items():
        red, green, blue = figures.object_color(object_id)
        marks.append(
            f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius:.1f}" fill="rgb({red},{green},{blue})" '
            f'stroke-width="{radius / 7:.1f}"/><text x="{u:.1f}" y="{v:.1f}" font-size="{1.15 * radius:.1f}">{object_id}</text>'
        )
    return f'<svg class="marks" viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(marks)}</svg>'


def _card(identity: str, title: str, note: str, body: str, css: str = "") -> str:
    aside = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<section class="card {css}" id="{identity}" aria-labelledby="{identity}-title"><div class="head">'
        f'<h2 id="{identity}-title">{escape(title)}</h2>{aside}</div>{body}</section>'
    )


def _figure(title: str, note: str, uri: str, alt: str, over: str = "", under: str = "") -> str:
    return (
        f'<figure><div class="frame"><img src="{uri}" alt="{escape(alt)}">{over}</div>'
        f'<figcaption><h3>{escape(title)}</h3><p class="note">{escape(note)}</p></figcaption>{under}</figure>'
    )


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="pairs">{entries}</dl>'


def _failed(failure: Failure, instances: Instances) -> str:
    if failure.object is None:
        return "a photo" if failure.stage in ("read", "register") else failure.stage
    label = next((item.label for item in instances.items if item.id == failure.object), "")
    return f"object {failure.object} ({label})" if label else f"object {failure.object}"


def _command(name: str, item: PlacedObject) -> str:
    """The command that makes `item` again, with the seed after its last one.

    The page's script replaces OUT by the actual folder, which is not an input of the page.
    """
    folder = escape(shlex.quote(f"OUT/{name}"))
    return f'<code>python -m scenegen regenerate <span class="folder">{folder}</span> <span>--object {item.id}</span></code>'


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _digest_source(text: str) -> str:
    """A content security policy's source expression that admits exactly `text`."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
