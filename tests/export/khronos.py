"""The Khronos glTF validator, run by node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

VALIDATORS = Path(__file__).parent.parent / "validators"


def khronos_report(path: Path) -> dict[str, Any]:
    """The validator's report. Without it the test is skipped, or fails where SCENEGEN_REQUIRE_VALIDATORS=1."""
    node = shutil.which("node")
    if node is None or not (VALIDATORS / "node_modules" / "gltf-validator").is_dir():
        reason = "the Khronos validator is not there: install node, then run `npm ci` in tests/validators"
        (pytest.fail if os.environ.get("SCENEGEN_REQUIRE_VALIDATORS") == "1" else pytest.skip)(reason)
    command = [node, str(VALIDATORS / "validate.mjs"), str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    issues: dict[str, Any] = json.loads(finished.stdout)["issues"]
    return issues
