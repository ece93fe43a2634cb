"""Python imports this first in every process of a deployment under test: stand-ins take the places of the stages, and of the
times where the test is in a hurry. Those of a benchmark sleep."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any


def stages(module: ModuleType) -> None:
    from standins import STAGES

    for stage in STAGES:
        setattr(module, stage.name.upper(), stage)


def sleep(module: ModuleType) -> None:
    from growth import put_to_sleep

    put_to_sleep()


def times(module: ModuleType) -> None:
    vars(module).update(HEARTBEAT_S=2, SILENCE_S=10.0, PENDING_S=30.0, SETTLED_S=5.0)


def heartbeats(module: ModuleType) -> None:
    """Prefect's settings allow none below half a minute."""
    module.MINIMUM_HEARTBEAT_INTERVAL = 2  # type: ignore[attr-defined]
    module.BaseFlowRunEngine.heartbeat_seconds = property(lambda engine: 2)


CHANGES = {"stages.batch": sleep} if "SCENEGEN_GROWTH_SECONDS" in os.environ else {"stages.graph": stages}
if "SCENEGEN_TEST_HURRY" in os.environ:  # site_under_test.HURRY
    CHANGES |= {"flows.times": times, "prefect.flow_engine": heartbeats}


class Changed:
    """Finds these modules as ever, and changes them once they are there."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        change = CHANGES.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Changed())
