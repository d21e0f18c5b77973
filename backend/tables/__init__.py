"""The tables. Everything in them can be derived again from Label Studio, except the versions,
and what was ticked for people and what they first said to it.

Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

from backend.tables.base import Base, order_name, storable, version_name
from backend.tables.images import Embedding, ImageGroup, ImageSource, TaskImage
from backend.tables.labels import AutoLabel, AutoRun, Label, QualityCheck, Vote
from backend.tables.offers import FirstAnswer, SentPart, Serving
from backend.tables.projects import Project, Task
from backend.tables.versions import FineTune, Order, Version
from backend.tables.work import Hint, Lease, TrainerProcess, Trouble

__all__ = [
    "AutoLabel",
    "AutoRun",
    "Base",
    "Embedding",
    "FineTune",
    "FirstAnswer",
    "Hint",
    "ImageGroup",
    "ImageSource",
    "Label",
    "Lease",
    "Order",
    "Project",
    "QualityCheck",
    "SentPart",
    "Serving",
    "Task",
    "TaskImage",
    "TrainerProcess",
    "Trouble",
    "Version",
    "Vote",
    "order_name",
    "storable",
    "version_name",
]
