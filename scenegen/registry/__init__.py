"""Back-ends as plug-ins: what one is, and how those of this package and of others are found.

A package brings a back-end by an entry point whose name is the back-end's and whose object is its record:

    [project.entry-points."scenegen.depth_estimators"]
    flat = "scenegen_flat:FLAT"

Entry points are read together with a configuration; what they name is imported when it is first used.
"""

from scenegen.registry.backend import (
    Backend,
    CameraEstimator,
    Chosen,
    Completer,
    DepthEstimator,
    Exporter,
    Gives,
    Matcher,
    ObjectGenerator,
    Segmenter,
)
from scenegen.registry.port import (
    CAMERA_ESTIMATORS,
    COMPLETERS,
    DEPTH_ESTIMATORS,
    EXPORTERS,
    MATCHERS,
    OBJECT_GENERATORS,
    OWN,
    PORTS,
    SEGMENTERS,
    UNUSABLE,
    Offer,
    Port,
)

__all__ = [
    "CAMERA_ESTIMATORS",
    "COMPLETERS",
    "DEPTH_ESTIMATORS",
    "EXPORTERS",
    "MATCHERS",
    "OBJECT_GENERATORS",
    "OWN",
    "PORTS",
    "SEGMENTERS",
    "UNUSABLE",
    "Backend",
    "CameraEstimator",
    "Chosen",
    "Completer",
    "DepthEstimator",
    "Exporter",
    "Gives",
    "Matcher",
    "ObjectGenerator",
    "Offer",
    "Port",
    "Segmenter",
]
