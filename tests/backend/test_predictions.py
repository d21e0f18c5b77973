from __future__ import annotations

import numpy as np
import pytest

from backend.label_config import parse_label_config
from backend.predictions import (
    chosen_from,
    missing_image_prediction,
    predict_tasks,
    unlearned_prediction,
)
from model.artifact import Artifact
from model.head import Head

CONFIG = """<View><Image name="image" value="$image"/><Image name="other" value="$other"/>
<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
<Choices name="tags" toName="other" choice="multiple"><Choice value="wet"/><Choice value="old"/>
</Choices></View>"""
CONTROLS = parse_label_config(CONFIG).controls


def _head(
    classes: tuple[str, ...],
    bias: list[float],
    *,
    multiple: bool,
    thresholds: list[float] | None = None,
) -> Head:
    """A head that answers the same for every image: its bias."""
    return Head(
        classes=classes,
        multiple=multiple,
        weights=np.zeros((4, len(classes)), dtype=np.float32),
        bias=np.array(bias, dtype=np.float32),
        temperature=np.ones(len(classes) if multiple else 1, dtype=np.float32),
        thresholds=None if thresholds is None else np.array(thresholds, dtype=np.float32),
    )


def _artifact(**heads: Head) -> Artifact:
    return Artifact(3, "backbone", heads, {})


IMAGES = {"image": ([7, 8], np.ones((2, 4), dtype=np.float16))}


def test_a_single_choice() -> None:
    # softmax(ln 3, 0) = (0.75, 0.25): margin uncertainty 1 - 0.5 = 0.5.
    artifact = _artifact(kind=_head(("cat", "dog"), [np.log(3), 0], multiple=False))
    found = predict_tasks(artifact, CONTROLS, IMAGES, "margin")
    assert sorted(found) == [7, 8]
    assert found[7].score == pytest.approx(0.5, abs=2e-3)
    (result,) = found[7].result
    assert result["value"] == {"choices": ["cat"]}
    assert result["score"] == pytest.approx(0.75, abs=1e-4)
    assert (result["from_name"], result["to_name"], result["type"]) == ("kind", "image", "choices")


def test_the_least_certain_control_decides_the_place() -> None:
    sure = _head(("cat", "dog"), [9, 0], multiple=False)
    unsure = _head(("wet", "old"), [0.1, -0.1], multiple=True)
    both = IMAGES | {"other": ([7], np.ones((1, 4), dtype=np.float16))}
    found = predict_tasks(_artifact(kind=sure, tags=unsure), CONTROLS, both, "margin")
    assert found[7].score < 0.1 < 0.9 < found[8].score
    assert [r["from_name"] for r in found[7].result] == ["kind", "tags"]
    assert found[7].result[1]["value"] == {"choices": ["wet"]}


def test_a_multiple_choice_with_nothing_likely_ticks_nothing() -> None:
    artifact = _artifact(tags=_head(("wet", "old"), [-3, -3], multiple=True))
    other = {"other": ([7], np.ones((1, 4), dtype=np.float16))}
    found = predict_tasks(artifact, CONTROLS, other, "margin")
    assert found[7].result == []
    assert 0 <= found[7].score < 1


def _ticked(head: Head) -> tuple[list[str], float, float]:
    """Choices, the score of the result and the score of the task."""
    other = {"other": ([7], np.ones((1, 4), dtype=np.float16))}
    found = predict_tasks(_artifact(tags=head), CONTROLS, other, "margin")
    (result,) = found[7].result
    return result["value"]["choices"], result["score"], found[7].score


def test_a_class_is_ticked_from_its_threshold_on() -> None:
    # Sigmoids of -1 and 1: 0.269 and 0.731.
    classes, bias = ("wet", "old"), [-1.0, 1.0]
    choices, score, place = _ticked(_head(classes, bias, multiple=True))
    assert (choices, score) == (["old"], pytest.approx(0.731, abs=1e-3))
    lower = _head(classes, bias, multiple=True, thresholds=[0.2, 0.5])
    choices, score, same = _ticked(lower)
    assert (choices, score) == (["wet", "old"], pytest.approx(0.269, abs=1e-3))
    # How sure a head is does not depend on where its ticks begin.
    assert same == place


def test_thresholds_follow_their_class() -> None:
    head = _head(("gone", "old", "wet"), [5, 1, -1], multiple=True, thresholds=[0.1, 0.9, 0.2])
    assert _ticked(head)[0] == ["wet"]
    assert chosen_from(head, ("wet", "new", "old")) == pytest.approx([0.2, 0.5, 0.9])
    assert chosen_from(None, ("wet",)).tolist() == [0.5]


def test_a_head_of_the_other_kind_says_nothing() -> None:
    # The control took several choices when the head was fitted, and takes one now.
    several = _head(("cat", "dog"), [1, 1], multiple=True)
    assert predict_tasks(_artifact(kind=several), CONTROLS, IMAGES, "margin") == {}


def test_a_class_that_left_the_config_is_not_predicted() -> None:
    artifact = _artifact(kind=_head(("cat", "owl", "dog"), [1, 9, 0], multiple=False))
    found = predict_tasks(artifact, CONTROLS, IMAGES, "margin")
    (result,) = found[7].result
    assert result["value"] == {"choices": ["cat"]}
    # Of what is left, softmax(1, 0) = (0.731, 0.269).
    assert result["score"] == pytest.approx(0.731, abs=1e-3)


def test_a_control_that_is_not_learned_yet_is_left_open() -> None:
    assert predict_tasks(_artifact(), CONTROLS, IMAGES, "margin") == {}


def test_orders_without_a_model() -> None:
    scores = [unlearned_prediction(1, task, seed=0).score for task in range(200)]
    assert len(set(scores)) == 200
    assert scores == [unlearned_prediction(1, task, seed=0).score for task in range(200)]
    assert scores != [unlearned_prediction(1, task, seed=1).score for task in range(200)]
    assert max(scores) < missing_image_prediction().score == 1.0
