"""Images about which thinned-out copies of the head disagree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from model.errors import ArgumentError
from model.head import Head
from model.queries.geometry import FloatArray, blocks
from model.queries.pool import Pool
from model.queries.random import random
from model.queries.scores import highest

DRAWS = 50
DROPPED = 0.5
# Logits of one image that are reckoned together.
_COLUMNS = 512


def bald(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates whose answer says most about which head is right.

    Houlsby, Huszár, Ghahramani and Lengyel, *Bayesian Active Learning for Classification and
    Preference Learning* (2011), equation 2, by dropout as in Gal, Islam and Ghahramani, *Deep
    Bayesian Active Learning with Image Data* (2017), section 3: over T draws of a head,

        I(x) = H(mean over t of p_t) - mean over t of H(p_t), in nats.

    A draw drops each of the d inputs of the head with chance 1/2 and doubles the others; its
    temperature stays. T is 50, and the drawn heads are the same for all images, which leaves the
    distribution of each image's draws as it is and makes images comparable. That T is finite is
    all that is approximated.

    Several controls: the sum of their I, each with draws of its own. ``multiple``: the sum over
    the classes of the I of yes and no. Equals come by chance, and so do all candidates without
    answers. ArgumentError when answers come without a head, or the head is of another width.
    """
    if not pool.answers:
        return random(pool, count, generator)
    scores = np.zeros(len(pool))
    for position, answers in enumerate(pool.answers):
        head = _fitting_head(position, answers.head, pool.embeddings.shape[1])
        scores += information(pool, head, draw_masks(head, generator))
    return highest(pool, scores, count, generator)


def draw_masks(head: Head, generator: np.random.Generator) -> FloatArray:
    """(T, d) factors of the inputs of a head: 0 where one is dropped, 2 elsewhere."""
    kept = generator.random((DRAWS, head.weights.shape[0])) >= DROPPED
    return (kept / (1 - DROPPED)).astype(np.float32)


def information(pool: Pool, head: Head, masks: FloatArray) -> NDArray[np.float64]:
    """(n,) mutual information in nats between an image's answer and the draw; 0 for no candidate.

    ``masks`` is (T, d), one row for each draw.
    """
    scores = np.zeros(len(pool))
    candidates = pool.candidates()
    k = len(head.classes)
    group = max(1, _COLUMNS // k)
    for part, rows in blocks(pool, candidates):
        mean, spread = np.zeros((len(rows), k)), np.zeros(len(rows))
        for start in range(0, len(masks), group):
            p, entropy = _ask(rows, head, masks[start : start + group])
            mean += p.sum(axis=2, dtype=np.float64) / len(masks)
            spread += entropy.sum(axis=1, dtype=np.float64) / len(masks)
        scores[candidates[part]] = _entropy(mean, head.multiple) - spread
    return scores


def _ask(rows: FloatArray, head: Head, masks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(b, d) rows and (t, d) masks -> (b, k, t) probabilities by each draw, (b, t) entropies."""
    weights = head.weights[:, :, None] * masks.T[:, None, :]
    logits = (rows @ weights.reshape(len(weights), -1)).reshape(len(rows), *weights.shape[1:])
    logits += head.bias[:, None]
    logits /= head.temperature[:, None]
    if head.multiple:
        p = expit(logits)
        return p, (entr(p) + entr(1 - p)).sum(axis=1)
    # With p = exp(z) / total, the entropy -sum p ln p is ln total - sum p z.
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    return p, np.log(total)[:, 0] - (p * logits).sum(axis=1)


def _entropy(p: NDArray[np.float64], multiple: bool) -> NDArray[np.float64]:
    terms = entr(p) + entr(1 - p) if multiple else entr(p)
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def _fitting_head(position: int, head: Head | None, width: int) -> Head:
    if head is None:
        raise ArgumentError(
            f"answers[{position}].head is None; bald asks the head of each control."
        )
    if head.weights.shape[0] != width:
        raise ArgumentError(
            f"answers[{position}].head reads embeddings of width {head.weights.shape[0]}; "
            f"{width} is needed."
        )
    return head
