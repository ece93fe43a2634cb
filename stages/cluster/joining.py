"""How this process joins a Ray cluster."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import yaml

from scenegen.errors import TransientError, UsageError, WeightsError

logger = logging.getLogger(__name__)

LOCAL = "local"
"""The address of a cluster that is started on this machine and ends with this process."""
ENVIRONMENT = "SCENEGEN_RAY_ENV"
"""Environment variable: a YAML file with Ray's runtime environment (`env_vars`, `pip`, ...) for the cluster's processes."""


def join_cluster(address: str) -> None:
    """Connects this process to a cluster, unless it is connected already.

    Args:
        address: `auto` for the one this machine belongs to, `ray://host:port`, `host:port`, or `LOCAL`.

    Raises:
        WeightsError: if Ray is not installed.
        UsageError: if the address, or the file that `SCENEGEN_RAY_ENV` names, cannot be used.
        TransientError: if the cluster does not answer.
    """
    # Ray reads these when it is imported. They keep it from using the network unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise WeightsError(
            "Ray is not installed, and a Ray cluster needs it: pip install 'scenegen-3d[ray]'"
        ) from error
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {"address": address}
    try:
        ray.init(logging_level=logging.ERROR, runtime_env=_environment(), **options)
    except ValueError as error:
        raise UsageError(f"`ray` is {address!r}: {error}; give auto, local, host:port or ray://host:port.") from error
    except (ConnectionError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        raise TransientError(
            f"the Ray cluster at {address} does not let this process in: {error}; start it with `ray start --head`, or, if it "
            "runs and asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
        ) from error
    found = ray.cluster_resources()
    logger.info("the Ray cluster has %g cores and %g graphics cards", found.get("CPU", 0), found.get("GPU", 0))


def _environment() -> dict[str, Any] | None:
    """Ray's runtime environment, if the user has one.

    Raises:
        UsageError: if the file cannot be read, or is not a mapping.
    """
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return None
    try:
        found = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"`{ENVIRONMENT}` is {name}, which cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"`{ENVIRONMENT}` is {name}; it must be a YAML mapping such as `env_vars: {{NAME: value}}`.")
    return found
