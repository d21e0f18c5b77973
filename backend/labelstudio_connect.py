"""What connects a project to the backend: the model row, the webhook, the queue's tab.

The ``save_…`` calls may be repeated: they leave exactly one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.errors import (
    BackendRefused,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioUnreachable,
)
from backend.labelstudio_address import is_same_address
from backend.labelstudio_http import Transport
from backend.labelstudio_types import Backend, View, Webhook, read, read_all

PROTECTION_MEND = (
    "Label Studio's protection against private addresses refuses it. Its administrator can start "
    "Label Studio with both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false in its "
    "environment (one alone is not enough), or with USE_DEFAULT_BANNED_SUBNETS=false; or give the "
    "backend a public address in TIEBREAK_PUBLIC_URL. Then connect again."
)
_REACH_MEND = (
    "Start the backend (tiebreak serve), and see from Label Studio's own machine or container that "
    "{url}/health answers; if it knows the backend by another address, set TIEBREAK_PUBLIC_URL to "
    "that."
)
_SETUP_MEND = "The backend's log says why; mostly the project's labelling config has to change."
_LOG_IN_MEND = (
    "`tiebreak serve` and this command must have the same TIEBREAK_USER and TIEBREAK_PASSWORD, and "
    "where no password is set the same TIEBREAK_DATA_DIR, in which it is kept. Give this command "
    "those of the server, or restart the server with these; then connect again."
)
_UNAUTHORIZED = re.compile(r"\b401\b")
# The list of backends, and adding one, wait for each backend's /health and /setup.
_PROBE_SECONDS = 120.0


class ConnectCalls:
    """Calls that connect a project; a part of :class:`backend.labelstudio.LabelStudio`."""

    _http: Transport

    def backends(self, project_id: int) -> list[Backend]:
        """Backends of a project. Label Studio calls /health and /setup of each while it lists."""
        answer = self._http.call(
            "GET", "/api/ml/", params={"project": project_id}, timeout=_PROBE_SECONDS
        )
        return read_all(Backend, answer)

    def probe_backend(self, backend_id: int) -> Backend:
        """One backend, after Label Studio has just called its /health and /setup."""
        return read(
            Backend, self._http.call("GET", f"/api/ml/{backend_id}", timeout=_PROBE_SECONDS)
        )

    def add_backend(
        self, project_id: int, url: str, title: str, auth: tuple[str, str] | None = None
    ) -> Backend:
        """Connect a backend; ``auth`` is user and password for HTTP Basic.

        Raises :class:`BackendRefused` when Label Studio's protection refuses the address, and
        :class:`LabelStudioError` when it cannot reach the backend or the backend refuses the
        project; both say what an administrator can do. A row that Label Studio leaves behind
        although it refused is deleted.
        """
        before = {backend.id for backend in self.backends(project_id)}
        body = {"project": project_id, "url": url, "title": title, **_authentication(auth)}
        try:
            answer = self._http.call("POST", "/api/ml/", json=body, timeout=_PROBE_SECONDS)
        except LabelStudioError as error:
            self._delete_orphans(project_id, url, before)
            raise _explained(error, url) from None
        return read(Backend, answer)

    def save_backend(
        self, project_id: int, url: str, title: str, auth: tuple[str, str] | None = None
    ) -> Backend:
        """Leave exactly one backend with that address, as given; errors of `add_backend`."""
        same = [each for each in self.backends(project_id) if is_same_address(each.url, url)]
        if not same:
            return self.add_backend(project_id, url, title, auth)
        for extra in same[1:]:
            self.delete_backend(extra.id)
        # Label Studio wants address and project with every change.
        body = {"project": project_id, "url": url, "title": title, **_authentication(auth)}
        try:
            answer = self._http.call(
                "PATCH", f"/api/ml/{same[0].id}", json=body, timeout=_PROBE_SECONDS
            )
        except LabelStudioError as error:
            raise _explained(error, url) from None
        return read(Backend, answer)

    def delete_backend(self, backend_id: int) -> None:
        """Disconnect a backend; its webhook stays. Nothing when it is already gone."""
        self._delete(f"/api/ml/{backend_id}")

    def backend_refusal(self, project_id: int, backend: Backend) -> LabelStudioError | None:
        """Why Label Studio cannot connect a backend that it has, asked by an update that changes
        nothing; None when it can."""
        body = {"project": project_id, "url": backend.url, "title": backend.title}
        path = f"/api/ml/{backend.id}"
        return self._refusal("PATCH", path, body, backend.url, timeout=_PROBE_SECONDS)

    def webhook_refusal(self, hook: Webhook) -> LabelStudioError | None:
        """Why Label Studio refuses the address of a webhook that it has, asked in the same way."""
        return self._refusal("PATCH", f"/api/webhooks/{hook.id}/", {"url": hook.url}, hook.url)

    def webhooks(self, project_id: int) -> list[Webhook]:
        """Webhooks of a project, without those of the whole organisation."""
        answer = self._http.get("/api/webhooks/", {"project": project_id})
        return [hook for hook in read_all(Webhook, answer) if hook.project == project_id]

    def save_webhook(
        self, project_id: int, url: str, headers: Mapping[str, str] | None = None
    ) -> Webhook:
        """Leave exactly one active webhook to that address, for all actions, with the headers.

        Connecting a backend already makes one, without headers. Raises :class:`BackendRefused`
        when Label Studio's protection refuses the address.
        """
        body = {
            "project": project_id,
            "url": url,
            "headers": dict(headers or {}),
            "send_payload": True,
            "send_for_all_actions": True,
            "is_active": True,
        }
        same = [hook for hook in self.webhooks(project_id) if is_same_address(hook.url, url)]
        for extra in same[1:]:
            self.delete_webhook(extra.id)
        try:
            if same:
                answer = self._http.call("PATCH", f"/api/webhooks/{same[0].id}/", json=body)
            else:
                answer = self._http.call("POST", "/api/webhooks/", json=body)
        except LabelStudioError as error:
            raise _explained(error, url) from None
        return read(Webhook, answer)

    def set_webhook_headers(self, webhook_id: int, headers: Mapping[str, str]) -> None:
        """Give a webhook these headers. Nothing else of it is sent, as somebody may be changing
        it right now."""
        path = f"/api/webhooks/{webhook_id}/"
        self._http.call("PATCH", path, json={"headers": dict(headers)})

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook. Nothing when it is already gone."""
        self._delete(f"/api/webhooks/{webhook_id}/")

    def views(self, project_id: int) -> list[View]:
        """Tabs of a project's Data Manager."""
        return read_all(View, self._http.get("/api/dm/views/", {"project": project_id}))

    def save_view(
        self,
        project_id: int,
        title: str,
        ordering: Sequence[str] = ("tasks:predictions_score",),
        filters: Sequence[Mapping[str, object]] = (),
        *,
        conjunction: str = "and",
    ) -> View:
        """Leave one tab of that title, with that ordering and all of the filters; with
        ``conjunction="or"`` a task passes that passes one of them.

        By default it is the queue: ascending prediction score. A new tab shows Label Studio's
        usual columns and those that order it. A project that has no tab yet gets Label Studio's
        ordinary one first, which the Data Manager adds only while there is none.
        """
        views = self.views(project_id)
        if not views:
            hidden = self._hidden_columns(project_id, ())
            self._write_view(None, project_id, {"title": "Default", "hiddenColumns": hidden})
        data = {
            "title": title,
            "ordering": list(ordering),
            "filters": {"conjunction": conjunction, "items": [dict(f) for f in filters]},
        }
        same = [view for view in views if view.title == title]
        for extra in same[1:]:
            self._delete(f"/api/dm/views/{extra.id}/")
        if same:
            return self._write_view(same[0].id, project_id, {**same[0].data, **data})
        data["hiddenColumns"] = self._hidden_columns(project_id, ordering)
        return self._write_view(None, project_id, data)

    def _hidden_columns(self, project_id: int, shown: Sequence[str]) -> dict[str, list[str]]:
        """Columns that a tab hides in the list and while labelling, by Label Studio's defaults.

        A tab that names none shows them all, some twenty.
        """
        columns = self._http.get("/api/dm/columns/", {"project": project_id})["columns"]
        defaults = {
            f"tasks:{column['id']}": column["visibility_defaults"]
            for column in columns
            if column.get("visibility_defaults") and not column.get("parent")
        }
        wanted = {name.lstrip("-") for name in shown}
        return {
            "explore": [n for n, d in defaults.items() if not d["explore"] and n not in wanted],
            "labeling": [n for n, d in defaults.items() if not d["labeling"]],
        }

    def _write_view(self, view_id: int | None, project_id: int, data: dict[str, Any]) -> View:
        method, path = ("POST", "") if view_id is None else ("PATCH", f"{view_id}/")
        body = {"project": project_id, "data": {"type": "list", "target": "tasks", **data}}
        return read(View, self._http.call(method, f"/api/dm/views/{path}", json=body))

    def _delete_orphans(self, project_id: int, url: str, before: set[int]) -> None:
        for backend in self.backends(project_id):
            if backend.id not in before and is_same_address(backend.url, url):
                self.delete_backend(backend.id)

    def _refusal(
        self, method: str, path: str, body: dict[str, object], url: str, **options: float
    ) -> LabelStudioError | None:
        try:
            self._http.call(method, path, json=body, **options)
        except LabelStudioUnreachable:
            raise
        except LabelStudioError as error:
            return _explained(error, url)
        return None

    def _delete(self, path: str) -> None:
        with contextlib.suppress(LabelStudioNotFound):
            self._http.call("DELETE", path)


def _authentication(auth: tuple[str, str] | None) -> dict[str, str]:
    if auth is None:
        return {"auth_method": "NONE"}
    user, password = auth
    return {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": user,
        "basic_auth_pass": password,
    }


def _explained(error: LabelStudioError, url: str) -> LabelStudioError:
    """``error`` of adding ``url``, with what an administrator can do about it."""
    said = error.detail
    if error.status == 403 and ("reserved network" in said or "was not allowed" in said):
        message = f"Label Studio refuses the backend's address {url} ({said.rstrip('.')})."
        return BackendRefused(message, status=403, mend=PROTECTION_MEND, detail=said)
    if "health check failed" in said or "resolve hostname" in said:
        reason = said.partition("Additional info: ")[2] or said
        message = f"Label Studio cannot reach the backend at {url} ({reason[:300]})."
        mend = _REACH_MEND.format(url=url.rstrip("/"))
        return LabelStudioError(message, status=error.status, mend=mend, detail=said)
    if "valid ML backend" in said:
        reason = said.partition("Reason: ")[2].partition("\n")[0] or said
        if _UNAUTHORIZED.search(reason):
            message = f"The backend at {url} refuses the log-in ({reason[:300]})."
            return LabelStudioError(message, status=error.status, mend=_LOG_IN_MEND, detail=said)
        message = f"The backend at {url} refuses the project ({reason[:300]})."
        return LabelStudioError(message, status=error.status, mend=_SETUP_MEND, detail=said)
    return error
