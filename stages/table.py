"""The table at the end of a batch: CSV and JSON for programs, and a page for people."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from scenegen.inputs.photos import TABLES
from scenegen.store.folder import Folder
from stages.batch import Row

CSV, HTML, JSON = TABLES
COLUMNS = ("image", "state", "objects", "silhouette IoU", "seconds", "output", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters that a spreadsheet takes for the start of a formula."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>scenegen batch</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: middle; padding: .4rem .8rem; border-bottom: 1px solid #ddd; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.text {{ overflow-wrap: anywhere; }}
img {{ display: block; max-width: 160px; max-height: 120px; }}
.complete {{ color: #176b2c; }} .partial {{ color: #8a5a00; }} .failed {{ color: #a3161b; }} .missing, .skipped {{ color: #666; }}
</style></head>
<body><h1>scenegen batch</h1><p>{summary}</p>
<table><thead><tr><th></th>{head}</tr></thead><tbody>
{body}
</tbody></table></body></html>
"""


def write_table(rows: Sequence[Row], folder: Folder) -> None:
    """Writes `batch.csv`, `batch.html` and `batch.json` into the folder that holds the scenes.

    Raises:
        OSError: if a local disk cannot be written.
        ResourceError: if a URL cannot be reached.
    """
    folder.write(CSV, csv_table(rows).encode())
    folder.write(HTML, html_table(rows).encode())
    folder.write(JSON, json_table(rows).encode())


def summary(rows: Sequence[Row]) -> str:
    """How many photos are in which state, as text."""
    counts = Counter(row.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in ("complete", "partial", "failed", "missing") if counts[state]]
    photos = len(rows) - counts["skipped"]
    left = f"; {counts['skipped']} file{'' if counts['skipped'] == 1 else 's'} skipped" if counts["skipped"] else ""
    return f"{photos} photo{'' if photos == 1 else 's'}: {', '.join(parts)}{left}"


def csv_table(rows: Sequence[Row]) -> str:
    """The table as CSV. A text that a spreadsheet would take for a formula gets a quote before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows([_inert(cell) for cell in _cells(row)] for row in rows)
    return _writable(buffer.getvalue())


def json_table(rows: Sequence[Row]) -> str:
    """The rows, without their pictures."""
    values = [row.model_dump(mode="json", exclude={"thumbnail"}) for row in rows]
    return json.dumps({"schema_version": 1, "rows": values}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def html_table(rows: Sequence[Row]) -> str:
    """One self-contained page; its links lead to the reports next to it."""
    return _writable(
        PAGE.format(
            summary=escape(summary(rows)),
            head="".join(f"<th>{escape(column)}</th>" for column in COLUMNS),
            body="\n".join(_html_row(row) for row in rows),
        )
    )


def _html_row(row: Row) -> str:
    image, state, objects, iou, seconds, output, error = (escape(cell) for cell in _cells(row))
    picture = f'<img src="{escape(row.thumbnail)}" alt="">' if row.thumbnail else ""
    link = f'<a href="{escape(quote(row.name))}/report.html">{output}</a>' if output else ""
    return (
        f'<tr><td>{picture}</td><td class="text">{image}</td><td class="{state}">{state}</td>'
        f'<td class="number">{objects}</td><td class="number">{iou}</td><td class="number">{seconds}</td>'
        f'<td class="text">{link}</td><td class="text">{error}</td></tr>'
    )


def _cells(row: Row) -> tuple[str, ...]:
    iou = "" if row.silhouette_iou is None else f"{row.silhouette_iou:.3f}"
    return (row.image, row.state, str(row.objects), iou, f"{row.seconds:.1f}", row.output, row.error)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _writable(text: str) -> str:
    """The text for a file, in which bytes of file names that are not text become question marks."""
    return text.encode("utf-8", "replace").decode()
