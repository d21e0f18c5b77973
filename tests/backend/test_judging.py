from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.dataset import LabelledImages
from backend.judging import TRAINED_ON, Challenger, judge
from backend.label_config import Control, parse_label_config
from model.artifact import Artifact
from model.gate import Evidence, GateDecision, Shown
from model.head import Head

CONFIG = """<View><Image name="image" value="$image"/><Choices name="label" toName="image">
<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>"""
NET, OTHER = "net-a", "net-b"


def control(config: str = CONFIG) -> Control:
    return parse_label_config(config).controls[0]


def head(*, swap: bool = False, classes: tuple[str, ...] = ("cat", "dog", "owl")) -> Head:
    """Reads the class off the first embeddings; ``swap`` takes cats for dogs and dogs for cats."""
    weights = np.eye(4, 3, dtype=np.float32)
    if swap:
        weights = weights[:, [1, 0, 2]]
    return Head(
        classes,
        False,
        weights[:, : len(classes)],
        np.zeros(len(classes), np.float32),
        np.ones(1, np.float32),
    )


def images(n: int, held_out: int, *, start: int = 1, of: Control | None = None) -> LabelledImages:
    """Cats, dogs and owls in turn, the first of them held out."""
    targets = np.arange(n) % 3
    return LabelledImages(
        of or control(),
        np.arange(start, start + n),
        np.eye(3, 4, dtype=np.float16)[targets],
        targets,
        np.arange(n) < held_out,
        np.arange(start, start + n).astype(str),
        np.arange(start, start + n).astype(str),
    )


def champion(
    *, swap: bool = False, learned: str | None = "", backbone: str = NET, **options: Any
) -> Artifact:
    manifest = {} if learned is None else {TRAINED_ON: {"label": learned}}
    return Artifact(4, backbone, {"label": head(swap=swap, **options)}, manifest)


def challenger(
    *, swap: bool = False, out_of_fold: NDArray[Any] | None = None, backbone: str = NET
) -> Challenger:
    return Challenger(backbone, {"label": head(swap=swap)}, {"label": out_of_fold})


def verdict(
    part: LabelledImages, new: Challenger, old: Artifact | None, **more: Any
) -> GateDecision:
    return judge({NET: [part]} | more, new, old, 0.02)


def test_a_worse_one_is_refused_on_the_held_out_labels() -> None:
    decision = verdict(images(120, 60), challenger(swap=True), champion())
    assert (decision.promote, decision.n, decision.looks) == (False, 60, 1)
    assert (decision.evidence, decision.shown) == (Evidence.HELD_OUT, Shown.WORSE)
    assert (decision.gained, decision.lost, decision.lost_ids[:4]) == (0, 40, [1, 2, 4, 5])
    back = verdict(images(120, 60), challenger(), champion(swap=True))
    assert (back.promote, back.gained_ids[:4]) == (True, [1, 2, 4, 5])


def test_the_first_one_is_kept_and_what_it_gets_right_is_said() -> None:
    decision = verdict(images(60, 30), challenger(swap=True), None)
    assert decision.reason == "Kept: there is no version to compare it with."
    assert (decision.n, decision.challenger_accuracy, decision.looks) == (
        30,
        pytest.approx(1 / 3),
        1,
    )


def said(part: LabelledImages, *, wrong: bool = False) -> NDArray[np.float64]:
    targets = part.targets[~part.held_out]
    return np.eye(3)[(targets + 1) % 3 if wrong else targets] * 0.8 + 0.2 / 3


def test_labels_that_came_since_join_in_while_few_are_held_out() -> None:
    part = images(60, 12)
    # Tasks 1 to 12 are held out; the champion learned 13 to 40.
    old = champion(learned="13-40")
    good = verdict(part, challenger(out_of_fold=said(part)), old)
    assert (good.evidence, good.n, good.promote) == (Evidence.CROSS_VALIDATED, 32, True)
    assert "32 of 32 labels new to both right" in good.reason
    bad = verdict(part, challenger(swap=True, out_of_fold=said(part, wrong=True)), old)
    assert (bad.promote, bad.lost) == (False, 8 + 20)
    assert bad.lost_ids[-1] == 60
    assert min(i for i in bad.lost_ids if i > 12) == 41


def test_untested_and_unrecorded_labels_do_not_join_in() -> None:
    part = images(60, 12)
    untested = said(part)
    untested[30:] = np.nan
    few = verdict(part, challenger(out_of_fold=untested), champion(learned="13-40"))
    # Of 41 to 60, rows 28 to 47 of those not held out, two were tested.
    assert few.n == 14
    for old in (champion(learned=None), champion(learned="13-60")):
        decision = verdict(part, challenger(out_of_fold=said(part)), old)
        assert (decision.n, decision.evidence) == (12, Evidence.HELD_OUT)
    decision = verdict(part, challenger(out_of_fold=None), champion(learned=""))
    assert decision.n == 12


def test_enough_held_out_labels_decide_alone() -> None:
    part = images(60, 30)
    decision = verdict(part, challenger(out_of_fold=said(part)), champion(learned=""))
    assert (decision.n, decision.evidence) == (30, Evidence.HELD_OUT)


def test_each_is_judged_with_the_embeddings_that_it_reads() -> None:
    part = images(60, 40)
    # The other network has its features in another order, and lacks some images.
    theirs = LabelledImages(
        part.control,
        part.task_ids[5:],
        part.embeddings[5:][:, [1, 0, 2, 3]],
        part.targets[5:],
        part.held_out[5:],
        part.digests[5:],
        part.leaders[5:],
    )
    old = champion(swap=True, backbone=OTHER)
    decision = verdict(part, challenger(), old, **{OTHER: [theirs]})
    assert (decision.n, decision.champion_accuracy, decision.challenger_accuracy) == (35, 1.0, 1.0)
    worse = verdict(part, challenger(swap=True), old, **{OTHER: [theirs]})
    assert not worse.promote


@pytest.mark.parametrize("rest", [{}, {OTHER: []}, {OTHER: [images(0, 0)]}])
def test_without_the_champions_embeddings_it_is_kept(rest: dict[str, list[LabelledImages]]) -> None:
    decision = verdict(images(60, 40), challenger(swap=True), champion(backbone=OTHER), **rest)
    assert decision.promote
    assert "no features by net-b are left, which v4 reads" in decision.reason


def test_another_question_cannot_be_compared() -> None:
    part = images(60, 40)
    decision = verdict(part, challenger(swap=True), champion(classes=("fox", "hen")))
    assert decision.reason == (
        "Kept: v4 has learned none of what the labelling config asks for now."
    )
    many = control(CONFIG.replace('toName="image">', 'toName="image" choice="multiple">'))
    flags = LabelledImages(
        many,
        part.task_ids,
        part.embeddings,
        np.eye(3, dtype=bool)[part.targets],
        part.held_out,
        part.digests,
        part.leaders,
    )
    ones = Head(
        ("cat", "dog", "owl"),
        True,
        np.eye(4, 3, dtype=np.float32),
        np.zeros(3, np.float32),
        np.ones(3, np.float32),
    )
    new = Challenger(NET, {"label": ones}, {})
    assert "has learned none" in verdict(flags, new, champion()).reason


def test_a_class_that_was_added_counts_for_the_one_that_knows_it() -> None:
    decision = verdict(images(90, 60), challenger(), champion(classes=("cat", "dog")))
    assert (decision.promote, decision.gained, decision.lost) == (True, 20, 0)


def test_thresholds_of_a_head_decide_what_it_says() -> None:
    from backend.grading import class_probabilities, grade

    many = control(CONFIG.replace('toName="image">', 'toName="image" choice="multiple">'))
    ones = Head(
        ("owl", "cat"),
        True,
        np.eye(4, 2, dtype=np.float32),
        np.zeros(2, np.float32),
        np.ones(2, np.float32),
    )
    rows = np.eye(2, 4)
    p = class_probabilities(ones, many, rows)
    # Sigmoids of 1 and 0, in the order cat, dog, owl; a class that is not known gets 0.
    assert p == pytest.approx(np.array([[0.5, 0, 0.731], [0.731, 0, 0.5]]), abs=1e-3)
    graded = grade(ones, many, p, np.array([[True, False, True], [True, False, False]]))
    assert graded.right.tolist() == [True, False]
    expected = -(np.log(0.5) + np.log(1 - 1e-6) + np.log(0.7311)) / 3
    assert graded.loss[0] == pytest.approx(expected, abs=1e-4)
