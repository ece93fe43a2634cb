"""Checks the decoders against stored cases, including their intermediate results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from scenegen.pixal3d.latent_decoder import FlexiDualGridVaeDecoder, SparseUnetVaeDecoder
from scenegen.pixal3d.structure_decoder import SparseStructureDecoder, occupied_voxels
from scenegen.pixal3d.surface import dual_grid_to_mesh
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare_stored
from scenegen.pixal3d.voxels import material

STRUCTURE_TOLERANCE, STRUCTURE_EPS_TOLERANCE = 3e-5, 5e-5
SPARSE_TOLERANCE = 5e-5
VERTEX_TOLERANCE = 1e-6
SPARSE_INPUTS = {"coords", "slat_feats"}


def check_structure(case: Case) -> list[Measured]:
    """Logits, occupied voxels at full and half resolution, and features on the way."""
    return _check_structure(case, STRUCTURE_TOLERANCE)


def check_structure_eps(case: Case) -> list[Measured]:
    """The same on tiny activations, where the norms' epsilon shows."""
    return _check_structure(case, STRUCTURE_EPS_TOLERANCE)


def _check_structure(case: Case, tolerance: float) -> list[Measured]:
    decoder = SparseStructureDecoder(**case.config).eval()
    decoder.load_state_dict(case.weights)
    decoder.to_dtype(case.dtype)
    first_upsample = decoder.blocks[min(case.config["num_res_blocks"], len(decoder.blocks) - 1)]
    parts = {"h_input": decoder.input_layer, "h_middle": decoder.middle_block, "h_first_upsample": first_upsample}
    logits, ours = _watched(parts, lambda: decoder(case.tensors["z"]))
    ours |= {"logits": logits, "coords_full": occupied_voxels(logits, logits.shape[-1])}
    for name in case.tensors:
        if pooled := re.fullmatch(r"coords_pooled(\d+)", name):
            ours[name] = occupied_voxels(logits, logits.shape[-1] // int(pooled[1]))
    return _compared(case, {"z"}, ours, tolerance)


def check_shape(case: Case) -> list[Measured]:
    """Raw outputs, the dual grid, the meshes, subdivisions, and features and voxels of every level."""
    decoder = FlexiDualGridVaeDecoder(**case.config).eval()
    decoder.load_state_dict(case.weights)
    feats, coords = case.tensors["slat_feats"], case.tensors["coords"]
    levels = len(case.config["num_blocks"]) - 1
    parts: dict[str, nn.Module] = {"h_from_latent": decoder.from_latent}
    parts |= {f"h_block_{i}_{j}": block for i, level in enumerate(decoder.blocks) for j, block in enumerate(level)}
    parts |= {f"h_level{i + 1}": decoder.blocks[i][-1] for i in range(levels)}
    decoded, ours = _watched(parts, lambda: decoder(feats, coords))
    grid = decoder.dual_grid(decoded)
    ours |= {
        "raw7": decoded.feats,
        "raw_coords": decoded.coords,
        "dual_vertices": grid.dual_vertices,
        "intersected": grid.intersected,
        "split_weight": grid.split_weight,
    }
    places = [coords, *(decoder.upsample(feats, coords, times) for times in range(1, levels + 1))]
    for level, place in enumerate(places):
        ours |= {f"upsample{level}_coords": place, f"coords_level{level}": place, f"subs{level}_coords": place}
    ours |= {f"subs{level}_logits": logits for level, logits in enumerate(decoded.subdivisions)}
    for item in range(int(coords[:, 0].max()) + 1):
        vertices, faces = dual_grid_to_mesh(grid.item(item), case.config["resolution"])
        ours |= {f"mesh{item}_vertices": vertices, f"mesh{item}_faces": faces}
    return _compared(case, SPARSE_INPUTS, ours, SPARSE_TOLERANCE)


def check_texture(case: Case) -> list[Measured]:
    """The material, guided by stored subdivisions."""
    decoder = SparseUnetVaeDecoder(**case.config).eval()
    decoder.load_state_dict(case.weights)
    decoder.to_dtype(case.dtype)
    levels = range(len(case.config["num_blocks"]) - 1)
    guides = [case.tensors[f"guide_subs{level}_mask"] for level in levels]
    decoded = decoder(case.tensors["slat_feats"], case.tensors["coords"], guides)
    ours = {"pbr_feats": material(decoded.feats), "pbr_coords": decoded.coords}
    inputs = SPARSE_INPUTS | {f"guide_subs{level}_{what}" for level in levels for what in ("mask", "coords")}
    return _compared(case, inputs, ours, SPARSE_TOLERANCE)


def check_sparse(case: Case) -> list[Measured]:
    """The raw outputs of a decoder that subdivides by itself."""
    decoder = SparseUnetVaeDecoder(**case.config).eval()
    decoder.load_state_dict(case.weights)
    decoded = decoder(case.tensors["slat_feats"], case.tensors["coords"])
    ours = {"out_feats": decoded.feats, "out_coords": decoded.coords}
    return _compared(case, SPARSE_INPUTS, ours, SPARSE_TOLERANCE)


CHECKS: Mapping[str, Check] = {
    "07_ss_decoder": check_structure,
    "07b_ss_decoder": check_structure_eps,
    "08a_shape_decoder": check_shape,
    "08b_texture_decoder": check_texture,
    "08c_sparse_decoder": check_sparse,
}


def _watched(parts: Mapping[str, nn.Module], run: Callable[[], Any]) -> tuple[Any, dict[str, Tensor]]:
    """The result of `run`, and the features that come out of the parts meanwhile."""
    seen: dict[str, Tensor] = {}

    handles = [
        part.register_forward_hook(lambda _module, _args, output, name=name: seen.update({name: output}))
        for name, part in parts.items()
    ]
    try:
        return run(), seen
    finally:
        for handle in handles:
            handle.remove()


def _compared(case: Case, inputs: set[str], ours: Mapping[str, Tensor], tolerance: float) -> list[Measured]:
    """`compare_stored`, with a smaller tolerance for vertices of meshes."""
    return compare_stored(
        case, inputs, ours, lambda name: VERTEX_TOLERANCE if re.match(r"mesh\d+_vertices", name) else tolerance
    )
