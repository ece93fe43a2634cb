"""The weight files that scenegen can use: which exist, where they are on this machine, and how to fetch them."""

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
