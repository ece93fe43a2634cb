"""What a list of steps comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenegen.config import Config
from scenegen.edits.steps import (
    Edit,
    FieldOfViewEdit,
    History,
    LengthEdit,
    Redo,
    RegenerateEdit,
    Step,
    Undo,
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
    settings = (FieldOfViewEdit, LengthEdit, RegenerateEdit)
    assert source.edits == tuple(edit for edit in done if not isinstance(edit, settings))
    degrees = [edit.degrees for edit in done if isinstance(edit, FieldOfViewEdit)]
    assert config.camera.fov_deg == (degrees[-1] if degrees else None)
    assert source.camera == (() if degrees else SOURCE.camera)
    lengths = [edit.metres for edit in done if isinstance(edit, LengthEdit)]
    assert (config.camera.known_length and config.camera.known_length.metres) == (lengths[-1] if lengths else None)
    seeds = {edit.object: edit.seed for edit in done if isinstance(edit, RegenerateEdit)}
    assert {number: settings.seed for number, settings in config.objects.items()} == seeds


def test_an_edit_after_undo_ends_what_could_be_redone() -> None:
    found = history([FieldOfViewEdit(degrees=50), Undo(), FieldOfViewEdit(degrees=60)])
    with pytest.raises(UsageError, match="nothing to redo"):
        found.after(Redo())
