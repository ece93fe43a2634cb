"""The flows, under the names that `prefect.yaml` gives them.

Prefect imports a deployment's entrypoint from the current folder first, where another `flows` may lie. It always
finds this module, and this module finds scenegen's own. Prefect is imported only when a flow is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scenegen.cli.siblings import check_sibling, leave_current_folder

MODULES = {
    "image_to_scene": "flows.scene",
    "views_to_scene": "flows.scene",
    "batch_scenes": "flows.batch",
    "photos_to_scenes": "flows.photos",
    "regenerate_object": "flows.scene",
    "janitor": "flows.janitor",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    leave_current_folder()
    for package in ("stages", "flows"):
        check_sibling(package)
    return getattr(import_module(MODULES[name]), name)
