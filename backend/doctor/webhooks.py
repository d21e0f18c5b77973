"""Checks of a project's webhooks, and that one arrives.

Label Studio tells its webhooks of an update of a project even when the update has no content. So
that is what is sent: it changes nothing, our server takes it for nothing to do, and the server's
own counts say whether it came.
"""

from __future__ import annotations

import time

from backend.doctor.backends import ALIVE
from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, Skipped, failed, ok
from backend.labelstudio import Webhook
from backend.labelstudio_address import is_same_address
from backend.secrets import SECRET_HEADER, same

ARRIVES_WITHIN = 3.0
PAUSE = 0.2


def webhook(exam: Examination) -> Outcome:
    """A webhook to our address is there, is on, and carries the secret."""
    mend = f"tiebreak connect {exam.project_id}, or give --fix."
    own = exam.own_webhooks
    if not own:
        address = f"{exam.settings.backend_url}/webhook"
        return failed(f"The project has no webhook to {address}.", mend, fix="reconnect")
    if problem := _problem(own[0], exam.secret("webhook_secret")):
        return failed(f"The webhook to {own[0].url} {problem}.", mend, fix="reconnect")
    return ok(f"The webhook to {own[0].url} is on and carries the secret")


def _problem(hook: Webhook, secret: str) -> str:
    if not hook.is_active:
        return "is switched off"
    if not hook.send_payload:
        return "does not say what has changed"
    if not hook.send_for_all_actions:
        return "is sent for some actions only"
    sent = secret_of(hook)
    if sent is None:
        return "carries no secret, so it is refused"
    return "" if same(sent, secret) else "carries another secret, so it is refused"


def secret_of(hook: Webhook) -> str | None:
    """What a webhook has in our header; None when it does not have it."""
    headers = {name.lower(): value for name, value in (hook.headers or {}).items()}
    return headers.get(SECRET_HEADER.lower())


def delivery(exam: Examination) -> Outcome:
    """Label Studio is made to send a webhook, and our server notices it."""
    own = [hook for hook in exam.own_webhooks if hook.is_active]
    if not own:
        raise Skipped("there is no webhook to try")
    accepted, refused = exam.counts()
    exam.client.update_project(exam.project_id)
    until = time.monotonic() + ARRIVES_WITHIN
    while True:
        now_accepted, now_refused = exam.counts()
        if now_accepted > accepted:
            return ok("A webhook that was caused just now arrived and was let in")
        if now_refused > refused:
            return failed(
                "A webhook that was caused just now arrived, and was refused for its secret.",
                f"tiebreak connect {exam.project_id}, or give --fix.",
                fix="reconnect",
            )
        if time.monotonic() > until:
            return _lost(exam, own[0])
        time.sleep(PAUSE)


def _lost(exam: Examination, hook: Webhook) -> Outcome:
    what = "A webhook that was caused just now did not arrive"
    if refusal := exam.client.webhook_refusal(hook):
        return failed(f"{what}. {refusal.message}", refusal.mend or "Label Studio's log says why.")
    return failed(
        f"{what} within {ARRIVES_WITHIN:g} s.",
        "From Label Studio's own machine or container, see that "
        f"{exam.settings.backend_url}/health answers within a second; if that machine knows the "
        "backend by another address, set TIEBREAK_PUBLIC_URL to it and connect again. Label "
        "Studio's log has what went wrong.",
    )


def stale_webhooks(exam: Examination) -> Outcome:
    """No webhook of Tiebreak's is there twice, or goes to an address where it no longer is."""
    found = orphans(exam)
    if not found:
        return ok("No old or doubled webhooks")
    shown = ", ".join(f"{hook.url} ({hook.id})" for hook in found)
    return failed(
        f"The project has webhooks of Tiebreak's that are no longer good: {shown}.",
        "Delete them in Settings → Webhooks, or give --fix.",
        fix="orphans",
    )


def orphans(exam: Examination) -> list[Webhook]:
    """Doubled webhooks to our address, and those with our secret's header to an address at which
    Label Studio has no living backend."""
    alive = [f"{each.url.rstrip('/')}/webhook" for each in exam.backends if _is_alive(each)]
    own = exam.own_webhooks
    old = [
        hook
        for hook in exam.webhooks
        if hook not in own
        and secret_of(hook) is not None
        and not any(is_same_address(hook.url, address) for address in alive)
    ]
    return own[1:] + old


def _is_alive(backend: object) -> bool:
    return getattr(backend, "readable_state", "") in ALIVE
