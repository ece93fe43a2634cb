"""The comparison with stored cases: it takes cases of other sizes, finds what is wrong in one, and knows no others.

The cases are written here, from oracles in numpy that share no code with what they check.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from scenegen.pixal3d.flow import LatentFlow, StructureFlow
from scenegen.pixal3d.naf import NafUpsampler
from scenegen.pixal3d.verify.__main__ import app
from scenegen.pixal3d.verify.case import Measured, compare_directions


def write_case(folder: Path, name: str, config: dict[str, Any], tensors: dict[str, Any]) -> Path:
    packed = {
        key: (value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))).contiguous()
        for key, value in tensors.items()
    }
    path = folder / f"{name}.safetensors"
    save_file(packed, path, {"case": name, "module": "an oracle", "config": json.dumps(config)})
    return path


def verify(*words: object) -> int:
    return int(app([str(word) for word in words], result_action="return_value"))


def bilinear(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Samples [n, c] of a picture [h, w, c] at (u, v) in pixels, centres at +0.5; the border continues."""
    height, width = picture.shape[:2]
    x, y = np.clip(uv[:, 0] - 0.5, 0, width - 1), np.clip(uv[:, 1] - 0.5, 0, height - 1)
    left, top = np.minimum(np.floor(x), width - 2).astype(int), np.minimum(np.floor(y), height - 2).astype(int)
    right, down = (x - left)[:, None], (y - top)[:, None]
    above = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    below = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return above * (1 - down) + below * down


def projection_case(
    folder: Path, batch: int, resolution: int, size: int, lr: tuple[int, int], hr: tuple[int, int]
) -> Path:
    """ProjGrid in float64, from its formulas alone."""
    rng = np.random.default_rng(resolution)
    channels = 3
    fov, scale = rng.uniform(0.3, 1.0, batch), rng.uniform(0.8, 1.3, batch)
    distance = 0.5 / scale / np.tan(fov / 2) * rng.uniform(1.1, 1.6, batch)
    maps = {name: 0.3 * rng.normal(size=(batch, *sides, channels)) for name, sides in (("lr", lr), ("hr", hr))}
    axis = np.linspace(-1, 1, resolution)
    x, y, z = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3).T
    turned = np.stack([x, -z, y], axis=-1)
    out: dict[str, list[np.ndarray]] = {
        name: [] for name in ("world", "uv", "depth", "uv_norm", "proj_lr", "proj_hr", "c2w")
    }
    for item in range(batch):
        world = turned / scale[item] / 2
        depth = world[:, 1] + distance[item]
        focal = size / 2 / np.tan(fov[item] / 2)
        uv = np.stack([size / 2 + focal * world[:, 0] / depth, size / 2 - focal * world[:, 2] / depth], axis=-1)
        out["world"].append(world)
        out["depth"].append(depth)
        out["uv"].append(uv)
        out["uv_norm"].append((uv + 0.5) / size * 2 - 1)
        for name in ("lr", "hr"):
            picture = maps[name][item]
            out[f"proj_{name}"].append(bilinear(picture, (uv + 0.5) / size * [picture.shape[1], picture.shape[0]]))
        pose = np.array([[1, 0, 0, 0], [0, 0, -1, -distance[item]], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        out["c2w"].append(pose)
    stacked = {name: np.stack(values).astype(np.float32) for name, values in out.items()}
    both = np.concatenate([stacked["proj_lr"], stacked["proj_hr"]], axis=2)
    coords = np.concatenate(
        [np.pad(rng.integers(0, resolution, (20, 3)), ((0, 0), (1, 0)), constant_values=item) for item in range(batch)]
    )
    row = (coords[:, 1] * resolution + coords[:, 2]) * resolution + coords[:, 3]
    return write_case(
        folder,
        f"01_projgrid_{resolution}",
        {"grid_resolution": resolution, "image_resolution": size, "C": channels, "fmap_lr": lr, "fmap_hr": hr},
        {
            **stacked,
            "proj_cat": both,
            "grid_points": turned.astype(np.float32),
            "camera_angle_x": fov.astype(np.float32),
            "distance": distance.astype(np.float32),
            "mesh_scale": scale.astype(np.float32),
            "fmap_lr_bhwc": maps["lr"].astype(np.float32),
            "fmap_hr_bchw": maps["hr"].transpose(0, 3, 1, 2).astype(np.float32),
            "coords": coords.astype(np.int32),
            "proj_at_coords": both[coords[:, 0], row],
        },
    )


def naf_case(folder: Path, size: int, target: int, cells: tuple[int, int], heads: int, kernel: int) -> Path:
    """Two pictures; the whole map is our plain twin's, read at points by torch: `at` must agree with both."""
    torch.manual_seed(target)
    dim, channels = 32 * heads, 3 * heads
    arguments = {"dim": dim, "heads_attn": heads, "heads_rope": heads, "kernel_size": kernel}
    naf = NafUpsampler(**arguments)
    guide, lr = torch.rand(2, 3, size, size), torch.randn(2, channels, *cells)
    with torch.inference_mode():
        dense = torch.stack([naf.dense(one, low, target) for one, low in zip(guide, lr, strict=True)])
        points = torch.rand(2, 50, 2) * 2.4 - 1.2
        taps = functional.grid_sample(dense, points[:, None], padding_mode="border", align_corners=False)[:, :, 0]
    return write_case(
        folder,
        f"03_naf_{target}",
        {**arguments, "S": size, "T": target, "C": channels},
        {
            "guide": guide,
            "lr_features": lr,
            "hr_features": dense,
            "tap_grid": points,
            "tap_features": taps,
            **{f"w.{name}": value.clone() for name, value in naf.state_dict().items()},
        },
    )


def ragged_flow_case(
    folder: Path, lengths: tuple[int, ...], heads: int, head: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Items of unequal length, each computed alone. Returns the case's config and tensors."""
    torch.manual_seed(heads)
    config = {"resolution": 8, "in_channels": 4, "out_channels": 4, "model_channels": heads * head, "cond_channels": 12}
    config |= {"num_blocks": 2, "num_heads": heads, "proj_in_channels": 10}
    flow = LatentFlow(**config).eval()
    for parameter in flow.parameters():
        parameter.data = torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5
    voxels = [torch.randperm(8**3)[:length] for length in lengths]
    places = [torch.stack([at // 64, at // 8 % 8, at % 8], dim=1).int() for at in voxels]
    total, batch = sum(lengths), len(lengths)
    x, t, tokens, features = (
        torch.randn(total, 4),
        900 * torch.rand(batch),
        torch.randn(batch, 5, 12),
        torch.randn(total, 10),
    )
    alone = []
    rows = zip(x.split(lengths), places, features.split(lengths), strict=True)
    with torch.inference_mode():
        for item, (state, place, seen) in enumerate(rows):
            this = slice(item, item + 1)
            alone.append(flow(state, functional.pad(place, (1, 0)), t[this], tokens[this], seen))
    tensors = {
        "x_feats": x,
        "coords": torch.cat([functional.pad(place, (1, 0), value=item) for item, place in enumerate(places)]),
        "t": t,
        "cond_global": tokens,
        "cond_proj_feats": features,
        "v_feats": torch.cat(alone),
        **{f"w.{name}": value.clone() for name, value in flow.state_dict().items()},
    }
    write_case(folder, "06_slat_flow_ragged", config, tensors)
    return config, tensors


def sampler_case(
    folder: Path, steps: int, strength: float, rescale: float, interval: tuple[float, float], shift: float
) -> Path:
    """Euler's method with guidance in float64, three items of unequal length, written out."""
    rng = np.random.default_rng(steps)
    lengths, channels, sigma = (4, 9, 1), 6, 1e-3
    weight, slope = rng.normal(size=(channels, channels)) * 0.4, rng.normal(size=channels)
    cond, negative = rng.normal(size=(2, 3, channels))
    owner = np.repeat(np.arange(3), lengths)
    times = np.linspace(1, 0, steps + 1)
    times = shift * times / (1 + (shift - 1) * times)
    noise = rng.normal(size=(14, channels)).astype(np.float32)
    x, calls, states, cleans = noise.astype(float), [], [], []

    def velocity(x: np.ndarray, t: float, positive: bool) -> np.ndarray:
        calls.append((1000 * t, positive))
        return 1.5 * np.tanh(x @ weight.T + (cond if positive else negative)[owner] + slope * t)

    def spread(x: np.ndarray) -> np.ndarray:
        return np.array([x[owner == item].std() for item in range(3)])[owner][:, None]

    for t, following in pairwise(times):
        if interval[0] <= t <= interval[1] and strength not in (0, 1):
            positive, other = velocity(x, t, True), velocity(x, t, False)
            v = strength * positive + (1 - strength) * other
            if rescale:
                level = sigma + (1 - sigma) * t
                x0 = (1 - sigma) * x - level * v
                x0 = rescale * x0 * spread((1 - sigma) * x - level * positive) / spread(x0) + (1 - rescale) * x0
                v = ((1 - sigma) * x - x0) / level
        else:
            v = velocity(x, t, not (interval[0] <= t <= interval[1] and strength == 0))
        cleans.append((1 - sigma) * x - (sigma + (1 - sigma) * t) * v)
        x = x - (t - following) * v
        states.append(x)
    config = {
        "steps": steps,
        "guidance_strength": strength,
        "guidance_rescale": rescale,
        "guidance_interval": interval,
        "rescale_t": shift,
        "sigma_min": sigma,
        "n_model_calls": len(calls),
        "seed": 3,
    }
    coords = np.concatenate([owner[:, None], rng.integers(0, 9, (14, 3))], axis=1)
    numbers = {"W": weight, "s": slope, "cond": cond, "neg_cond": negative, "samples": x, "noise": noise}
    return write_case(
        folder,
        f"10_sampler_{steps}",
        config,
        {
            **{name: value.astype(np.float32) for name, value in numbers.items()},
            "pred_x_t": np.stack(states).astype(np.float32),
            "pred_x_0": np.stack(cleans).astype(np.float32),
            "call_t": np.array([t for t, _ in calls], dtype=np.float32),
            "call_is_cond": np.array([c for _, c in calls], dtype=np.int32),
            "t_seq": times,
            "coords": coords.astype(np.int32),
        },
    )


def quantiser_case(folder: Path, batch: int) -> Path:
    """The loop over resolutions with numpy's `unique`."""
    rng = np.random.default_rng(batch)
    coords = np.concatenate(
        [np.pad(rng.integers(0, 512, (900, 3)), ((0, 0), (1, 0)), constant_values=item) for item in range(batch)]
    ).astype(np.int32)
    config, tensors = {}, {"hr_coords_in": coords}
    for name, wanted, limit in (("free", 1408, 10**6), ("tight", 1536, 900 * batch - 20), ("none", 1536, 3)):
        for resolution in range(wanted, 1023, -128):
            grid = resolution // 16
            scaled = np.rint(
                (coords[:, 1:].astype(np.float32) + np.float32(0.5)) / np.float32(512) * np.float32(grid - 1)
            )
            quantised = np.concatenate([coords[:, :1], scaled.astype(np.int32)], axis=1)
            unique = np.unique(quantised, axis=0)
            if len(unique) < limit:
                break
        config[name] = {
            "hr_resolution_in": wanted,
            "max_num_tokens": limit,
            "hr_resolution_out": resolution,
            "grid_res": grid,
            "tokens": len(unique),
        }
        tensors |= {f"quant_{name}": quantised, f"coords_{name}": unique}
    return write_case(folder, f"02_hr_quantiser_{batch}", config, tensors)


def grid_case(folder: Path, sizes: tuple[int, int, int], box: tuple[list[float], list[float]]) -> Path:
    """Quads by a dictionary of voxels, in a box whose edges differ."""
    rng = np.random.default_rng(sizes[0])
    everywhere = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, 3)
    coords = everywhere[rng.random(len(everywhere)) < 0.6].astype(np.int32)
    dual = rng.uniform(-0.5, 1.5, (len(coords), 3)).astype(np.float32)
    crossed = rng.random((len(coords), 3)) < 0.5
    weight = rng.uniform(0.1, 2, (len(coords), 1)).astype(np.float32)
    rows = {tuple(place): row for row, place in enumerate(coords.tolist())}
    around = (
        ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
        ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
        ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
    )
    faces = []
    for row, axis in np.argwhere(crossed):
        quad = [rows.get(tuple(coords[row] + step)) for step in around[axis]]
        if None not in quad:
            w = weight[quad, 0]
            split = ((0, 1, 2), (0, 2, 3)) if w[0] * w[2] > w[1] * w[3] else ((0, 1, 3), (3, 1, 2))
            faces += [[quad[corner] for corner in triangle] for triangle in split]
    low, high = np.array(box)
    vertices = low + (coords + dual) / np.array(sizes) * (high - low)
    return write_case(
        folder,
        f"09_fdg_{sizes[0]}",
        {"grid_size": sizes, "aabb": box, "train": False},
        {
            "coords": coords,
            "dual_vertices": dual,
            "intersected": crossed,
            "split_weight": weight,
            "vertices": vertices.astype(np.float32),
            "faces": np.array(faces, dtype=np.int32),
        },
    )


@pytest.mark.parametrize(
    "arguments", [(3, 9, 224, (14, 14), (40, 40)), (1, 5, 512, (12, 20), (33, 17)), (2, 31, 1024, (64, 64), (128, 128))]
)
def test_projections_of_other_sizes_and_cameras_agree(arguments: Any, tmp_path: Path) -> None:
    projection_case(tmp_path, *arguments)
    assert verify(tmp_path) == 0


@pytest.mark.parametrize(
    "arguments", [(40, 40, (10, 10), 2, 9), (44, 33, (11, 9), 1, 9), (30, 25, (7, 8), 3, 5), (200, 20, (9, 9), 1, 7)]
)
def test_upsampling_of_other_sizes_and_heads_agrees(arguments: Any, tmp_path: Path) -> None:
    """Square and not, up-sampled by whole factors and not, with a guide so large that it is shrunk first."""
    naf_case(tmp_path, *arguments)
    assert verify(tmp_path) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 7.5, 0.7, (0.0, 1.0), 1.0),
        (7, 2.0, 0.3, (0.1, 0.95), 4.0),
        (17, 5.0, 1.0, (0.6, 1.0), 3.0),
        (5, 0.0, 0.0, (0.2, 0.7), 2.0),
        (12, 1.0, 0.5, (0.6, 1.0), 5.0),
    ],
)
def test_sampling_with_other_steps_and_guidance_agrees(arguments: Any, tmp_path: Path) -> None:
    sampler_case(tmp_path, *arguments)
    assert verify(tmp_path) == 0


def test_quantising_several_objects_agrees(tmp_path: Path) -> None:
    quantiser_case(tmp_path, 3)
    assert verify(tmp_path) == 0


def test_grids_that_are_no_cube_agree(tmp_path: Path) -> None:
    grid_case(tmp_path, (5, 9, 3), ([-1.0, 0.0, -0.5], [1.0, 2.0, 0.5]))
    assert verify(tmp_path) == 0


def test_a_wrong_number_an_unknown_output_and_an_unknown_case_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = projection_case(tmp_path, 1, 5, 128, (8, 8), (16, 16))
    from scenegen.pixal3d.verify.case import read_case

    case = read_case(path)
    tensors = dict(case.tensors) | {"uv": case.tensors["uv"] + torch.tensor([0.0, 0.01])}
    write_case(tmp_path, "01_projgrid_5", dict(case.config), tensors)
    assert verify(tmp_path) == 1
    said = capsys.readouterr().out
    assert "FAIL  01_projgrid_5  uv[0]" in said
    assert "ok    01_projgrid_5  depth[0]" in said
    path.rename(tmp_path / "99_something_else.safetensors")
    assert verify(tmp_path) == 1
    assert "99_something_else: unknown kind of case" in capsys.readouterr().out
    assert verify(tmp_path / "nothing") == 2
    assert verify() == 2


@pytest.mark.parametrize("arguments", [((3, 11, 1), 3, 10), ((1, 2), 1, 14), ((5, 1, 1, 8), 5, 6)])
def test_ragged_batches_with_heads_of_other_sizes_agree(arguments: Any, tmp_path: Path) -> None:
    ragged_flow_case(tmp_path, *arguments)
    assert verify(tmp_path) == 0
    assert verify(tmp_path, "--dtype", "bfloat16") == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_one_number_that_is_nan_fails_the_case(dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tensors = ragged_flow_case(tmp_path, (4, 2), 2, 8)
    tensors["x_feats"][0, 0] = float("nan")
    write_case(tmp_path, "06_slat_flow_ragged", config, tensors)
    assert verify(tmp_path, "--dtype", dtype) == 1
    said = capsys.readouterr().out
    assert "FAIL  06_slat_flow_ragged  v_feats" in said
    assert "abs nan" in said


def test_nan_never_agrees() -> None:
    assert not Measured("x", float("nan"), 0.0, 1.0).passed
    zeros = torch.zeros(3)
    assert compare_directions("x", zeros, zeros).passed
    for ours in (zeros + float("nan"), zeros + 1):
        assert not compare_directions("x", ours, zeros).passed


def test_half_precision_is_compared_by_directions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"resolution": 3, "in_channels": 4, "out_channels": 4, "model_channels": 32, "cond_channels": 12}
    config |= {"num_blocks": 2, "num_heads": 2}
    flow = StructureFlow(**config).eval()
    given = {
        "x": torch.randn(1, 4, 3, 3, 3),
        "t": torch.tensor([400.0]),
        "cond_global": torch.randn(1, 5, 12),
        "cond_proj": torch.randn(1, 27, 12),
    }
    with torch.inference_mode():
        expected = flow(*given.values())
    stored = given | {f"w.{name}": value for name, value in flow.state_dict().items()}
    write_case(tmp_path, "05_ss_flow", config, stored | {"v": expected})
    projection_case(tmp_path, 1, 5, 128, (8, 8), (16, 16))
    for dtype in ("bfloat16", "float16"):
        assert verify(tmp_path, "--dtype", dtype) == 0
        said = capsys.readouterr().out
        assert "v, cosine" in said
        assert f"1 cases have nothing in {dtype}" in said
    write_case(tmp_path, "05_ss_flow", config, stored | {"v": expected.flip(1)})
    assert verify(tmp_path, "--dtype", "bfloat16") == 1
