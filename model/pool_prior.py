"""What the unlabelled images say about where one class ends and another begins.

A few labels are spread over the images of a pool along the neighbours of each, and a linear map
from embeddings to the result is the starting point of a head: semi-supervised learning whose
outcome is still one linear classifier.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from model.errors import ArgumentError
from model.propagation import NEIGHBOURS, affinities, nearest, neighbour_graph, propagate

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

MOST_IMAGES: Final = 10_000
AXES: Final = 192
RIDGE: Final = 0.1
# Squared distance of two embeddings of length 1 below which they are one picture's.
_SAME = 1e-5


class PoolPrior:
    """The unlabelled side of a head: made once of a pool, asked once for each set of labels.

    ``rows``  (u, d) float32, power-normalised embeddings of at least 3 images, labelled or not, as
              :func:`model.head.power_normalise` gives them. More than 10,000 make it no better
              but slower: a sample will do (:func:`sample_pool`)

    Keeps about 6 d + 200 numbers for each image. ArgumentError for fewer than 3 images.
    """

    def __init__(self, rows: FloatArray) -> None:
        if rows.ndim != 2 or len(rows) < 3:
            raise ArgumentError(f"rows has shape {rows.shape}; (u, d) with u >= 3 is needed.")
        # Threads of the linear algebra library would stand in the way of ours.
        with threadpool_limits(limits=1, user_api="blas"):
            self._learn(rows)

    def _learn(self, rows: FloatArray) -> None:
        self._centre = rows.mean(axis=0)
        self._centred = rows - self._centre
        gram = (self._centred.T @ self._centred).astype(np.float64)
        _, vectors = np.linalg.eigh(gram)
        # Distances along the main axes of the pool tell classes apart as well as all would.
        self._axes = np.ascontiguousarray(vectors[:, -AXES:], dtype=np.float32)
        self._points = self._centred @ self._axes
        self._graph = neighbour_graph(self._points)
        spread = float(np.trace(gram)) / len(gram)
        # Equal images have no spread at all.
        diagonal = RIDGE * spread if spread > 0 else 1.0
        self._factor = scipy.linalg.cho_factor(gram + diagonal * np.eye(len(gram)))

    @property
    def width(self) -> int:
        """d, the numbers in one embedding."""
        return len(self._centre)

    def seeds(self, rows: FloatArray) -> sparse.csr_matrix:
        """(m, d) normalised rows of labelled images -> (m, u) where in the pool each one stands.

        An image of the pool is itself; any other is its nearest ones in it, by their affinities.
        """
        count = min(NEIGHBOURS, len(self._points))
        near, distances = nearest((rows - self._centre) @ self._axes, self._points, count)
        weights = affinities(distances)
        same = distances[:, 0] <= _SAME
        weights[same] = 0
        weights[same, 0] = 1
        weights /= weights.sum(axis=1, keepdims=True)
        place = np.repeat(np.arange(len(rows)), count)
        return sparse.csr_matrix(
            (weights.ravel(), (place, near.ravel())), (len(rows), len(self._points))
        )

    def directions(
        self, seeds: sparse.csr_matrix, flags: Array, included: Array
    ) -> tuple[Array, Array]:
        """Linear maps from normalised rows to what the labels of each of f models spread to.

        ``seeds``     (m, u) as :meth:`seeds` gives them
        ``flags``     (m, k) one-hot labels
        ``included``  (m, f) 0/1, which labels each model may know

        Returns weights (f, d, k) and biases (f, k). Each maps the pool, by ridge regression, to
        (u, k) shares that sum to 1: how strongly the labels of a class reach an image, each class
        counted as if it had one label, for where people were asked says nothing of how common a
        class is.
        """
        m, k = flags.shape
        models = included.shape[1]
        known = (included[:, :, None] * flags[:, None, :]).reshape(m, models * k)
        counts = known.sum(axis=0).reshape(models, k)
        # Models that leave out none of a class's labels have the same of it: spread once.
        different, which = np.unique(known, axis=1, return_inverse=True)
        flow = propagate(self._graph, seeds.T @ different.astype(np.float32))[:, which]
        shares = flow.reshape(-1, models, k) / np.maximum(counts, 1).astype(np.float32)
        total = shares.sum(axis=2, keepdims=True)
        shares = np.where(total > 0, shares / np.where(total > 0, total, 1), np.float32(1 / k))
        mean = shares.mean(axis=0)
        pulled = self._centred.T @ (shares - mean).reshape(len(shares), models * k)
        found = scipy.linalg.cho_solve(self._factor, pulled.astype(np.float64))
        weights = found.reshape(self.width, models, k).transpose(1, 0, 2)
        return weights, mean - self._centre @ weights


def sample_pool(
    count: int, generator: np.random.Generator, most: int = MOST_IMAGES
) -> NDArray[np.int64]:
    """Ascending positions of at most ``most`` of ``count`` images, drawn by chance."""
    if count <= most:
        return np.arange(count)
    return np.sort(generator.choice(count, most, replace=False))
