"""What all tables have, and how versions and orders are named."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase


def version_name(number: int) -> str:
    """Name of a version; v0 is what serves while nothing is learned."""
    return f"v{number}"


def order_name(version: int, number: int) -> str:
    """What Label Studio calls an order of a version's predictions: v3, the next ones v3.1, v3.2."""
    return f"{version_name(version)}.{number}" if number else version_name(version)


def storable(text: str, most: int | None = None) -> str:
    """Others' text as every database takes it: PostgreSQL knows no NUL, and keeps to ``most``."""
    return text.replace("\0", "\ufffd")[:most]


class Base(DeclarativeBase):
    """Root of the tables."""
