"""What Prefect shows of scenes and batches: artifacts, and an event for each published scene. Nothing depends on them, so a
server that refuses one stops nothing."""

from __future__ import annotations

import hashlib
import logging
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.events import emit_event

from scenegen.export.manifest import Manifest
from scenegen.store.folder import Folder, is_url, local_path
from stages.batch import OVERLAY, Row, thumbnail
from stages.table import summary

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TABLE = 1000
"""Rows of a table artifact: it is one value in the server's database. `batch.csv` has them all."""
ORDER = ("failed", "partial", "missing", "complete", "skipped")
MAX_KEY = 200
SHOWN = ("report.html", "scene.glb")
"""Published files that a scene's page links to."""
PUBLISHED = "scenegen.scene.published"
"""The event."""


def show_scene(manifest: Manifest, folder: Folder, output: str) -> None:
    """Shows a page about one published scene, with its picture.

    Args:
        manifest: manifest of the scene.
        folder: folder that holds the scenes.
        output: path or URL of the scene, for people to read.
    """
    place, _, name = output.rstrip("/").rpartition("/")
    ious = [placed.scores.silhouette_iou for placed in manifest.objects]
    picture = ""
    if any(file.name == OVERLAY for file in manifest.outputs):
        picture = thumbnail(folder.read(f"{name}/{OVERLAY}"))
    gone = "; ".join(f"{failure.stage} {failure.object or ''}: {failure.error}" for failure in manifest.failures)
    _show_page(
        place,
        name,
        manifest.state,
        len(manifest.objects),
        statistics.median(ious) if ious else None,
        sum(entry.seconds for entry in manifest.stages),
        gone,
        picture,
    )


def show_row(row: Row, out: str) -> None:
    """Shows a page about one photo of a batch whose scenes are in `out`, with its picture."""
    _show_page(
        out.rstrip("/"),
        row.name,
        row.state,
        row.objects,
        row.silhouette_iou,
        row.seconds,
        row.error,
        row.thumbnail,
    )


def _show_page(
    place: str, name: str, state: str, objects: int, iou: float | None, seconds: float, error: str, picture: str
) -> None:
    output = f"{place}/{name}"
    published = state in ("complete", "partial")
    lines = [
        f"# {_plain(name)}: {state}",
        f"![the scene over the photo]({picture})" if picture else "",
        f"| objects | silhouette IoU | seconds | output |\n|---|---|---|---|\n"
        f"| {objects} | {'-' if iou is None else f'{iou:.3f}'} | {seconds:.1f} | {_plain(output)} |",
        " ".join(f"[{file}]({_link(output, file)})" for file in SHOWN) if published else "",
        f"**{_plain(error)}**" if error else "",
    ]
    _show(
        create_markdown_artifact,
        "\n\n".join(line for line in lines if line),
        artifact_key("scene", output),
        f"{name}: {state}",
    )
    if published:
        _show(
            emit_event,
            PUBLISHED,
            {
                "prefect.resource.id": f"scenegen.scene.{digest(output)}",
                "prefect.resource.name": name,
                "prefect.resource.role": "scene",
            },
            None,
            None,
            {"output": output, "state": state, "objects": objects, "silhouette_iou": iou},
        )


def _link(output: str, file: str) -> str:
    """Address of a published file, for Markdown."""
    return f"{quote(output, safe='/:@') if is_url(output) else local_path(output).absolute().as_uri()}/{file}"


def show_table(rows: Sequence[Row], name: str) -> None:
    """Shows the table at the end of a batch: at most `MAX_TABLE` rows, failures first."""
    chosen = sorted(rows, key=lambda row: ORDER.index(row.state))[:MAX_TABLE]
    more = "" if len(chosen) == len(rows) else f" Shown: {len(chosen)}; batch.csv has all."
    table: list[dict[str, Any]] = [
        {
            "image": row.image,
            "state": row.state,
            "objects": row.objects,
            "silhouette IoU": row.silhouette_iou,
            "seconds": row.seconds,
            "error": row.error,
            "output": row.output,
        }
        for row in chosen
    ]
    _show(create_table_artifact, table, artifact_key("batch", name), f"{summary(rows)}.{more}")


class Bar:
    """How far a batch is, as a progress artifact."""

    def __init__(self, name: str, total: int) -> None:
        self._total = total
        self._done: set[str] = set()
        done = 100.0 if total == 0 else 0.0
        self._id: Any = _show(create_progress_artifact, done, artifact_key("progress", name), name)

    def step(self, *names: str) -> None:
        """Counts photos as ended; a second time changes nothing."""
        self._done.update(names)
        if self._id is not None:
            _show(update_progress_artifact, self._id, 100.0 * len(self._done) / self._total)


def artifact_key(kind: str, name: str) -> str:
    """A key of lower-case letters, digits and dashes, unequal for unequal names."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{kind}-{slug[-MAX_KEY:]}-{digest(name)}".replace("--", "-")


def digest(text: str) -> str:
    """Twelve hexadecimal digits that tell texts apart."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _plain(text: str) -> str:
    """`text` escaped for Markdown, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def _show(create: Callable[..., T], *values: Any) -> T | None:
    """What `create` returns; None outside of a flow, or if it fails."""
    if FlowRunContext.get() is None:
        return None
    try:
        return create(*values)
    except Exception as error:  # noqa: BLE001 (whatever the client raises; it is logged)
        logger.warning("an artifact cannot be shown: %s", error)
        return None
