import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.propagation import ALPHA, ITERATIONS, affinities, nearest, neighbour_graph, propagate


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_nearest_is_what_all_distances_say(m: int, u: int, r: int, seed: int):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(m, r)).astype(np.float32)
    others = generator.normal(size=(u, r)).astype(np.float32)
    count = min(3, u)
    every = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    near, distances = nearest(points, others, count)
    assert near.shape == (m, count)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :count], atol=1e-4)
    np.testing.assert_allclose(distances, np.take_along_axis(every, near, axis=1), atol=1e-4)
    assert (np.diff(distances, axis=1) >= -1e-6).all()


def test_affinity_is_e_to_the_minus_one_at_the_median():
    found = affinities(np.array([[0.0, 1.0, 2.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[1, np.exp(-1), np.exp(-2)]], rtol=1e-6)


def test_a_graph_of_three_points_by_hand():
    # Distances 1, 4 and 9, squared; each point's median among itself and its two others is its
    # nearer one, and the larger of the two directions joins a pair.
    graph = neighbour_graph(np.array([[0.0], [1.0], [3.0]], dtype=np.float32)).toarray()
    joined = {
        (0, 1): np.exp(-1.0),
        (1, 2): max(np.exp(-4 / 1), np.exp(-4 / 4)),
        (0, 2): max(np.exp(-9 / 1), np.exp(-9 / 4)),
    }
    weights = np.zeros((3, 3))
    for (a, b), value in joined.items():
        weights[a, b] = weights[b, a] = value
    degree = weights.sum(axis=1)
    np.testing.assert_allclose(graph, weights / np.sqrt(np.outer(degree, degree)), rtol=1e-5)


def test_twins_are_joined_to_each_other_and_never_to_themselves():
    points = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    graph = neighbour_graph(points)
    assert graph.diagonal().max() == 0
    np.testing.assert_allclose(graph.toarray(), graph.T.toarray(), rtol=1e-6)
    assert np.isfinite(graph.data).all()
    assert np.abs(np.linalg.eigvalsh(graph.toarray())).max() <= 1 + 1e-5


def test_propagation_nears_the_closed_form():
    generator = np.random.default_rng(3)
    graph = neighbour_graph(generator.normal(size=(40, 2)).astype(np.float32))
    seeds = np.zeros((40, 2), dtype=np.float32)
    seeds[0, 0] = seeds[7, 1] = 1
    # Zhou et al. (2004), eq. 4, up to the factor that they leave out.
    limit = (1 - ALPHA) * np.linalg.solve(np.eye(40) - ALPHA * graph.toarray(), seeds)
    found = propagate(graph, seeds)
    assert np.abs(found - limit).max() <= ALPHA ** (ITERATIONS + 1)
    assert found[0, 0] == pytest.approx(limit[0, 0], rel=0.05)
