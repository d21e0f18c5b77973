"""The secrets by which callers prove themselves.

Each is a setting, or else made on first use and kept in the data folder, readable by Tiebreak's own
user only.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from backend.data_folder import unusable
from backend.errors import SetupError
from backend.log_secrets import hide, hide_basic
from backend.secret_files import SUFFIX
from backend.server_settings import SHORTEST_SECRET
from backend.settings import Settings, variable_name

log = logging.getLogger(__name__)

SECRET_HEADER = "X-Tiebreak-Secret"  # noqa: S105 - the header's name, not a secret
FILES = {
    "password": "password",
    "api_token": "api-token",
    "webhook_secret": "webhook-secret",
}
"""Setting → its file in the data folder."""


@dataclass(frozen=True)
class Credentials:
    """What callers have to send; the checks take as long for a wrong value as for the right one."""

    user: str
    password: str = field(repr=False)
    api_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)

    def is_user(self, user: str, password: str) -> bool:
        """Whether both are right."""
        return same(user, self.user) & same(password, self.password)

    def is_token(self, token: str) -> bool:
        """Whether it is the API token."""
        return same(token, self.api_token)

    def is_webhook(self, secret: str) -> bool:
        """Whether it is the webhooks' secret."""
        return same(secret, self.webhook_secret)


def credentials(settings: Settings) -> Credentials:
    """All of them; those that are missing are made."""
    return Credentials(
        user=settings.user,
        **{name: _secret(settings, name) for name in FILES},
    )


def log_in(settings: Settings) -> tuple[str, str]:
    """User and password."""
    return settings.user, _secret(settings, "password")


def webhook_secret(settings: Settings) -> str:
    """The secret that our webhooks carry."""
    return _secret(settings, "webhook_secret")


def place(settings: Settings, name: str) -> str:
    """Where a secret stands: the variable that gives it or its file, or the kept file."""
    if getattr(settings, name) is None:
        return str(settings.data_dir.resolve() / FILES[name])
    variable = variable_name(name)
    return os.environ.get(f"{variable}{SUFFIX}") or variable


def log_in_hint(settings: Settings) -> str:
    """User, and where the password is, without telling it."""
    return f"the user {settings.user} and the password in {place(settings, 'password')}"


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in a time that tells neither where they differ nor how long
    they are."""
    digests = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (one, other))
    return hmac.compare_digest(*digests)


def _secret(settings: Settings, name: str) -> str:
    given: SecretStr | None = getattr(settings, name)
    found = given.get_secret_value() if given else _own(settings, name)
    hide(found)
    if name == "password":
        hide_basic(settings.user, found)
    return found


def _own(settings: Settings, name: str) -> str:
    """The one in the data folder, made where there is none.

    Raises :class:`StorageError` where this user can neither read nor make it.
    """
    path = settings.data_dir / FILES[name]
    try:
        if settings.database_url is not None and not path.exists():
            log.warning(
                "%s is not set, so one is made and kept in %s; machines that share a database but "
                "not this folder must all be given the same.",
                variable_name(name),
                path.resolve(),
            )
        return _kept(path)
    except OSError as error:
        raise unusable(path, error) from error


def _kept(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        _make(path)
        text = path.read_text().strip()
    if len(text) < SHORTEST_SECRET:
        raise SetupError(
            f"{path} holds no secret of {SHORTEST_SECRET} or more characters.",
            mend="Remove the file: a new secret is then made.",
        )
    return text


def _make(path: Path) -> None:
    """Write a secret; of several processes that start together, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    made.touch(mode=0o600, exist_ok=False)
    try:
        with made.open("w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
