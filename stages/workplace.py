"""Where the stages of scenes run when this process makes them: in its threads, in processes of their own, or on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scenegen.compute.devices import process_devices
from scenegen.compute.runtime import Runtime
from scenegen.config import Config
from scenegen.messages.progress import Watch
from scenegen.store.store import Store
from stages.cluster.joining import join_cluster
from stages.cluster.objects import cluster_submit
from stages.graph import weights_in_use
from stages.layers import Submit, Watching, finishing_for, local_submit, on_devices
from stages.stage import Layers, RunStage


@dataclass(frozen=True)
class Workplace:
    """Runs stages for one scene after another; weights stay loaded from one to the next."""

    store: Store
    runtime: Runtime
    at_once: int
    """Objects made at once."""
    process: RunStage | None = None
    """As `Layers.process`."""
    on_cluster: bool = False
    """Objects are made on the Ray cluster that this process has joined."""

    @contextlib.contextmanager
    def submit(self, watch: Watch) -> Iterator[Submit]:
        """What starts the stages of one scene, which tell `watch` how they get on."""
        executor = ThreadPoolExecutor(self.at_once)
        watching = Watching(watch)
        layers = Layers((watching.running,), self.process)
        submit = watching.submit(local_submit(self.store, self.runtime, executor, layers))
        try:
            yield cluster_submit(submit, self.store, self.runtime) if self.on_cluster else submit
        finally:
            # Nothing is waited for: after an error or an interruption the results would not be used.
            executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def workplace(
    store: Store,
    configs: Sequence[Config],
    runtime: Runtime,
    at_once: int,
    *,
    isolate: bool = False,
    ray: str | None = None,
) -> Iterator[Workplace]:
    """Sets up where stages run, until the block ends.

    Args:
        store: where results go. Every machine of a cluster must see it under the same path.
        configs: of what is made there; their back-ends decide whether graphics cards have anything to do.
        runtime: where to compute.
        at_once: objects made at once on the CPU.
        isolate: make them in processes of their own there too.
        ray: address of a Ray cluster that makes the objects.

    Raises:
        WeightsError: if weights that a configuration names, or Ray, are missing.
        TransientError: if the cluster does not answer.
    """
    if ray is not None:
        join_cluster(ray)
        yield Workplace(store, runtime, at_once, on_cluster=True)
        return
    weights = {
        f"{number} {stage}": found
        for number, config in enumerate(configs)
        for stage, found in weights_in_use(config).items()
    }
    names = process_devices(runtime, weights, isolate, at_once)
    with on_devices(names) as process:
        yield Workplace(store, runtime, len(names) + finishing_for(names) if names else at_once, process)
