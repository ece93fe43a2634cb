"""Makes table.jpg and table_masks.png: a still life from geometry of our own, path traced with Mitsuba 3.

Run it in an environment of its own: pip install mitsuba trimesh numpy pillow, then python examples/make_table.py.
The committed pictures are its output; the project does not need it to run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import mitsuba as mi
import numpy as np
import trimesh
from PIL import Image, ImageDraw
from trimesh.transformations import rotation_matrix as turn

WIDTH, HEIGHT = 1024, 768
FOV_X_DEG = 38.0
HERE = Path(__file__).parent


def lathe(profile: list[tuple[float, float]], sections: int = 128) -> trimesh.Trimesh:
    """A body of revolution about z from (radius, height) pairs, its outline smoothed by a spline."""
    from scipy.interpolate import PchipInterpolator

    points = np.array(profile)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    fine = np.linspace(0, along[-1], 160)
    outline = np.stack([PchipInterpolator(along, points[:, axis])(fine) for axis in (0, 1)], axis=1)
    return trimesh.creation.revolve(outline, sections=sections)


def mug() -> trimesh.Trimesh:
    """A cup with a handle, 9 cm high."""
    wall = [
        (0.0, 0.0),
        (0.036, 0.0),
        (0.04, 0.004),
        (0.04, 0.09),
        (0.0385, 0.092),
        (0.037, 0.09),
        (0.036, 0.01),
        (0.0, 0.008),
    ]
    body = trimesh.creation.revolve(np.array(wall), sections=128)
    handle = trimesh.creation.torus(0.025, 0.0055, major_sections=64, minor_sections=24)
    handle.apply_transform(turn(np.pi / 2, [1, 0, 0]))
    handle.apply_translation([0.044, 0, 0.047])
    keep = np.linalg.norm(handle.triangles_center[:, :2], axis=1) > 0.0375
    handle.update_faces(keep)
    return trimesh.util.concatenate([body, handle])


def bottle() -> trimesh.Trimesh:
    """A bottle, 24 cm high."""
    return lathe(
        [
            (0.0, 0.0),
            (0.03, 0.0),
            (0.036, 0.006),
            (0.037, 0.08),
            (0.036, 0.13),
            (0.022, 0.17),
            (0.013, 0.2),
            (0.013, 0.235),
            (0.0, 0.237),
        ]
    )


def apple() -> trimesh.Trimesh:
    """A fruit with a dimple, 7 cm high."""
    return lathe(
        [
            (0.0, 0.006),
            (0.012, 0.001),
            (0.026, 0.008),
            (0.038, 0.036),
            (0.035, 0.058),
            (0.02, 0.069),
            (0.008, 0.066),
            (0.0, 0.058),
        ]
    )


def bowl() -> trimesh.Trimesh:
    """A bowl, 18 cm wide."""
    return lathe(
        [
            (0.0, 0.004),
            (0.04, 0.0),
            (0.045, 0.004),
            (0.075, 0.03),
            (0.09, 0.065),
            (0.088, 0.066),
            (0.072, 0.034),
            (0.04, 0.01),
            (0.0, 0.009),
        ]
    )


def wood(size: int = 1024) -> Image.Image:
    """A plank pattern."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:size, 0:size] / size
    plank = np.floor(x * 6).astype(int)
    shade = random.uniform(0.82, 1.08, 7)[plank]
    wave = y * 3 + random.uniform(0, 9, 7)[plank] + 0.05 * np.sin(9 * y + 7 * x)
    rings = 0.5 + 0.5 * np.sin(46 * (x * 1.7 + 0.12 * np.sin(wave * 4)) + random.uniform(0, 9, 7)[plank])
    grain = (
        np.asarray(Image.fromarray((random.random((size // 2, 64)) * 255).astype(np.uint8)).resize((size, size))) / 255
    )
    tone = shade * (0.78 + 0.12 * rings + 0.10 * grain.T)
    tone *= np.where(np.abs(x * 6 - np.round(x * 6)) < 0.012, 0.45, 1.0)
    return Image.fromarray(np.clip(tone[..., None] * np.array([178, 132, 88]), 0, 255).astype(np.uint8))


def cover() -> Image.Image:
    """A book's cover."""
    picture = Image.new("RGB", (512, 512), (28, 62, 92))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((36, 36, 476, 476), outline=(226, 196, 120), width=8)
    for index in range(7):
        draw.ellipse(
            (120 + 18 * index, 150 + 18 * index, 392 - 18 * index, 422 - 18 * index), outline=(226, 196, 120), width=5
        )
    return picture


def box(size: tuple[float, float, float]) -> trimesh.Trimesh:
    """A box standing on z = 0, every face with the whole texture."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    vertices, faces, uv = [], [], []
    for axis in range(3):
        for sign in (-1, 1):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            for corner in corners if sign > 0 else corners[::-1]:
                point = np.zeros(3)
                point[[a, b, axis]] = corner[0], corner[1], sign / 2
                vertices.append(point * size + [0, 0, size[2] / 2])
                uv.append(corner + 0.5)
            start = len(vertices) - 4
            faces += [[start, start + 1, start + 2], [start, start + 2, start + 3]]
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.array(uv))
    return mesh


def textured(picture: Image.Image, folder: Path, name: str, roughness: float) -> dict:
    """A glossy material with a picture."""
    path = folder / f"{name}.png"
    picture.save(path)
    return {
        "type": "principled",
        "base_color": {"type": "bitmap", "filename": str(path)},
        "roughness": roughness,
        "specular": 0.4,
    }


def plain(colour: tuple[float, float, float], roughness: float) -> dict:
    """A glossy material in one colour (linear)."""
    return {
        "type": "principled",
        "base_color": {"type": "rgb", "value": list(colour)},
        "roughness": roughness,
        "specular": 0.5,
    }


def main() -> None:
    """Renders the picture and its id map."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=256)
    samples = parser.parse_args().samples
    mi.set_variant("scalar_rgb")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = [
            ("mug", mug(), plain((0.72, 0.16, 0.10), 0.25), (-0.13, 0.02, 0), 205),
            ("bottle", bottle(), plain((0.05, 0.22, 0.12), 0.15), (0.135, 0.2, 0), 0),
            ("apple", apple(), plain((0.55, 0.62, 0.10), 0.3), (0.015, -0.12, 0), 20),
            ("bowl", bowl(), plain((0.75, 0.72, 0.66), 0.3), (-0.012, 0.185, 0), 0),
            ("book", box((0.14, 0.19, 0.032)), textured(cover(), folder, "cover", 0.5), (0.205, -0.07, 0), 24),
            ("cube", box((0.056, 0.056, 0.056)), plain((0.05, 0.20, 0.55), 0.4), (-0.20, -0.13, 0), 33),
        ]
        table = box((0.95, 0.8, 0.04))
        table.apply_translation([0, 0.05, -0.04])
        scene = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 8},
            "sensor": {
                "type": "perspective",
                "fov": FOV_X_DEG,
                "fov_axis": "x",
                "to_world": mi.ScalarTransform4f().look_at(
                    origin=[0.06, -0.86, 0.46], target=[0.015, 0.03, 0.03], up=[0, 0, 1]
                ),
                "film": {"type": "hdrfilm", "width": WIDTH, "height": HEIGHT, "rfilter": {"type": "gaussian"}},
                "sampler": {"type": "independent", "sample_count": samples},
            },
            "sky": {"type": "constant", "radiance": {"type": "rgb", "value": [0.42, 0.45, 0.5]}},
            "window": {
                "type": "rectangle",
                "to_world": mi.ScalarTransform4f().look_at(origin=[-1.3, -0.5, 1.5], target=[0, 0, 0], up=[0, 0, 1])
                @ mi.ScalarTransform4f().scale(0.55),
                "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [9.5, 8.6, 7.2]}},
            },
            "wall": {
                "type": "rectangle",
                "to_world": mi.ScalarTransform4f().translate([0, 0.85, 0])
                @ mi.ScalarTransform4f().rotate([1, 0, 0], 90)
                @ mi.ScalarTransform4f().scale(4),
                "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": [0.52, 0.55, 0.53]}},
            },
        }
        shapes = [("table", table, textured(wood(), folder, "wood", 0.45))]
        for label, mesh, material, place, degrees in objects:
            mesh.apply_transform(turn(np.radians(degrees), [0, 0, 1]))
            mesh.apply_translation(place)
            shapes.append((label, mesh, material))
        for label, mesh, material in shapes:
            path = folder / f"{label}.ply"
            flat = isinstance(mesh.visual, trimesh.visual.TextureVisuals) and mesh.visual.uv is not None
            mesh_mi = mi.Mesh(
                label, len(mesh.vertices), len(mesh.faces), has_vertex_normals=not flat, has_vertex_texcoords=flat
            )
            parameters = mi.traverse(mesh_mi)
            parameters["vertex_positions"] = np.asarray(mesh.vertices, np.float32).ravel()
            parameters["faces"] = np.asarray(mesh.faces, np.uint32).ravel()
            if flat:
                parameters["vertex_texcoords"] = np.asarray(mesh.visual.uv, np.float32).ravel()
            else:
                parameters["vertex_normals"] = np.asarray(mesh.vertex_normals, np.float32).ravel()
            parameters.update()
            mesh_mi.write_ply(str(path))
            scene[label] = {
                "type": "ply",
                "filename": str(path),
                "face_normals": flat,
                "bsdf": {"type": "twosided", "material": material},
            }
        loaded = mi.load_dict(scene)
        picture = mi.render(loaded)
        bitmap = mi.Bitmap(picture).convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.UInt8, srgb_gamma=True)
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = round(18 / np.tan(np.radians(FOV_X_DEG / 2)))  # FocalLengthIn35mmFilm
        Image.fromarray(np.array(bitmap)).save(HERE / "table.jpg", quality=93, exif=exif)
        Image.fromarray(id_map(loaded, [label for label, *_ in objects])).save(HERE / "table_masks.png", optimize=True)


def id_map(scene: mi.Scene, labels: list[str]) -> np.ndarray:
    """The number of the object that each pixel's central ray meets, 0 for none."""
    sensor = scene.sensors()[0]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers = {label: index + 1 for index, label in enumerate(labels)}
    for row in range(HEIGHT):
        for column in range(WIDTH):
            at = mi.Point2f((column + 0.5) / WIDTH, (row + 0.5) / HEIGHT)
            ray, _ = sensor.sample_ray(0.0, 0.5, at, mi.Point2f(0.5))
            hit = scene.ray_intersect(ray)
            if hit.is_valid():
                ids[row, column] = numbers.get(hit.shape.id(), 0)
    return ids


if __name__ == "__main__":
    main()
