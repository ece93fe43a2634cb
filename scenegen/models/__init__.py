"""The weight files scenegen can use: which they are, where they lie on this machine, and how they get there."""

from scenegen.models.download import Progress, fetch
from scenegen.models.local import Row, check_digest, digest_of, list_models, locate
from scenegen.models.pixal3d import locate_pixal3d
from scenegen.models.registry import MODELS, Model, ModelFile, registered

__all__ = [
    "MODELS",
    "Model",
    "ModelFile",
    "Progress",
    "Row",
    "check_digest",
    "digest_of",
    "fetch",
    "list_models",
    "locate",
    "locate_pixal3d",
    "registered",
]
