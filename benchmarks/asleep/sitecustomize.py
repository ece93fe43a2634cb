"""Python imports this first in every process of benchmarks/orchestration.py: stages sleep."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class Asleep:
    """Finds `stages.batch` as ever, and puts the stages to sleep once it is there."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "stages.batch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            from growth import put_to_sleep

            put_to_sleep()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Asleep())
