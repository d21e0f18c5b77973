"""What a project's model says of an image, and why: the classes, where it looked, what is alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from backend.champion import Champions
from backend.errors import SetupError
from backend.inner_networks import InnerNetworks
from backend.label_config import Control
from backend.neighbours import Neighbour, nearest_labelled
from backend.predictions import current_classes, head_of
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Project, version_name
from model.artifact import Artifact
from model.errors import ArgumentError
from model.head import Head
from model.overlays import heat_layer, weight_layer

TOP = 5
NEIGHBOURS = 6
BUSY_SECONDS = 60.0
"""So long one explanation waits for those before it; each keeps the processor busy for seconds."""


class Embeds(Protocol):
    """The part of :class:`backend.engine.LocalEngine` that explaining needs."""

    def embed(
        self, images: Sequence[Image], backbone: str | None = None
    ) -> NDArray[np.float16]: ...


class BusyError(SetupError):
    """Others wait for an explanation already."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a version says of an image by one control, and why.

    ``top``          the likeliest classes with their calibrated probabilities, the likeliest first
    ``explained``    the class that the layers are about
    ``superpixels``  RGBA: blue superpixels speak for the class, orange ones against it (LIME)
    ``fit``          R² of LIME's linear model: how far its superpixels are to be believed
    ``heat``         RGBA: where the image speaks for the class (Grad-CAM)
    """

    version: str
    control: str
    multiple: bool
    top: list[tuple[str, float]]
    explained: str
    superpixels: Image
    fit: float
    heat: Image
    nearest: list[Neighbour]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return self.top[0][1]


class Explainer:
    """Explains what the champions of all projects say. One image at a time."""

    def __init__(
        self, settings: Settings, store: Store, champions: Champions, engine: Embeds
    ) -> None:
        self._seed = settings.seed
        self._store = store
        self._champions = champions
        self._engine = engine
        self._networks = InnerNetworks(settings)
        self._turn = threading.Lock()

    def explain(
        self,
        project_id: int,
        image: Image,
        *,
        control: str | None = None,
        class_name: str | None = None,
    ) -> Explanation:
        """Explain an image: by default by the first control that is learned, and for its likeliest
        class. The same image and version give the same explanation.

        Raises:
            ArgumentError: there is no such control or class.
            BusyError: others wait already.
            SetupError: the project is not connected, or has learned nothing yet.
            WeightsError: the version's network cannot be had.
        """
        with self._store.read() as session:
            project = session.get(Project, project_id)
            controls = controls_of(project) if project else ()
        artifact = self._champions.get(project_id)
        if artifact is None:
            raise SetupError(
                f"Project {project_id} has learned nothing yet.",
                mend="Label some images of two classes first; the first training follows.",
            )
        chosen, head = _chosen(artifact, controls, control)
        with self._alone():
            return self._explained(artifact, project_id, image, chosen, head, class_name)

    def _explained(
        self,
        artifact: Artifact,
        project_id: int,
        image: Image,
        control: Control,
        head: Head,
        class_name: str | None,
    ) -> Explanation:
        from model.explain import grad_cam, lime_superpixels

        def embed(images: Sequence[Image]) -> NDArray[np.float16]:
            return self._engine.embed(images, artifact.backbone)

        embedding = embed([image])
        classes, probabilities = current_classes(head, control, embedding)
        order = np.argsort(-probabilities[0], kind="stable")
        explained = class_name or classes[int(order[0])]
        if explained not in classes:
            raise ArgumentError(f"class={explained!r}; one of {', '.join(classes)} is allowed.")
        position = head.classes.index(explained)
        network = self._networks.get(artifact.backbone)
        found = lime_superpixels(
            image,
            embed,
            head,
            position,
            side=network.input_size,
            generator=np.random.default_rng(self._seed),
        )
        heat = grad_cam(network, head, position, image)
        with self._store.read() as session:
            nearest = nearest_labelled(
                session, project_id, control, artifact.backbone, embedding[0], NEIGHBOURS
            )
        return Explanation(
            version_name(artifact.version),
            control.name,
            control.multiple,
            [(classes[i], float(probabilities[0, i])) for i in order[:TOP].tolist()],
            explained,
            weight_layer(found.weight_map()),
            found.fit,
            heat_layer(heat),
            nearest,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise BusyError("Others wait for an explanation already.", mend="Try again soon.")
        try:
            yield
        finally:
            self._turn.release()


def _chosen(
    artifact: Artifact, controls: Sequence[Control], name: str | None
) -> tuple[Control, Head]:
    """The control of that name, by default the first that is learned, and its head."""
    learned = {}
    for control in controls:
        head = head_of(artifact, control)
        if head is not None and set(head.classes) & set(control.classes):
            learned[control.name] = control, head
    if not learned:
        raise SetupError(
            "No control of the labelling config is learned yet.",
            mend="Wait for the next training, or ask for one: tiebreak train PROJECT",
        )
    if name is None:
        return next(iter(learned.values()))
    if name not in learned:
        raise ArgumentError(f"control={name!r}; one of {', '.join(learned)} is allowed.")
    return learned[name]
