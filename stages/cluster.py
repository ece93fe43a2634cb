"""The objects of a scene spread over a Ray cluster: one task per object, wherever a graphics card or a core is free.

Only the stages of objects run there. They read and write the store, so every machine must see the same one: a shared disk
under the same path, or a mirror in a bucket. The same version of scenegen must be installed on all machines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.compute.threads import one_blas_thread
from scenegen.config import Settings
from scenegen.errors import CrashError, LimitError, TransientError, UsageError, WeightsError
from scenegen.messages.progress import logged_stage
from scenegen.records import Record
from scenegen.store.store import Store
from stages.layers import Pending, Submit, works_on_object
from stages.stage import Layers, Outcome, Stage, Work, execute
from stages.workers.child import Raised, raised

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

LOCAL = "local"
"""The address of a cluster that is started on this machine and ends with this process."""
RETRIES = 1
"""How often Ray retries a task whose machine or process has died."""


def join_cluster(address: str) -> None:
    """Connects this process to a cluster, unless it is connected already.

    Args:
        address: `auto` for the one this machine belongs to, `ray://host:port`, `host:port`, or `LOCAL`.

    Raises:
        WeightsError: if Ray is not installed.
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
        ray.init(logging_level=logging.ERROR, **options)
    except ValueError as error:
        raise UsageError(f"`ray` is {address!r}: {error}; give auto, local, host:port or ray://host:port.") from error
    except (ConnectionError, RuntimeError) as error:
        raise TransientError(
            f"the Ray cluster at {address} does not answer: {error}; start it with `ray start --head`."
        ) from error
    logger.info("the Ray cluster has %s", _resources(ray.cluster_resources()))


def cluster_submit(submit: Submit, store: Store, runtime: Runtime) -> Submit:
    """`submit`, with the stages of objects run on the cluster that this process has joined.

    A stage with weights takes a graphics card if the cluster has any; other stages take one core. Of a stage in two halves
    only the first takes the card; the second, on a core, may be on another machine. The process stays for the next stage,
    with its weights loaded. If memory runs out, the stage is tried again at each higher `Runtime.economy`.

    Args:
        submit: starts the other stages.
        store: the store that every machine sees.
        runtime: where to compute; each machine chooses its device.
    """
    import ray

    has_cards = ray.cluster_resources().get("GPU", 0) > 0
    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(attempt)

    def submit_to_cluster(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        if not works_on_object(stage, config, object_id):
            return submit(stage, *inputs, config=config, object_id=object_id)
        needs_card = has_cards and bool(stage.weights(config))
        layers = Layers(process=begin_on_card) if needs_card and stage.halves is not None else Layers()
        cards = int(needs_card and layers.process is None)

        def begin(runtime: Runtime) -> Any:
            return remote.options(num_gpus=cards).remote(stage, inputs, config, store, runtime, layers, object_id)

        label = stage.name if object_id is None else f"{stage.name} {object_id}"
        return _Remote(label, begin, runtime, begin(runtime))

    return submit_to_cluster


def attempt(
    stage: Stage[R],
    inputs: tuple[Record | int, ...],
    config: Settings,
    store: Store,
    runtime: Runtime,
    layers: Layers = Layers(),
    object_id: int | None = None,
) -> Outcome[R] | Raised:
    """`execute`, with its error in a form that can be sent."""
    try:
        return execute(stage, inputs, config, store, runtime, layers, object_id)
    except Exception as error:  # noqa: BLE001 (it is the caller's to judge)
        return raised(error)


def begin_on_card(
    stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None
) -> R:
    """A stage in two halves, for `Layers.process`: the first as a task that takes a graphics card, the second here.

    Raises:
        MemoryError: if the machine of the first half had too little.
        CrashError: if it was lost.
    """
    import ray

    assert stage.halves is not None
    # Said in `options`, since a function that is declared with a card gets a new process for each call.
    card = ray.remote(num_cpus=0, max_retries=RETRIES)(first_half).options(num_gpus=1)
    try:
        answer: tuple[Record, Mapping[str, bytes]] | Raised = ray.get(
            card.remote(stage, given, config, work.store, work.runtime, work.key)
        )
    except ray.exceptions.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except ray.exceptions.RayError as error:
        raise CrashError(f"the cluster lost its first half {RETRIES + 1} times ({error}); run again.") from error
    if isinstance(answer, Raised):
        raise answer.error
    begun, files = answer
    for name, content in files.items():
        work.write(name).write_bytes(content)
    return begun if isinstance(begun, stage.record) else stage.halves.finish(begun, config=config, work=work)


def first_half(
    stage: Stage[R],
    given: tuple[Record | int, ...],
    config: Settings,
    store: Store,
    runtime: Runtime,
    key: str,
) -> tuple[Record, Mapping[str, bytes]] | Raised:
    """What the first half returns, and the files that it leaves; or its error in a form that can be sent."""
    assert stage.halves is not None
    one_blas_thread()
    try:
        with logged_stage(stage.name), store.staging() as folder:
            begun = stage.halves.begin(*given, config=config, work=Work(store, runtime, folder, stage.name, key))
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            return begun, {name: path.read_bytes() for name, path in files.items()}
    except Exception as error:  # noqa: BLE001 (it is the caller's to judge)
        return raised(error)


@dataclass(frozen=True)
class _Remote(Generic[R]):
    """A stage that runs somewhere on the cluster."""

    label: str
    begin: Callable[[Runtime], Any]
    runtime: Runtime
    reference: Any

    def result(self) -> Outcome[R]:
        """Waits. Raises the stage's own error, or CrashError if its machine was lost."""
        import ray

        reference, economy = self.reference, self.runtime.economy
        with logged_stage(self.label):
            while True:
                try:
                    answer: Outcome[R] | Raised = ray.get(reference)
                except ray.exceptions.OutOfMemoryError as error:
                    answer = Raised(error, out_of_memory=True)
                except ray.exceptions.RayError as error:
                    raise CrashError(
                        f"{self.label}: the cluster lost it {RETRIES + 1} times ({error}); run again."
                    ) from error
                if isinstance(answer, Outcome):
                    logger.info("%s: %.1f s on the cluster%s", self.label, answer.seconds, ", found" * answer.cached)
                    return answer
                if not answer.out_of_memory:
                    raise answer.error
                if economy == MAX_ECONOMY:
                    raise LimitError(
                        f"{self.label}: out of memory on the cluster, even at economy {economy}: "
                        f"{answer.error}. Use a smaller model or fewer tokens, or larger machines."
                    ) from answer.error
                economy += 1
                logger.warning(
                    "%s: out of memory (%s); trying once more at economy %d",
                    self.label,
                    answer.error,
                    economy,
                )
                reference = self.begin(replace(self.runtime, economy=economy))


def _resources(found: dict[str, float]) -> str:
    return f"{found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} graphics cards"
