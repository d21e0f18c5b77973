"""The step that gives Label Studio's own webhook the secret header.

Whoever pastes the backend's address into Label Studio's settings gets a webhook that Label Studio
makes itself, without any credentials: the server refuses what it sends. Until the header is there,
the periodic look finds every label.
"""

from __future__ import annotations

import logging

from backend.errors import LabelStudioError, LabelStudioUnreachable
from backend.labelstudio_address import is_same_address
from backend.secrets import SECRET_HEADER, webhook_secret
from backend.tools import Tools

log = logging.getLogger(__name__)

NO_WEBHOOK = (
    "No webhook of it goes to this backend's address, so labels are noticed only by the periodic "
    "look. Set TIEBREAK_PUBLIC_URL to the address that Label Studio has, or run `tiebreak connect`."
)


class WebhookSteps:
    """The webhooks of one project."""

    def __init__(self, tools: Tools, project_id: int) -> None:
        self.tools = tools
        self.project_id = project_id

    def mend(self) -> None:
        """Give every webhook of the project to our own address the secret, where it lacks it.

        A webhook to any other address is left alone: the secret is for nobody else. A project
        without any to our address, or a Label Studio that refuses, is no reason to do nothing else;
        it is logged once.
        """
        try:
            found = self._mend()
            self._warn("" if found else NO_WEBHOOK)
        except LabelStudioUnreachable:
            raise
        except LabelStudioError as error:
            self._warn(f"Its webhook is not mended: {error}")

    def _warn(self, sentence: str) -> None:
        said = self.tools.webhook_warnings
        if sentence and sentence != said.get(self.project_id):
            log.warning("project %d: %s", self.project_id, sentence)
        said[self.project_id] = sentence

    def _mend(self) -> bool:
        """Mend those that lack the secret; whether there is any to our address."""
        wanted = {SECRET_HEADER: webhook_secret(self.tools.settings)}
        address = f"{self.tools.settings.backend_url}/webhook"
        hooks = self.tools.client.webhooks(self.project_id)
        own = [hook for hook in hooks if is_same_address(hook.url, address)]
        for hook in own:
            headers = hook.headers or {}
            if not wanted.items() <= headers.items():
                others = {n: v for n, v in headers.items() if n.lower() != SECRET_HEADER.lower()}
                self.tools.leases.ensure(self.project_id)
                self.tools.client.set_webhook_headers(hook.id, others | wanted)
                log.info("project %d: its webhook has the secret now", self.project_id)
        return bool(own)
