"""What every request passes before any route is found: who asks, from where, and how often.

Closed is the rule: a route that is added is closed, and only ``GET /health`` is open.
"""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.datastructures import Authorization
from werkzeug.middleware.proxy_fix import ProxyFix

from backend.bodies import check_body
from backend.cross_site import SAFE_METHODS, is_cross_site
from backend.rate_limits import FailedLogins, RequestRate, caller
from backend.secrets import SECRET_HEADER, Credentials, credentials
from backend.settings import Settings
from backend.web_errors import RequestError

OPEN = ("protocol.health", frozenset(["GET", "HEAD"]))
WEBHOOK = "protocol.webhook"
BEARER_PATHS = ("/api/", "/metrics", "/openapi.json")
"""Where the API token is taken as well, to read: it changes nothing."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KEPT = frozenset(["pages.static", "pages.plotly_script"])
"""Routes whose answers a browser may keep, and asks whether they are still the same."""
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
ASK = 'Basic realm="Tiebreak", charset="UTF-8"'
MEND = (
    "`tiebreak password` prints user and password, where Tiebreak runs. In Label Studio they "
    "belong under Settings → Model, as Basic authentication; `tiebreak connect` writes them there."
)


def close_doors(app: Flask, settings: Settings) -> None:
    """Close every route of ``app`` but ``/health``, and give every answer its headers."""
    if settings.trusted_proxies:
        trusted = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=trusted, x_proto=trusted, x_host=trusted
        )
    app.before_request(Doors(settings).check)
    app.after_request(_shield)


class Doors:
    """The checks of one process."""

    def __init__(self, settings: Settings) -> None:
        self._wanted: Credentials = credentials(settings)
        self._rate = RequestRate(settings.requests_per_minute)
        self._failures = FailedLogins(settings.failed_logins_per_minute)

    def check(self) -> None:
        """Refuse the current request with a :class:`RequestError`, or let it pass.

        A browser is turned away before it is asked for a password, and nothing of a body is read
        before the caller is known.
        """
        if is_cross_site(request):
            raise RequestError(
                403,
                "cross_site",
                "A page of another site made this request.",
                "Send it from Tiebreak's own page or from a program.",
            )
        address = caller(request.remote_addr)
        if wait := self._rate.count(address):
            raise _too_many(wait, "This address sends too many requests.")
        if request.endpoint == OPEN[0] and request.method in OPEN[1]:
            return
        self._log_in(address)
        if request.method not in SAFE_METHODS and request.routing_exception is None:
            check_body()

    def _log_in(self, address: str) -> None:
        if wait := self._failures.held_off(address):
            raise _too_many(wait, "This address has tried too many different passwords.")
        if self._is_right():
            self._failures.right(address)
            return
        tried = request.headers.get("Authorization", "")
        if request.endpoint == WEBHOOK:
            tried += request.headers.get(SECRET_HEADER, "")
        if tried and (wait := self._failures.wrong(address, tried)):
            raise _too_many(wait, "This address has sent too many wrong passwords.")
        raise _unauthorized(tried)

    def _is_right(self) -> bool:
        sent = _sent()
        if (
            sent
            and sent.type == "basic"
            and self._wanted.is_user(sent.username or "", sent.password or "")
        ):
            return True
        reads = request.method in SAFE_METHODS and request.path.startswith(BEARER_PATHS)
        if sent and sent.type == "bearer" and reads:
            return self._wanted.is_token(sent.token or "")
        if request.endpoint == WEBHOOK:
            return self._wanted.is_webhook(request.headers.get(SECRET_HEADER, ""))
        return False


def _sent() -> Authorization | None:
    """What the header Authorization holds; None when it cannot be read as anything."""
    try:
        return request.authorization
    except ValueError:  # Werkzeug's base64 of what is not even ASCII
        return None


def _unauthorized(tried: str) -> RequestError:
    ask = {"WWW-Authenticate": ASK}
    if request.endpoint == WEBHOOK and SECRET_HEADER in request.headers:
        message = f"The header {SECRET_HEADER} does not hold this backend's secret."
        mend = "The trainer writes it anew within a minute or so; `tiebreak connect` does at once."
        return RequestError(401, "wrong_secret", message, mend, ask)
    if tried:
        message = "The user, the password or the token is wrong."
        return RequestError(401, "wrong_credentials", message, MEND, ask)
    message = "Tiebreak wants a user and a password here."
    return RequestError(401, "no_credentials", message, MEND, ask)


def _too_many(seconds: int, message: str) -> RequestError:
    mend = f"Wait {seconds} s, then send the right ones or send more slowly."
    return RequestError(429, "too_many_requests", message, mend, {"Retry-After": str(seconds)})


def _shield(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint not in KEPT:
        response.headers["Cache-Control"] = "no-store"
    return response
