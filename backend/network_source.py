"""Where the weights of a network are on this machine, in words that another process can be told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from backend.settings import Settings
from backend.tuned_networks import find_tuned, network_path, tuned_folder
from model.errors import WeightsError

if TYPE_CHECKING:
    from model.backbones import Backbone

ORIGINAL = re.compile(r"(?P<name>[a-z0-9_]+)-.+-(?P<side>\d+)px")
"""The identity of a network that was not fine-tuned: name, weights, pixels."""


class NetworkSource(BaseModel):
    """A backbone by its identity. ``tuned`` and ``sha256``: the file of a fine-tuned one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    name: str
    input_size: int
    weights_dir: Path | None = None
    weights_cache: Path = Path()
    tuned: Path | None = None
    sha256: str = ""

    def load(self) -> Backbone:
        """The network; WeightsError when it cannot be had, or is another one by now."""
        from model.backbones import load_backbone
        from model.tuned import load_tuned

        if self.tuned is not None:
            return load_tuned(self.tuned, self.name, self.input_size, digest=self.sha256)
        found = load_backbone(
            self.name,
            input_size=self.input_size,
            weights_dir=self.weights_dir,
            cache_dir=self.weights_cache,
        )
        if found.identity != self.identity:
            raise WeightsError(
                f"The weights of {self.identity} are not there any more; there are "
                f"{found.identity}.",
                mend="Put the weights back that it was trained with, or train a new version.",
            )
        return found


def network_source(settings: Settings, identity: str) -> NetworkSource:
    """Where the network of that identity is: a fine-tuned one, or else the original of its name.

    WeightsError when the identity names neither.
    """
    folder = tuned_folder(settings.data_dir.resolve())
    record = find_tuned(folder, identity)
    if record is not None:
        return NetworkSource(
            identity=identity,
            name=record.name,
            input_size=record.input_size,
            tuned=network_path(folder, identity),
            sha256=record.sha256,
        )
    named = ORIGINAL.fullmatch(identity)
    if named is None:
        raise WeightsError(
            f"There is no network {identity}.",
            mend="Restore it from a copy, or promote a version of a network that is there.",
        )
    return NetworkSource(
        identity=identity,
        name=named["name"],
        input_size=int(named["side"]),
        weights_dir=settings.weights_dir.resolve() if settings.weights_dir else None,
        weights_cache=settings.weights_cache.resolve(),
    )
