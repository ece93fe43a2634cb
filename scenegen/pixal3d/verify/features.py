"""Checks image features and the up-sampler against the reference."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from scenegen.pixal3d.dino import Dinov3, normalised
from scenegen.pixal3d.features import ExtractorSettings, FeatureExtractor, ImageFeatures
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.preprocess import image_tensor
from scenegen.pixal3d.projection import (
    Cameras,
    dense_coords,
    front_cameras,
    lattice_points,
    project,
    relative_cameras,
    sample,
    world_from_latent,
)
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare

MATRICES = 1e-5
WORLD = 1e-6
PIXELS = 2e-3
GUIDE = 3e-5
UPSAMPLED = 5e-5
PICTURE = 1e-6
TOKENS = 5e-5
PROJECTED = 3e-4


def check_naf(case: Case) -> list[Measured]:
    """The guide's maps, the whole up-sampled map, and its samples without it."""
    given, size = case.tensors, case.config["T"]
    naf = _naf(case.config)
    naf.load_state_dict(case.weights)
    measured = []
    for item, (guide, lr) in enumerate(zip(given["guide"], given["lr_features"], strict=True)):
        queries = naf.queries(guide, size)
        dense = naf.dense(guide, lr, size)
        points = given["tap_grid"][item]
        outputs = {
            "encoder_pooled": (naf.image_encoder.features(guide[None], size)[0], GUIDE),
            "roped": (queries, GUIDE),
            "keys": (F.adaptive_avg_pool2d(queries, lr.shape[-2:]), GUIDE),
            "hr_features": (dense, UPSAMPLED),
            "tap_features": (naf.at(guide, lr, points, size).T, UPSAMPLED),
        }
        measured += [
            compare(f"{name}[{item}]", ours, given[name][item], tolerance)
            for name, (ours, tolerance) in outputs.items()
            if name in given
        ]
        if "tap_features" in given:
            sampled = sample(dense, points).T
            measured.append(compare(f"dense taps[{item}]", sampled, given["tap_features"][item], UPSAMPLED))
    return measured


def check_extractor(case: Case) -> list[Measured]:
    """One picture, from its bytes to the features of every voxel."""
    given, settings = case.tensors, _settings(case.config)
    extractor = _extractor(case)
    image = image_tensor(given["image_uint8"].cpu().numpy(), settings.image_size)[None].to(given["image_uint8"].device)
    tokens = extractor.dino(normalised(image))
    features = extractor.encode(image[:, None])
    cameras = front_cameras(given["camera_angle_x"], given["distance"], given["mesh_scale"])
    projected = extractor.project(features, cameras, settings)
    # The reference leaves out the checkpoint's own last norm.
    affine = tokens * extractor.dino.norm.weight + extractor.dino.norm.bias
    measured = [
        compare("dino_input", normalised(image), given["dino_input"], PICTURE),
        compare("tokens", tokens, given["tokens"], TOKENS),
        compare("global", features.global_tokens, given["global"], TOKENS),
        compare("lr_map", features.lr[:, 0], given["lr_map_bchw"], TOKENS),
        compare("proj", projected, given["proj"], PROJECTED),
        compare("affine norm", affine, given["hf_last_hidden_state_affine_norm_NOT_used"], TOKENS),
    ]
    if "hr_taps" in given:
        measured.append(compare("hr_taps", projected.chunk(2, dim=-1)[1], given["hr_taps"], PROJECTED))
    if "coords" in given:
        gathered = extractor.project(features, cameras, settings, given["coords"])
        measured.append(compare("proj_at_coords", gathered, given["proj_at_coords"], PROJECTED))
    return measured


def check_views(case: Case) -> list[Measured]:
    """Several pictures of one object, each by itself and fused."""
    given, settings = case.tensors, _settings(case.config)
    extractor = _extractor(case)
    fov, scale = given["camera_angle_x"], given["mesh_scale"]
    cameras = relative_cameras(given["transform_matrix"], fov, given["distance"][:, 0], scale)
    features = extractor.encode(given["images"])
    points = lattice_points(dense_coords(settings.grid_resolution), settings.grid_resolution)
    worlds = [world_from_latent(points, one) for one in scale]
    uv, alone = [], []
    for item, world in enumerate(worlds):
        this = slice(item, item + 1)
        for view, (pose, angle) in enumerate(zip(cameras.world_from_camera[item], fov[item], strict=True)):
            uv.append(project(world, pose, angle, settings.image_size)[0])
            one = (this, slice(view, view + 1))
            seen = ImageFeatures(features.images[one], features.special_tokens[one], features.lr[one])
            camera = Cameras(cameras.world_from_camera[one], fov[one], scale[this])
            alone.append(extractor.project(seen, camera, settings)[0])
    return [
        compare("effective_c2w", cameras.world_from_camera, given["effective_c2w"], MATRICES),
        compare("world_grid", torch.stack(worlds).reshape(given["world_grid"].shape), given["world_grid"], WORLD),
        compare("uv_per_view", torch.stack(uv).reshape(given["uv_per_view"].shape), given["uv_per_view"], PIXELS),
        compare("tokens", extractor.dino(normalised(given["images"].flatten(0, 1))), given["tokens"], TOKENS),
        compare(
            "proj_per_view", torch.stack(alone).reshape(given["proj_per_view"].shape), given["proj_per_view"], PROJECTED
        ),
        compare("proj", extractor.project(features, cameras, settings), given["proj"], PROJECTED),
        compare("global", features.global_tokens, given["global"], PROJECTED),
    ]


def _extractor(case: Case) -> FeatureExtractor:
    config = case.config
    naf = _naf(config["naf"]) if config["use_naf_upsample"] else None
    extractor = FeatureExtractor(Dinov3(config["dinov3"]), naf)
    extractor.load_state_dict(case.weights)
    return extractor


def _naf(config: Mapping[str, Any]) -> NafUpsampler:
    """The up-sampler, from a config that also holds the sizes of the case's pictures."""
    known = inspect.signature(NafUpsampler).parameters
    return NafUpsampler(**{name: value for name, value in config.items() if name in known})


def _settings(config: Mapping[str, Any]) -> ExtractorSettings:
    return ExtractorSettings(
        image_size=config["image_size"],
        grid_resolution=config["grid_resolution"],
        use_naf=config["use_naf_upsample"],
        naf_target_size=config["naf_target_size"] if config["use_naf_upsample"] else None,
    )


CHECKS: Mapping[str, Check] = {"03_naf": check_naf, "04_extractor": check_extractor, "11_multiview": check_views}
