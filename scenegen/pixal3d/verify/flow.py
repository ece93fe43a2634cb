"""Checks the flow transformers against stored cases, including their intermediate results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from scenegen.pixal3d.flow import FlowTransformer, LatentFlow, StructureFlow
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare_stored

TOLERANCE = 2e-5
STRUCTURE_INPUTS = {"x", "t", "cond_global", "cond_proj"}
LATENT_INPUTS = {"x_feats", "coords", "t", "cond_global", "cond_proj_feats", "concat_cond_feats"}


def check_structure_flow(case: Case) -> list[Measured]:
    """The dense flow: conditional and unconditional velocity, and the residual stream."""
    flow = StructureFlow(**case.config).eval()
    flow.load_state_dict(case.weights)
    flow.to_dtype(case.dtype)
    x, t, cond_global, cond_proj = (case.tensors[name] for name in ("x", "t", "cond_global", "cond_proj"))
    v, ours = _watched(flow, lambda: flow(x, t, cond_global, cond_proj))
    ours = {
        name: part.unflatten(0, (len(x), -1)) if name.startswith(("h_", "block")) else part
        for name, part in ours.items()
    }
    ours |= {"v": v, "rope_phases_real": torch.view_as_real(flow.rope_phases)}
    if "v_uncond" in case.tensors:
        ours["v_uncond"] = flow.at(cond_global, cond_proj)(x, t, False)
    return compare_stored(case, STRUCTURE_INPUTS, ours, lambda _: TOLERANCE)


def check_latent_flow(case: Case) -> list[Measured]:
    """The sparse flow, of shape or texture: the same."""
    flow = LatentFlow(**case.config).eval()
    flow.load_state_dict(case.weights)
    flow.to_dtype(case.dtype)
    x, coords, t, cond_global, cond_proj = (
        case.tensors[name] for name in ("x_feats", "coords", "t", "cond_global", "cond_proj_feats")
    )
    concat = case.tensors.get("concat_cond_feats")
    v, ours = _watched(flow, lambda: flow(x, coords, t, cond_global, cond_proj, concat))
    ours["v_feats"] = v
    if "v_uncond_feats" in case.tensors:
        ours["v_uncond_feats"] = flow.at(coords, cond_global, cond_proj, concat)(x, t, False)
    return compare_stored(case, LATENT_INPUTS, ours, lambda _: TOLERANCE)


CHECKS: Mapping[str, Check] = {
    "05_ss_flow": check_structure_flow,
    "05b_ss_flow": check_structure_flow,
    "06_slat_flow": check_latent_flow,
}


def _watched(flow: FlowTransformer, run: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The result of `run`, and the outputs of the parts under the names the cases store them by."""
    parts: dict[str, nn.Module] = {"h_input": flow.input_layer, "t_emb": flow.t_embedder, "mod": flow.adaLN_modulation}
    for index, block in enumerate(flow.blocks):
        parts |= {
            f"block{index}_self_attn_out": block.self_attn,
            f"block{index}_cross_attn_out": block.cross_attn,
            f"block{index}_mlp_out": block.mlp,
            f"h_block{index}": block,
        }
    seen: dict[str, Tensor] = {}

    def watch(name: str, part: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return part.register_forward_hook(
            lambda _module, _args, output: seen.update({name: output if isinstance(output, Tensor) else output[0]})
        )

    handles = [watch(name, part) for name, part in parts.items()]
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    return result, seen
