"""What a list of steps comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.config import ComposeConfig, Config, EmbeddedGeneratorConfig, KnownLength, load_config
from scenegen.edits.steps import (
    DistanceEdit,
    Edit,
    FieldOfViewEdit,
    FormatsEdit,
    History,
    HorizonEdit,
    LengthEdit,
    LengthsEdit,
    MeshEdit,
    OrderEdit,
    PictureEdit,
    Redo,
    RegenerateEdit,
    Step,
    SupportEdit,
    Undo,
    VerticalEdit,
    history,
    resolved,
)
from scenegen.errors import UsageError
from scenegen.records import Artifact, MergeEdit, RemoveEdit, RenameEdit, Source

FILE = Artifact(path="input/aa/a.png", sha256="a", bytes=1)
SOURCE = Source(name="photo", photo=FILE, camera=(FILE,))
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(FieldOfViewEdit, degrees=st.floats(2, 160)),
    st.builds(RegenerateEdit, object=st.integers(1, 9), seed=st.integers(0, 99)),
    st.builds(RemoveEdit, object=st.integers(1, 9), shows=st.sampled_from(["background", "unknown"])),
    st.builds(RenameEdit, object=st.integers(1, 9), label=st.sampled_from(["mug", "old book"])),
    st.builds(MergeEdit, objects=st.tuples(st.integers(1, 4), st.integers(5, 9))),
    st.builds(LengthEdit, start=st.just((1, 2)), end=st.just((3, 4)), metres=st.floats(0.01, 5)),
    st.builds(SupportEdit, object=st.integers(1, 4), on=st.sampled_from(["floor", "nothing", "photo", 5, 6])),
    st.builds(DistanceEdit, object=st.integers(1, 9), factor=st.sampled_from([None, 0.9, 1.2])),
    st.builds(OrderEdit, front=st.integers(1, 4), behind=st.integers(5, 9)),
    st.builds(MeshEdit, object=st.integers(1, 3), mesh=st.sampled_from([None, FILE])),
    st.builds(PictureEdit, object=st.integers(1, 3), picture=st.sampled_from([None, FILE])),
)


@st.composite
def step_lists(draw: st.DrawFn) -> list[Step]:
    """Steps of which none undoes or redoes what is not there."""
    steps: list[Step] = []
    found = History()
    for _ in range(draw(st.integers(0, 12))):
        allowed: list[st.SearchStrategy[Step]] = [EDITS]
        allowed += [st.just(Undo())] if found.done else []
        allowed += [st.just(Redo())] if found.undone else []
        steps.append(draw(st.one_of(allowed)))
        found = found.after(steps[-1])
    return steps


@given(step_lists(), EDITS)
def test_undo_takes_back_exactly_the_last_edit_and_redo_brings_it_back(steps: list[Step], edit: Edit) -> None:
    before = history(steps)
    after = before.after(edit)
    assert after.done == (*before.done, edit)
    assert after.undone == ()
    assert after.after(Undo()).done == before.done
    assert after.after(Undo()).after(Redo()) == after


@given(step_lists())
def test_everything_can_be_undone_and_redone(steps: list[Step]) -> None:
    found = history(steps)
    bare = found
    for _ in found.done:
        bare = bare.after(Undo())
    assert bare.done == ()
    with pytest.raises(UsageError, match="nothing to undo"):
        bare.after(Undo())
    for _ in found.done:
        bare = bare.after(Redo())
    assert bare.done == found.done


@given(step_lists())
def test_a_scene_is_made_from_the_edits_in_effect_alone(steps: list[Step]) -> None:
    done = history(steps).done
    assert resolved(SOURCE, Config(), done) == resolved(SOURCE, Config(), history(done).done)
    source, config = resolved(SOURCE, Config(), done)
    assert source.without_edits().photo == SOURCE.photo
    # Nothing is lost: an edit is part of the source, or a setting says it.
    settings = (
        FieldOfViewEdit,
        LengthEdit,
        RegenerateEdit,
        SupportEdit,
        DistanceEdit,
        OrderEdit,
        MeshEdit,
        PictureEdit,
    )
    assert source.edits == tuple(edit for edit in done if not isinstance(edit, settings))
    degrees = [edit.degrees for edit in done if isinstance(edit, FieldOfViewEdit)]
    assert config.camera.fov_deg == (degrees[-1] if degrees else None)
    assert source.camera == (() if degrees else SOURCE.camera)
    lengths = [edit.metres for edit in done if isinstance(edit, LengthEdit)]
    assert (config.camera.known_length and config.camera.known_length.metres) == (lengths[-1] if lengths else None)
    seeds = {edit.object: edit.seed for edit in done if isinstance(edit, RegenerateEdit)}
    assert {number: settings.seed for number, settings in config.objects.items()} == seeds

    stands = {edit.object: edit.on for edit in done if isinstance(edit, SupportEdit)}
    assert config.compose.stands == {number: on for number, on in stands.items() if on != "photo"}
    distances = {edit.object: edit.factor for edit in done if isinstance(edit, DistanceEdit)}
    assert config.compose.distances == {number: factor for number, factor in distances.items() if factor}
    assert set(config.compose.before) == {(edit.front, edit.behind) for edit in done if isinstance(edit, OrderEdit)}
    meshes = {edit.object: edit.mesh for edit in done if isinstance(edit, MeshEdit)}
    assert [given.id for given in source.meshes] == sorted(number for number, mesh in meshes.items() if mesh)
    pictures = {edit.object: edit.picture for edit in done if isinstance(edit, PictureEdit)}
    assert [given.id for given in source.pictures] == sorted(number for number, picture in pictures.items() if picture)
    # What it comes to is a configuration like any other.
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_edits_of_the_camera_replace_those_they_contradict() -> None:
    first = {"start": (1, 2), "end": (3, 4)}
    lengths = LengthsEdit(first=KnownLength(**first, metres=1), second=KnownLength(**first, metres=2))
    vertical, horizon = VerticalEdit(**first), HorizonEdit(**first)
    source, config = resolved(SOURCE, Config(), [FieldOfViewEdit(degrees=50), lengths, vertical, vertical])
    assert source.camera == ()
    assert config.camera.fov_deg is None
    assert config.camera.second_length is not None
    assert len(config.camera.verticals) == 2
    _, config = resolved(SOURCE, Config(), [lengths, vertical, horizon, FieldOfViewEdit(degrees=50)])
    assert (config.camera.fov_deg, config.camera.second_length, config.camera.verticals) == (50, None, ())
    assert config.camera.known_length is not None
    assert config.camera.horizon is not None


def test_an_object_is_made_with_the_generator_that_an_edit_names() -> None:
    own = load_config("training-free", overrides=["generate.thickness=0.7"])
    _, config = resolved(SOURCE, own, [RegenerateEdit(object=2, seed=5, method="embedded")])
    assert config.object_settings(2).generate == EmbeddedGeneratorConfig()
    assert config.object_settings(2).seed == 5
    assert config.object_settings(1).generate == own.generate
    # The scene's own settings are used where they are of that generator.
    _, config = resolved(SOURCE, own, [RegenerateEdit(object=2, seed=5, method="inflate")])
    assert config.object_settings(2).generate == own.generate
    with pytest.raises(UsageError, match="no generator is called"):
        resolved(SOURCE, own, [RegenerateEdit(object=2, seed=5, method="/etc/passwd")])
    _, config = resolved(SOURCE, own, [FormatsEdit(formats=("mjcf", "urdf"), usdz=False)])
    assert [settings.method for settings in config.export.formats] == ["mjcf", "urdf"]
    with pytest.raises(UsageError, match="no exporter is called"):
        resolved(SOURCE, own, [FormatsEdit(formats=("exe",))])


def test_nothing_stands_on_itself() -> None:
    circle = [SupportEdit(object=1, on=2), SupportEdit(object=2, on=3), SupportEdit(object=3, on=1)]
    resolved(SOURCE, Config(), circle[:2])
    with pytest.raises(ValueError, match=r"in a circle: 1 on 2 on 1"):
        ComposeConfig(stands={1: 2, 2: 1})
    with pytest.raises(UsageError, match=r"in a circle: 1 on 2 on 3 on 1"):
        resolved(SOURCE, Config(), circle)


def test_an_edit_after_undo_ends_what_could_be_redone() -> None:
    found = history([FieldOfViewEdit(degrees=50), Undo(), FieldOfViewEdit(degrees=60)])
    with pytest.raises(UsageError, match="nothing to redo"):
        found.after(Redo())
