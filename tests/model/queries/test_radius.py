from __future__ import annotations

import numpy as np
import pytest

from model.queries import Pool
from model.queries.radius import cover_radius


def on_circle(*degrees: float) -> np.ndarray:
    """Embeddings whose power-normalised rows stand at these angles, 0 to 90."""
    angles = np.radians(degrees)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return rows**2


def radius(embeddings: np.ndarray, labelled: list[int]) -> float:
    return cover_radius(Pool.of(embeddings, None, labelled), np.random.default_rng(0))


def chord(degrees: np.ndarray | float) -> np.ndarray:
    return np.asarray(2 * np.sin(np.radians(degrees) / 2))


def test_the_median_distance_to_the_nearest_label():
    # Distances of 0, 30, 50 and 90 degrees: 20, 30, 40, 50, 60 and 90 between them, so the scale
    # is between the chords of 40 and 50 (the median is of their squares). The nearest labels are
    # 30, 20, 20 and 40 degrees away.
    rows = on_circle(0, 30, 50, 90)
    scale = np.sqrt((chord(40) ** 2 + chord(50) ** 2) / 2)
    assert radius(rows, []) == pytest.approx(0.7 * scale, rel=1e-5)
    assert radius(rows, [2]) == pytest.approx(0.7 * scale, rel=1e-5)
    expected = (chord(20) + chord(30)) / 2
    assert radius(rows, [0, 1, 2, 3]) == pytest.approx(min(expected, 0.7 * scale), rel=1e-5)


def test_one_pair_of_twins_does_not_move_it():
    rows = on_circle(0, 10, 20, 30, 40, 90, 60, 75)
    alone = radius(rows, [0, 1, 2, 3, 4])
    twins = np.vstack([rows, rows[:1]])
    assert radius(twins, [0, 1, 2, 3, 4, 8]) == pytest.approx(alone, rel=0.1)


def test_labels_that_are_all_twins_leave_a_quarter_of_the_scale():
    rows = np.vstack([on_circle(0, 30, 60, 90), np.repeat(on_circle(45), 2, axis=0)])
    between = np.array([30, 60, 90, 45, 45, 30, 60, 15, 15, 30, 15, 15, 45, 45, 0])
    assert radius(rows, [4, 5]) == pytest.approx(0.25 * np.median(chord(between)), rel=1e-4)


def test_equal_images_have_a_radius_too():
    assert radius(np.ones((5, 3)), [0, 1]) == 1
