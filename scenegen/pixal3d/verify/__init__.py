"""Compares numbers of this implementation with numbers of the reference, stored as safetensors files."""
