"""Objects that several photos show go to the generator's record for them, or are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenegen.compute.runtime import Runtime
from scenegen.config import EmbeddedGeneratorConfig, InflateConfig, ObjectSettings, TextureConfig
from scenegen.errors import UsageError
from scenegen.geometry.generator import ObjectView, OtherView
from scenegen.geometry.refine import unseen, visible_front
from scenegen.ids import BACKGROUND, UNKNOWN
from scenegen.registry import OBJECT_GENERATORS
from stages.generate import begin_object, levelled
from tests.geometry.views import sphere_view


def twice_seen() -> ObjectView:
    return replace(sphere_view(), others=(OtherView(sphere_view(), np.eye(4)),))


def test_a_generator_of_single_views_refuses_several() -> None:
    with pytest.raises(UsageError, match=r"inflate, which makes an object from one view, but there are 2"):
        begin_object(
            twice_seen(),
            ObjectSettings(generate=InflateConfig(), texture=TextureConfig(), seed=0),
            Runtime(device="cpu"),
        )


def test_a_view_comes_first_among_all() -> None:
    first, second = twice_seen().all
    assert not first.view.others
    assert np.array_equal(first.crop_from_main, np.eye(4))
    assert second is not first


def test_the_record_for_several_views_has_the_same_settings() -> None:
    generator = OBJECT_GENERATORS.of(EmbeddedGeneratorConfig())
    assert generator.several is not None
    assert generator.several.config is generator.config


def test_the_floor_before_an_object_does_not_hide_it() -> None:
    view = sphere_view()
    ids = np.where(view.mask > 0.5, 1, BACKGROUND)
    ids[0] = UNKNOWN
    too_near = np.where(ids == 1, view.depth, np.float32(1.1))
    too_near[-1] = 0
    assert unseen(replace(view, depth=too_near), visible_front(view)).any()
    depth = levelled(too_near, ids, view.limit)
    assert np.array_equal(depth[1:-1], np.where(ids == 1, view.depth, view.limit)[1:-1])
    assert (depth[-1] == 0).all()
    assert (depth[0] == too_near[0]).all()
    assert not unseen(replace(view, depth=depth), visible_front(view))[1:].any()
