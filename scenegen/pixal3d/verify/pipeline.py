"""Checks the whole cascade with small networks, run freely from the picture, against the reference's stage outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scenegen.pixal3d.dino import Dinov3
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.pipeline import generate, one_picture
from scenegen.pixal3d.preprocess import object_picture
from scenegen.pixal3d.projection import front_cameras
from scenegen.pixal3d.sampler import SamplerSettings
from scenegen.pixal3d.settings import PipelineSettings
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare, compare_exactly, read_case
from scenegen.pixal3d.weights import build

LATENT, CONDITION, DECODED, STRUCTURE = 2e-4, 5e-5, 5e-4, 1e-4
"""Tolerances of a free run in float32."""


def check_pipeline(case: Case) -> list[Measured]:
    """Everything the case stores, stage by stage."""
    weights = read_case(
        case.path.with_name(f"{case.path.stem}_weights.safetensors"), case.tensors["image_rgba"].device
    ).weights
    config = case.config
    networks = {name: _filled(entry, weights, name) for name, entry in config["models"].items()}
    extractor = FeatureExtractor(
        _loaded(Dinov3(config["dinov3"]), weights, "dino"), _loaded(NafUpsampler(**config["naf"]), weights, "naf")
    )
    rgba = case.tensors["image_rgba"].cpu().numpy()
    camera = config["camera"]
    angle, distance, scale = (torch.tensor([camera[key]]) for key in ("camera_angle_x", "distance", "mesh_scale"))
    seen: dict[str, Mapping[str, Tensor]] = {}
    generate(
        lambda name: contextlib.nullcontext(networks[name]),
        extractor,
        one_picture(rgba),
        front_cameras(angle, distance, scale),
        _settings(config),
        seed=config["seed"],
        resolution=int(config["pipeline_type"].removesuffix("_cascade")),
        observe=lambda stage, results: seen.update({stage: results}),
    )
    structure, coarse, fine = seen["structure"], seen["coarse shape"], seen["fine shape"]
    texture, decoded = seen["texture"], seen["decode"]
    stored = case.tensors
    pairs = [
        ("cond_ss_global", structure["tokens"], CONDITION),
        ("cond_ss_proj", structure["features"], CONDITION),
        ("z_ss", structure["latent"], STRUCTURE),
        ("coords_ss", structure["coords"], None),
        ("cond_shape_lr_proj", coarse["features"], CONDITION),
        ("slat_lr_denorm", coarse["latent"], LATENT),
        ("upsampled_coords", coarse["lattice"], None),
        ("coords_hr", coarse["coords"], None),
        ("cond_shape_hr_proj", fine["features"], CONDITION),
        ("slat_hr_denorm", fine["latent"], LATENT),
        ("slat_hr_normalised", texture["shape"], LATENT),
        ("cond_tex_global", texture["tokens"], CONDITION),
        ("cond_tex_proj", texture["features"], CONDITION),
        ("slat_tex_denorm", texture["latent"], LATENT),
        ("decoder_raw7", decoded["raw"], DECODED),
        ("decoder_coords", decoded["coords"], None),
        ("pbr_voxels", decoded["attributes"], DECODED),
        ("pbr_coords", decoded["coords"][:, 1:], None),
        ("mesh_vertices", decoded["vertices"], DECODED),
        ("mesh_faces", decoded["faces"], None),
        *((f"sub{level}_mask", decoded[f"subdivision {level}"], None) for level in range(4)),
    ]
    preprocessed = compare_exactly(
        "image_preprocessed", torch.from_numpy(object_picture(rgba)), stored["image_preprocessed"]
    )
    return [
        preprocessed,
        *(
            compare_exactly(what, ours, stored[what])
            if tolerance is None
            else compare(what, ours, stored[what], tolerance)
            for what, ours, tolerance in pairs
        ),
    ]


def _filled(entry: Mapping[str, Any], weights: Mapping[str, Tensor], name: str) -> nn.Module:
    return _loaded(build(entry["name"], entry["args"], "float32"), weights, name)


def _loaded(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> nn.Module:
    mine = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    network.load_state_dict(mine, strict=True, assign=True)
    return network.eval()


def _settings(config: Mapping[str, Any]) -> PipelineSettings:
    def sampler(name: str) -> SamplerSettings:
        params = config["sampler_params"][name]
        return SamplerSettings(**{**params, "guidance_interval": tuple(params["guidance_interval"])})

    def view(name: str) -> ExtractorSettings:
        entry = config["extractors"][name]
        return ExtractorSettings(
            entry["image_size"],
            entry["grid_resolution"],
            use_naf=entry.get("use_naf_upsample", False),
            naf_target_size=entry.get("naf_target_size"),
        )

    return replace(
        PipelineSettings(),
        structure_sampler=sampler("ss"),
        shape_sampler=sampler("shape"),
        texture_sampler=sampler("tex"),
        structure_view=view("ss"),
        coarse_view=view("shape_512"),
        fine_view=view("shape_1024"),
        texture_view=view("tex_1024"),
        max_tokens=config["max_num_tokens"],
    )


CHECKS: Mapping[str, Check] = {"14_pipeline": check_pipeline}
