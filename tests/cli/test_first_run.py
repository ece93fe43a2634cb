"""What a newcomer sees: the example picture, with nothing set that concerns what is seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenegen.cli.commands import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "table.jpg"
SMALL = ["--set", "read.max_side=512", "--set", "generate.resolution=48", "--set", "texture.size=64"]


@pytest.mark.slow
def test_a_first_run_on_a_good_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No warning, and the last line says where the report is and how long it took."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for _ in range(2):
        assert main([str(EXAMPLE), "-o", str(tmp_path), *SMALL]) == 0
        said = capsys.readouterr()
        assert not [line for line in said.err.splitlines() if not line.startswith("INFO: ")]
        match = re.fullmatch(r"(.*/report\.html): \d objects, silhouette IoU 0\.\d+, complete, \d+\.\d s\n", said.out)
        assert match is not None
        assert "note" not in said.err
        page = Path(match[1]).read_text()
        assert '<span class="chip ">Note</span>' in page
        assert "usual sizes of what is seen" in page
