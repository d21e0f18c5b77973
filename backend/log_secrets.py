"""No secret in a log: known ones are taken out wherever they stand, others by how they look.

Known are the secrets of the settings, and those that :func:`hide` was told of. Beside them go
credentials after their keyword, user names and passwords in addresses, the signed tokens that Label
Studio hands out, and the query strings of addresses, which are where storages put signatures.
"""

from __future__ import annotations

import base64
import re

from pydantic import SecretStr

from backend.settings import Settings

HIDDEN = "(hidden)"
SHORTEST = 4
"""A shorter secret is a part of too many words to be taken out."""

_hidden: dict[str, None] = {}

_PATTERNS = (
    # Authorization: Basic dXNlcjpw, Token 0123, Bearer ey…; also as a dict or a header shows it
    (re.compile(r"(?i)\b(basic|bearer|token)(\s+)(?=[\w+/=.~-]*[\d=.])[\w+/=.~-]{8,}"), r"\1\2"),
    (
        re.compile(
            r"(?i)((?:proxy-)?authorization|x-tiebreak-[a-z-]+|(?:set-)?cookie)"
            r"(['\"]?\s*[:=]\s*['\"]?)[^'\"\r\n]+"
        ),
        r"\1\2",
    ),
    (re.compile(r"\b(ey[\w-]{8,})\.[\w-]+\.[\w-]*"), ""),
    (re.compile(r"(://)[^\s/@:'\"]*:[^\s/@'\"]*(?=@)"), r"\1"),
)
# What Label Studio's local files have in their query is a path, and tells which file it is.
_QUERY = re.compile(r"(?<!/data/local-files/)\?[^\s'\"<>]*=[^\s'\"<>]*")


def hide(secret: str) -> None:
    """Take a secret out of all that is logged from now on, also in Basic's base64."""
    if len(secret) >= SHORTEST:
        _hidden[secret] = None


def hide_basic(user: str, password: str) -> None:
    """Take a user's password out of all that is logged, alone and in Basic's base64."""
    hide(password)
    hide(base64.b64encode(f"{user}:{password}".encode()).decode())


def hide_settings(settings: Settings) -> None:
    """Take out every secret of the settings."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            hide(value.get_secret_value())
    for address in (settings.database_address, settings.mlflow_tracking_uri):
        try:
            password = make_url(address).password if address else None
        except ArgumentError:
            continue
        if password:
            hide(str(password))


def scrubbed(text: str) -> str:
    """``text`` without secrets."""
    for secret in _hidden:
        text = text.replace(secret, HIDDEN)
    for pattern, kept in _PATTERNS:
        text = pattern.sub(kept + HIDDEN, text)
    return _QUERY.sub(f"?{HIDDEN}", text)
