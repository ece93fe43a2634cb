"""The table says everything of every row, and nothing in it is taken for markup, a formula or an address."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scenegen.store.folder import LocalFolder
from stages.batch import Row
from stages.table import COLUMNS, csv_table, html_table, json_table, summary, write_table

TEXT = st.text(st.one_of(st.sampled_from("<>&\"'=+-@,\n\r{}%#?:/"), st.characters(codec="utf-8")), max_size=20)
ROWS = st.lists(
    st.builds(
        Row,
        image=TEXT,
        name=TEXT,
        state=st.sampled_from(["complete", "partial", "failed", "missing"]),
        objects=st.integers(0, 9),
        silhouette_iou=st.none() | st.floats(0, 1),
        seconds=st.floats(0, 1e4),
        output=TEXT,
        error=TEXT,
        config_sha256=st.just("0"),
        thumbnail=st.sampled_from(["", "data:image/jpeg;base64,AAAA", '"><script>']),
    ),
    max_size=4,
)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.cells[-1] += data


@given(ROWS)
def test_the_page(rows: list[Row]) -> None:
    page = Page(html_table(rows))
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in page.tags} <= allowed | {"img", "a"}
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    cells = [page.cells[i : i + 8] for i in range(0, len(page.cells), 8)]
    for row, cell in zip(rows, cells, strict=True):
        assert cell[1:4] == [row.image, row.state, str(row.objects)]
        assert cell[6:] == [row.output, row.error]
    for tag, attributes in page.tags:
        if tag == "a":
            # A relative path: no protocol, no host, no way up but what a name may hold.
            href = attributes["href"] or ""
            assert ":" not in href
            assert not href.startswith("//")
            assert href.endswith("/report.html")


@given(ROWS)
def test_csv_and_json_hold_every_row(rows: list[Row]) -> None:
    table = list(csv.reader(io.StringIO(csv_table(rows), newline="")))
    assert tuple(table[0]) == COLUMNS
    assert [line[1] for line in table[1:]] == [row.state for row in rows]
    for line, row in zip(table[1:], rows, strict=True):
        assert line[0].removeprefix("'") == row.image.removeprefix("'")
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in line)
    values = json.loads(json_table(rows))["rows"]
    assert [Row.model_validate(value).image for value in values] == [row.image for row in rows]
    assert all("thumbnail" not in value for value in values)


def test_summary_and_files(tmp_path: Path) -> None:
    rows = [
        Row(image=f"{i}.jpg", name=str(i), state=state, config_sha256="0")
        for i, state in enumerate(["complete", "failed", "complete", "missing"])
    ]
    assert summary(rows) == "4 photos: 2 complete, 1 failed, 1 missing"
    write_table(rows, LocalFolder(tmp_path / "out", tmp_path / "staging"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["batch.csv", "batch.html", "batch.json"]
    assert "default-src 'none'" in (tmp_path / "out" / "batch.html").read_text()
