"""Pixal3D in plain PyTorch: pixel-aligned 3D generation (arXiv 2605.10922), one code path for CPU and GPU.

Tensors are float32 unless said otherwise. Frames are those of `scenegen.camera`; the latent cube is [-0.5, 0.5]^3, x right,
y up, z towards the camera.
"""
