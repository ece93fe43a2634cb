"""How a work pool starts its runs: in processes of the worker, in Docker containers or in Kubernetes jobs, all of one image.

The deployments are the same for all: their entrypoint is imported from the installed package, and they set nothing but the
environment.
"""

from __future__ import annotations

from typing import Any, Literal

from scenegen.compute.runtime import GPU_POOL
from scenegen.compute.slot import RUN_LOCK

PoolType = Literal["process", "docker", "kubernetes"]

IMAGE = "scenegen"
"""As docs/deployment.md has it built from Containerfile; the one for cards has the tag `cuda`."""
USER = 10001
"""Of the image."""
SECRET = "scenegen"
"""Name of the Kubernetes secret whose entries become environment variables of every run."""
LOCKS = str(RUN_LOCK / "scenegen-locks")
ENTRYPOINT = ["/usr/bin/env"]
"""Instead of the image's own, which is `scenegen`: a run's command is `prefect flow-run execute`."""


def job_template(kind: PoolType, pool: str) -> dict[str, Any]:
    """Prefect's base job template of a pool; empty for Prefect's own.

    Args:
        kind: type of the pool.
        pool: its name; that of the machines with graphics cards gets them.
    """
    if kind == "process":
        return {}
    cards = pool == GPU_POOL
    return _docker(cards) if kind == "docker" else _kubernetes(cards)


def _docker(cards: bool) -> dict[str, Any]:
    container: dict[str, Any] = {"entrypoint": ENTRYPOINT, "healthcheck": {"test": ["NONE"]}, "init": True}
    if cards:
        container["device_requests"] = [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]
    volumes = ["/srv/scenegen:/srv/scenegen", "scenegen:/data", *[f"{LOCKS}:{LOCKS}"] * cards]
    return _template(
        {
            **_placeholders("command", "env", "labels", "name", "image", "image_pull_policy", "networks", "volumes"),
            "auto_remove": True,
            "stream_output": True,
            "container_create_kwargs": container,
        },
        {
            **_common(cards),
            "networks": _variable("array", "Networks", [], "Docker networks that the container joins."),
            "volumes": _variable("array", "Volumes", volumes, "As for docker run --volume."),
        },
    )


def _kubernetes(cards: bool) -> dict[str, Any]:
    limits = {"cpu": "{{ cpu }}", "memory": "{{ memory }}"}
    more = {"cpu": _variable("string", "CPU", "4", "Cores of a run."), "memory": _variable("string", "Memory", "16Gi")}
    if cards:
        limits["nvidia.com/gpu"] = "{{ cards }}"
        more["cards"] = _variable("integer", "Graphics cards", 1, "That a run takes.")
    container = {
        "name": "prefect-job",  # which Prefect asks for
        "image": "{{ image }}",
        "imagePullPolicy": "{{ image_pull_policy }}",
        "command": ENTRYPOINT,
        "args": "{{ command }}",
        "env": "{{ env }}",
        "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
        "resources": {"limits": limits, "requests": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "scenes", "mountPath": "/srv/scenegen"}, {"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "parallelism": 1,
        "completions": 1,
        "restartPolicy": "Never",
        "serviceAccountName": "{{ service_account_name }}",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "containers": [container],
        "volumes": [
            {"name": "scenes", "persistentVolumeClaim": {"claimName": "{{ claim }}"}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": "{{ labels }}", "namespace": "{{ namespace }}", "generateName": "{{ name }}-"},
        # The janitor, or the batch, starts again what has crashed.
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 3600, "template": {"spec": pod}},
    }
    return _template(
        {
            **_placeholders("command", "env", "labels", "name", "namespace"),
            "job_manifest": job,
            "stream_output": True,
            "pod_watch_timeout_seconds": 600,
        },
        {
            **_common(cards),
            **more,
            "namespace": _variable("string", "Namespace", "default"),
            "service_account_name": _variable(
                "string", "Service account", "default", "Of the runs, not of the worker."
            ),
            "claim": _variable(
                "string", "Volume claim", "scenegen", "Mounted at /srv/scenegen, for photos and scenes."
            ),
        },
    )


def _common(cards: bool) -> dict[str, Any]:
    return {
        "command": _variable("string", "Command", None),
        "env": _variable("object", "Environment", {}, "Never a secret: the server keeps and shows it."),
        "labels": _variable("object", "Labels", {}),
        "name": _variable("string", "Name", None),
        "image": _variable("string", "Image", f"{IMAGE}:cuda" if cards else f"{IMAGE}:latest"),
        "image_pull_policy": _variable("string", "Pull policy", "IfNotPresent"),
    }


def _template(configuration: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    return {"job_configuration": configuration, "variables": {"type": "object", "properties": variables}}


def _placeholders(*names: str) -> dict[str, str]:
    return {name: f"{{{{ {name} }}}}" for name in names}


def _variable(kind: str, title: str, default: Any, description: str = "") -> dict[str, Any]:
    """A variable of a template. A default of None is no default."""
    stated = {} if default is None else {"default": default}
    return {"type": kind, "title": title, "description": description, **stated}
