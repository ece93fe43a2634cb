"""Meshes: making, unwrapping, baking, ray casting."""
