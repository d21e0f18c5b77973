from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.augment import AUGMENTATIONS, CHANCES, FILL, Augmentation, augmentation, draw_chances
from model.errors import ArgumentError


def arrow() -> torch.Tensor:
    """A picture that no turn and no mirror leaves as it is."""
    picture = torch.zeros(3, 24, 24, dtype=torch.uint8)
    picture[0, 2:22, 4:8] = 250
    picture[1, 2:6, 4:20] = 200
    return picture


def copies(name: str, strength: float = 1.0, n: int = 64) -> list[torch.Tensor]:
    pictures = arrow().expand(n, 3, 24, 24)
    return list(augmentation(name, strength).changed(pictures, draw_chances(n, (3,))))  # type: ignore[arg-type]


def chances(**own: float) -> NDArray[np.float64]:
    """(1, CHANCES) that change nothing but what is named."""
    names = ("mirror", "turn", "angle", "right", "down", "zoom", "bright", "contrast", "colourful")
    still = dict.fromkeys(names, 0.5) | {"turn": 0.0}
    assert len(names) == CHANCES
    return np.array([list((still | own).values())])


def test_a_copy_depends_on_its_own_chances_alone() -> None:
    change = augmentation("photos")
    numbers = draw_chances(6, (5, 1))
    assert (numbers == draw_chances(6, (5, 1))).all()
    assert (numbers != draw_chances(6, (5, 2))).all()
    pictures = torch.stack([torch.roll(arrow(), i, dims=2) for i in range(6)])
    together = change.changed(pictures, numbers)
    for i in range(6):
        assert torch.equal(change.changed(pictures[i : i + 1], numbers[i : i + 1])[0], together[i])
    assert len({copy.numpy().tobytes() for copy in together}) == 6


def test_moves_by_hand() -> None:
    dot = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    dot += torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1)
    dot[0, :, 4, 15] = 255  # 5.5 to the right of the middle, 5.5 above it

    def place(change: Augmentation, **own: float) -> list[tuple[int, int]]:
        seen = change.changed(dot, chances(**own))[0, 0]
        return [(int(y), int(x)) for y, x in (seen == 255).nonzero()]

    assert place(Augmentation("none", mirror=True), mirror=0.4) == [(4, 4)]
    assert place(Augmentation("none", mirror=True), mirror=0.6) == [(4, 15)]
    # A shift of at most 0.2 of 20 pixels, drawn three quarters of the way to the most: 2 pixels.
    assert place(Augmentation("none", shift=0.2), right=0.75) == [(4, 17)]
    assert place(Augmentation("none", shift=0.2), down=0.75) == [(6, 15)]
    # Clockwise: from the upper right to the lower right.
    assert place(Augmentation("none", degrees=90), angle=1.0) == [(15, 15)]
    assert place(Augmentation("none", any_way_up=True), turn=0.5) == [(15, 4)]
    # First the mirror, then the turn, then the shift.
    every = Augmentation("none", mirror=True, any_way_up=True, shift=0.2)
    assert place(every, mirror=0.4, turn=0.25, right=0.75) == [(4, 17)]
    # Three times as large: half a pixel from the middle becomes one and a half.
    dot[0, :, 4, 15], dot[0, :, 9, 10] = 0, 255
    seen = Augmentation("none", zoom=2.0).changed(dot, chances(zoom=1.0))[0, 0]
    assert int(seen[8, 11]) == 255
    assert int(seen[5, 11]) < 255


def test_colours_by_hand() -> None:
    picture = torch.tensor([[100, 50, 20], [60, 60, 60]], dtype=torch.uint8)
    picture = picture.T.reshape(1, 3, 1, 2)
    change = Augmentation("none", colour=0.5)
    grey = np.array([0.299 * 100 + 0.587 * 50 + 0.114 * 20, 60.0])

    def seen(**own: float) -> NDArray[np.float64]:
        return change.changed(picture, chances(**own))[0, :, 0].numpy().astype(float)

    own = picture[0, :, 0].numpy()
    assert (seen() == own).all()
    # Three quarters of the way from 0.5 to 1.5 is 1.25.
    np.testing.assert_allclose(seen(bright=0.75), 1.25 * own, atol=0.51)
    np.testing.assert_allclose(seen(contrast=0.75), 1.25 * own - 0.25 * grey.mean(), atol=0.51)
    np.testing.assert_allclose(seen(colourful=0.0), 0.5 * own + 0.5 * grey, atol=0.51)
    everything = 0.75 * (1.25 * own) + 0.25 * 1.25 * grey.mean()
    luminance = np.array([0.299, 0.587, 0.114]) @ everything
    everything = 0.5 * everything + 0.5 * luminance
    np.testing.assert_allclose(
        seen(bright=0.75, contrast=0.25, colourful=0.0), everything, atol=0.51
    )
    assert seen(bright=1.0, contrast=1.0, colourful=1.0).min() >= 0


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

    dark = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    changed = Augmentation("none", degrees=30.0, shift=0.3).changed(dark, draw_chances(1, (0,)))[0]
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
