"""Checks cameras and projection against the reference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scenegen.camera import GLTF_CAMERA_FROM_CAMERA, crop_from_latent
from scenegen.pixal3d import projection
from scenegen.pixal3d.verify.case import Case, Check, Measured, compare, compare_exactly
from scenegen.records import CropCamera, Intrinsics

NEAREST_DEPTH = 0.05
"""Closer to the camera's own plane than this, float32 decides where a point lies, and nothing is compared."""
PIXELS = 1e-3
VERTEX_PIXELS = 2e-3
UNIT = 1e-6
"""Tolerance of coordinates of order 1."""
SAMPLING_POINTS = 5e-6
FEATURES = 5e-5
RELATIVE = 2e-6


def check_grid(case: Case) -> list[Measured]:
    """Projects every voxel, and those at `coords`, through the cameras into the maps."""
    given, resolution = case.tensors, case.config["grid_resolution"]
    cameras = projection.front_cameras(given["camera_angle_x"], given["distance"], given["mesh_scale"])
    dense = projection.dense_coords(resolution)
    points = projection.world_from_latent(projection.lattice_points(dense, resolution), 0.5)
    measured = [
        compare("grid_points", points, given["grid_points"], UNIT),
        compare("c2w", cameras.world_from_camera[:, 0], given["c2w"], UNIT),
    ]
    for item in range(len(given["distance"])):
        ours = _look(case, cameras, item, dense)
        depth, uv = given["depth"][item], given["uv"][item]
        clear = depth.abs() > NEAREST_DEPTH
        tolerances = {
            "world": UNIT,
            "depth": UNIT * max(1.0, float(depth.max())),
            "uv": PIXELS,
            "uv_norm": SAMPLING_POINTS,
        }
        measured += [
            compare(f"{name}[{item}]", values[clear], given[name][item][clear], tolerances.get(name, FEATURES))
            for name, values in ours.items()
            if name in given
        ]
        size = case.config["image_resolution"]
        if "valid_mask" in given:
            decided = clear & (torch.minimum(uv.abs(), (uv - size).abs()) > PIXELS).all(dim=-1)
            seen = _inside(ours["uv"], ours["depth"], size)
            measured.append(compare_exactly(f"valid_mask[{item}]", seen[decided], given["valid_mask"][item][decided]))
        if "coords" in given:
            mine = given["coords"][:, 0] == item
            active = _look(case, cameras, item, given["coords"][mine, 1:])
            clear = active["depth"].abs() > NEAREST_DEPTH
            gathered, reference = active["proj_cat"][clear], given["proj_at_coords"][mine][clear]
            measured.append(compare(f"proj_at_coords[{item}]", gathered, reference, FEATURES))
    return measured


def _look(
    case: Case, cameras: projection.Cameras, item: int, coords: Int[Tensor, "n 3"]
) -> dict[str, Float[Tensor, "n *c"]]:
    """Where voxels of one object lie in its picture, and what they read there, under the names of the case."""
    given, size = case.tensors, case.config["image_resolution"]
    points = projection.lattice_points(coords, case.config["grid_resolution"])
    world = projection.world_from_latent(points, cameras.mesh_scale[item])
    uv, depth = projection.project(world, cameras.world_from_camera[item, 0], cameras.fov[item, 0], size)
    at = projection.sampling_points(uv, size)
    proj = {"proj_lr": projection.sample(given["fmap_lr_bhwc"][item].permute(2, 0, 1), at)}
    if "fmap_hr_bchw" in given:
        proj["proj_hr"] = projection.sample(given["fmap_hr_bchw"][item], at)
    return {"world": world, "depth": depth, "uv": uv, "uv_norm": at, **proj, "proj_cat": torch.cat([*proj.values()], 1)}


def check_distance(case: Case) -> list[Measured]:
    """The closed forms of distance, focal length and field of view; as ratios."""
    columns: list[str] = case.config["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in case.tensors["distance_table"].tolist()]
    distances = [
        projection.distance_from_fov(
            row["camera_angle_x"], row["mesh_scale"], row["extend_pixel"], int(row["image_resolution"])
        )
        / row["distance"]
        for row in rows
    ]
    focals = [
        projection.focal_pixels(row["camera_angle_x"], int(row["image_resolution"])) / row["f_pixels"] for row in rows
    ]
    fovs = torch.tensor([projection.fov_from_focal(focal) for focal in case.tensors["fx_normalised"].tolist()])
    return [
        compare("distance", torch.tensor(distances), torch.ones(len(rows)), RELATIVE),
        compare("f_pixels", torch.tensor(focals), torch.ones(len(rows)), RELATIVE),
        compare("camera_angle_x", fovs / case.tensors["camera_angle_x_from_fx"], torch.ones(len(fovs)), RELATIVE),
    ]


def check_vertices(case: Case) -> list[Measured]:
    """Vertices of a mesh in the picture, and in the reference's GLB."""
    given, config = case.tensors, case.config
    size = config["image_resolution"]
    fov, distance = (torch.tensor([config[name]]) for name in ("camera_angle_x", "distance"))
    world = projection.world_from_latent(given["vertices_latent"], config["mesh_scale"])
    uv, depth = projection.project(world, projection.front_pose(distance)[0], fov[0], size)
    glb = _glb_from_latent()
    return [
        compare("world", world, given["world"], UNIT),
        compare("uv", uv, given["uv"], VERTEX_PIXELS),
        compare("depth", depth, given["depth"], UNIT * max(1.0, float(distance))),
        compare("vertices_glb", given["vertices_latent"] @ glb.T, given["vertices_glb"], UNIT),
        compare("normals_glb", given["normals_latent"] @ glb.T, given["normals_glb"], UNIT),
        # A rotation preserves the winding.
        compare_exactly("faces_glb", given["faces"], given["faces_glb"]),
        compare("determinant", torch.linalg.det(glb), torch.ones(()), UNIT),
    ]


def _inside(uv: Tensor, depth: Tensor, size: int) -> Bool[Tensor, "n"]:
    """The mask that the reference computes and does not use."""
    return (uv >= 0).all(dim=-1) & (uv < size).all(dim=-1) & (depth > 0)


def _glb_from_latent() -> Tensor:
    """The reference's GLB is our glTF camera's frame, half a turn about the vertical: the side seen faces -z."""
    intrinsics = Intrinsics(width=1, height=1, fx=1, fy=1, cx=0.5, cy=0.5)
    crop = CropCamera(crop_from_camera=((1, 0, 0), (0, 1, 0), (0, 0, 1)), intrinsics=intrinsics)
    gltf_from_latent = torch.from_numpy(GLTF_CAMERA_FROM_CAMERA @ crop_from_latent(crop.intrinsics))[:3, :3].float()
    return torch.diag(torch.tensor([-1.0, 1.0, -1.0])) @ gltf_from_latent


CHECKS: Mapping[str, Check] = {
    "01_projgrid": check_grid,
    "02_distance_from_fov": check_distance,
    "12_glb_axes_and_reprojection": check_vertices,
}
