"""Graphics cards of the cluster: which stages take how much of one, and what runs on it there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from scenegen.compute.card_peak import stage_peak, tell_peak
from scenegen.compute.devices import devices
from scenegen.compute.runtime import Runtime
from scenegen.config import Settings
from scenegen.messages.progress import logged_stage
from scenegen.records import Record
from stages.cluster.calls import NoCardError, call, cards_now
from stages.cluster.luggage import Luggage, check_machine
from stages.layers import R, uses_weights
from stages.stage import Stage, Work
from stages.workers.child import Raised
from stages.workers.device import run_stage
from stages.workers.worker import Worker

logger = logging.getLogger(__name__)

LITTLE = 0.25
"""The part of a card that a stage with small networks takes."""
JOIN_S = 1800.0
"""Seconds that a cluster without graphics cards has to get one, if the user has asked for one."""


def share_of_card(stage: Stage[R], config: Settings, runtime: Runtime) -> float:
    """How much of a graphics card the stage takes; 0 if it runs on a core.

    With `auto` that depends on whether the cluster has cards at the moment. With `cuda` the cluster is asked for one in any case.
    """
    if not runtime.device.startswith(("auto", "cuda")) or not uses_weights(stage, config, None):
        return 0.0
    if runtime.device == "auto" and cards_now() == 0:
        return 0.0
    large = any(chosen.backend.on_card(chosen.settings) is not None for chosen in stage.backends(config))
    return 1.0 if large else LITTLE


def join_s(runtime: Runtime) -> float:
    """How long a cluster without graphics cards is waited for. With `auto`, what would have taken one runs on a core."""
    return 0.0 if runtime.device == "auto" else JOIN_S


def without_card(label: str, runtime: Runtime, error: NoCardError) -> None:
    """Says that a stage runs on a core since the cluster has lost its cards; raises `error` unless `runtime` leaves that open."""
    if runtime.device != "auto":
        raise error
    # A warning is seen from every machine; Ray passes nothing less on.
    logger.warning("%s: the cluster has no graphics card any more; using a core", label)


def on_card(
    stage: Stage[R], given: tuple[Record | int, ...], config: Settings, work: Work, object_id: int | None, share: float
) -> R:
    """The stage on the card that Ray has given this process, in a process that holds the card's slot and keeps its weights."""
    return run_stage(_worker(work.runtime, share), stage, given, config, work, object_id)


def begin_on_card(
    stage: Stage[R],
    given: tuple[Record | int, ...],
    config: Settings,
    work: Work,
    object_id: int | None,
    share: float,
    weights: Mapping[str, str],
) -> R:
    """A stage in two halves: the first as a call that takes a part of a card, the second here.

    Raises:
        MemoryError: if the machine of the first half had too little.
        CrashError: if it was lost.
        NoCardError: if the cluster has no card, got none, and `work.runtime` names one.
    """
    assert stage.halves is not None
    label = stage.label(object_id)
    luggage = Luggage(work.store, work.runtime)
    half = stage, given, config, luggage, work.key, share, weights
    try:
        begun = call(label, first_half, *half, cores=0, cards=share, join_s=join_s(work.runtime)).result()
    except NoCardError as error:
        without_card(label, work.runtime, error)
        check_machine(stage, config, work.runtime, weights)
        return stage.run(*given, config=config, work=work)
    if isinstance(begun, Raised):
        raise MemoryError(str(begun.error)) if begun.out_of_memory else begun.error
    record, files, peak = begun.result
    tell_peak(peak)
    for name, content in files.items():
        work.write(name).write_bytes(content)
    return record if isinstance(record, stage.record) else stage.halves.finish(record, config=config, work=work)


def first_half(
    stage: Stage[R],
    given: tuple[Record | int, ...],
    config: Settings,
    luggage: Luggage,
    key: str,
    share: float,
    weights: Mapping[str, str],
) -> tuple[Record, Mapping[str, bytes], int]:
    """On the cluster: what the first half returns, the files that it leaves, and its peak of the card's memory in bytes."""
    assert stage.halves is not None
    store, runtime = luggage.here()
    check_machine(stage, config, runtime, weights)
    first = Stage(stage.name, Record, stage.halves.begin, stage.backends)
    with logged_stage(stage.name), store.staging() as folder, stage_peak() as peak:
        begun = on_card(first, given, config, Work(store, runtime, folder, stage.name, key), None, share)
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return begun, {name: path.read_bytes() for name, path in files.items()}, peak.bytes


_workers: dict[tuple[object, ...], Worker] = {}
"""The worker of the card that this process was given last. Ray may give it another one."""


def _worker(runtime: Runtime, share: float) -> Worker:
    place = os.environ.get("CUDA_VISIBLE_DEVICES"), runtime.device, share
    if place not in _workers:
        while _workers:
            _workers.popitem()[1].kill()
        _workers[place] = Worker(devices(runtime)[0], shared=share < 1)
    return _workers[place]
