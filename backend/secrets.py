"""Secrets that Tiebreak makes for itself, kept in the data folder for its own user only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from backend.log_secrets import hide
from backend.settings import Settings

SECRET_HEADER = "X-Tiebreak-Secret"  # noqa: S105 - the header's name, not a secret


def webhook_secret(settings: Settings) -> str:
    """The secret that our webhooks carry: the setting, or one made on first use and kept."""
    if settings.webhook_secret is not None:
        return settings.webhook_secret.get_secret_value()
    secret = _kept_secret(settings.data_dir / "webhook-secret")
    hide(secret)
    return secret


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(32))
    try:
        # Of several processes that start together, the first one's secret stays.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return path.read_text().strip()
