"""Object generators: the embedded network, inflation, Pixal3D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedGeneratorConfig, InflateConfig, Pixal3DConfig, TextureConfig
from scenegen.registry import ObjectGenerator
from scenegen.weights import generator_weights
from scenegen.weights_registry.needed import unless_given
from scenegen.weights_registry.pixal3d import PARTS, pixal3d_demand

if TYPE_CHECKING:
    from scenegen.geometry.generator import MadeObject, ObjectView, Unfinished
    from scenegen.pixal3d.settings import Pictures


def _embedded(
    view: ObjectView, seed: int, config: EmbeddedGeneratorConfig, texture: TextureConfig, runtime: Runtime
) -> MadeObject:
    from scenegen.compute.torch_env import full_packages

    with full_packages():
        from scenegen.pixal3d.embedded import generate_embedded

    return generate_embedded(view, seed, config, texture, runtime)


def _inflate(
    view: ObjectView, seed: int, config: InflateConfig, texture: TextureConfig, runtime: Runtime
) -> MadeObject:
    from scenegen.geometry.bake import textured
    from scenegen.geometry.generator import MadeObject
    from scenegen.geometry.inflate import inflate

    mesh, warnings = textured(inflate(view, seed, config), view, texture)
    return MadeObject(mesh, config.method, "none: no weights", seed, warnings)


def _pixal3d(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> Unfinished:
    from scenegen.compute.torch_env import full_packages

    with full_packages():
        from scenegen.pixal3d.backend import generate_pixal3d

    return generate_pixal3d(view, seed, config, texture, runtime)


def _pixal3d_views(
    view: ObjectView, seed: int, config: Pixal3DConfig, texture: TextureConfig, runtime: Runtime
) -> Unfinished:
    from scenegen.compute.torch_env import full_packages

    with full_packages():
        from scenegen.pixal3d.backend import generate_pixal3d_views

    return generate_pixal3d_views(view, seed, config, texture, runtime)


def _pixal3d_finish(begun: Unfinished, config: Pixal3DConfig, texture: TextureConfig) -> MadeObject:
    from scenegen.pixal3d.backend import finish_pixal3d

    return finish_pixal3d(begun, config, texture)


def _pixal3d_weights(pictures: Pictures, config: Pixal3DConfig) -> Mapping[str, str]:
    from scenegen.compute.torch_env import full_packages

    with full_packages():
        from scenegen.pixal3d.backend import pixal3d_weights

    return pixal3d_weights(config, pictures)


def _pixal3d_needs(pictures: Pictures, config: Pixal3DConfig) -> Sequence[str]:
    return unless_given(PARTS[pictures], config.checkpoint)


EMBEDDED_VIEWS = ObjectGenerator(
    config=EmbeddedGeneratorConfig,
    run=_embedded,
    gives=("mesh", "material"),
    weights=lambda config: generator_weights(),
    licence="Apache-2.0",
)
EMBEDDED = replace(EMBEDDED_VIEWS, several=EMBEDDED_VIEWS)
INFLATE = ObjectGenerator(config=InflateConfig, run=_inflate, gives=("mesh", "material"))
PIXAL3D_VIEWS = ObjectGenerator(
    config=Pixal3DConfig,
    run=_pixal3d_views,
    finish=_pixal3d_finish,
    gives=("mesh", "material"),
    weights=partial(_pixal3d_weights, "several"),
    licence="MIT (Pixal3D), DINOv3, not stated (NAF)",
    needs=partial(_pixal3d_needs, "several"),
    on_card=lambda config: pixal3d_demand(config.max_tokens),
    largest_crop=1024,
)
PIXAL3D = replace(
    PIXAL3D_VIEWS,
    run=_pixal3d,
    weights=partial(_pixal3d_weights, "one"),
    needs=partial(_pixal3d_needs, "one"),
    several=PIXAL3D_VIEWS,
)
