from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scenegen.compute.runtime import Runtime
from scenegen.errors import ResourceError, UsageError, WeightsError
from scenegen.weights_registry import MODELS, Model, ModelFile, download, fetch, list_models, locate, locate_pixal3d
from scenegen.weights_registry.convert import as_safetensors
from tests.weights_registry.site_of_models import Site, served

REVISION = "0123456789abcdef0123456789abcdef01234567"
CONTENT = np.random.default_rng(0).bytes(3_000_000)
CONFIG = b'{"model_type": "tiny"}\n'


@pytest.fixture
def site() -> Site:
    hub = f"/someone/tiny-hf/resolve/{REVISION}"
    return Site({"/tiny.pth": CONTENT, f"{hub}/config.json": CONFIG, f"{hub}/model.safetensors": CONTENT})


@pytest.fixture
def address(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(site) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def plain(address: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A registered model of one file at an address of its own."""
    file = ModelFile("tiny.pth", f"{address}/tiny.pth", len(CONTENT), sha256(CONTENT))
    return register(Model("tiny-plain", "segment", None, None, (file,), "MIT", ""), monkeypatch)


@pytest.fixture
def hub(address: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A registered model of the hub, with one file nobody has published a digest of."""
    files = (ModelFile("config.json"), ModelFile("model.safetensors", None, len(CONTENT), sha256(CONTENT)))
    return register(Model("tiny-hub", "depth", "someone/tiny-hf", REVISION, files, "MIT", ""), monkeypatch)


def register(model: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setitem(MODELS, model.name, model)  # type: ignore[arg-type]
    return model


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(models=tmp_path / "models")


def state(name: str, runtime: Runtime, hashes: bool = False) -> tuple[str, str]:
    row = next(row for row in list_models(runtime, hashes) if row.model.name == name)
    return row.state, row.detail


# --- the registry -----------------------------------------------------------------------------------------------------


LICENCES = (
    "Apache-2.0",
    "CC-BY-NC-4.0",
    "MIT",
    "DINOv3",
    "SAM License",
    "Apple AMLR",
    "OpenRAIL++",
    "other (SuperPoint)",
    "not stated",
)


def test_every_model_is_pinned_and_licensed() -> None:
    assert len(MODELS) == 23
    for name, model in MODELS.items():
        assert name == model.name
        assert model.kind in ("segment", "depth", "complete", "generate", "match")
        assert model.licence in LICENCES
        assert model.licence_from
        assert model.gigabytes > 0
        if model.repo is None:
            assert all(file.url and file.url.endswith(f"/{file.name}") for file in model.files)
            assert all(file.bytes and file.sha256 for file in model.files)
        else:
            # No commit of this one is known.
            assert re.fullmatch(r"[0-9a-f]{40}", str(model.revision)) or name == "lightglue-superpoint"
        if name.startswith("depth-anything"):
            assert [file.name for file in model.files] == [
                "config.json",
                "preprocessor_config.json",
                "model.safetensors",
            ]
        for file in model.files:
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.sha256 is not None or not file.name.endswith(
                (".pt", ".pth")
            )  # a pickle is never read unchecked
    weights = {
        (file.name if "ckpts/" in file.name else (model.name, file.name)): file.sha256
        for model in MODELS.values()
        for file in model.files
        if file.sha256 and file.name.endswith((".pt", ".pth", "tensors"))
    }  # the two models of Pixal3D share their decoders
    assert len(set(weights.values())) == len(weights) == 18


def test_what_is_not_free_for_commercial_use_says_so() -> None:
    bound = {name for name, model in MODELS.items() if model.licence in ("CC-BY-NC-4.0", "Apple AMLR")}
    assert bound == {"depth-pro"} | {
        name for name in MODELS if name.startswith("depth-anything") and not name.endswith("-small")
    }
    assert all("commercial" in MODELS[name].note for name in bound)


def test_pixal3d_has_a_config_and_weights_of_every_network_and_no_more() -> None:
    pixal3d = MODELS["pixal3d"]
    names = [file.name for file in pixal3d.files]
    assert names[0] == "pipeline.json"
    stems = {name.rsplit(".", 1)[0] for name in names[1:]}
    assert len(stems) == 7
    assert sorted(names[1:]) == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".json", ".safetensors"))
    assert all(file.bytes for file in pixal3d.files)
    # 1,339,411,976 float32 parameters, a table of 4096 x 64 complex64, and a header of less than 100 kB.
    sizes = {file.name: file.bytes or 0 for file in pixal3d.files}
    flow = sizes["ckpts/ss_flow_img_dit_1_3B_64_bf16.safetensors"]
    assert 0 < flow - 4 * 1_339_411_976 - 8 * 4096 * 64 < 100_000
    # For several views: flows of their own, the same decoders.
    several = {file.name: (file.bytes, file.sha256) for file in MODELS["pixal3d-mv"].files}
    single = {file.name: (file.bytes, file.sha256) for file in pixal3d.files}
    assert {name: found for name, found in several.items() if "dec" in name} == {
        name: found for name, found in single.items() if "dec" in name
    }
    assert {name: found[0] for name, found in several.items() if name.endswith("_mv.safetensors")} == {
        name.replace(".safe", "_mv.safe"): found[0]
        for name, found in single.items()
        if "flow" in name and "safe" in name
    }


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a//b", "./a", "a/", "a\\b"])
def test_a_file_outside_its_models_folder_cannot_be_registered(name: str) -> None:
    with pytest.raises(ValueError, match="below the model's folder"):
        ModelFile(name)


def test_an_unknown_name_lists_the_known_ones(runtime: Runtime) -> None:
    for act in (fetch, locate):
        with pytest.raises(UsageError, match=r"'sam4'.*sam-vit_b"):
            act("sam4", runtime)


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_a_fetch_brings_verifies_and_records_every_file(hub: Model, runtime: Runtime) -> None:
    assert state("tiny-hub", runtime) == ("absent", "")
    steps: list[tuple[str, int, int | None]] = []
    folder = fetch("tiny-hub", runtime, progress=lambda *step: steps.append(step))
    assert folder == locate("tiny-hub", runtime) == runtime.models / "tiny-hub"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "verified.json"]
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert state("tiny-hub", runtime) == ("present", "")
    verified = json.loads((folder / "verified.json").read_text())
    assert verified["revision"] == REVISION
    assert verified["files"]["config.json"] == {"bytes": len(CONFIG), "sha256": sha256(CONFIG)}
    done = [done for name, done, _ in steps if name == "model.safetensors"]
    assert done == sorted(done)
    assert steps[-1] == ("model.safetensors", len(CONTENT), len(CONTENT))


def test_a_second_fetch_asks_for_nothing(hub: Model, runtime: Runtime, site: Site) -> None:
    fetch("tiny-hub", runtime)
    asked = len(site.asked)
    fetch("tiny-hub", runtime)
    fetch("tiny-hub", replace(runtime, offline=True))
    assert len(site.asked) == asked


@pytest.mark.parametrize("done", [0, 1, 1_500_000, len(CONTENT) - 1, len(CONTENT)])
def test_an_interrupted_download_is_resumed(plain: Model, runtime: Runtime, site: Site, done: int) -> None:
    folder = runtime.models / "tiny-plain"
    folder.mkdir(parents=True)
    (folder / "tiny.pth.part").write_bytes(CONTENT[:done])
    fetch("tiny-plain", runtime)
    assert (folder / "tiny.pth").read_bytes() == CONTENT
    ranges = {0: [None], len(CONTENT): []}.get(done, [f"bytes={done}-"])
    assert [wanted for _, wanted in site.asked] == ranges


def test_a_download_of_unknown_size_that_was_complete_is_kept(hub: Model, runtime: Runtime, site: Site) -> None:
    folder = runtime.models / "tiny-hub"
    folder.mkdir(parents=True)
    (folder / "config.json.part").write_bytes(CONFIG)
    fetch("tiny-hub", runtime)
    assert (folder / "config.json").read_bytes() == CONFIG


def test_a_server_that_cannot_resume_is_read_from_the_start(plain: Model, runtime: Runtime, site: Site) -> None:
    site.resumes = False
    folder = runtime.models / "tiny-plain"
    folder.mkdir(parents=True)
    (folder / "tiny.pth.part").write_bytes(b"something else")
    fetch("tiny-plain", runtime)
    assert (folder / "tiny.pth").read_bytes() == CONTENT


def test_a_cut_connection_leaves_what_came_and_the_next_fetch_goes_on(
    plain: Model, runtime: Runtime, site: Site
) -> None:
    site.breaks_after = 1_000_000
    with pytest.raises(WeightsError, match=r"1000000 of 3000000 bytes.*resumes"):
        fetch("tiny-plain", runtime)
    assert state("tiny-plain", runtime)[0] == "absent"
    site.breaks_after = None
    fetch("tiny-plain", runtime)
    assert site.asked[-1][1] == "bytes=1000000-"
    locate("tiny-plain", runtime)


def test_other_content_than_registered_is_refused_and_removed(plain: Model, runtime: Runtime, site: Site) -> None:
    site.files["/tiny.pth"] = bytes(len(CONTENT))
    with pytest.raises(WeightsError, match=f"sha256 {sha256(bytes(len(CONTENT)))}"):
        fetch("tiny-plain", runtime)
    assert list((runtime.models / "tiny-plain").iterdir()) == []


def test_another_size_than_registered_is_refused_before_it_is_read(plain: Model, runtime: Runtime, site: Site) -> None:
    site.files["/tiny.pth"] = CONTENT + b"more"
    with pytest.raises(WeightsError, match="3000004 bytes instead of 3000000"):
        fetch("tiny-plain", runtime)
    assert list((runtime.models / "tiny-plain").iterdir()) == []


def test_a_file_that_is_gone_is_named(plain: Model, runtime: Runtime, site: Site) -> None:
    site.files.clear()
    with pytest.raises(WeightsError, match=r"/tiny\.pth answered 404"):
        fetch("tiny-plain", runtime)


def test_a_dead_network_is_noticed_soon(plain: Model, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.TIMEOUT_S <= 10
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/tiny.pth"
        register(replace(plain, files=(replace(plain.files[0], url=url),)), monkeypatch)
        with pytest.raises(WeightsError, match="cannot be reached"):
            fetch("tiny-plain", runtime)
    with pytest.raises(WeightsError, match="cannot be reached"):  # and now nobody even accepts
        fetch("tiny-plain", runtime)


def test_offline_never_touches_the_network(plain: Model, runtime: Runtime, site: Site) -> None:
    with pytest.raises(WeightsError, match="this run is offline") as caught:
        fetch("tiny-plain", replace(runtime, offline=True))
    assert caught.value.exit_code == 4
    assert site.asked == []
    assert not runtime.models.exists()


def test_a_local_copy_serves_an_offline_machine(hub: Model, runtime: Runtime, site: Site, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_bytes(CONFIG)
    with pytest.raises(WeightsError, match=r"no file .*model\.safetensors"):
        fetch("tiny-hub", replace(runtime, offline=True), source=copy)
    (copy / "model.safetensors").write_bytes(bytes(len(CONTENT)))
    with pytest.raises(WeightsError, match="are registered"):
        fetch("tiny-hub", replace(runtime, offline=True), source=copy)
    (copy / "model.safetensors").write_bytes(CONTENT)
    fetch("tiny-hub", replace(runtime, offline=True), source=copy)
    locate("tiny-hub", runtime)
    assert site.asked == []


def test_one_file_may_be_given_itself(plain: Model, runtime: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "download (1).pth"
    file.write_bytes(CONTENT)
    assert (fetch("tiny-plain", runtime, source=file) / "tiny.pth").read_bytes() == CONTENT


def test_a_full_disk_is_a_resource_error(plain: Model, runtime: Runtime) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    folder = runtime.models / "tiny-plain"
    folder.mkdir(parents=True)
    (folder / "tiny.pth.part").symlink_to(full)
    with pytest.raises(ResourceError, match="No space left"):
        fetch("tiny-plain", runtime)


def test_a_folder_that_cannot_be_made_is_a_resource_error(plain: Model, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write"):
        fetch("tiny-plain", Runtime(models=tmp_path / "models"))


NESTED = ("pipeline.json", "ckpts/flow.json", "ckpts/flow.safetensors")


@pytest.fixture
def nested(address: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A registered model of the hub with files in a sub-folder, their sizes known and their digests not."""
    contents = dict(zip(NESTED, (b"{}", CONFIG, CONTENT), strict=True))
    for name, content in contents.items():
        site.files[f"/someone/nested/resolve/{REVISION}/{name}"] = content
    files = tuple(ModelFile(name, None, len(content)) for name, content in contents.items())
    return register(Model("nested", "generate", "someone/nested", REVISION, files, "MIT", ""), monkeypatch)


def test_files_in_sub_folders_keep_their_place(nested: Model, runtime: Runtime, site: Site) -> None:
    told: list[str] = []
    part = runtime.models / "nested" / "ckpts" / "flow.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1_000_000])
    folder = fetch("nested", runtime, progress=lambda name, *_: told.append(name))
    assert tuple(dict.fromkeys(told)) == NESTED
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*NESTED, "verified.json"}
    assert (folder / "ckpts" / "flow.safetensors").read_bytes() == CONTENT
    assert site.asked[-1] == (f"/someone/nested/resolve/{REVISION}/ckpts/flow.safetensors", "bytes=1000000-")
    assert locate("nested", runtime) == folder
    (folder / "ckpts" / "flow.json").write_bytes(bytes(len(CONFIG)))
    assert state("nested", runtime, hashes=True)[0] == "damaged"
    site.asked.clear()
    fetch("nested", runtime)
    assert [path.rsplit("/", 1)[1] for path, _ in site.asked] == ["flow.json"]
    assert state("nested", runtime, hashes=True)[0] == "present"


def test_a_local_copy_may_have_sub_folders(nested: Model, runtime: Runtime, site: Site, tmp_path: Path) -> None:
    offline = replace(runtime, offline=True)
    copy = tmp_path / "copy"
    (copy / "ckpts").mkdir(parents=True)
    (copy / "pipeline.json").write_bytes(b"{}")
    (copy / "ckpts" / "flow.json").write_bytes(CONFIG)
    with pytest.raises(WeightsError, match=r"no file .*ckpts/flow\.safetensors"):
        fetch("nested", offline, source=copy)
    (copy / "ckpts" / "flow.safetensors").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"ckpts/flow\.safetensors has 2999999 bytes"):
        fetch("nested", offline, source=copy)
    (copy / "ckpts" / "flow.safetensors").write_bytes(CONTENT)
    fetch("nested", offline, source=copy)
    locate("nested", runtime)
    assert site.asked == []


# --- what lies on the machine -----------------------------------------------------------------------------------------


def test_absent_weights_are_refused(runtime: Runtime) -> None:
    with pytest.raises(WeightsError, match=r"sam-vit_h.*absent.*scenegen models fetch sam-vit_h") as caught:
        locate("sam-vit_h", runtime)
    assert caught.value.exit_code == 4
    assert {row.state for row in list_models(runtime)} == {"absent"}


def test_damage_is_seen_and_a_fetch_repairs_only_that(hub: Model, runtime: Runtime, site: Site) -> None:
    weights = fetch("tiny-hub", runtime) / "model.safetensors"
    weights.write_bytes(CONTENT[:-1])
    assert state("tiny-hub", runtime) == ("damaged", "model.safetensors has 2999999 bytes instead of 3000000")
    with pytest.raises(WeightsError, match=r"damaged.*scenegen models fetch tiny-hub"):
        locate("tiny-hub", runtime)
    weights.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert state("tiny-hub", runtime)[0] == "present"
    assert state("tiny-hub", runtime, hashes=True)[0] == "damaged"
    site.asked.clear()
    fetch("tiny-hub", runtime)
    assert [path.rsplit("/", 1)[1] for path, _ in site.asked] == ["model.safetensors"]
    assert state("tiny-hub", runtime, hashes=True)[0] == "present"


def test_a_digest_nobody_published_is_held_to_once_it_was_seen(hub: Model, runtime: Runtime) -> None:
    config = fetch("tiny-hub", runtime) / "config.json"
    config.write_bytes(CONFIG.replace(b"tiny", b"huge"))
    assert state("tiny-hub", runtime, hashes=True)[0] == "damaged"
    fetch("tiny-hub", runtime)
    assert config.read_bytes() == CONFIG


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"revision": null, "files": {}}', '{"files": 3, "revision": 1}'])
def test_an_unreadable_record_is_damage(plain: Model, runtime: Runtime, text: str) -> None:
    (fetch("tiny-plain", runtime) / "verified.json").write_text(text)
    assert state("tiny-plain", runtime)[0] == "damaged"
    fetch("tiny-plain", runtime)
    assert state("tiny-plain", runtime)[0] == "present"


def test_a_newly_registered_revision_replaces_every_file(
    hub: Model, runtime: Runtime, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("tiny-hub", runtime)
    newer = "f" * 40
    for path, content in list(site.files.items()):
        site.files[path.replace(REVISION, newer)] = content
    site.files[f"/someone/tiny-hf/resolve/{newer}/config.json"] = b"{}"
    register(replace(hub, revision=newer), monkeypatch)
    assert state("tiny-hub", runtime)[0] == "damaged"
    assert (fetch("tiny-hub", runtime) / "config.json").read_bytes() == b"{}"
    assert state("tiny-hub", runtime) == ("present", "")


def test_a_removed_file_is_damage(hub: Model, runtime: Runtime) -> None:
    folder = fetch("tiny-hub", runtime)
    (folder / "config.json").unlink()
    assert state("tiny-hub", runtime) == ("damaged", f"config.json has no bytes instead of {len(CONFIG)}")
    shutil.rmtree(folder)
    assert state("tiny-hub", runtime)[0] == "absent"


# --- Pixal3D ----------------------------------------------------------------------------------------------------------


def write_checkpoint(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """A checkpoint of 37 tensors, two of which share memory and one of which is no contiguous one; and its digest."""
    generator = torch.Generator().manual_seed(3)
    tensors = {f"layer.{i}": torch.randn(3, i + 1, generator=generator) for i in range(35)}
    tensors |= {"turned": tensors["layer.7"].T, "part": tensors["layer.8"][1:]}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
    return sha256(path.read_bytes()), tensors


def test_a_checkpoint_is_converted_once(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pth"
    digest, tensors = write_checkpoint(checkpoint)
    made = as_safetensors(checkpoint, digest)
    assert made == tmp_path / "tiny.safetensors"
    loaded = load_file(made)
    assert loaded.keys() == tensors.keys()
    assert len(loaded) == 37
    for name, tensor in tensors.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.pth", "tiny.safetensors"]
    content = made.read_bytes()
    checkpoint.unlink()
    assert as_safetensors(checkpoint, digest).read_bytes() == content


@pytest.mark.parametrize("fault", ["cut", "empty", "of another checkpoint"])
def test_a_converted_file_that_is_not_intact_is_made_again(tmp_path: Path, fault: str) -> None:
    checkpoint = tmp_path / "tiny.pth"
    digest, _ = write_checkpoint(checkpoint)
    made = as_safetensors(checkpoint, digest)
    whole = made.read_bytes()
    spoilt = {"cut": whole[:-1], "empty": b"", "of another checkpoint": whole.replace(digest.encode(), b"0" * 64)}[
        fault
    ]
    made.write_bytes(spoilt)
    assert as_safetensors(checkpoint, digest).read_bytes() == whole


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_only_tensors_behind_their_digest_are_read(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pth"
    digest, tensors = write_checkpoint(checkpoint)
    with pytest.raises(WeightsError, match=f"sha256 {digest}"):
        as_safetensors(checkpoint, "0" * 64)
    for content, message in (
        (tensors | {"trap": Trap(tmp_path / "sprung")}, "not a checkpoint of plain tensors"),
        (tensors | {"epoch": 3}, "more than named tensors"),
        (list(tensors.values()), "more than named tensors"),
    ):
        torch.save(content, checkpoint)
        with pytest.raises(WeightsError, match=message):
            as_safetensors(checkpoint, sha256(checkpoint.read_bytes()))
    checkpoint.write_bytes(b"no checkpoint at all")
    with pytest.raises(WeightsError, match="not a checkpoint of plain tensors"):
        as_safetensors(checkpoint, sha256(b"no checkpoint at all"))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pth"]


def test_a_folder_without_room_for_the_converted_file_is_a_resource_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "tiny.pth"
    digest, _ = write_checkpoint(checkpoint)

    def full(path: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="No space left"):
        as_safetensors(checkpoint, digest)
    assert not (tmp_path / "tiny.safetensors").exists()


COMMAND = "`scenegen models fetch pixal3d dinov3-vitl16 naf`"


def test_pixal3d_is_located_when_all_three_models_are_there(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    digest, tensors = write_checkpoint(copy / "naf_release.pth")
    for name in ("pixal3d", "dinov3-vitl16"):  # the registered files, with a few bytes each
        model, files = MODELS[name], []
        for file in model.files:
            path = copy / file.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file.name.encode())
            files.append(replace(file, bytes=path.stat().st_size, sha256=sha256(path.read_bytes())))
        register(replace(model, files=tuple(files)), monkeypatch)
    naf = replace(MODELS["naf"].files[0], bytes=(copy / "naf_release.pth").stat().st_size, sha256=digest)
    register(replace(MODELS["naf"], files=(naf,)), monkeypatch)

    offline = replace(runtime, offline=True)
    with pytest.raises(WeightsError) as caught:
        locate_pixal3d(offline)
    assert COMMAND in str(caught.value)
    assert "this run is offline" in str(caught.value)
    assert str(caught.value).count("are absent") == 3
    for name in ("pixal3d", "dinov3-vitl16", "naf"):
        with pytest.raises(WeightsError, match=f"`{name}` are absent.*{COMMAND}"):
            locate_pixal3d(runtime)
        fetch(name, offline, source=copy)

    folder, dino_file, naf_file = locate_pixal3d(offline)
    assert folder == runtime.models / "pixal3d"
    assert (folder / "pipeline.json").is_file()
    assert dino_file.read_bytes() == b"model.safetensors"
    assert load_file(naf_file).keys() == tensors.keys()
    assert locate("naf", runtime) == naf_file.parent  # the converted file is no damage

    (folder / "ckpts" / "ss_dec_conv3d_16l8_fp16.safetensors").unlink()
    with pytest.raises(WeightsError) as caught:
        locate_pixal3d(runtime)
    assert "`pixal3d` are damaged" in str(caught.value)
    assert "ckpts/ss_dec_conv3d_16l8_fp16.safetensors has no bytes" in str(caught.value)
    assert "dinov3-vitl16` are" not in str(caught.value)
    assert COMMAND in str(caught.value)
