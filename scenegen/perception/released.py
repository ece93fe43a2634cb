"""Networks of transformers in the hub's layout: a folder with a config and safetensors, from which no code is ever run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scenegen.compute.runtime import Runtime
from scenegen.compute.torch_env import full_packages, require_exact
from scenegen.errors import WeightsError
from scenegen.untrusted.documents import read_json
from scenegen.weights_registry import digest_of, locate, registered

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def released_folder(
    name: str, files: Sequence[str], checkpoint: Path | None, setting: str, runtime: Runtime
) -> tuple[Path, str]:
    """The folder with the files of the registered model `name`, or the user's folder `checkpoint`, and their licence.

    Args:
        name: of a registered model.
        files: what the folder must hold.
        checkpoint: a folder of the user's.
        setting: what messages call it.
        runtime: where models are kept.

    Raises:
        WeightsError: if the model is absent or damaged, or the user's folder lacks a file.
    """
    if checkpoint is None:
        return locate(name, runtime), registered(name).licence
    for file in files:
        if not (checkpoint / file).is_file():
            raise WeightsError(
                f"`{setting}` is {checkpoint}, which has no file {file}; it must be a folder with {', '.join(files)}."
            )
    return checkpoint, "unknown (local checkpoint)"


def released_weights(name: str, files: Sequence[str], checkpoint: Path | None) -> Mapping[str, str]:
    """What a result depends on: the registered revision, or the digests of a user's files.

    Raises:
        WeightsError: if a file of the user's folder cannot be read.
    """
    if checkpoint is None:
        return {name: str(registered(name).revision)}
    return {file: digest_of(checkpoint / file) for file in files}


def read_kind(folder: Path, what: str, allowed: Collection[str]) -> Mapping[str, Any]:
    """The config of a folder, which must be of an allowed `model_type`, before any class is built from it.

    Raises:
        WeightsError: if it cannot be read, or is of another type.
    """
    path = folder / CONFIG
    try:
        config = read_json(path)
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, what, error) from error
    if kind not in allowed:
        raise WeightsError(f"{path} describes a {kind!r}; it must be of {' or '.join(map(repr, allowed))}: {what}.")
    return config


def load_released(network: Any, folder: Path, what: str) -> Any:
    """The network of a folder, for inference on the CPU, every tensor accounted for.

    Args:
        network: its class in transformers.
        folder: with `config.json` and `model.safetensors`.
        what: what messages call it.

    Raises:
        WeightsError: if a file is damaged or of another network.
    """
    with full_packages():
        from safetensors import SafetensorError

    try:
        with _silence():
            made, report = network.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, by name, with the others
                output_loading_info=True,
            )
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise unreadable(folder, what, error) from error
    misshapen = [name for name, *_ in report["mismatched_keys"]]
    require_exact(folder / WEIGHTS, report["missing_keys"], report["unexpected_keys"], misshapen)
    return made.eval()


def unreadable(path: Path, what: str, error: Exception) -> WeightsError:
    """The error for files that are not those of the network `what`."""
    return WeightsError(f"{path} cannot be read as {what}: {error}; fetch or copy it again.")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps transformers from drawing bars and reporting what is reported here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
