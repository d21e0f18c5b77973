from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.errors import ArgumentError
from model.overlays import AGAINST, FOR, heat_layer, laid_over, weight_layer


def test_heat_is_clear_where_there_is_none_and_yellow_where_it_is_most() -> None:
    layer = np.asarray(heat_layer([[0.0, 0.5], [1.0, 0.0]]))
    assert layer.shape == (2, 2, 4)
    assert layer[..., 3].tolist() == [[0, 108], [217, 0]]
    assert layer[1, 0, :3].tolist() == [252, 240, 130]


def test_weights_are_blue_for_and_orange_against() -> None:
    layer = np.asarray(weight_layer([[2.0, -1.0, 0.0]]))
    assert layer[0, 0].tolist() == [*FOR, 217]
    assert layer[0, 1].tolist() == [*AGAINST, 108]
    assert layer[0, 2, 3] == 0


def test_no_weights_hide_nothing() -> None:
    image = Image.new("RGB", (6, 4), (10, 200, 30))
    under = laid_over(image, weight_layer(np.zeros((2, 3))))
    assert np.array_equal(np.asarray(under), np.asarray(image))


def test_what_is_under_a_layer_shines_through() -> None:
    under = laid_over(Image.new("RGB", (2, 2), (0, 0, 0)), weight_layer(np.ones((1, 1))))
    found = np.asarray(under)[0, 0].astype(float)
    np.testing.assert_allclose(found, 217 / 255 * np.array(FOR), atol=1.5)


@pytest.mark.parametrize("heat", [[[1.5]], [[np.nan]], [0.5], np.zeros((0, 3))], ids=str)
def test_what_is_no_heat_is_refused(heat: object) -> None:
    with pytest.raises(ArgumentError, match=r"heat has"):
        heat_layer(heat)  # type: ignore[arg-type]


def test_weights_must_be_finite() -> None:
    with pytest.raises(ArgumentError, match="not finite"):
        weight_layer([[np.inf]])
