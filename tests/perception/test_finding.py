from __future__ import annotations

import numpy as np
import pytest

from scenegen.errors import UsageError
from scenegen.ids import UNKNOWN
from scenegen.perception import Segmentation
from scenegen.perception.finding import known_nouns, only_called

IDS = np.array([[0, 1, 2, 3, UNKNOWN]], np.uint16)


def segmentation() -> Segmentation:
    guesses = ((("cup", 0.8), ("bowl", 0.2)), (("chair", 0.3),), ())
    labels = ("cup", "object", "object")
    return Segmentation(IDS, (0.9, 0.8, 0.7), labels, (0.8, None, None), "embedded", "Apache-2.0", guesses)


def test_only_what_is_asked_for_stays_and_the_rest_is_unknown() -> None:
    found = only_called(segmentation(), ["mug", "armchair"])
    assert found.ids.tolist() == [[0, 1, 2, UNKNOWN, UNKNOWN]]
    assert found.labels == segmentation().labels
    assert found.warnings == ()


def test_what_is_not_there_is_said() -> None:
    found = only_called(segmentation(), ["bowl", "cup"])
    assert found.ids.tolist() == [[0, 1, UNKNOWN, UNKNOWN, UNKNOWN]]
    assert found.warnings == ("segment: found no bowl; try another word, or point at it with --point or --box.",)


def test_an_unknown_noun_names_the_known_ones_and_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"does not know gizmo, doodad\. It knows airplane.*--preset paper"):
        known_nouns(["cup", "gizmo", "doodad"])
