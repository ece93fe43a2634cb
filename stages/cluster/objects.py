"""The objects of a scene spread over a Ray cluster: one call per object, wherever a graphics card or a core is free.

Only the stages of objects, and those that take a card, run there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic

from scenegen import __version__
from scenegen.compute.runtime import MAX_ECONOMY, Runtime
from scenegen.config import Settings
from scenegen.errors import LimitError
from scenegen.messages.progress import logged_stage
from scenegen.records import Record
from scenegen.store.store import Store
from stages.cluster.calls import Call, NoCardError, call
from stages.cluster.cards import begin_on_card, join_s, on_card, share_of_card, without_card
from stages.cluster.luggage import Luggage, check_machine, check_version
from stages.layers import Pending, R, Submit, works_on_object
from stages.stage import Layers, Outcome, Stage, execute
from stages.workers.child import Raised

logger = logging.getLogger(__name__)


def cluster_submit(submit: Submit, store: Store, runtime: Runtime) -> Submit:
    """`submit`, with the stages of objects, and those that take a graphics card, run on the cluster that this process has joined.

    A stage with weights takes a card, or a part of one, if the cluster has any, or if `runtime` names one; other stages take one
    core. Of a stage in two halves only the first takes the card; the second, on a core, may be on another machine. If memory
    runs out, the stage is tried again at each higher `Runtime.economy`.

    Args:
        submit: starts the other stages.
        store: the store that every machine sees.
        runtime: where to compute. Which card it is, each machine finds out by itself.
    """
    runtime = replace(runtime, device=runtime.device.partition(":")[0])

    def submit_to_cluster(
        stage: Stage[R], *inputs: Record | int, config: Settings, object_id: int | None = None
    ) -> Pending[Outcome[R]]:
        share = share_of_card(stage, config, runtime)
        if not share and not works_on_object(stage, config, object_id):
            return submit(stage, *inputs, config=config, object_id=object_id)
        label = stage.label(object_id)
        weights = dict(stage.weights(config))

        def begin(runtime: Runtime, share: float) -> Call:
            run = StageRun(stage, inputs, config, Luggage(store, runtime), object_id, share, weights)
            return call(label, attempt, run, cards=share if stage.halves is None else 0, join_s=join_s(runtime))

        return _OnCluster(label, begin, runtime, share, begin(runtime, share))

    return submit_to_cluster


@dataclass(frozen=True)
class StageRun(Generic[R]):
    """One run of a stage on the cluster, in a form that can be sent."""

    stage: Stage[R]
    inputs: tuple[Record | int, ...]
    config: Settings
    luggage: Luggage
    object_id: int | None
    share: float
    """Of a graphics card."""
    weights: Mapping[str, str]
    """As the machine that asks knows them."""
    version: str = __version__


def attempt(run: StageRun[R]) -> Outcome[R]:
    """On the cluster: `execute`."""
    check_version(run.version)
    store, runtime = run.luggage.here()
    layers = Layers()
    if run.share and run.stage.halves is not None:
        layers = Layers(process=functools.partial(begin_on_card, share=run.share, weights=run.weights))
    else:
        check_machine(run.stage, run.config, runtime, run.weights)
        if run.share:
            layers = Layers(process=functools.partial(on_card, share=run.share))
    return execute(run.stage, run.inputs, run.config, store, runtime, layers, run.object_id)


@dataclass(frozen=True)
class _OnCluster(Generic[R]):
    """A stage that runs somewhere on the cluster."""

    label: str
    begin: Callable[[Runtime, float], Call]
    runtime: Runtime
    share: float
    """Of a graphics card."""
    first: Call

    def result(self) -> Outcome[R]:
        """Waits. Raises the stage's own error, CrashError if its machine was lost, or NoCardError."""
        running, runtime, share = self.first, self.runtime, self.share
        with logged_stage(self.label):
            while True:
                try:
                    reply = running.result()
                except NoCardError as error:
                    without_card(self.label, runtime, error)
                    share = 0.0
                    running = self.begin(runtime, share)
                    continue
                if not isinstance(reply, Raised):
                    outcome: Outcome[R] = reply.result
                    logger.info("%s: %.1f s on the cluster%s", self.label, outcome.seconds, ", found" * outcome.cached)
                    return outcome
                if not reply.out_of_memory:
                    raise reply.error
                if runtime.economy == MAX_ECONOMY:
                    raise LimitError(
                        f"{self.label}: out of memory on the cluster, even at economy {runtime.economy}: "
                        f"{reply.error}. Use a smaller model or fewer tokens, or larger machines."
                    ) from reply.error
                runtime = replace(runtime, economy=runtime.economy + 1)
                logger.warning(
                    "%s: out of memory (%s); trying once more at economy %d", self.label, reply.error, runtime.economy
                )
                running = self.begin(runtime, share)
