from __future__ import annotations

import os

import pytest
import torch

from scenegen.compute.torch_env import ALLOCATOR, exact_sums, growing_memory


def test_sums_are_exact_until_the_block_ends() -> None:
    def settings() -> tuple[bool, ...]:
        matmul = torch.backends.cuda.matmul
        kinds = (f"allow_{kind}_reduced_precision_reduction" for kind in ("fp16", "bf16"))
        return tuple(getattr(matmul, name) for kind in kinds for name in (kind, f"{kind}_split_k"))

    before = settings()
    with exact_sums():
        # Without split-K, torch 2.11 refuses every product unless cuBLASLt was asked for.
        assert settings() == (False, True) * 2
    assert settings() == before


@pytest.mark.parametrize("name", ALLOCATOR)
def test_memory_grows_unless_the_user_has_said_how(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ALLOCATOR:
        monkeypatch.setenv(each, "")
        monkeypatch.delenv(each)
    growing_memory()
    assert os.environ[ALLOCATOR[0]] == "expandable_segments:True"
    monkeypatch.delenv(ALLOCATOR[0])
    monkeypatch.setenv(name, "max_split_size_mb:64")
    growing_memory()
    assert [os.environ.get(each) for each in ALLOCATOR].count("max_split_size_mb:64") == 1
    assert "expandable_segments:True" not in os.environ.values()
