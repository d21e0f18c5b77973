"""Pictures that are cats at 0 degrees and dogs at 90, and what tells them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backend.settings import Settings
from model.head import Head
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.queue_of import plan
from tests.backend.saved_versions import save_version


def picture(degrees: float) -> np.ndarray:
    """A picture that is a cat at 0 degrees, a dog at 90, and anything at 45.

    Features are square-rooted before they are read, so these are squares.
    """
    return np.array([np.cos(np.radians(degrees)) ** 2, np.sin(np.radians(degrees)) ** 2])


def cat_head() -> Head:
    """Tells cats from dogs by the angle: certain at 0 and 90 degrees, helpless at 45."""
    weights = np.array([[8, 0, -99], [0, 8, -99]], dtype=np.float32)
    return Head(
        ("cat", "dog", "owl"),
        False,
        weights,
        np.zeros(3, dtype=np.float32),
        np.ones(1, dtype=np.float32),
    )


def queue_settings(settings: Settings) -> Settings:
    """No audit set, and a queue whose head is three tasks, picked at once by their margins."""
    return settings.model_copy(
        update={"audit_share": 0.0, "queue_head": 3, "batch_size": 3, "strategy": "margin"}
    )


def serve(tables: Tables, settings: Settings, number: int = 1) -> None:
    """A version with that head serves."""
    save_version(tables, settings, number, backbone=BACKBONE, heads={"label": cat_head()})


def queue_of_tasks(tables: Tables, settings: Settings) -> list[int]:
    """The tasks as they will be served."""
    return [task_id for task_id, _ in plan(tables, settings).predictions]


def serve_wide(tables: Tables, settings: Settings) -> None:
    """The same for pictures of sixteen numbers."""
    head = replace(cat_head(), weights=np.eye(16, 3, dtype=np.float32) * 9)
    save_version(tables, settings, 1, backbone=BACKBONE, heads={"label": head})
