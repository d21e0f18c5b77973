"""The two kinds of Label Studio's tokens, and the header that carries them.

A legacy token is sent as it is. A personal access token is a refresh JWT: it is exchanged for an
access token of a few minutes, which is renewed before it ends.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable

from backend.errors import LabelStudioUnauthorized

_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]+")
# An access token is renewed this long before it ends: longer than a request takes to arrive.
_MARGIN_SECONDS = 30.0
# Label Studio's access tokens live 300 s; used when a token does not say.
_USUAL_SECONDS = 300.0
# Renewals asked for by several threads at once are one renewal.
_FRESH_SECONDS = 1.0

API_KEY_MEND = (
    "Set LABEL_STUDIO_API_KEY to a token of a Label Studio user who may change the project "
    "(Label Studio: Account & Settings), and restart `tiebreak serve` and `tiebreak trainer`."
)


class Credentials:
    """One user's token. Safe to share between threads; never shows the token.

    ``exchange`` turns a personal access token into an access token, over the network.
    ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        api_key: str,
        exchange: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = api_key.strip()
        if not _TOKEN.fullmatch(self._key):
            problem = "has characters that no token has" if self._key else "is empty"
            raise LabelStudioUnauthorized(f"LABEL_STUDIO_API_KEY {problem}.", mend=API_KEY_MEND)
        self.renewable = bool(_JWT.fullmatch(self._key))
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._made_at = 0.0
        self._ends_at = 0.0

    def __repr__(self) -> str:
        kind = "personal access token" if self.renewable else "legacy token"
        return f"<Credentials: {kind}>"

    def authorization(self, renew: bool = False) -> str:
        """Value of the Authorization header; ``renew`` after the last one was refused.

        Raises :class:`LabelStudioUnauthorized` when the token cannot be exchanged.
        """
        if not self.renewable:
            return f"Token {self._key}"
        with self._lock:
            if self._must_exchange(renew):
                self._access = self._exchange(self._key)
                self._made_at = self._clock()
                self._ends_at = self._made_at + access_lifetime(self._access)
            return f"Bearer {self._access}"

    def _must_exchange(self, renew: bool) -> bool:
        now = self._clock()
        if not self._access or now >= self._ends_at - _MARGIN_SECONDS:
            return True
        return renew and now - self._made_at > _FRESH_SECONDS


def access_lifetime(token: str) -> float:
    """Seconds from issue to end that an access JWT states about itself.

    The difference of its two times is taken, so a clock that differs from Label Studio's does no
    harm. A token that does not say counts as 300 s.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        seconds = float(claims["exp"]) - float(claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return _USUAL_SECONDS
    return seconds if seconds > 0 else _USUAL_SECONDS
