"""What the checks of one examination look at, each thing read once where that is enough."""

from __future__ import annotations

import functools
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from backend.data_folder import has_database
from backend.doctor.findings import Skipped
from backend.labelstudio import Backend, LabelStudio, Webhook
from backend.labelstudio_address import is_same_address
from backend.secrets import FILES, credentials
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project

SECONDS = 5.0
ACCEPTED = ("tiebreak_webhooks_total", "PROJECT_UPDATED")
REFUSED = ("tiebreak_http_requests_total", "/webhook")


class Examination:
    """One look at the set-up, and at ``project_id`` where it is about a project.

    What cannot be read raises :class:`Skipped`, or the error of the client.
    """

    def __init__(
        self, settings: Settings, client: LabelStudio, project_id: int | None = None
    ) -> None:
        self.settings = settings
        self.client = client
        self._project_id = project_id

    @property
    def project_id(self) -> int:
        """The project that this is about."""
        assert self._project_id is not None
        return self._project_id

    @functools.cached_property
    def store(self) -> Store:
        """The database, in whatever form it is; never made here."""
        if not self.has_database:
            raise Skipped("there is no database yet")
        return Store(self.settings.database_address)

    def close(self) -> None:
        """Give back what was opened."""
        if "store" in self.__dict__:
            self.store.close()

    @property
    def has_database(self) -> bool:
        """Whether there is one to look into."""
        return has_database(self.settings)

    def row(self) -> Project:
        """What the database has of the project now."""
        with self.store.read() as session:
            row = session.get(Project, self.project_id)
        if row is None:
            raise Skipped("Tiebreak does not know the project yet")
        return row

    @functools.cached_property
    def backends(self) -> list[Backend]:
        """The project's backends; Label Studio calls each while it lists them."""
        return self.client.backends(self.project_id)

    @functools.cached_property
    def webhooks(self) -> list[Webhook]:
        """The project's webhooks."""
        return self.client.webhooks(self.project_id)

    @property
    def own_webhooks(self) -> list[Webhook]:
        """Those that go to our own address."""
        address = f"{self.settings.backend_url}/webhook"
        return [hook for hook in self.webhooks if is_same_address(hook.url, address)]

    def secret(self, name: str) -> str:
        """A secret that callers prove themselves with; none is made here."""
        if getattr(self.settings, name) is None and not self.secret_file(name).exists():
            raise Skipped(f"there is no {name.replace('_', ' ')} yet; the server makes it")
        return str(getattr(credentials(self.settings), name))

    def secret_file(self, name: str) -> Path:
        """Where a secret is kept that no setting gives."""
        return self.settings.data_dir / FILES[name]

    @functools.cached_property
    def server_url(self) -> str:
        """Where our server answers this machine: the address that Label Studio has, or its own.

        Raises:
            httpx.HTTPError: it does so at neither.
        """
        public = self.settings.backend_url
        own = f"http://127.0.0.1:{self.settings.port}"
        try:
            health(public)
        except httpx.HTTPError:
            if public == own:
                raise
            health(own)
            return own
        return public

    def counts(self) -> tuple[float, float]:
        """Updates of projects that our server took from webhooks so far, and webhooks that it
        refused because their secret was wrong."""
        try:
            answer = ask_metrics(self.server_url, self.secret("api_token"))
            answer.raise_for_status()
        except httpx.HTTPError:
            raise Skipped("our own server cannot be asked what arrived") from None
        accepted = refused = 0.0
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = sample.labels
                if (sample.name, labels.get("action")) == ACCEPTED:
                    accepted += sample.value
                is_refusal = labels.get("status") == "401"
                if (sample.name, labels.get("route")) == REFUSED and is_refusal:
                    refused += sample.value
        return accepted, refused


def health(url: str) -> httpx.Response:
    """The answer of a server's ``/health``; httpx's errors when it is none."""
    return httpx.get(f"{url}/health", timeout=SECONDS, trust_env=False).raise_for_status()


def ask_metrics(url: str, log_in: str | tuple[str, str]) -> httpx.Response:
    """The answer of our server's ``/metrics`` to an API token, or to user and password."""
    if isinstance(log_in, tuple):
        return httpx.get(f"{url}/metrics", auth=log_in, timeout=SECONDS, trust_env=False)
    headers = {"Authorization": f"Bearer {log_in}"}
    return httpx.get(f"{url}/metrics", headers=headers, timeout=SECONDS, trust_env=False)
