"""Where the stages of scenes run when this process makes them: in its threads, in processes of their own, or on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from scenegen.config import Config
from scenegen.progress import Watch
from scenegen.runtime import Runtime
from scenegen.store import Store
from stages.devices import process_devices
from stages.graph import Submit, local_submit, on_devices, weights_in_use
from stages.run import watched


@dataclass(frozen=True)
class Workplace:
    """Runs stages for one scene after another; weights stay loaded from one to the next."""

    store: Store
    runtime: Runtime
    at_once: int
    """Objects made side by side."""
    placed: Callable[[Submit], Submit]
    """Sends stages where they run."""

    @contextlib.contextmanager
    def submit(self, watch: Watch) -> Iterator[Submit]:
        """What starts the stages of one scene, which tell `watch` how they get on."""
        executor = ThreadPoolExecutor(self.at_once)
        try:
            yield self.placed(watched(local_submit(self.store, self.runtime, executor), watch))
        finally:
            # Nothing is waited for: after an error or an interruption the results would not be used.
            executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def workplace(
    store: Store, config: Config, runtime: Runtime, at_once: int, *, isolate: bool = False, ray: str | None = None
) -> Iterator[Workplace]:
    """Sets up where stages run, until the block ends.

    Args:
        store: where results go. Every machine of a cluster must see it under the same path.
        config: its back-ends decide whether graphics cards have anything to do.
        runtime: where to compute.
        at_once: objects made side by side on the CPU.
        isolate: make them in processes of their own there too.
        ray: address of a Ray cluster that makes the objects.

    Raises:
        WeightsError: if weights that the configuration names, or Ray, are missing.
        TransientError: if the cluster does not answer.
    """
    if ray is not None:
        from stages.cluster import cluster_submit, join_cluster

        join_cluster(ray)
        yield Workplace(store, runtime, at_once, partial(cluster_submit, store=store, runtime=runtime))
        return
    names = process_devices(runtime, weights_in_use(config), isolate, at_once)
    with on_devices(names) as placed:
        yield Workplace(store, runtime, len(names) or at_once, placed)
