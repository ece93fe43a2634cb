"""Contact sheets: makes the scene of each photo and puts photo, overlay, masks, depth and three side views on one JPEG.

    python docs/make_gallery.py PHOTO|FOLDER... [-o SHEETS] [--scenes OUT] [options of scenegen, such as --preset]

Writes SHEETS/NAME.jpg for each photo; a photo that fails gets none, and the command's exit code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from scenegen.cli.commands import main as scenegen
from scenegen.export.figures import fitted, paint_depth, paint_masks
from scenegen.export.glb import read_glb
from scenegen.export.manifest import Manifest, read_manifest
from scenegen.export.side_view import side_view
from scenegen.inputs.listing import find_photos
from scenegen.inputs.photos import folder_names
from scenegen.store.png import read_png

PANEL = 480, 360
"""Width and height of a panel in pixels."""
VIEWS = {"from the left": (-50.0, 28.0), "from the right": (50.0, 28.0), "from above": (0.0, 75.0)}
"""Azimuth and elevation in degrees."""
PAPER, INK = (250, 250, 250), (40, 40, 40)
FONT = ImageFont.load_default(15)
QUALITY = 82


def panel(title: str, picture: np.ndarray) -> Image.Image:
    """A picture fitted into a panel, with its title."""
    made = Image.new("RGB", PANEL, PAPER)
    caption = FONT.size + 10
    room = PANEL[0] - 8, PANEL[1] - caption - 4
    fit = Image.fromarray(picture)
    fit.thumbnail(room)
    made.paste(fit, ((PANEL[0] - fit.width) // 2, caption + (room[1] - fit.height) // 2))
    ImageDraw.Draw(made).text((6, 4), title, fill=INK, font=FONT)
    return made


def words(name: str, manifest: Manifest) -> Image.Image:
    """A panel that says what was made, and with what."""
    ious = [item.scores.silhouette_iou for item in manifest.objects]
    backends = dict.fromkeys(f"{entry.stage}: {entry.backend}" for entry in manifest.stages if entry.backend)
    lines = [
        name,
        f"{manifest.state}, objects: {len(ious)}",
        f"median silhouette IoU: {np.median(ious):.3f}" if ious else "",
        f"stages: {sum(entry.seconds for entry in manifest.stages):.1f} s",
        *backends,
        *(f"missing: {failure.object or failure.stage}" for failure in manifest.failures),
    ]
    made = Image.new("RGB", PANEL, PAPER)
    ImageDraw.Draw(made).multiline_text((16, 24), "\n".join(lines), fill=INK, font=FONT, spacing=7)
    return made


def sheet(photo: Path, folder: Path) -> Image.Image:
    """The contact sheet of one published scene."""
    ids, depth = read_png(folder / "masks.png"), np.load(folder / "depth.npy")
    upright = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    image = np.asarray(upright.resize((ids.shape[1], ids.shape[0]), Image.Resampling.LANCZOS))
    scene = read_glb(folder / "scene.glb")
    objects, background = (
        [part.mesh.transformed(part.world_from_part) for part in parts] for parts in (scene.objects, scene.background)
    )
    panels = [
        panel("photo", image),
        panel("scene over photo", read_png(folder / "overlay.png")[..., :3]),
        panel("masks", paint_masks(image, ids)),
        panel("depth", paint_depth(depth)),
    ]
    for title, (azimuth, elevation) in VIEWS.items():
        fine = side_view(objects, background, scene.world_from_camera, 960, 720, azimuth, elevation)
        panels.append(panel(title, fitted(fine.color, PANEL[0])))
    panels.append(words(photo.name, read_manifest(folder)))
    across = len(panels) // 2
    made = Image.new("RGB", (across * PANEL[0], 2 * PANEL[1]), PAPER)
    for index, item in enumerate(panels):
        made.paste(item, (index % across * PANEL[0], index // across * PANEL[1]))
    return made


def main() -> int:
    """Makes every sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("-o", "--sheets", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--scenes", type=Path, default=Path("out/gallery"))
    options, extra = parser.parse_known_args()
    photos = find_photos(options.photos).photos
    code = scenegen([*map(str, photos), "-o", str(options.scenes), "-q", *extra])
    options.sheets.mkdir(parents=True, exist_ok=True)
    for photo, name in zip(photos, folder_names(photos, options.scenes), strict=True):
        if (options.scenes / name / "manifest.json").is_file():
            sheet(photo, options.scenes / name).save(options.sheets / f"{name}.jpg", quality=QUALITY, optimize=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
