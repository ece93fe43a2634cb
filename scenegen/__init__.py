"""One photo in, an editable 3D scene out."""

__version__ = "0.1.0"
