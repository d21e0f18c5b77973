from __future__ import annotations

import numpy as np
import pytest

from model.queries import Answers, Pool, pick, pick_batches
from model.queries.auto import margin_share


def pool_of(counts: list[int], n: int = 2000, seed: int = 0, controls: int = 1) -> Pool:
    generator = np.random.default_rng(seed)
    answers = tuple(
        Answers(
            generator.dirichlet(np.ones(len(counts)), size=n),
            label_counts=np.array(counts, dtype=np.int64),
        )
        for _ in range(controls)
    )
    labelled = generator.permutation(n)[: sum(counts)]
    return Pool(generator.standard_normal((n, 6)), answers, labelled)


def same(strategy: str, pool: Pool, count: int) -> bool:
    picks = [pick(name, pool, count, np.random.default_rng(5)) for name in ("auto", strategy)]
    return picks[0].tolist() == picks[1].tolist()


def test_few_labels_are_herded():
    assert margin_share(pool_of([60, 60, 60]), 10) == 0
    assert same("uherding", pool_of([60, 60, 60]), 10)
    assert same("typiclust", Pool(pool_of([1, 1]).embeddings, (), np.zeros(0, dtype=np.int64)), 10)


def test_the_first_labels_are_typical_images():
    assert same("typiclust", pool_of([3, 1, 1]), 8)
    assert not same("typiclust", pool_of([4, 1, 1]), 8)
    assert same("uherding", pool_of([4, 1, 1]), 8)


def test_of_many_classes_the_images_after_the_first_twenty_cover_the_pool():
    assert same("typiclust", pool_of([1] * 19 + [0] * 11), 8)
    known = pool_of([1] * 20 + [0] * 10)
    asked = pick("auto", known, 8, np.random.default_rng(5))
    unasked = Pool(known.embeddings, (), known.labelled)
    assert asked.tolist() == pick("uherding", unasked, 8, np.random.default_rng(5)).tolist()
    assert not same("uherding", known, 8)


def test_the_share_of_margins_by_hand():
    # (150 - 60) / 180 of the way, and 90 picks where half of 450 labels are 225.
    assert margin_share(pool_of([150, 150, 150]), 90) == pytest.approx(0.5 * 0.6)
    assert margin_share(pool_of([300, 300, 300]), 450) == 0
    assert margin_share(pool_of([300, 300, 300]), 0) == 1


def test_a_rare_class_keeps_coverage():
    # Of four classes three must have got there.
    assert margin_share(pool_of([400, 400, 400, 10]), 10) == 0
    assert margin_share(pool_of([240, 240, 400, 240]), 10) > 0.9


def test_the_control_with_the_fewest_labels_decides():
    few, many = pool_of([50, 50]), pool_of([300, 300])
    both = Pool(many.embeddings, (*many.answers, *few.answers), many.labelled)
    assert margin_share(both, 10) == 0


def test_unknown_counts_are_few():
    pool = pool_of([300, 300])
    unknown = Pool(pool.embeddings, (Answers(pool.answers[0].probabilities),), pool.labelled)
    assert margin_share(unknown, 10) == 0


def test_the_share_moves_by_little_from_label_to_label():
    shares = [margin_share(pool_of([each] * 3), 30) for each in range(1, 320)]
    steps = np.diff(shares)
    assert steps.min() >= 0
    assert steps.max() < 0.01
    assert shares[-1] > 0.9


def test_margins_and_herd_are_evenly_mixed():
    pool = pool_of([150] * 3)
    count = 60
    share = margin_share(pool, count)
    sure = round(share * count)
    picks = pick("auto", pool, count, np.random.default_rng(1))
    herd = pick("uherding", pool, count - sure, np.random.default_rng(1))
    assert len(np.unique(picks)) == count
    of_herd = np.isin(picks, herd)
    assert of_herd.sum() == count - sure
    np.testing.assert_array_equal(picks[of_herd], herd)
    for half in (of_herd[:30], of_herd[30:]):
        assert abs(half.mean() - (1 - share)) < 0.05
    # What is not of the herd is the images of the smallest margins, smallest first.
    top = np.sort(pool.answers[0].probabilities, axis=1)
    gap = top[:, -1] - top[:, -2]
    rest = picks[~of_herd]
    assert (np.diff(gap[rest]) >= 0).all()
    others = np.setdiff1d(pool.candidates(), picks)
    assert gap[rest].max() <= gap[others].min()


def batches(pool: Pool, counts: tuple[int, ...], strategy: str = "auto") -> list[int]:
    return pick_batches(strategy, pool, counts, np.random.default_rng(5)).tolist()


def test_batches_are_no_image_twice_and_no_more_than_there_are():
    for counts in ([60, 60, 60], [100, 120, 140], [500, 500, 480], [1, 1, 1]):
        pool = pool_of(counts, n=1500)
        picked = batches(pool, (10, 50, 2000))
        assert sorted(picked) == pool.candidates().tolist()
    assert batches(pool, (0, 0)) == []


def test_the_first_batch_is_the_batch_alone():
    for strategy in ("auto", "uherding", "margin", "badge"):
        for counts in ([60, 60, 60], [150, 150, 150], [1, 1, 1]):
            pool = pool_of(counts)
            alone = pick(strategy, pool, 10, np.random.default_rng(5)).tolist()
            assert batches(pool, (10, 30), strategy)[:10] == alone


def test_the_second_batch_takes_margins_as_if_the_first_were_labelled():
    # By hand: 90 of the 180 labels of the way, batches of 20 and 60 of 450 and 470 labels.
    pool = pool_of([150, 150, 150])
    first = round(0.5 * (225 - 20) / 225 * 20)
    second = round(0.5 * (235 - 60) / 235 * 60)
    picked = batches(pool, (20, 60))
    order = pick("margin", pool, 2000, np.random.default_rng(0)).tolist()
    herd = pick("uherding", pool, 20 - first, np.random.default_rng(5)).tolist()
    margins = [each for each in order if each not in herd][:first]
    assert sorted(picked[:20]) == sorted(herd + margins)
    unsure = [each for each in order if each not in picked[:20]]
    # The herd may take some of them, too, and then as many more are taken behind.
    assert set(unsure[:second]) <= set(picked[20:])
    # Some of what it takes has to be outside of the margins, or nothing was tested.
    assert set(picked[20:]) - set(unsure[:60])
