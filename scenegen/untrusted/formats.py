"""The formats of what a user brings, by the endings of their file names. Tables only, for whoever lists or opens files."""

from __future__ import annotations

PICTURES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "HEIF": (".heic", ".heif"),
}
"""Pillow's name of each format, and its endings. HEIF needs `pillow-heif`."""
WITHOUT_ALPHA = ("JPEG", "BMP", "PPM")

PICTURE_SUFFIXES = frozenset(suffix for suffixes in PICTURES.values() for suffix in suffixes)
ALPHA_SUFFIXES = PICTURE_SUFFIXES - {suffix for name in WITHOUT_ALPHA for suffix in PICTURES[name]}
"""Of pictures that may have transparent parts."""

CAMERA_SUFFIXES = frozenset(
    {".txt", ".json", ".yaml", ".yml", ".bin", ".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz", ".npy", ".npz"}
)
COLMAP_IMAGES = {"cameras.txt": "images.txt", "cameras.bin": "images.bin"}
"""COLMAP's cameras, and the file beside them that says whose they are."""
COLMAP_FOLDERS = ("sparse/0", "sparse")
"""Where they lie in COLMAP's folder of a project."""

MASK_SUFFIXES = PICTURE_SUFFIXES | {".npy", ".npz", ".json"}
PHOTO_NAMES = frozenset({"image", "photo", "rgb", "color", "colour", "input", "original"})
"""Names of a photo that lies among its masks, as in SAM 3D's folders."""

OTHER_MESH_SUFFIXES = frozenset({".gltf", ".obj", ".ply", ".stl", ".fbx", ".usd", ".usda", ".usdc", ".usdz", ".blend"})
"""Of meshes that are not read."""

DEPTH_SUFFIXES = frozenset({".npy", ".npz", ".exr", ".png", ".tif", ".tiff", ".pfm"})
