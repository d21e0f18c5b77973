"""The audit set: images drawn at random, never trained on, that every reported number stands on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import row_flags, whole_numbers
from model.checks import share as checked_share
from model.errors import ArgumentError
from model.metrics import effective_count, wilson_interval

TARGET_HALF_WIDTH = 0.03
"""Half-width of the accuracy's interval from which on the audit set grows slower."""
SLOWEST = 0.25
"""The least part of its share that the audit set keeps growing by."""
LEAST_PACE = 1e-9
"""Pace below which no audit image is served before all others."""
MINIMUM = 10
"""Independent labels below which no accuracy is estimated."""


def in_audit(leader_digest: str, share: float) -> bool:
    """Whether the images of one group of near-duplicates are in the audit set.

    ``leader_digest`` is the SHA-256 hex digest of the group's leader, so that near-duplicates are
    in it together or not at all. The first 53 bits of SHA-256 of ``"audit:" + leader_digest`` give
    a place in [0, 1), uniform over images; the group is in when its place is below ``share``. So
    the draw depends on nothing but the picture: the same in every project, process and order of
    arrival. Raising ``share`` keeps every image that was in before. The prefix keeps the draw apart
    from other draws by the same digest.

    ArgumentError when ``share`` is outside [0, 1] or ``leader_digest`` is empty.
    """
    limit = checked_share("share", share)
    return _place("audit:", leader_digest) < limit


def audit_place(leader_digest: str) -> float:
    """Where a group stands among the audit images, in [0, 1): lower is labelled sooner.

    Uniform over images, and independent of :func:`in_audit` by a prefix of its own, so that those
    that come first are a random sample of the pool whatever the share. Near-duplicates have the
    same place. ArgumentError when ``leader_digest`` is empty.
    """
    return _place("audit-place:", leader_digest)


def in_check(leader_digest: str, share: float) -> bool:
    """Whether people label a group although the model's answers are accepted: a check of them.

    As :func:`in_audit`, by a prefix of its own. ArgumentError as there.
    """
    limit = checked_share("share", share)
    return _place("check:", leader_digest) < limit


def in_blind(leader_digest: str, project_id: int, share: float) -> bool:
    """Whether the queue shows a group without its ticked choice, to see how far people follow it.

    As :func:`in_audit`, by a prefix of its own and the number of the project, so that projects with
    the same images draw others. ArgumentError as there.
    """
    limit = checked_share("share", share)
    return _place(f"blind:{project_id}:", leader_digest) < limit


def audit_pace(half_width: float | None, share: float, target: float = TARGET_HALF_WIDTH) -> float:
    """Which share of all images served should be audit images, given what they tell by now.

    ``half_width`` is that of the accuracy's 95% interval; None where it cannot be told yet. Until
    it is at most ``target`` the pace is ``share``, then share * (half_width / target)^2, but at
    least a quarter of ``share``. A half-width falls as 1 / sqrt(n), so n audit labels then keep to
    n = sqrt(n_t * share * served), n_t being what the target took: four times the labels served
    make it twice as many. There is no jump, a model that gets less accurate is audited faster
    again, and it never stops: images that come later and models that come later are audited too.

    ArgumentError when ``share`` is outside [0, 1], or ``half_width`` or ``target`` is negative or
    NaN, or ``target`` is 0.
    """
    checked_share("share", share)
    if not target > 0:
        raise ArgumentError(f"target is {target!r}; a number above 0 is needed.")
    if half_width is None:
        return share
    if not half_width >= 0:
        raise ArgumentError(f"half_width is {half_width!r}; 0 or more is allowed.")
    return share * max(SLOWEST, min(1.0, half_width / target) ** 2)


def interleave(
    audit: ArrayLike, others: ArrayLike, *, audit_served: int, served: int, pace: float
) -> NDArray[np.int64]:
    """One order from two: (a,) ``audit`` and (b,) ``others`` positions -> (a + b,) int64.

    Both keep their own order. ``served`` images, of which ``audit_served`` are audit images, came
    before; after each further one the audit images are within one of ``pace`` times all, and
    evenly spaced. Where they lag behind, they come twice as often as that until they have caught
    up, never in a bunch; where they are ahead, none comes until the others have caught up. When
    either has run out, the other follows.

    The slots are fixed to the count of all images served, so that an order that is made again
    after any number of them goes on as the first one would have done.

    ArgumentError when ``pace`` is outside [0, 1], the counts do not fit, or an order is not whole
    numbers.
    """
    checked_share("pace", pace)
    if not 0 <= audit_served <= served:
        raise ArgumentError(
            f"audit_served is {audit_served!r} of served {served!r}; 0 <= audit_served <= served "
            "is needed."
        )
    first = whole_numbers("audit", audit, length=np.size(audit))
    second = whole_numbers("others", others, length=np.size(others))
    slots = _audit_slots(first.size, audit_served, served, pace)
    # Those whose turn would come after the last of the others follow it at once.
    before = np.minimum(slots - np.arange(first.size), second.size)
    order = np.empty(first.size + second.size, dtype=np.int64)
    taken = np.zeros(order.size, dtype=np.bool_)
    places = before + np.arange(first.size)
    taken[places] = True
    order[taken], order[~taken] = first, second
    return order


def _audit_slots(count: int, audit_served: int, served: int, pace: float) -> NDArray[np.int64]:
    """(count,) how many images come before each of the next audit images, ascending.

    Half-steps m = 1, 2, ... are at the image ceil(m / (2 pace)) of all that are served. The audit
    image number j has its turn at the half-step 2 j - 1: in the middle of its 1 / pace images.
    The even half-steps are for catching up.
    """
    if pace < LEAST_PACE:
        return np.full(count, np.iinfo(np.int64).max // 2)
    ahead = np.arange(count)
    turn = _ceil((2 * (audit_served + ahead) + 1) / (2 * pace))
    if pace > 0.5:
        return np.maximum(turn, served + 1 + ahead) - served - 1
    passed = int(served * 2 * pace) - 1
    while _ceil(np.array((passed + 1) / (2 * pace))) <= served:
        passed += 1
    soonest = _ceil((passed + 1 + ahead) / (2 * pace))
    return np.maximum(turn, soonest) - served - 1


def _ceil(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rounded up, but for what rounding has added."""
    return np.asarray(np.ceil(values * (1 - 1e-12)), dtype=np.int64)


@dataclass(frozen=True)
class AuditEstimate:
    """A share of right answers with its 95% interval.

    ``value``, ``low``, ``high``  in [0, 1]; None where it cannot be told yet
    ``n``                         labels
    ``groups``                    groups of near-duplicates among them
    ``effective``                 independent labels that tell as much
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    effective: float

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None where there is none."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def audit_accuracy(right: ArrayLike, groups: ArrayLike | None = None) -> AuditEstimate:
    """The accuracy on images to come, from the audit labels: (n,) bool ``right``.

    ``groups`` (n,) whole numbers: labels of one group are of near-duplicates, which were drawn
    together; without it each was drawn alone. The interval is Wilson's of as many labels as
    :func:`model.metrics.effective_count` says; below 10 of them there is none. It is one for
    images that come from where these came from, without a correction for a pool that has an end:
    for the pool at hand, of which a tenth has audit labels at most, it is wider by 5% at most.

    ArgumentError when the arrays do not fit.
    """
    flags = row_flags("right", right, length=np.size(right))
    n = flags.size
    names = np.arange(n) if groups is None else whole_numbers("groups", groups, length=n)
    effective, found = effective_count(flags, names), np.unique(names).size
    if effective < MINIMUM:
        return AuditEstimate(None, None, None, n, found, effective)
    value = float(flags.mean())
    low, high = wilson_interval(value * effective, effective)
    return AuditEstimate(value, low, high, n, found, effective)


def _place(prefix: str, digest: str) -> float:
    """A place in [0, 1), uniform over digests and independent between prefixes."""
    if not digest:
        raise ArgumentError("leader_digest is ''; the SHA-256 hex digest of an image is needed.")
    hashed = hashlib.sha256(f"{prefix}{digest.lower()}".encode()).digest()
    return (int.from_bytes(hashed[:8], "big") >> 11) / 2**53
