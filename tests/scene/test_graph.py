from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rooms import DESK, room

from scenegen.scene.graph import (
    closeness,
    containment,
    from_json,
    object_name,
    occlusions,
    relate,
    support_graph,
    to_json,
)


@given(st.integers(1, 99), st.text(max_size=80))
def test_names_are_plain_and_keep_the_id(object_id: int, label: str) -> None:
    name = object_name(object_id, label)
    assert name.startswith(f"obj_{object_id:02d}")
    assert len(name) <= 48
    assert name.isascii()
    assert name.replace("_", "").isalnum()
    assert name.isidentifier()


def test_names_read_like_labels() -> None:
    assert object_name(3, "Crème brûlée / hot!") == "obj_03_creme_brulee_hot"
    assert object_name(3, "茶") == "obj_03"


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=5))
def test_the_graph_survives_json(values: dict[str, float]) -> None:
    graph: nx.DiGraph = nx.DiGraph()
    for name, value in values.items():
        graph.add_node(name, kind="object", value=value)
    first, second = list(values)[:2]
    relate(graph, first, second, "supports", {"gap_m": 0.25})
    relate(graph, first, second, "occludes", {"pixels": 12})
    back = from_json(to_json(graph))
    assert nx.utils.graphs_equal(graph, back)
    assert set(back.edges[first, second]["relations"]) == {"supports", "occludes"}
    assert to_json(back) == to_json(graph)


def test_relations_need_their_nodes() -> None:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_node("floor")
    with pytest.raises(KeyError, match="must both be nodes"):
        relate(graph, "floor", "obj_01", "supports", {})


def test_the_nearer_object_occludes() -> None:
    scene = room([((0.6, 0.4, 0.3), (0, 0, -2.0)), ((0.3, 0.9, 0.3), (0, 0, -2.8))])
    ((pair, evidence),) = occlusions(scene.ids, scene.depth).items()
    assert pair == (1, 2)
    assert evidence["depth_step_m"] == pytest.approx(0.7, abs=0.2)
    swapped = np.where(scene.ids == 1, 2, np.where(scene.ids == 2, 1, 0)).astype(np.uint16)
    assert list(occlusions(swapped, scene.depth)) == [(2, 1)]


def test_closeness_and_containment() -> None:
    scene = room(DESK)
    world = [box.transformed(np.linalg.inv(scene.camera_from_world)) for box in scene.boxes]
    distance, size = closeness(world[1], world[0])
    assert size == pytest.approx(0.5)
    assert distance > 0.3
    assert containment(world[2], world[1]) == pytest.approx(0, abs=0.51)  # its base lies in the lid's plane
    assert containment(world[1], world[1]) == 1


def test_supports_are_a_graph() -> None:
    stack = support_graph([(0, 1), (1, 2), (0, 3), (2, 4)])
    assert nx.descendants(stack, 1) == {2, 4}
    assert [sorted(level) for level in nx.topological_generations(stack)] == [[0], [1, 3], [2], [4]]
