"""Random draws of what makes up a picture: textures, colours, poses, light, imperfections of the camera."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from jaxtyping import Float, Float32

from scenegen.train.meshes import ColoredMesh
from scenegen.train.shading import NOISE_SIZE, Body, Exposure, Light, Surface, Texture, linear_from_srgb

TUMBLED = 0.1
"""Share of the objects that lie on any side instead of standing."""
UP = np.array([0.0, 1.0, 0.0])


def random_texture(rng: np.random.Generator, size: float) -> Texture:
    """A floor, wall or table top whose pattern suits objects of about `size` metres."""
    first = _random_color(rng)
    second = first * rng.uniform(0.4, 1.6) if rng.random() < 0.7 else _random_color(rng)
    patterned = rng.random() < 0.45
    planks = rng.random() < 0.5
    noise = rng.normal(0, 0.35, (NOISE_SIZE, NOISE_SIZE)).astype(np.float32)
    if rng.random() < 0.3:  # grain along one direction
        noise = 2.5 * cv2.blur(noise, (9, 1), borderType=cv2.BORDER_REFLECT)
    return Texture(
        colors=np.clip([first, second], 0.01, 0.9),
        period=size * float(np.exp(rng.uniform(np.log(0.15), np.log(1.5)))) if patterned else 0.0,
        stretch=float(rng.uniform(2, 8)) if planks else 1.0,
        shift=float(rng.uniform(0.2, 0.8)) if planks else 0.0,
        noise=noise,
        noise_period=size * float(np.exp(rng.uniform(np.log(0.1), np.log(3)))),
        contrast=float(np.exp(rng.uniform(np.log(0.03), np.log(0.7)))),
    )


def _random_color(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Linear albedo: mostly dull, seldom gaudy."""
    saturation = rng.beta(1.2, 3.5)
    return linear_from_srgb(
        np.round(255 * np.array(colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.2, 0.95)))).astype(np.uint8)
    ).astype(float)


def horizontal(centre: Float[np.ndarray, "3"], half: tuple[float, float], yaw: float, texture: Texture) -> Surface:
    """A level surface, turned by `yaw` radians about the vertical."""
    across = np.array([np.cos(yaw), 0, -np.sin(yaw)])
    return Surface(centre, across, np.cross(across, UP), half, texture)


def wall(foot: Float[np.ndarray, "3"], facing: Float[np.ndarray, "3"], texture: Texture) -> Surface:
    """An endless upright plane through `foot` whose level normal is `facing`."""
    return Surface(foot, np.cross(UP, facing), UP, (np.inf, np.inf), texture)


def random_light(rng: np.random.Generator) -> Light:
    """A lamp above the horizon, warm or cool, strong or weak against the sky."""
    elevation, azimuth = np.radians(rng.uniform(15, 85)), rng.uniform(0, 2 * np.pi)
    warmth = np.array([1.0, 0, -1.0])
    strength = np.exp(rng.uniform(np.log(0.3), np.log(4)))
    level = np.cos(elevation)
    return Light(
        direction=np.array([level * np.cos(azimuth), np.sin(elevation), level * np.sin(azimuth)]),
        spread=float(rng.uniform(0.0, 0.25)),
        lamp=strength * (1 + rng.normal(0.05, 0.12) * warmth),
        sky=1 + rng.normal(-0.03, 0.08) * warmth,
        ground=rng.uniform(0.2, 0.7) * (1 + rng.normal(0.03, 0.08) * warmth),
    )


def random_exposure(rng: np.random.Generator) -> Exposure:
    """A camera between good and poor."""
    return Exposure(
        brightness=float(np.exp(rng.uniform(np.log(0.10), np.log(0.42)))),
        balance=np.exp(rng.normal(0, 0.05, 3)),
        blur=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))),
        quality=int(rng.integers(45, 96)) if rng.random() < 0.5 else 0,
    )


def random_rotation(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Standing at a random yaw; any rotation for the `TUMBLED`."""
    if rng.random() < TUMBLED:
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return rotation * np.linalg.det(rotation)
    yaw = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1.0, 0], [-np.sin(yaw), 0, np.cos(yaw)]])


def resting(mesh: ColoredMesh, size: float, rotation: Float[np.ndarray, "3 3"], rng: np.random.Generator) -> Body:
    """The mesh, `size` metres along its longest side, its lowest point at height 0 and centred on the vertical axis.

    Its colours keep their pattern, but in most draws not quite their hue and brightness.
    """
    scale = size / mesh.longest_side
    turned = mesh.vertices @ (scale * rotation).T
    low, high = turned.min(axis=0), turned.max(axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = [-(low[0] + high[0]) / 2, -low[1], -(low[2] + high[2]) / 2]
    return Body(
        mesh=mesh,
        world_from_mesh=matrix,
        albedo=_recolored(mesh, rng),
        gloss=float(rng.uniform(0, 0.35)) if rng.random() < 0.4 else 0.0,
    )


def _recolored(mesh: ColoredMesh, rng: np.random.Generator) -> Float32[np.ndarray, "v 3"]:
    albedo = linear_from_srgb(mesh.colors)
    if rng.random() < 0.35:
        albedo = albedo @ _hue_rotation(rng.uniform(-np.pi, np.pi)).T
    gain = np.exp(rng.normal(0, 0.3) + rng.normal(0, 0.08, 3))
    return np.clip(albedo * gain + rng.uniform(0, 0.03), 0.01, 0.95).astype(np.float32)


def _hue_rotation(angle: float) -> Float32[np.ndarray, "3 3"]:
    """Rotation of linear RGB about the grey axis (Rodrigues)."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross).astype(np.float32)
