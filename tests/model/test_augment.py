from __future__ import annotations

import numpy as np
import pytest
import torch

from model.augment import AUGMENTATIONS, augmentation, augmented
from model.errors import ArgumentError


def arrow() -> torch.Tensor:
    """A picture that no turn and no mirror leaves as it is."""
    picture = torch.zeros(3, 24, 24, dtype=torch.uint8)
    picture[0, 2:22, 4:8] = 250
    picture[1, 2:6, 4:20] = 200
    return picture


def copies(name: str, strength: float = 1.0, n: int = 64) -> list[torch.Tensor]:
    transform = augmentation(name, strength).transform()  # type: ignore[arg-type]
    return [augmented(arrow(), transform, (3, i)) for i in range(n)]


def test_equal_seeds_give_equal_copies_and_leave_the_generator_alone() -> None:
    transform = augmentation("photos").transform()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = (augmented(arrow(), transform, seed) for seed in ((5, 1), (5, 1), (5, 2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_strength_zero_of_photos_is_the_picture_or_its_mirror_half_of_the_time() -> None:
    mirrored = torch.flip(arrow(), dims=[2])
    seen = copies("photos", 0.0, 200)
    flips = sum(torch.equal(copy, mirrored) for copy in seen)
    assert flips + sum(torch.equal(copy, arrow()) for copy in seen) == 200
    assert 75 <= flips <= 125


def test_characters_are_never_mirrored() -> None:
    assert all(torch.equal(copy, arrow()) for copy in copies("characters", 0.0))
    assert not augmentation("characters").mirror


def test_any_way_up_shows_all_eight_positions() -> None:
    turns = [torch.rot90(arrow(), k, dims=[1, 2]) for k in range(4)]
    wanted = {t.numpy().tobytes() for t in [*turns, *(torch.flip(t, dims=[2]) for t in turns)]}
    assert len(wanted) == 8
    assert {copy.numpy().tobytes() for copy in copies("any-way-up", 0.0, 200)} == wanted


def test_none_changes_nothing() -> None:
    assert all(torch.equal(copy, arrow()) for copy in copies("none", 3.0))


def test_a_rotation_stays_within_its_bound() -> None:
    found = augmentation("photos", 0.5)
    assert (found.degrees, found.shift, found.zoom, found.colour) == (5.0, 0.05, 0.075, 0.1)
    assert augmentation("characters", 0.5).degrees == 2.5


def test_what_is_uncovered_is_zero_to_a_network() -> None:
    from model.embed import IMAGENET_MEAN

    dark = torch.zeros(3, 32, 32, dtype=torch.uint8)
    transform = augmentation("photos", 3.0).transform()
    # Colour changes come last, so the exact fill is seen where they are off.
    changed = augmented(dark, transform.transforms[1], (0,))  # type: ignore[attr-defined]
    filled = changed[:, (changed.sum(dim=0) > 0)]
    assert filled.shape[1] > 0
    brightest = filled.max(dim=1).values.numpy()
    np.testing.assert_allclose(brightest, np.array(IMAGENET_MEAN) * 255, atol=1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_and_type_stay(name: str) -> None:
    if name == "auto":
        with pytest.raises(ArgumentError, match="name='auto'; one of photos"):
            augmentation("auto")
        return
    assert {(c.shape, c.dtype) for c in copies(name, 1.0, 8)} == {((3, 24, 24), torch.uint8)}


@pytest.mark.parametrize("strength", [-0.1, 3.1, float("nan")])
def test_a_strength_that_is_not_allowed_is_named(strength: float) -> None:
    with pytest.raises(ArgumentError, match="strength="):
        augmentation("photos", strength)
