"""A person at Label Studio, who does through REST what the browser does for an annotator."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx

Json = dict[str, Any]
DELETE_TRIES = 10


class Person:
    """One user and their legacy token. Every refused call raises ``httpx.HTTPStatusError``."""

    def __init__(self, url: str, token: str) -> None:
        self.token = token
        self._client = _client(url, {"Authorization": f"Token {token}"})

    @classmethod
    def sign_up(cls, url: str, email: str, password: str) -> Person:
        """Register through the sign-up page, as somebody with the invite link does."""
        with _client(url) as browser:
            page = browser.get("/user/signup/").text
            found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
            assert found, "the sign-up page has no form"
            form = {"csrfmiddlewaretoken": found[1], "email": email, "password": password}
            answer = browser.post("/user/signup/", data=form, headers={"Referer": url})
            assert answer.status_code == 302, f"sign-up of {email} refused"
            return cls(url, browser.get("/api/current-user/token").json()["token"])

    @property
    def id(self) -> int:
        """The user's number."""
        return int(self.get("/api/current-user/whoami")["id"])

    def get(self, path: str, **params: object) -> Any:
        """JSON of a GET."""
        return self._json("GET", path, params=params)

    def post(self, path: str, body: object = None) -> Any:
        """JSON of a POST with a JSON body."""
        return self._json("POST", path, json=body)

    def patch(self, path: str, body: Json) -> Any:
        """JSON of a PATCH with a JSON body."""
        return self._json("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """DELETE."""
        self._json("DELETE", path)

    def delete_project(self, project: int) -> None:
        """Delete a project.

        Label Studio deletes table by table, so rows that a trainer sends meanwhile make SQLite
        refuse the last step; they come once, and the next try takes them too.
        """
        for tries_left in reversed(range(DELETE_TRIES)):
            try:
                self.delete(f"/api/projects/{project}/")
                return
            except httpx.HTTPStatusError as refusal:
                if "FOREIGN KEY" not in str(refusal) or not tries_left:
                    raise
            time.sleep(1)

    def allow_both_token_kinds(self) -> None:
        """Switch on personal access tokens and legacy tokens for the organisation."""
        self.post(
            "/api/jwt/settings", {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        )

    def create_personal_token(self) -> str:
        """A new personal access token; Label Studio allows one at a time."""
        return str(self.post("/api/token/", {})["token"])

    def create_project(self, title: str, label_config: str, **fields: object) -> int:
        """Number of a new project; ``title`` has 3 to 50 characters."""
        body = {"title": title, "label_config": label_config, **fields}
        return int(self.post("/api/projects/", body)["id"])

    def import_tasks(self, project: int, tasks: list[Json]) -> list[int]:
        """Numbers of the new tasks, in the order given; they may carry annotations."""
        answer = self.post(f"/api/projects/{project}/import?return_task_ids=true", tasks)
        return [int(number) for number in answer["task_ids"]]

    def next_task(self, project: int) -> Json | None:
        """The task that Label All Tasks would show now, or None when all are done."""
        answer = self._client.get(f"/api/projects/{project}/next")
        if answer.status_code == 404:
            return None
        return dict(answer.raise_for_status().json())

    def next_as_displayed(self, project: int, tab: Json) -> Json | None:
        """The task that Label Tasks As Displayed would show now in a tab with that data."""
        path = f"/api/dm/actions?id=next_task&project={project}"
        body = {"project": str(project), "ordering": tab["ordering"], "filters": tab["filters"]}
        answer = self._client.post(path, json=body)
        if answer.status_code == 404:
            return None
        return dict(answer.raise_for_status().json())

    def submit(self, task: int, **choices: str | list[str]) -> int:
        """Submit an annotation (``label="cat"``); the annotation's number.

        Keywords are the names of the controls; every control points at ``image``.
        """
        return self._annotate(task, {"result": choice_results(**choices)})

    def skip(self, task: int) -> int:
        """Skip a task; the number of the cancelled annotation that this leaves."""
        return self._annotate(task, {"result": [], "was_cancelled": True})

    def update(self, annotation: int, **choices: str | list[str]) -> None:
        """Replace the choices of an annotation."""
        self.patch(f"/api/annotations/{annotation}/", {"result": choice_results(**choices)})

    def delete_annotation(self, annotation: int) -> None:
        """Delete an annotation."""
        self.delete(f"/api/annotations/{annotation}/")

    def save_draft(self, task: int, **choices: str | list[str]) -> int:
        """Leave a draft on a task, which is no annotation."""
        body = {"result": choice_results(**choices)}
        return int(self.post(f"/api/tasks/{task}/drafts", body)["id"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _annotate(self, task: int, body: Json) -> int:
        return int(self.post(f"/api/tasks/{task}/annotations/", {"lead_time": 1.0, **body})["id"])

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._client.request(method, path, **arguments)
        if answer.is_error:
            detail = f"{method} {path}: {answer.status_code} {answer.text[:500]}"
            raise httpx.HTTPStatusError(detail, request=answer.request, response=answer)
        return answer.json() if answer.content else None


def choice_results(**choices: str | list[str]) -> list[Json]:
    """Label Studio's result list for choices, one entry for each control."""
    return [
        {
            "from_name": control,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [chosen] if isinstance(chosen, str) else list(chosen)},
        }
        for control, chosen in choices.items()
    ]


def _client(url: str, headers: dict[str, str] | None = None) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
