"""Cameras as other programs write them: the same camera comes out, whatever the file."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from scenegen.camera import intrinsics_from_fov
from scenegen.errors import InputError
from scenegen.export.glb import write_glb
from scenegen.export.parts import PartScene
from scenegen.inputs.options import InputOptions
from scenegen.inputs.photos import companions
from scenegen.records import Intrinsics
from scenegen.untrusted.camera import read_camera
from scenegen.untrusted.decoding import DecodedCamera
from scenegen.untrusted.names import is_name_of
from scenegen.untrusted.photo import UprightPhoto

SIZE = (640, 480)
CAMERA = (500.0, 510.0, 300.0, 250.0)
"""fx, fy, cx, cy: off the centre."""
POSE = np.eye(4)
POSE[:3, :3] = Rotation.from_euler("xyz", (20, -30, 10), degrees=True).as_matrix()
POSE[:3, 3] = (0.5, -1.0, 2.0)
"""World from camera, OpenCV axes."""
GL = np.diag([1.0, -1.0, -1.0, 1.0])


def photo(size: tuple[int, int] = SIZE, transpose: Image.Transpose | None = None) -> UprightPhoto:
    stored = size if transpose is None else size[::-1]
    return UprightPhoto(Image.new("RGB", (64, 48)), None, stored, transpose, size, None, ())


def read(*paths: Path, name: str = "photo", of: UprightPhoto | None = None) -> DecodedCamera:
    return read_camera(paths, of or photo(), name)[0]


def saved(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def numbers(camera: DecodedCamera) -> tuple[float, float, float, float]:
    return camera.fx, camera.fy, camera.cx, camera.cy


K = [[500.0, 0.0, 300.0], [0.0, 510.0, 250.0], [0.0, 0.0, 1.0]]
FLAT = {"fx": 500, "fy": 510, "cx": 300, "cy": 250}


@pytest.mark.parametrize(
    "value",
    [
        "500 510 300 250",
        "500, 510,\n300, 250\n",
        "500 510 300 250 640 480",
        "1000 1020 600 500 1280 960",
        "640 480 500 510 300 250",
        "# fx fy cx cy\n500 510 300 250  # pixels\n",
        "0.78125 1.0625 0.46875 0.5208333333",
        "500 0 300\n0 510 250\n0 0 1\n",
        "500 0 300 0\n0 510 250 0\n0 0 1 0\n",
        "500 0 300 0\n0 510 250 0\n0 0 1 0\n0 0 0 1\n",
    ],
)
def test_numbers_in_a_text(tmp_path: Path, value: str) -> None:
    assert numbers(read(saved(tmp_path / "c.txt", value))) == pytest.approx(CAMERA)


@pytest.mark.parametrize(
    "value",
    [
        FLAT,
        {**FLAT, "width": 640, "height": 480},
        {"fl_x": 1000, "fl_y": 1020, "cx": 600, "cy": 500, "w": 1280, "h": 960},
        {"intrinsics": FLAT, "width": 640, "height": 480},
        {"K": K},
        {"camera_matrix": [*K[0], *K[1], *K[2]]},
        {"intrinsic_matrix": np.array(K).ravel(order="F").tolist(), "width": 640, "height": 480},
        {"intrinsic": {"intrinsic_matrix": np.array(K).ravel(order="F").tolist(), "width": 640, "height": 480}},
        {
            "camera_matrix": {"rows": 3, "cols": 3, "data": [*K[0], *K[1], *K[2]]},
            "image_width": 640,
            "image_height": 480,
        },
        {"intrinsics": np.array(K).ravel(order="F").tolist()},
        {"fx": 500, "fy": 510, "ppx": 300, "ppy": 250, "model": "distortion.brown_conrady"},
        {"intrinsics": [[500 / 640, 0, 300 / 640], [0, 510 / 480, 250 / 480], [0, 0, 1]]},
        list(CAMERA),
        K,
    ],
)
def test_json(tmp_path: Path, value: object) -> None:
    camera = read(saved(tmp_path / "c.json", value))
    assert numbers(camera) == pytest.approx(CAMERA)
    assert camera.world_from_camera is None


OPENCV = """%YAML:1.0
---
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 500., 0., 300., 0., 510., 250., 0., 0., 1. ]
"""
ROS = """image_width: 640
image_height: 480
camera_matrix: {rows: 3, cols: 3, data: [500.0, 0, 300, 0, 510, 250, 0, 0, 1]}
distortion_model: plumb_bob
"""
KALIBR = """cam0:
  camera_model: pinhole
  intrinsics: [1000, 1020, 600, 500]
  distortion_model: radtan
  distortion_coeffs: [0.0, 0.0, 0.0, 0.0]
  resolution: [1280, 960]
"""


@pytest.mark.parametrize("value", [OPENCV, ROS, KALIBR, "fx: 500\nfy: 510\ncx: 300\ncy: 250\n"])
def test_yaml(tmp_path: Path, value: str) -> None:
    assert numbers(read(saved(tmp_path / "c.yaml", value))) == pytest.approx(CAMERA)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (KALIBR + KALIBR.replace("cam0", "cam1"), "has 2 cameras"),
        (KALIBR.replace("radtan", "equidistant"), "Undistort the photo first"),
        ("a: &a [x, x]\nb: &b [*a, *a, *a]\n" + "c: [" + 9000 * "*b, " + "x]", "more than 10000 values"),
    ],
)
def test_yaml_of_no_one_pinhole_camera_is_refused(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(saved(tmp_path / "c.yml", value))


@pytest.mark.parametrize("value", [np.array(CAMERA), np.array(K), np.array(K)[None]])
def test_numbers_in_an_array(tmp_path: Path, value: np.ndarray) -> None:
    np.save(tmp_path / "c.npy", value)
    assert numbers(read(tmp_path / "c.npy")) == pytest.approx(CAMERA)


@pytest.mark.parametrize("name", ["K", "intrinsics", "intrinsic"])
def test_a_matrix_beside_a_depth_map(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "c.npz", depth=np.ones((1, *SIZE[::-1], 1)), **{name: np.array([K])})
    assert numbers(read(tmp_path / "c.npz")) == pytest.approx(CAMERA)


def test_words_in_a_text_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds words \(extrinsic intrinsic\)"):
        read(saved(tmp_path / "c.txt", "extrinsic\n1 0 0 0\nintrinsic\n500 0 300\n"))


@pytest.mark.parametrize("value", [{"camera_angle_x": math.radians(50)}, {"fov": 50}, {"fov_deg": 50}])
def test_a_field_of_view(tmp_path: Path, value: object) -> None:
    true = intrinsics_from_fov(*SIZE, 50)
    assert numbers(read(saved(tmp_path / "c.json", value))) == pytest.approx((true.fx, true.fy, true.cx, true.cy))
    across = {"camera_angle_y": 2 * math.atan(240 / true.fy)}
    assert numbers(read(saved(tmp_path / "y.json", across))) == pytest.approx((true.fx, true.fy, true.cx, true.cy))
    for angle in (0, 180, 200):
        with pytest.raises(InputError, match=f"field of view of {angle} degrees; allowed: above 0 and below 180"):
            read(saved(tmp_path / "c.json", {"fov": angle}))


@pytest.mark.parametrize(
    "value",
    [
        {"camera_model": "OPENCV_FISHEYE"},
        {"camera_model": "EQUIRECTANGULAR"},
        {"is_fisheye": True},
    ],
)
def test_other_lenses_in_transforms_are_refused(tmp_path: Path, value: dict) -> None:
    frames = [{"file_path": "photo.png", "transform_matrix": np.eye(4).tolist()}]
    with pytest.raises(InputError, match=r"allowed: pinhole cameras\. Undistort the photo first"):
        read(saved(tmp_path / "c.json", {**FLAT, **value, "frames": frames}))


@pytest.mark.parametrize("name", ["dist_coeffs", "distortion_coefficients"])
def test_lists_of_distortion_are_said(tmp_path: Path, name: str) -> None:
    for values in ([0.2, 0, 0, 0, 0], {"data": [0.2, 0, 0, 0, 0]}):
        path = saved(tmp_path / "c.json", {"K": K, name: values})
        assert "bends the corners by" in read_camera([path], photo(), "photo")[1][0]


def test_nerfs_transforms_by_the_name_of_the_photo(tmp_path: Path) -> None:
    frames = [
        {"file_path": f"images/{name}.png", "transform_matrix": (pose @ GL).tolist()}
        for name, pose in (("other", np.eye(4)), ("photo", POSE))
    ]
    shared = {"fl_x": 500, "fl_y": 510, "cx": 300, "cy": 250, "w": 640, "h": 480, "camera_model": "OPENCV"}
    path = saved(tmp_path / "transforms.json", {**shared, "frames": frames})
    camera = read(path)
    assert numbers(camera) == pytest.approx(CAMERA)
    np.testing.assert_allclose(np.reshape(camera.world_from_camera, (4, 4)), POSE, atol=1e-12)
    np.testing.assert_allclose(np.reshape(read(path, name="other-2").world_from_camera, (4, 4)), np.eye(4), atol=1e-12)
    with pytest.raises(InputError, match=r"2 frames, 0 of them with the name of photo 'third'"):
        read(path, name="third")
    alone = saved(
        tmp_path / "one.json",
        {**shared, "frames": [{"file_path": "x", "fl_x": 400, "transform_matrix": POSE.tolist()}]},
    )
    assert read(alone).fx == 400


@pytest.mark.parametrize("own", [{"camera_angle_x": 1.0}, {"fl_x": None, "camera_angle_x": 1.0}, {"K": K}])
def test_the_lens_of_a_frame_comes_before_that_of_all(tmp_path: Path, own: dict) -> None:
    frame = {"file_path": "photo.png", "transform_matrix": POSE.tolist(), **own}
    document = {"fl_x": 111, "fl_y": 111, "cx": 1, "cy": 1, "w": 640, "h": 480, "frames": [frame]}
    focal = 320 / math.tan(0.5)
    expected = CAMERA if "K" in own else (focal, focal, 320, 240)
    assert numbers(read(saved(tmp_path / "c.json", document))) == pytest.approx(expected)


def test_a_frame_without_a_pose_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"frame with rgb_path, camtoworld; looked for its `transform_matrix`"):
        read(saved(tmp_path / "c.json", {"frames": [{"rgb_path": "photo.png", "camtoworld": POSE.tolist()}]}))


def test_the_cameras_of_gaussian_splatting(tmp_path: Path) -> None:
    size = {"width": 640, "height": 480}
    placed = {"position": POSE[:3, 3].tolist(), "rotation": POSE[:3, :3].tolist()}
    entries = [{"img_name": "other", "fx": 1, **size}, {"img_name": "photo", "fx": 500, "fy": 510, **size, **placed}]
    camera = read(saved(tmp_path / "cameras.json", entries))
    assert numbers(camera) == pytest.approx((500, 510, 320, 240))
    np.testing.assert_allclose(np.reshape(camera.world_from_camera, (4, 4)), POSE, atol=1e-12)
    with pytest.raises(InputError, match="2 cameras, 0 of them with the name of photo 'third'"):
        read(tmp_path / "cameras.json", name="third")


@pytest.mark.parametrize("count", [9, 12, 16])
def test_matrices_in_json(tmp_path: Path, count: int) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = K
    rows = matrix[:3, :3] if count == 9 else matrix[: count // 4]
    assert numbers(read(saved(tmp_path / "c.json", {"camera_matrix": rows.tolist()}))) == pytest.approx(CAMERA)
    with pytest.raises(InputError, match="has 5 numbers in `K`; allowed: fx fy cx cy, or 3x3"):
        read(saved(tmp_path / "few.json", {"K": [1, 2, 3, 4, 5]}))


def test_a_file_of_the_evaluation_and_one_of_open3d_have_poses(tmp_path: Path) -> None:
    given = read(saved(tmp_path / "a.json", {**FLAT, "camera_to_world": POSE.tolist()}))
    extrinsic = np.linalg.inv(POSE).ravel(order="F").tolist()
    also = read(saved(tmp_path / "b.json", {"intrinsic": FLAT, "extrinsic": extrinsic}))
    for camera in (given, also):
        np.testing.assert_allclose(np.reshape(camera.world_from_camera, (4, 4)), POSE, atol=1e-9)


def colmap(folder: Path, binary: bool) -> tuple[Path, Path]:
    """Two cameras and two images, the second of each of which is ours."""
    x, y, z, w = Rotation.from_matrix(POSE[:3, :3].T).as_quat()
    t = -POSE[:3, :3].T @ POSE[:3, 3]
    if not binary:
        cameras = "# Camera list\n1 SIMPLE_PINHOLE 640 480 300 320 240\n7 PINHOLE 640 480 500 510 300 250\n"
        images = f"# Image list\n1 1 0 0 0 0 0 0 1 other.jpg\n\n2 {w} {x} {y} {z} {t[0]} {t[1]} {t[2]} 7 sub/photo.jpg\n1 2 -1\n"
        return saved(folder / "cameras.txt", cameras), saved(folder / "images.txt", images)
    cameras, images = folder / "cameras.bin", folder / "images.bin"
    cameras.write_bytes(
        struct.pack("<Q", 2)
        + struct.pack("<iiQQ3d", 1, 0, 640, 480, 300, 320, 240)
        + struct.pack("<iiQQ4d", 7, 1, 640, 480, *CAMERA)
    )
    images.write_bytes(
        struct.pack("<Q", 2)
        + struct.pack("<i7di", 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"other.jpg\0" + struct.pack("<Qddq", 1, 5, 6, -1)
        + struct.pack("<i7di", 2, w, x, y, z, *t, 7) + b"sub/photo.jpg\0" + struct.pack("<Q", 0)
    )  # fmt: skip
    return cameras, images


@pytest.mark.parametrize("binary", [False, True])
def test_colmap(tmp_path: Path, binary: bool) -> None:
    cameras, images = colmap(tmp_path, binary)
    camera = read(cameras, images)
    assert numbers(camera) == pytest.approx(CAMERA)
    np.testing.assert_allclose(np.reshape(camera.world_from_camera, (4, 4)), POSE, atol=1e-9)
    with pytest.raises(InputError, match=r"2 cameras and 0 images named like photo 'photo' .*no images file"):
        read(cameras)
    with pytest.raises(InputError, match=r"named like photo 'third' \(other.jpg, sub/photo.jpg\)"):
        read(cameras, images, name="third")


def test_colmaps_distortion_is_said_and_fisheyes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "cameras.txt", "1 OPENCV 640 480 500 510 300 250 0.1 0 0 0\n")
    camera, warnings = read_camera([path], photo(), "photo")
    assert numbers(camera) == CAMERA
    assert "bends the corners by" in warnings[0]
    saved(path, "1 SIMPLE_RADIAL 640 480 500 300 250 0.0001\n")
    assert read_camera([path], photo(), "photo") == (DecodedCamera(500, 500, 300, 250), [])
    saved(path, "1 OPENCV_FISHEYE 640 480 500 510 300 250 0 0 0 0\n")
    with pytest.raises(InputError, match=r"model OPENCV_FISHEYE; allowed: .*Undistort"):
        read(path)


@pytest.mark.parametrize("binary", [False, True])
def test_lenses_of_other_photos_do_not_matter_to_colmap(tmp_path: Path, binary: bool) -> None:
    cameras, images = colmap(tmp_path, binary)
    if binary:
        fisheye = struct.pack("<iiQQ", 9, 5, 640, 480) + struct.pack("<8d", *[500.0] * 8)
        cameras.write_bytes(struct.pack("<Q", 3) + cameras.read_bytes()[8:] + fisheye)
    else:
        cameras.write_text(cameras.read_text() + "\n9 OPENCV_FISHEYE 640 480 500 500 300 250 0 0 0 0\n")
    assert numbers(read(cameras, images)) == pytest.approx(CAMERA)


def test_models_of_newer_colmaps_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model EUCM; allowed: SIMPLE_PINHOLE"):
        read(saved(tmp_path / "cameras.txt", "# Camera list\n1 EUCM 640 480 500 510 300 250 0.5 1\n"))
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 1, 99, 640, 480))
    with pytest.raises(InputError, match="model number 99"):
        read(tmp_path / "cameras.bin")


def test_lines_of_colmap_that_are_not_as_usual(tmp_path: Path) -> None:
    tabs = saved(tmp_path / "tabs.txt", "1\tPINHOLE\t640\t480\t500\t510\t300\t250\n")
    assert numbers(read(tabs)) == pytest.approx(CAMERA)
    with pytest.raises(InputError, match="camera 1 has 4 parameters, and OPENCV has 8"):
        read(saved(tmp_path / "cut.txt", "1 OPENCV 640 480 500 510 320 240\n"))
    with pytest.raises(InputError, match="COLMAP's model PERSPECTIVE; allowed"):
        read(saved(tmp_path / "other.txt", "1 PERSPECTIVE 640 480 500 510 320 240\n"))


def test_the_folder_of_a_project_of_colmap(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "sparse" / "0"
    inner.mkdir(parents=True)
    colmap(inner, binary=True)
    (tmp_path / "photo.png").touch()
    found = companions(tmp_path / "photo.png", "photo", InputOptions(camera=tmp_path / "project"), single=True).camera
    assert found == (inner / "cameras.bin", inner / "images.bin")


def test_what_scenegen_writes_comes_back(tmp_path: Path) -> None:
    fx, fy, cx, cy = CAMERA
    intrinsics = Intrinsics(width=640, height=480, fx=fx, fy=fy, cx=cx, cy=cy)
    write_glb(tmp_path / "scene.glb", PartScene((), (), intrinsics, POSE, {}))
    camera = read(tmp_path / "scene.glb")
    assert numbers(camera) == pytest.approx(CAMERA)
    np.testing.assert_allclose(np.reshape(camera.world_from_camera, (4, 4)), POSE, atol=1e-6)


def test_the_camera_of_a_gltf_scene(tmp_path: Path) -> None:
    turned = Rotation.from_euler("y", 90, degrees=True)
    lens = {"yfov": math.radians(40), "aspectRatio": 4 / 3, "znear": 0.1}
    nodes = [
        {"translation": [1, 2, 3], "scale": [0.01] * 3, "children": [1]},
        {"rotation": turned.as_quat().tolist(), "camera": 0},
    ]
    value = {"asset": {"version": "2.0"}, "nodes": nodes, "cameras": [{"type": "perspective", "perspective": lens}]}
    camera = read(saved(tmp_path / "scene.gltf", value))
    focal = 240 / math.tan(math.radians(20))
    assert numbers(camera) == pytest.approx((focal, focal, 320, 240))
    pose = np.reshape(camera.world_from_camera, (4, 4))
    np.testing.assert_allclose(pose[:3, :3], turned.as_matrix() @ GL[:3, :3], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], [1, 2, 3])
    del lens["aspectRatio"]
    assert numbers(read(saved(tmp_path / "no_aspect.gltf", value))) == pytest.approx((focal, focal, 320, 240))
    for change, said in (
        ({"aspectRatio": 16 / 9}, "for a picture of 853x480 and the photo is 640x480"),
        ({"yfov": 45}, r"field of view of 2578.* degrees; allowed: above 0 and below 180"),
    ):
        other = {**value, "cameras": [{"type": "perspective", "perspective": {**lens, **change}}]}
        with pytest.raises(InputError, match=said):
            read(saved(tmp_path / "other.gltf", other))
    value["cameras"].append(value["cameras"][0])
    with pytest.raises(InputError, match="2 perspective cameras; allowed: one"):
        read(saved(tmp_path / "two.gltf", value))
    nodes[1]["children"] = [0]
    value["cameras"].pop()
    with pytest.raises(InputError, match="nodes have a loop"):
        read(saved(tmp_path / "loop.gltf", value))


@pytest.mark.parametrize("suffix", ["usda", "usdc"])
def test_the_camera_of_a_usd_stage(tmp_path: Path, suffix: str) -> None:
    from pxr import Gf, Usd, UsdGeom

    stage = Usd.Stage.CreateNew(str(tmp_path / f"scene.{suffix}"))
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    rig = UsdGeom.Xform.Define(stage, "/rig")
    rig.AddTranslateOp().Set(Gf.Vec3d(100, 0, 0))
    rig.AddScaleOp().Set(Gf.Vec3f(10, 10, 10))
    lens = UsdGeom.Camera.Define(stage, "/rig/camera")
    lens.CreateFocalLengthAttr(36 * 500 / 640)
    lens.CreateHorizontalApertureAttr(36)
    lens.CreateVerticalApertureAttr(36 * 500 / 640 * 480 / 510)
    lens.CreateHorizontalApertureOffsetAttr((0.5 - 300 / 640) * 36)
    lens.CreateVerticalApertureOffsetAttr((250 / 480 - 0.5) * 36 * 500 / 640 * 480 / 510)
    stage.Save()
    camera = read(tmp_path / f"scene.{suffix}")
    assert numbers(camera) == pytest.approx(CAMERA)
    np.testing.assert_allclose(
        np.reshape(camera.world_from_camera, (4, 4)), [[1, 0, 0, 1], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]
    )
    lens.CreateProjectionAttr(UsdGeom.Tokens.orthographic)
    stage.Save()
    with pytest.raises(InputError, match="an orthographic camera; allowed: a perspective one"):
        read(tmp_path / f"scene.{suffix}")


def usd_camera(path: Path, **attributes: str) -> Path:
    lines = "\n".join(f"float {name.replace('_', '.')} = {value}" for name, value in attributes.items())
    return saved(path, f'#usda 1.0\ndef Camera "camera" {{\n{lines}\n}}\n')


def test_apertures_of_another_shape_do_not_stretch_pixels(tmp_path: Path) -> None:
    path = usd_camera(tmp_path / "c.usda", focalLength="30", horizontalAperture="36", verticalAperture="24")
    camera, notes = read_camera([path], photo(), "photo")
    focal = 30 / 36 * 640
    assert numbers(camera) == pytest.approx((focal, focal, 320, 240))
    assert "have another shape than the photo, 640x480" in notes[0]
    with pytest.raises(InputError, match=r"apertures 0 and 15\.2908; allowed: positive ones"):
        read(usd_camera(tmp_path / "flat.usda", horizontalAperture="0"))


def test_a_usd_camera_that_zooms_has_its_first_focal_length(tmp_path: Path) -> None:
    sides = {"horizontalAperture": "36", "verticalAperture": "27"}
    path = usd_camera(tmp_path / "c.usda", focalLength_timeSamples="{1: 30, 24: 60}", **sides)
    camera, notes = read_camera([path], photo(), "photo")
    assert camera.fx == pytest.approx(30 / 36 * 640)
    assert notes == ["camera: it moves or zooms, and its first frame is used"]


def test_the_intrinsics_beside_a_depth_map(tmp_path: Path) -> None:
    np.savez(tmp_path / "da3.npz", depth=np.ones((1, 240, 320)), intrinsics=np.array(K)[None] / [[2], [2], [1]])
    assert numbers(read(tmp_path / "da3.npz")) == pytest.approx(CAMERA)
    np.savez(tmp_path / "none.npz", depth=np.ones((1, 240, 320)))
    with pytest.raises(InputError, match="has depth; looked for one of K, intrinsics"):
        read(tmp_path / "none.npz")


TURNED = {
    Image.Transpose.TRANSPOSE: 5,
    Image.Transpose.ROTATE_270: 6,
    Image.Transpose.TRANSVERSE: 7,
    Image.Transpose.ROTATE_90: 8,
}


@pytest.mark.parametrize("transpose", TURNED)
def test_a_camera_of_the_photo_as_stored_turns_with_it(tmp_path: Path, transpose: Image.Transpose) -> None:
    """The pixel that a ray meets is marked in the stored picture, which is then turned as Pillow turns it."""
    path = saved(tmp_path / "c.json", {**FLAT, "width": 640, "height": 480, "camera_to_world": POSE.tolist()})
    upright = photo((480, 640), transpose)
    camera, warnings = read_camera([path], upright, "photo")
    assert "EXIF rotation" in warnings[0]
    marked = Image.new("L", SIZE)
    marked.putpixel((423, 77), 255)
    (v,), (u,) = np.nonzero(np.asarray(marked.transpose(transpose)))
    x, y = (423.5 - 300) / 500, (77.5 - 250) / 510
    to_upright = {5: (y, x), 6: (-y, x), 7: (-y, -x), 8: (y, -x)}[TURNED[transpose]]
    seen = camera.fx * to_upright[0] + camera.cx, camera.fy * to_upright[1] + camera.cy
    assert seen == pytest.approx((u + 0.5, v + 0.5))
    if TURNED[transpose] in (5, 7):  # no rotation mirrors
        assert camera.world_from_camera is None
    else:
        pose = np.reshape(camera.world_from_camera, (4, 4))
        np.testing.assert_allclose(pose[:3, :3] @ [*to_upright, 1], POSE[:3, :3] @ [x, y, 1], atol=1e-9)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("500 510 300", "has 3 numbers; allowed: fx fy cx cy"),
        ("five", "holds words"),
        ("1 0 0 0 1 0 0 0 1", "focal lengths 1 and 1 pixels"),
        ("500 510 300 250 640 640", "for a picture of 640x640 and the photo is 640x480"),
        ("5 5 300 250", "focal lengths 5 and 5 pixels"),
        ("nan 510 300 250", "numbers that no camera has"),
        ("500 510 3000 250", "principal point at"),
        ("500 9 300 0 510 250 0 0 1", "skew"),
    ],
)
def test_what_no_camera_of_the_photo_is(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(saved(tmp_path / "c.txt", value))


def test_other_files_and_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a \.xml; allowed: \.bin"):
        read(saved(tmp_path / "c.xml", "<camera/>"))
    with pytest.raises(InputError, match="has zoom; allowed: fx"):
        read(saved(tmp_path / "c.json", {"zoom": 1}))
    with pytest.raises(InputError, match="has 0 bytes"):
        read(saved(tmp_path / "empty.json", ""))


WELL_FORMED = json.dumps({**FLAT, "width": 640, "height": 480, "camera_to_world": POSE.tolist()}).encode()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["json", "txt", "bin", "glb", "gltf", "npz", "usda"]))
def test_damaged_files_give_a_camera_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    damaged = bytearray(WELL_FORMED)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    try:
        assert all(map(math.isfinite, numbers(read(path))))
    except InputError:
        return


def test_names_of_folders_are_those_of_their_photos() -> None:
    assert is_name_of("Küche_1", "D:\\photos\\ku\u0308che_1.jpg")
    assert is_name_of("a_b-2", "a:b.png")
    assert not is_name_of("photo-2", "photo-3.jpg")
