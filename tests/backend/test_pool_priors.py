import numpy as np
import pytest

from backend.pool_priors import FEWEST, PoolPriors
from model.head import power_normalise
from model.pool_prior import PoolPrior
from tests.backend.conftest import BACKBONE, Tables, digest_of


def _vector(task_id: int):
    return np.random.default_rng(task_id).normal(size=8).astype(np.float16)


def _get(tables: Tables, priors: PoolPriors, backbone: str = BACKBONE) -> PoolPrior | None:
    with tables.store.read() as session:
        return priors.get(session, 1, "image", backbone)


@pytest.fixture
def pool(store):
    tables = Tables(store)
    for task_id in range(1, FEWEST + 1):
        tables.task(task_id, _vector(task_id))
    return tables


def test_a_prior_is_made_once_and_anew_when_images_come(pool):
    priors = PoolPriors()
    first = _get(pool, priors)
    assert first is not None
    assert first.width == 8
    assert _get(pool, priors) is first
    pool.task(FEWEST + 1, _vector(FEWEST + 1))
    assert _get(pool, priors) is not first


def test_few_images_say_nothing(store, pool):
    assert _get(pool, PoolPriors(), backbone="other") is None
    with store.read() as session:
        assert PoolPriors().get(session, 2, "image", BACKBONE) is None


def test_images_stand_in_the_order_of_their_digests(pool):
    prior = _get(pool, PoolPriors())
    assert prior is not None
    ids = sorted(range(1, FEWEST + 1), key=digest_of)
    seeds = prior.seeds(power_normalise(np.stack([_vector(task_id) for task_id in ids])))
    np.testing.assert_allclose(seeds.toarray(), np.eye(FEWEST), atol=1e-6)


def test_an_image_of_two_tasks_counts_once(pool):
    pool.task(FEWEST + 1, image="/data/1.png")
    prior = _get(pool, PoolPriors())
    assert prior is not None
    assert prior.seeds(power_normalise(_vector(1)[None])).shape == (1, FEWEST)
