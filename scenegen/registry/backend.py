"""The record of a back-end: everything that the rest of the program knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from jaxtyping import Integer, UInt8, UInt16

    from scenegen.completion import PartView, WholeView
    from scenegen.compute.residency import Demand
    from scenegen.compute.runtime import Runtime
    from scenegen.config import TextureConfig
    from scenegen.export.parts import PartScene
    from scenegen.geometry.generator import MadeObject, ObjectView, Unfinished
    from scenegen.perception import CameraEstimate, DepthEstimate, Names, Segmentation
    from scenegen.perception.prompts import Prompt
    from scenegen.records import Intrinsics
    from scenegen.views.features import Matches
    from scenegen.weights_registry import Model

C = TypeVar("C", bound=BaseModel)
"""Settings of a back-end."""

Gives = Literal[
    "masks", "labels", "depth", "metres", "focal length", "gravity", "picture", "mesh", "material", "points", "files"
]
"""What a back-end can give. `metres`: its depth has a scale that is measured rather than assumed."""


def no_weights(settings: Any) -> Mapping[str, str]:
    """Weights of a back-end that has none.

    Example:
        >>> no_weights(None)
        {}
    """
    return {}


def little_of_a_card(settings: Any) -> Demand | None:
    """What a back-end with small networks, or none, needs of a graphics card.

    Example:
        >>> little_of_a_card(None) is None
        True
    """
    return None


def no_models(settings: Any) -> Sequence[str]:
    """Fetched models of a back-end that needs none.

    Example:
        >>> no_models(None)
        ()
    """
    return ()


@dataclass(frozen=True, kw_only=True)
class Backend(Generic[C]):
    """One way to do one step.

    The record's module imports only what is quick to import; `run` imports the rest itself.
    """

    config: type[C]
    """Its settings, a `scenegen.config.BackendConfig`. The default of their field `method` is the back-end's name."""
    run: Callable[..., Any]
    """What it does: a function of a module. Its result depends on its arguments, the code of its package and `weights` alone."""
    gives: tuple[Gives, ...]
    weights: Callable[[C], Mapping[str, str]] = no_weights
    """Names, each with the revision or digest, of the weights that it computes with under the given settings. A back-end
    without weights needs no graphics card."""
    licence: str = "none: no weights"
    """Licence of the weights."""
    models: Sequence[Model] = ()
    """Weight files for `scenegen models` to list and fetch."""
    needs: Callable[[C], Sequence[str]] = no_models
    """Names of the models that must have been fetched for the given settings."""
    on_card: Callable[[C], Demand | None] = little_of_a_card
    """What it needs of a graphics card under the given settings; None if that is little."""
    packages: Sequence[str] = ()
    """Distributions that it needs besides those of its own package, as `name>=version`."""
    extra: str = ""
    """The extra of scenegen that brings them."""
    provider: str = ""
    """Name and version of the distribution that brought it; set when it is found, empty for scenegen's own."""

    @property
    def name(self) -> str:
        """What a configuration calls it."""
        return str(self.config.model_fields["method"].default)

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions and classes whose code decides its results."""
        return self.run, self.config

    def signed(self, made_by: str) -> str:
        """What log, manifest and report call the maker of something: `made_by`, and the package that the back-end comes from.

        Example:
            >>> from dataclasses import replace
            >>> from scenegen.registry import DEPTH_ESTIMATORS
            >>> ground = DEPTH_ESTIMATORS.backend("ground")
            >>> ground.signed("ground plane"), replace(ground, provider="my-depth 0.1").signed("ground plane")
            ('ground plane', 'ground plane (my-depth 0.1)')
        """
        return f"{made_by} ({self.provider})" if self.provider else made_by


@dataclass(frozen=True, kw_only=True)
class Segmenter(Backend[C]):
    """Finds the separate objects of a photo (sRGB): one for each prompt if there are any, else all. Finding none is not an error.

    Its settings are a `scenegen.config.SegmenterConfig`; a `PromptedSegmenterConfig` if it can be given prompts.
    """

    run: Callable[[UInt8[np.ndarray, "h w 3"], Sequence[Prompt], C, Runtime], Segmentation]
    name_objects: (
        Callable[[UInt8[np.ndarray, "h w 3"], UInt16[np.ndarray, "h w"], Sequence[int], C, Runtime], Names] | None
    ) = None
    """Names the given objects of a picture of ids that it did not draw itself."""

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions and classes whose code decides its results."""
        return super().parts + (() if self.name_objects is None else (self.name_objects,))


@dataclass(frozen=True, kw_only=True)
class DepthEstimator(Backend[C]):
    """Finds how far away everything in a photo (sRGB) is, given the id of the object that each pixel shows, and the camera."""

    run: Callable[
        [UInt8[np.ndarray, "h w 3"], Integer[np.ndarray, "h w"], Intrinsics, C, Runtime],
        DepthEstimate,
    ]
    by_object: bool = True
    """Whether the depth of an object depends on its outline. If not, an edited outline asks for no other depth."""


@dataclass(frozen=True, kw_only=True)
class CameraEstimator(Backend[C]):
    """Judges field of view and gravity from a photo (sRGB)."""

    run: Callable[[UInt8[np.ndarray, "h w 3"], C, Runtime], CameraEstimate]


@dataclass(frozen=True, kw_only=True)
class Completer(Backend[C]):
    """Shows a partly hidden object as if nothing hid it. Another seed may give another hidden part, and the same seen one."""

    run: Callable[[PartView, int, C, Runtime], WholeView]
    largest_crop: int = 1024
    """Largest side of the view, in pixels, that it makes use of."""


@dataclass(frozen=True, kw_only=True)
class ObjectGenerator(Backend[C]):
    """Makes an object, with its material, from one view of it. Another seed gives another hidden side, and the same visible one.

    `run` raises `InputError` if the view shows too little to make anything of.
    """

    run: Callable[[ObjectView, int, C, TextureConfig, Runtime], MadeObject | Unfinished]
    finish: Callable[[Unfinished, C, TextureConfig], MadeObject] | None = None
    """What is left to do after a `run` that returns something unfinished. It needs no device: on a graphics card the next object
    begins meanwhile."""
    largest_crop: int = 768
    """Largest side of the view, in pixels, that it makes use of."""
    several: ObjectGenerator[C] | None = None
    """What makes an object from several views (`ObjectView.others`), by the same settings; None if this makes use of one only."""

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions and classes whose code decides its results."""
        return super().parts + (() if self.finish is None else (self.finish,))


@dataclass(frozen=True, kw_only=True)
class Matcher(Backend[C]):
    """Finds points that two of several photos (sRGB) of a scene share."""

    run: Callable[[Sequence[UInt8[np.ndarray, "_h _w 3"]], C, Runtime], Sequence[Matches]]
    finds_cameras: bool = True
    """Whether unknown cameras are found from its matches, rather than from COLMAP's own."""


@dataclass(frozen=True, kw_only=True)
class Exporter(Backend[C]):
    """Writes a scene into an existing folder, beside `scene.glb` and `scene.usd`, and returns the files that it wrote.

    The same scene must give the same bytes. `run` raises `ExportError` if the scene cannot be written.
    """

    run: Callable[[PartScene, Path, C], list[Path]]


B = TypeVar("B", bound=Backend[Any])


@dataclass(frozen=True)
class Chosen(Generic[B]):
    """A back-end with its settings."""

    backend: B
    settings: Any

    def weights(self) -> Mapping[str, str]:
        """Names and revisions of the weights it computes with.

        Example:
            >>> from scenegen.config import GroundConfig
            >>> from scenegen.registry import DEPTH_ESTIMATORS
            >>> DEPTH_ESTIMATORS.chosen(GroundConfig()).weights()
            {}
        """
        return self.backend.weights(self.settings)

    def needs(self) -> Sequence[str]:
        """Names of the models that must have been fetched.

        Example:
            >>> from scenegen.config import SamConfig
            >>> from scenegen.registry import SEGMENTERS
            >>> SEGMENTERS.chosen(SamConfig(model="vit_h")).needs()
            ['sam-vit_h']
        """
        return self.backend.needs(self.settings)
