"""One photo in, an editable 3D scene out.

    import scenegen

    scene = scenegen.make("photo.jpg")
    scene.objects[0].mesh.show()
    scene.save("out")

What is public here is imported when it is first used: `import scenegen` alone loads nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenegen.errors import (
        ExportError,
        InputError,
        ResourceError,
        ScenegenError,
        UsageError,
        WeightsError,
    )
    from scenegen.pixal3d.pipeline import Pixal3DPipeline
    from stages.library import PhotoCamera, PhotoScene, SceneObject, load, make, make_views

__version__ = "0.1.0"

__all__ = [
    "ExportError",
    "InputError",
    "PhotoCamera",
    "PhotoScene",
    "Pixal3DPipeline",
    "ResourceError",
    "SceneObject",
    "ScenegenError",
    "UsageError",
    "WeightsError",
    "load",
    "make",
    "make_views",
]

_LIBRARY = ("PhotoCamera", "PhotoScene", "SceneObject", "load", "make", "make_views")
_MODULES = dict.fromkeys(_LIBRARY, "stages.library") | {"Pixal3DPipeline": "scenegen.pixal3d.pipeline"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name in _LIBRARY:
        from scenegen.cli.siblings import check_sibling

        check_sibling("stages")
    return getattr(import_module(_MODULES.get(name, "scenegen.errors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
