"""Textures from the photo: projected onto visible surfaces, continued over hidden ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8
from scipy import ndimage

from scenegen.camera import project, transform
from scenegen.config import TextureConfig
from scenegen.geometry.fill import nearest_known
from scenegen.geometry.generator import ObjectView, OtherView, Shape
from scenegen.geometry.mesh import TexturedMesh, vertex_normals
from scenegen.geometry.render import RayCaster, sample_texture
from scenegen.geometry.unfold import unfolded
from scenegen.geometry.unwrap import Atlas, unwrap

BEHIND = 0.01
"""A texel is seen if the camera's ray meets the surface no more than this share of its distance in front of it."""
GRAZING = (0.05, 0.35)
"""Cosines between which the photo fades into its smoothed self: at a grazing angle its pixels smear."""
CONTINUED = 0.05
"""What a continued colour counts beside one that a photo shows."""
SHARPNESS = 8
"""Power of how well a photo sees a texel that its share of the texel's colour is: large takes the best one alone."""
LIT = 50
"""Texels that two photos must share to compare their light."""
GOES_ON = 0.08
"""How far behind the visible surface its colours fade into those made for what is hidden: a share of the picture's side."""
PATTERN = 0.65
"""What is left of the visible side's pattern on the hidden one."""
CLEAR = 0.5
"""How well a texel must be visible to be used for the photo's light."""

Colours = Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n 3"]]
"""From points in the crop camera's frame to sRGB, 0..255."""


def textured(
    shape: Shape, view: ObjectView, texture: TextureConfig, hidden: Colours | None = None
) -> tuple[TexturedMesh, tuple[str, ...]]:
    """The shape unwrapped and baked, with no more texels than the photo can fill, and the warnings.

    Args:
        shape: in the crop camera's frame, any scale.
        view: picture and mask in the same crop camera.
        texture: size of the atlas, and how long unwrapping may take.
        hidden: as in `bake`.
    """
    texels = min(texture.size, int(2 ** np.ceil(np.log2(1.2 * view.image.shape[0]))))
    atlas = unwrap(shape.vertices, shape.faces, texels, texture.unwrap_timeout_s)
    return bake(shape, atlas, view, texels, hidden), (*shape.warnings, *atlas.warnings)


def bake(shape: Shape, atlas: Atlas, view: ObjectView, texels: int, hidden: Colours | None = None) -> TexturedMesh:
    """The shape with the photo baked into its atlas.

    Visible surfaces get the photo's colours, smoothed at grazing angles. Hidden ones go on from the outline with the smoothed
    colours of the side in front of them (`unfolded`), and with its pattern, weakened. Deeper behind it they get the colours of
    `hidden`, if there are any, adjusted to the photo's light: shifted by the median difference of the two on visible surfaces.

    Where the view has others, each texel is taken from the photo that sees it best, adjusted to the light of the first and
    blended into the next best where they are nearly equal. What no photo sees is hidden.

    Args:
        shape: in the crop camera's frame, any scale; in metres if the view has others.
        atlas: its seams and UVs.
        view: picture and mask in the same crop camera, and other views of the object.
        texels: side of the square texture.
        hidden: colours of what the camera does not see, at points of the shape.
    """
    vertices = shape.vertices[atlas.source]
    faces = atlas.faces
    texel_faces, weights = rasterised(atlas.uv, faces, texels)
    filled = texel_faces >= 0
    corners = faces[texel_faces[filled]]
    points = np.einsum("nc,ncd->nd", weights[filled], vertices[corners].astype(np.float64))
    normals = np.einsum("nc,ncd->nd", weights[filled], vertex_normals(vertices, faces)[corners])
    caster = RayCaster(shape.vertices, shape.faces)
    first, *others = (_sighted(other, caster, points, normals) for other in view.all)
    shown, weight, unhidden = first.sharp, first.weight, first.unhidden
    if others:
        shown, weight, unhidden = _best(first, others)
    deep = first.soft
    if hidden is not None:
        made, clear = hidden(points), weight > CLEAR
        deep = made + (np.median((shown - made)[clear], axis=0) if clear.any() else 0.0)
    colours = first.soft.copy()
    colours[~unhidden] = _going_on(first, deep, ~unhidden, view.mask > 0.5)
    colours = weight[:, None] * shown + (1 - weight[:, None]) * colours
    texture = np.zeros((texels, texels, 3), dtype=np.uint8)
    texture[filled] = np.round(colours).astype(np.uint8)
    return TexturedMesh(
        vertices=vertices.astype(np.float32),
        faces=faces,
        uv=atlas.uv,
        base_color=nearest_known(texture, filled),
    )


def rasterised(
    uv: Float32[np.ndarray, "v 2"], faces: Int32[np.ndarray, "f 3"], texels: int
) -> tuple[Int32[np.ndarray, "t t"], Float32[np.ndarray, "t t 3"]]:
    """The face each texel's centre lies in (-1 for none) and its barycentric weights: rays cast onto the flat atlas.

    A chart may be too thin to hold a texel's centre. So a texel in which no centre but a corner lies has that corner.
    """
    flat = np.concatenate([uv, np.zeros((len(uv), 1), np.float32)], axis=1)
    x, y = np.meshgrid((np.arange(texels) + 0.5) / texels, (np.arange(texels) + 0.5) / texels)
    origins = np.stack([x.ravel(), y.ravel(), np.ones(texels * texels)], axis=1)
    hits = RayCaster(flat, faces).cast(origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape))
    owners, weights = hits.triangle.copy(), hits.barycentric.copy()
    column, row = np.clip((uv[faces.reshape(-1)] * texels).astype(int), 0, texels - 1).T
    touched, corner = np.unique(row * texels + column, return_index=True)
    bare = owners[touched] < 0
    owners[touched[bare]] = corner[bare] // 3
    weights[touched[bare]] = np.eye(3, dtype=np.float32)[corner[bare] % 3]
    return owners.reshape(texels, texels), weights.reshape(texels, texels, 3)


def object_colours(
    image: UInt8[np.ndarray, "s s 3"], mask: Float32[np.ndarray, "s s"]
) -> tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s 3"]]:
    """The object's colours over the whole crop: sharp, and smoothed.

    Only pixels a little inside the mask count (its outline mixes with what is behind); beyond them colours continue from
    the nearest ones.
    """
    inside = mask > 0.5
    for iterations in (max(2, round(0.012 * mask.shape[0])), 1, 0):
        inner = ndimage.binary_erosion(inside, iterations=iterations) if iterations else inside
        if np.count_nonzero(inner) >= 0.25 * np.count_nonzero(inside):
            break
    if not inner.any():
        inner = mask >= mask.max()
    sharp = nearest_known(image, inner)
    return sharp, _smoothed(sharp, inner)


def _smoothed(colours: UInt8[np.ndarray, "s s 3"], inner: Bool[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s 3"]:
    """A wide blur over the object's own pixels, continued outwards without seams by its weights."""
    sigma = 0.04 * inner.shape[0]
    weight = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), sigma)
    blurred = cv2.GaussianBlur(np.where(inner[..., None], colours, 0).astype(np.float32), (0, 0), sigma)
    near = weight > 1e-3
    smooth = blurred / np.maximum(weight, 1e-3)[..., None]
    return np.clip(np.round(nearest_known(smooth, near)), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Sighted:
    """Surface points as one view shows them."""

    sharp: Float[np.ndarray, "n 3"]
    soft: Float[np.ndarray, "n 3"]
    """Colours there, sRGB, 0..255: as they are, and smoothed."""
    pictures: tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s 3"]]
    """Where they are from."""
    pixels: Float[np.ndarray, "n 2"]
    """In shares of the picture's side."""
    behind: Float[np.ndarray, "n"]
    """How far they lie behind the visible surface, in shares of the picture's side at their distance; 0 if it does not hide
    them."""
    weight: Float[np.ndarray, "n"]
    """How well the view sees them, 0..1."""
    shows: Float[np.ndarray, "n"]
    """Share of the object in the pixel: nothing else covers it, and it is in the picture."""
    away: Float[np.ndarray, "n"]
    """Cosine by which they face away from the camera, 0 if towards it."""
    detail: Float[np.ndarray, "n"]
    """Pixels per metre, as far as they face the camera."""

    @property
    def unhidden(self) -> Bool[np.ndarray, "n"]:
        """Whether the object itself hides none of them from the camera."""
        return self.behind == 0


def _sighted(
    other: OtherView, caster: RayCaster, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> _Sighted:
    view, centre = other.view, np.linalg.inv(other.crop_from_main)[:3, 3]
    sharp, soft = object_colours(view.image, view.mask)
    there = transform(other.crop_from_main, points)
    ahead = np.where(there[:, 2:] > 0, there, [0.0, 0.0, 1.0])
    pixels = project(view.crop.intrinsics, ahead) / view.image.shape[0]
    away = points - centre
    distance = np.linalg.norm(away, axis=1)
    towards = -away / distance[:, None]
    cosine = np.einsum("nd,nd->n", normals, towards) / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)
    hits = caster.cast(np.broadcast_to(centre, away.shape), away)
    unhidden = hits.distance > 1 - BEHIND
    behind = (1 - hits.distance) * distance * view.crop.intrinsics.fx / (ahead[:, 2] * view.image.shape[0])
    low, high = GRAZING
    fade = np.clip((cosine - low) / (high - low), 0, 1)
    inside = (there[:, 2] > 0) & (pixels >= 0).all(axis=1) & (pixels <= 1).all(axis=1)
    covered = np.round(255 * view.mask).astype(np.uint8)[..., None]
    return _Sighted(
        sample_texture(sharp, pixels).astype(np.float64),
        sample_texture(soft, pixels).astype(np.float64),
        (sharp, soft),
        pixels,
        np.where(unhidden, 0.0, behind),
        np.where(unhidden, fade * fade * (3 - 2 * fade), 0.0),
        np.where(inside, sample_texture(covered, pixels)[:, 0] / 255, 0.0),
        np.clip(-cosine, 0, 1),
        np.where(inside, np.clip(cosine, 0, 1) * view.crop.intrinsics.fx / distance, 0.0),
    )


def _going_on(
    first: _Sighted,
    deep: Float[np.ndarray, "n 3"],
    hidden: Bool[np.ndarray, "n"],
    inside: Bool[np.ndarray, "s s"],
) -> Float[np.ndarray, "k 3"]:
    """Colours of the `hidden` points: near the outline what goes on behind it, farther behind it `deep`, both with a pattern.

    A surface along the rays goes on from the outline; one that faces away is the mirror image of what is before it.
    """
    behind = first.behind[hidden]
    on_front = unfolded(first.pixels[hidden], behind * (1 - first.away[hidden]), inside)
    sharp, soft = (sample_texture(picture, on_front).astype(np.float64) for picture in first.pictures)
    near = np.exp(-behind / GOES_ON)[:, None]
    return np.clip(near * soft + (1 - near) * deep[hidden] + PATTERN * (sharp - soft), 0, 255)


def _best(
    first: _Sighted, others: Sequence[_Sighted]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Colours of the views that see each point best, how well they do, and whether any does.

    The first view counts a little where it is covered too: its colours are continued there.
    """
    every = (first, *others)
    seen = [first.weight * np.maximum(first.shows, CONTINUED), *(other.weight * other.shows for other in others)]
    lit = [first.sharp]
    for other, weight in zip(others, seen[1:], strict=True):
        both = (weight > CLEAR) & (seen[0] > CLEAR)
        light = np.median((first.sharp - other.sharp)[both], axis=0) if np.count_nonzero(both) >= LIT else 0.0
        lit.append(np.clip(other.sharp + light, 0, 255))
    marks = np.stack([weight * view.detail for view, weight in zip(every, seen, strict=True)])
    shares = (marks / np.maximum(marks.max(axis=0), 1e-12)) ** SHARPNESS
    shares /= np.maximum(shares.sum(axis=0), 1e-12)
    weight = np.max([first.weight, *seen[1:]], axis=0)
    unhidden = first.unhidden | np.any([view.weight * view.shows > 0 for view in others], axis=0)
    colours = np.einsum("vn,vnc->nc", shares, np.stack(lit))
    return np.where(marks.max(axis=0)[:, None] > 0, colours, first.sharp), weight, unhidden
