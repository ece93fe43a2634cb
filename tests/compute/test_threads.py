"""What is summed has one thread of BLAS, and torch's operations a fixed number, whatever the process was started with."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import torch_threads
from scenegen.config import Settings
from scenegen.records import Record
from scenegen.store.store import Store
from stages.stage import Stage, Work, execute
from stages.workers.child import Done, answer
from stages.workers.device import StageCall


class Found(Record):
    blas_threads: int


class Nothing(Settings):
    pass


def blas_threads(*, config: Nothing, work: Work) -> Found:
    np.linalg.inv(np.eye(2))
    return Found(blas_threads=max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"))


def test_a_stage_has_one_thread_of_blas(tmp_path: Path) -> None:
    threadpool_limits(2, user_api="blas")
    outcome = execute(Stage("look", Found, blas_threads), (), Nothing(), Store(tmp_path), Runtime())
    assert outcome.record.blas_threads == 1


def test_a_stage_in_a_child_process_has_one_thread_of_blas(tmp_path: Path) -> None:
    threadpool_limits(2, user_api="blas")
    job = StageCall(blas_threads, Found, (), Nothing(), tmp_path, Runtime(), tmp_path, "look", "0" * 64)
    assert answer(pickle.dumps(job), "cpu") == Done(Found(blas_threads=1))


def test_torch_threads_are_of_the_thread_that_asks() -> None:
    before = torch.get_num_threads()
    inside, end = threading.Event(), threading.Event()
    found: list[int] = []

    def other() -> None:
        with torch_threads(3):
            inside.set()
            end.wait(60)
            torch.rand(64, 64) @ torch.rand(64, 64)
            found.append(torch.get_num_threads())

    with torch_threads(1):
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(60)
        assert torch.get_num_threads() == 1
        end.set()
        thread.join()
        assert torch.get_num_threads() == 1
    assert found == [3]
    assert torch.get_num_threads() == before


def test_torch_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no"), torch_threads(before + 1):
        raise ValueError("no")
    assert torch.get_num_threads() == before
