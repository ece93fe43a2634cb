"""Keys: what decides a result decides the key, and nothing else does."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model
from standins import with_weights

from scenegen.compute.runtime import Runtime
from scenegen.config import Config, ObjectSettings, Settings, load_config
from scenegen.messages.progress import log_photo, logging_to_stderr
from scenegen.records import Record, Report, Source, digest_json
from scenegen.store.lease import LeaseTimes
from scenegen.store.store import Store
from stages import stage as stage_module
from stages.graph import image_to_scene
from stages.layers import local_submit
from stages.run import open_store
from stages.stage import Stage, Work, execute


class Number(Record):
    value: int


class Factor(Settings):
    factor: int = 2


def times(number: Number, *, config: Factor, work: Work) -> Number:
    work.write("sub/value.txt").write_text(str(number.value * config.factor))
    return Number(value=number.value * config.factor)


TIMES = Stage("times", Number, times)


def test_execute_computes_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = execute(TIMES, (Number(value=3),), Factor(), store, Runtime())
    assert (first.record, first.cached) == (Number(value=6), False)
    second = execute(TIMES, (Number(value=3),), Factor(), store, Runtime(device="cuda", offline=True))
    assert (second.record, second.cached, second.key) == (first.record, True, first.key)
    assert second.seconds == first.seconds


def test_execute_keeps_nothing_of_a_failure(tmp_path: Path) -> None:
    def fail(number: Number, *, config: Factor, work: Work) -> Number:
        work.write("half").write_text("x")
        raise ValueError("no")

    store = Store(tmp_path)
    with pytest.raises(ValueError, match="no"):
        execute(Stage("times", Number, fail), (Number(value=3),), Factor(), store, Runtime())
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert execute(TIMES, (Number(value=3),), Factor(), store, Runtime()).record.value == 6


def test_artifacts_name_files_that_will_exist(tmp_path: Path) -> None:
    def write(*, config: Factor, work: Work) -> Report:
        work.write("deep/file.txt").write_text("hello")
        return Report(files=(("file.txt", work.artifact("deep/file.txt")),))

    store = Store(tmp_path)
    ((_, artifact),) = execute(Stage("write", Report, write), (), Factor(), store, Runtime()).record.files
    assert store.path(artifact).read_text() == "hello"
    assert artifact.bytes == 5


def test_workers_side_by_side_compute_each_key_once(tmp_path: Path) -> None:
    """Four processes on one folder, and twenty keys in another order each."""
    log = tmp_path / "log"

    def note(number: Number, *, config: Factor, work: Work) -> Number:
        with log.open("a") as file:
            file.write(f"{number.value}\n")
        time.sleep(0.005)
        return number

    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                store = Store(tmp_path / "store", lease_times=LeaseTimes(poll_s=0.005))
                for k in range(20):
                    number = Number(value=(k * (2 * i + 1)) % 20)
                    stage = Stage("note", Number, note)
                    assert execute(stage, (number,), Factor(), store, Runtime()).record == number
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    assert sorted(map(int, log.read_text().split())) == sorted(
        {(k * (2 * i + 1)) % 20 for i in range(4) for k in range(20)}
    )


def test_log_lines_say_photo_stage_and_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def warn(number: Number, item: int, *, config: Factor, work: Work) -> Number:
        logging.getLogger("stages.x").warning("careful")
        return number

    with logging_to_stderr(), ThreadPoolExecutor(1, initializer=log_photo, initargs=("desk",)) as executor:
        executor.submit(
            execute,
            Stage("warn", Number, warn),
            (Number(value=1), 3),
            Factor(),
            Store(tmp_path),
            Runtime(),
            object_id=3,
        )
        executor.submit(logging.getLogger("stages.x").warning, "after")
        executor.shutdown()
        logging.getLogger("stages.x").warning("elsewhere")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["WARNING: [desk: warn 3] careful", "WARNING: [desk] after", "WARNING: elsewhere"]


@given(st.integers(), st.integers(0, 5), st.sampled_from("abc"), st.text(max_size=3), st.text(max_size=3))
def test_every_part_of_the_key_counts(value: int, factor: int, code: str, name: str, revision: str) -> None:
    def key(value: int, factor: int, code: str, name: str, revision: str) -> str:
        stage = Stage(name, Number, times, backends=with_weights(revision))
        with mock.patch.object(stage_module, "code_key", return_value={"digest": code}):
            return stage.key((Number(value=value),), Factor(factor=factor))

    base = key(value, factor, code, name, revision)
    assert base == key(value, factor, code, name, revision)
    assert base != key(value + 1, factor, code, name, revision)
    assert base != key(value, factor + 1, code, name, revision)
    assert base != key(value, factor, code + "x", name, revision)
    assert base != key(value, factor, code, name + "x", revision)
    assert base != key(value, factor, code, name, revision + "x")


def test_what_a_record_says_about_itself_is_not_in_the_key() -> None:
    def key(words: str, **fields: Any) -> str:
        inner = create_model("Inner", __base__=Record, __doc__=words, description=(int, 3))
        outer = create_model("Outer", __base__=Record, __doc__=words, inner=(inner, ...), **fields)
        return Stage("times", outer, times).key((), Factor())

    assert key("one") == key("two")
    assert key("one") != key("one", more=(int, 3))
    assert key("one", more=(int, 3)) != key("one", more=(int, 4)) != key("one", more=(str, "3"))


def test_what_is_put_in_place_of_the_function_is_not_in_the_key() -> None:
    otherwise = replace(TIMES, run=lambda *inputs, config, work: Number(value=0))
    assert otherwise.key((), Factor()) == TIMES.key((), Factor())


def test_a_record_of_another_form_is_computed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    key = TIMES.key((Number(value=3),), Factor())
    with store.staging() as folder:
        store.commit(folder, "times", key, Report(files=()), 1.0)
    outcome = execute(TIMES, (Number(value=3),), Factor(), store, Runtime())
    assert (outcome.record, outcome.cached) == (Number(value=6), False)
    assert caplog.text.count("its record has another form") == 1
    assert execute(TIMES, (Number(value=3),), Factor(), store, Runtime()).cached


class Draft(Number):
    economy: int

    @property
    def provisional(self) -> bool:
        return self.economy > 0


def test_what_was_made_with_less_memory_is_used_and_made_anew(tmp_path: Path) -> None:
    """Its files stay, for the scene that was made of it; the next run does not find it."""
    store, seen = Store(tmp_path), []

    def draw(*, config: Factor, work: Work) -> Draft:
        work.write("file.txt").write_text(f"economy {work.runtime.economy}")
        seen.append(store.root / work.artifact("file.txt").path)
        return Draft(value=3, economy=work.runtime.economy)

    stage = Stage("draw", Draft, draw)
    outcome = execute(stage, (), Factor(), store, Runtime(economy=1))
    assert (outcome.record.economy, outcome.cached) == (1, False)
    assert seen[0].read_text() == "economy 1"
    outcome = execute(stage, (), Factor(), store, Runtime())
    assert (outcome.record.economy, outcome.cached) == (0, False)
    assert seen[1].read_text() == "economy 0"
    assert execute(stage, (), Factor(), store, Runtime()).cached


def test_keys_tell_numbers_from_records_and_order() -> None:
    one, two = Number(value=1), Number(value=2)
    keys = [TIMES.key(inputs, Factor()) for inputs in ((one, two), (two, one), (1, two), (one, 2), (1,), (one,))]
    assert len(set(keys)) == len(keys)


@given(st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=4)), st.lists, max_leaves=4))
def test_digest_ignores_the_order_of_names(value: Any) -> None:
    assert digest_json({"a": value, "b": 1}) == digest_json({"b": 1, "a": value})


def test_digest_refuses_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json(float("nan"))


ALL = ["read", "segment", "depth", "layout", "generate 1", "generate 2", "compose", "export", "report"]


@pytest.mark.parametrize(
    ("override", "executed"),
    [
        ("read.max_side=640", ALL),
        ("segment.max_objects=5", ALL[1:]),
        ("depth.distance_m=2", ALL[2:]),
        ("camera.fov_deg=40", ALL[2:]),
        ("layout.grid=32", ALL[3:]),
        ("generate.guidance=0.5", ALL[4:]),
        ("texture.size=256", ALL[4:]),
        ("seed=1", ALL[4:]),
        ("objects.2.seed=1", ALL[5:]),
        ("objects.9.seed=1", []),
        ("compose.contact=false", ALL[6:]),
        ("export.usdz=false", ALL[7:]),
        ("report.picture_side=100", ALL[8:]),
    ],
)
def test_a_changed_setting_recomputes_only_what_depends_on_it(
    bench: Any, photo: Path, tmp_path: Path, override: str, executed: list[str]
) -> None:
    bench.objects = 2
    store, runtime = open_store(tmp_path / "out"), Runtime()
    source = Source(name="photo", photo=store.ingest(photo))

    def run(config: Config) -> list[str]:
        bench.executed.clear()
        with ThreadPoolExecutor(1) as executor:
            image_to_scene(source, config, local_submit(store, runtime, executor))
        return sorted(bench.executed.elements())

    assert run(Config()) == sorted(ALL)
    assert run(Config()) == []
    assert run(load_config(overrides=[override])) == sorted(executed)
    assert run(Config()) == []  # the first results are still there


def test_settings_of_one_object_are_part_of_its_key_only() -> None:
    config = load_config(overrides=["objects.2.seed=1"])
    assert config.object_settings(1) == Config().object_settings(1)
    assert config.object_settings(2) == ObjectSettings(generate=config.generate, texture=config.texture, seed=1)
