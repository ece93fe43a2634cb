"""How an object is generated: settings of every stage, as the released `pipeline.json` has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from scenegen.errors import UsageError, WeightsError
from scenegen.pixal3d.features import ExtractorSettings
from scenegen.pixal3d.sampler import SamplerSettings
from scenegen.untrusted.documents import read_json

NETWORKS = (
    "sparse_structure_flow_model",
    "sparse_structure_decoder",
    "shape_slat_flow_model_512",
    "shape_slat_flow_model_1024",
    "tex_slat_flow_model_1024",
    "shape_slat_decoder",
    "tex_slat_decoder",
)
"""Names of the networks in `pipeline.json`."""
USES = (*NETWORKS[:3], "shape_slat_decoder", *NETWORKS[3:])
"""The order in which an object uses them: the shape decoder also gives the fine stages their voxels."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each latent channel in training."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, latent: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Converts a latent to the units that the flows work in."""
        return (latent - latent.new_tensor(self.mean)) / latent.new_tensor(self.std)

    def undo(self, latent: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Converts a latent to the units that the decoders work in."""
        return latent * latent.new_tensor(self.std) + latent.new_tensor(self.mean)


SHAPE_NORMALISATION = Normalisation(
    mean=(
        0.781296,
        0.018091,
        -0.495192,
        -0.558457,
        1.060530,
        0.093252,
        1.518149,
        -0.933218,
        -0.732996,
        2.604095,
        -0.118341,
        -2.143904,
        0.495076,
        -2.179512,
        -2.130751,
        -0.996944,
        0.261421,
        -2.217463,
        1.260067,
        -0.150213,
        3.790713,
        1.481266,
        -1.046058,
        -1.523667,
        -0.059621,
        2.220780,
        1.621212,
        0.877230,
        0.567247,
        -3.175944,
        -3.186688,
        1.578665,
    ),
    std=(
        5.972266,
        4.706852,
        5.445010,
        5.209927,
        5.320220,
        4.547237,
        5.020802,
        5.444004,
        5.226681,
        5.683095,
        4.831436,
        5.286469,
        5.652043,
        5.367606,
        5.525084,
        4.730578,
        4.805265,
        5.124013,
        5.530808,
        5.619001,
        5.103930,
        5.417670,
        5.269677,
        5.547194,
        5.634698,
        5.235274,
        6.110351,
        5.511298,
        6.237273,
        4.879207,
        5.347008,
        5.405691,
    ),
)
TEXTURE_NORMALISATION = Normalisation(
    mean=(
        3.501659,
        2.212398,
        2.226094,
        0.251093,
        -0.026248,
        -0.687364,
        0.439898,
        -0.928075,
        0.029398,
        -0.339596,
        -0.869527,
        1.038479,
        -0.972385,
        0.126042,
        -1.129303,
        0.455149,
        -1.209521,
        2.069067,
        0.544735,
        2.569128,
        -0.323407,
        2.293000,
        -1.925608,
        -1.217717,
        1.213905,
        0.971588,
        -0.023631,
        0.106750,
        2.021786,
        0.250524,
        -0.662387,
        -0.768862,
    ),
    std=(
        2.665652,
        2.743913,
        2.765121,
        2.595319,
        3.037293,
        2.291316,
        2.144656,
        2.911822,
        2.969419,
        2.501689,
        2.154811,
        3.163343,
        2.621215,
        2.381943,
        3.186697,
        3.021588,
        2.295916,
        3.234985,
        3.233086,
        2.260140,
        2.874801,
        2.810596,
        3.292720,
        2.674999,
        2.680878,
        2.372054,
        2.451546,
        2.353556,
        2.995195,
        2.379849,
        2.786195,
        2.775190,
    ),
)
"""Both as released; a `pipeline.json` that has them takes precedence."""


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """Everything but weights. The defaults are the released ones."""

    structure_sampler: SamplerSettings = SamplerSettings(
        steps=12, guidance_strength=7.5, guidance_rescale=0.7, guidance_interval=(0.6, 1.0), rescale_t=5.0
    )
    shape_sampler: SamplerSettings = SamplerSettings(
        steps=12, guidance_strength=7.5, guidance_rescale=0.5, guidance_interval=(0.6, 1.0), rescale_t=3.0
    )
    texture_sampler: SamplerSettings = SamplerSettings(
        steps=12, guidance_strength=1.0, guidance_rescale=0.0, guidance_interval=(0.6, 0.9), rescale_t=3.0
    )
    shape_normalisation: Normalisation = SHAPE_NORMALISATION
    texture_normalisation: Normalisation = TEXTURE_NORMALISATION
    structure_view: ExtractorSettings = ExtractorSettings(512, 16)
    coarse_view: ExtractorSettings = ExtractorSettings(512, 32, use_naf=True, naf_target_size=512)
    fine_view: ExtractorSettings = ExtractorSettings(1024, 64, use_naf=True, naf_target_size=512)
    """Its grid follows the resolution the cascade settles on."""
    texture_view: ExtractorSettings = ExtractorSettings(1024, 64, use_naf=True, naf_target_size=1024)
    """The same grid as `fine_view`."""
    max_tokens: int = 49152
    """The fine flows stay below this number of voxels by a coarser grid."""


Pictures = Literal["one", "several"]
"""How many pictures of an object the flows were trained on; there are weights for both."""
PIPELINE: Mapping[Pictures, str] = {"one": "pipeline.json", "several": "pipeline_mv.json"}
"""The released pipeline file of each."""
VIEWS = ("structure_view", "coarse_view", "fine_view", "texture_view")


def read_pipeline(folder: Path, pictures: Pictures = "one") -> tuple[PipelineSettings, dict[str, Path]]:
    """Settings, and for each of `NETWORKS` where its files are (without suffix), from the pipeline's file in `folder`.

    The released file says nothing about `views` and `max_tokens`; if a file has none, they are the released ones.

    Raises:
        WeightsError: if the file is missing, damaged, or does not name every network.
    """
    path = folder / PIPELINE[pictures]
    try:
        args: Mapping[str, Any] = read_json(path)["args"]
        models = args["models"]
        absent = [name for name in NETWORKS if name not in models]
        if absent:
            raise WeightsError(f"{path} does not name {', '.join(absent)}; fetch it again.")
        settings = PipelineSettings(
            structure_sampler=_sampler(args["sparse_structure_sampler"]),
            shape_sampler=_sampler(args["shape_slat_sampler"]),
            texture_sampler=_sampler(args["tex_slat_sampler"]),
            shape_normalisation=_normalisation(args["shape_slat_normalization"]),
            texture_normalisation=_normalisation(args["tex_slat_normalization"]),
            max_tokens=int(args.get("max_tokens", PipelineSettings.max_tokens)),
        )
        views: dict[str, Any] = {name: ExtractorSettings(**view) for name, view in args.get("views", {}).items()}
        settings = replace(settings, **views)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise WeightsError(
            f"{path} is not a readable pipeline ({type(error).__name__}: {error}); fetch it again."
        ) from error
    return settings, {name: _inside(path, models[name]) for name in NETWORKS}


def pipeline_text(path: Path, settings: PipelineSettings) -> str:
    """The text of the pipeline's file `path` with `settings`; `read_pipeline` reads equal settings from it.

    Raises:
        WeightsError: if the file cannot be read.
    """
    try:
        document = read_json(path)
        document["args"] |= {
            "sparse_structure_sampler": _sampler_entry(settings.structure_sampler),
            "shape_slat_sampler": _sampler_entry(settings.shape_sampler),
            "tex_slat_sampler": _sampler_entry(settings.texture_sampler),
            "shape_slat_normalization": asdict(settings.shape_normalisation),
            "tex_slat_normalization": asdict(settings.texture_normalisation),
            "views": {name: asdict(getattr(settings, name)) for name in VIEWS},
            "max_tokens": settings.max_tokens,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read ({type(error).__name__}: {error}); fetch it again.") from error
    return json.dumps(document, indent=1)


def _sampler_entry(settings: SamplerSettings) -> dict[str, Any]:
    params = asdict(settings)
    return {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": params.pop("sigma_min")},
        "params": params,
    }


def _sampler(entry: Mapping[str, Any]) -> SamplerSettings:
    params = {**entry.get("args", {}), **entry["params"]}
    return SamplerSettings(**{**params, "guidance_interval": tuple(params["guidance_interval"])})


def _normalisation(entry: Mapping[str, Any]) -> Normalisation:
    return Normalisation(tuple(float(x) for x in entry["mean"]), tuple(float(x) for x in entry["std"]))


def _inside(pipeline: Path, name: str) -> Path:
    """A file that the pipeline's file names; it may not lie outside its folder."""
    path = (pipeline.parent / name).resolve()
    if not path.is_relative_to(pipeline.parent.resolve()):
        raise WeightsError(f"{pipeline} names {name!r}, outside its folder; fetch it again.")
    return path
