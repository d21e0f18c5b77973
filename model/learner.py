"""A pretrained network with a linear layer for each control, and what one step of it costs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.backbones import Backbone
from model.control_labels import ControlLabels, class_weights
from model.crossfit import cross_fit
from model.devices import half_precision
from model.embed import Normalise
from model.folds import class_folds, flag_folds
from model.fused import fuse_frozen, spare_slow_kernels

FOLDS = 5
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Question:
    """One control as the network learns it, on its device.

    ``columns``  the classes that the training rows can teach, positions in the control's classes
    ``wanted``   (n, c) float32 flags of those classes
    ``known``    (n,) float32, 1 where the control has a label among them
    ``weights``  (c,) float32 weight of each class, with ``multiple`` of its yes
    """

    multiple: bool
    columns: NDArray[np.int64]
    wanted: torch.Tensor
    known: torch.Tensor
    weights: torch.Tensor


def ask(
    labels: Sequence[ControlLabels],
    trained: NDArray[np.bool_],
    device: torch.device,
    *,
    weighted: bool,
) -> list[Question]:
    """The questions that the rows ``trained`` can teach; a control without any is left out."""
    questions = []
    for part in labels:
        columns = np.flatnonzero(part.learnable(trained))
        if columns.size < (1 if part.multiple else 2):
            continue
        flags = part.flags()[:, columns]
        known = part.known if part.multiple else part.known & flags.any(axis=1)
        weights = class_weights(part, trained)[columns] if weighted else np.ones(columns.size)
        arrays = (flags, known, weights)
        wanted, mask, balance = (
            torch.from_numpy(np.asarray(array, dtype=np.float32)).to(device) for array in arrays
        )
        questions.append(Question(part.multiple, columns, wanted, mask, balance))
    return questions


class Learner(nn.Module):
    """(n, 3, s, s) uint8 -> the logits (n, c) of each question, in 16 bits where that is fast.

    ``frozen_statistics``  batch normalisations keep the statistics that they have
    """

    def __init__(
        self,
        backbone: Backbone,
        questions: Sequence[Question],
        device: torch.device,
        *,
        frozen_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = trainable_copy(backbone.network)
        self._frozen_statistics = frozen_statistics
        if frozen_statistics:
            fuse_frozen(self.backbone, backbone.input_size)
        if device.type == "cpu":
            spare_slow_kernels(self.backbone)
        self.heads = nn.ModuleList(
            _zero_layer(backbone.width, question.columns.size) for question in questions
        )
        self.to(device).to(memory_format=torch.channels_last)
        self.device, self.width = device, backbone.width
        self._normalise = Normalise(device)
        half = half_precision(device)
        # float16 would need its losses scaled, so where there is no bfloat16 it is 32 bits.
        self._half = half if half == torch.bfloat16 else None

    @property
    def number_type(self) -> torch.dtype | None:
        """The 16-bit type that the network runs in; None where it runs in 32."""
        return self._half

    def learn(self) -> None:
        """Go into training mode."""
        self.train()
        if self._frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, width) float32 embeddings, before the linear layers."""
        inputs = self._normalise(pixels)
        with torch.autocast(self.device.type, dtype=self._half, enabled=self._half is not None):
            found: torch.Tensor = self.backbone(inputs)
        return found.float()

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """The logits of each question, float32."""
        features = self.features(pixels)
        return [head(features) for head in self.heads]


def _zero_layer(width: int, classes: int) -> nn.Linear:
    layer = nn.Linear(width, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def trainable_copy(network: nn.Module) -> nn.Module:
    """A copy whose parameters take gradients and whose buffers all hold numbers."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        for name, buffer in module.named_buffers(recurse=False):
            # Weights files of old have no count of batches.
            if buffer.is_meta:
                module.register_buffer(name, torch.zeros_like(buffer, device="cpu"))
    return copied.requires_grad_(True)


def probe(
    learner: Learner,
    features: NDArray[np.float32],
    questions: Sequence[Question],
    trained: NDArray[np.bool_],
    seed: int,
) -> None:
    """Fit the linear layers to (n, width) ``features`` of the untouched network, on ``trained``.

    The first half of LP-FT: with a fitted layer on top, the first steps of the second half do not
    distort what the network knows (Kumar, Raghunathan, Jones, Ma and Liang, *Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution*, 2022, section 3.4).
    """
    for head, question in zip(learner.heads, questions, strict=True):
        assert isinstance(head, nn.Linear)
        used = trained & (question.known.cpu().numpy() > 0)
        flags = question.wanted.cpu().numpy()[used] > 0
        generator = np.random.default_rng(seed)
        folds = (
            flag_folds(flags, FOLDS, generator)
            if question.multiple
            else class_folds(flags.argmax(axis=1), FOLDS, generator)
        )
        found = cross_fit(
            features[used].astype(np.float64), flags, folds, multiple=question.multiple
        )
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(found.weights.T.astype(np.float32)))
            head.bias.copy_(torch.from_numpy(found.bias.astype(np.float32)))


@dataclass
class Objective:
    """What a batch costs.

    ``label_smoothing``  share of the truth that is spread over all classes: Szegedy et al.,
                         *Rethinking the Inception Architecture* (2016), section 7
    ``mixup``            alpha of mixup, 0 for none: Zhang, Cissé, Dauphin and Lopez-Paz, *mixup:
                         Beyond Empirical Risk Minimization* (2018), eq. 2
    """

    questions: Sequence[Question]
    label_smoothing: float
    mixup: float

    def mixed(
        self, pixels: torch.Tensor, generator: np.random.Generator
    ) -> tuple[torch.Tensor, NDArray[np.int64], float]:
        """The pictures of a batch, each mixed with a partner: pictures, partners, own share."""
        n = len(pixels)
        if self.mixup <= 0:
            return pixels, np.arange(n), 1.0
        share = float(generator.beta(self.mixup, self.mixup))
        share = max(share, 1 - share)
        partners = generator.permutation(n)
        blended = share * pixels.float() + (1 - share) * pixels[partners].float()
        return blended.round().to(torch.uint8), partners, share

    def loss(
        self,
        logits: Sequence[torch.Tensor],
        rows: torch.Tensor,
        partners: torch.Tensor,
        share: float,
        scale: float,
    ) -> torch.Tensor:
        """Sum over the questions of the mean log loss of their known rows, times ``scale``."""
        total = torch.zeros((), device=rows.device)
        for question, scores in zip(self.questions, logits, strict=True):
            wanted = self._softened(question, rows)
            known = question.known[rows]
            if share < 1:
                wanted = share * wanted + (1 - share) * self._softened(question, partners)
                known = known * question.known[partners]
            total = total + (_losses(question, scores, wanted) * known).sum()
        return total * scale

    def _softened(self, question: Question, rows: torch.Tensor) -> torch.Tensor:
        wanted = question.wanted[rows]
        classes = 2 if question.multiple else wanted.shape[1]
        return wanted * (1 - self.label_smoothing) + self.label_smoothing / classes


def _losses(question: Question, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(n,) weighted log loss of each row; with ``multiple`` the mean over its classes."""
    if question.multiple:
        each = nn.functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=question.weights, reduction="none"
        )
        return each.mean(dim=1)
    logs = nn.functional.log_softmax(logits, dim=1)
    return -(wanted * logs * question.weights).sum(dim=1)
