"""The weight files that scenegen can use: which exist, where they are on this machine, and how to fetch them."""

from scenegen.weights_registry.download import Progress, fetch
from scenegen.weights_registry.local import ModelStatus, check_digest, digest_of, list_models, locate
from scenegen.weights_registry.model import Model, ModelFile
from scenegen.weights_registry.models import MODELS, registered
from scenegen.weights_registry.pixal3d import locate_pixal3d

__all__ = [
    "MODELS",
    "Model",
    "ModelFile",
    "ModelStatus",
    "Progress",
    "check_digest",
    "digest_of",
    "fetch",
    "list_models",
    "locate",
    "locate_pixal3d",
    "registered",
]
