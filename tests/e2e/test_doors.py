"""Who may come in: Label Studio with its password, a browser, and nobody from another page."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.callers import LOG_IN, PASSWORD, USER
from tests.e2e.digits import Digits, connect_by_hand
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses, labels_learned, wait_until
from tests.serving import serving

WRONG = (USER, "password-of-others")


def test_pasting_address_and_password_is_enough(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tasks = digits.add_tasks(project, range(12))
    backend = connect_by_hand(admin, project, tiebreak.url)
    secret = (tiebreak.data / "webhook-secret").read_text()

    def hooks() -> list[tuple[str, object]]:
        return [(h["url"], h["headers"]) for h in admin.get("/api/webhooks/", project=project)]

    # Label Studio makes its webhook without the secret; the trainer adds it.
    mended = [(f"{tiebreak.url}/webhook", {"X-Tiebreak-Secret": secret})]
    wait_until(lambda: hooks() == mended, 30, lambda: f"{hooks()}\n{tiebreak.tails()}")
    tiebreak.settle(project)

    # The webhook delivers: the next look without one would be a minute later.
    for task, digit in zip(tasks[:4], "0101", strict=True):
        admin.submit(task, label=digit)
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 4, 20)

    # So does Start Training, which carries the password: four labels start none by themselves.
    admin.post(f"/api/ml/{backend}/train", {})
    assert tiebreak.wait(project, labels_learned) == 4
    assert admin.get(f"/api/ml/{backend}")["readable_state"] == "Connected"
    for name in ("server", "trainer"):
        assert PASSWORD not in tiebreak.log(name)
        assert secret not in tiebreak.log(name)


@pytest.mark.parametrize("log_in", [None, WRONG])
def test_label_studio_says_that_the_password_is_wrong(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    project: int,
    log_in: tuple[str, str] | None,
) -> None:
    admin = label_studio.admin
    with pytest.raises(httpx.HTTPStatusError) as caught:
        connect_by_hand(admin, project, tiebreak.url, log_in)
    said = str(caught.value)
    assert "is wrong" in said if log_in else "wants a user and a password" in said
    assert "`tiebreak password`" in said
    assert "Basic authentication" in said
    assert admin.get("/api/ml/", project=project) == []
    assert project not in [p["id"] for p in tiebreak.get("/api/projects")["projects"]]


def test_a_new_password_is_told_to_label_studio_by_connecting_again(
    label_studio: LabelStudioServer, tmp_path: Path, project: int
) -> None:
    admin, tiebreak = label_studio.admin, TiebreakProcesses(tmp_path, label_studio, tmp_path)
    tiebreak.start_server()
    connect_by_hand(admin, project, tiebreak.url)

    def states() -> list[tuple[str, str, bool]]:
        return [
            (b["readable_state"], b["auth_method"], b["basic_auth_pass_is_set"])
            for b in admin.get("/api/ml/", project=project)
        ]

    assert states() == [("Connected", "BASIC_AUTH", True)]
    tiebreak.stop("server")
    tiebreak.env["TIEBREAK_PASSWORD"] = "another-password"
    tiebreak.start_server()
    [(state, _, _)] = states()
    assert state == "Error"
    tiebreak.connect(project)
    assert states() == [("Connected", "BASIC_AUTH", True)]
    tiebreak.close()


class _Page(BaseHTTPRequestHandler):
    """A page of somebody else's, on another port."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>elsewhere</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Page)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


SEND = """async ({url, project, type, mode}) => {
  const body = JSON.stringify({project});
  try {
    const answer = await fetch(url, {
      method: "POST", mode, body, credentials: "include", headers: {"Content-Type": type}});
    return answer.status;
  } catch (error) { return String(error); }
}"""
FORM = """({url, project}) => {
  const form = document.createElement("form");
  form.method = "POST"; form.action = url; form.enctype = "text/plain";
  const field = document.createElement("input");
  field.name = `{"project": ${project}, "x": "`; field.value = '"}';
  form.append(field); document.body.append(form); form.submit();
}"""


def test_another_page_can_make_the_browser_do_nothing(
    chromium: Browser, tiebreak: TiebreakProcesses, project: int, elsewhere: str
) -> None:
    # Our own policy lets no script run; without it the page's own request is seen to pass.
    context = chromium.new_context(
        http_credentials={"username": USER, "password": PASSWORD}, bypass_csp=True
    )
    page, answers = context.new_page(), []
    page.on("response", lambda r: answers.append((r.request.method, r.url, r.status)))
    page.goto(tiebreak.url)
    train, send = f"{tiebreak.url}/train", {"url": f"{tiebreak.url}/train", "project": project}
    own = page.evaluate(SEND, send | {"type": "application/json", "mode": "cors"})
    assert own == 200

    def refused() -> int:
        return tiebreak.log("server").count("A page of another site")

    page.goto(elsewhere)
    answers.clear()
    before = refused()
    # With JSON the browser asks first, and is not allowed; as plain text it sends at once.
    for kind, mode, sent in (("application/json", "cors", 0), ("text/plain", "no-cors", 1)):
        found = page.evaluate(SEND, send | {"type": kind, "mode": mode})
        assert "Failed to fetch" in found
        assert refused() == before + sent
    page.evaluate(FORM, send)
    page.wait_for_url(train)
    assert "another site" in page.inner_text("body")
    posted = [status for method, url, status in answers if method == "POST" and url == train]
    assert set(posted) == {403}
    # The password is in the browser, and a link from anywhere leads to the page.
    page.goto(elsewhere)
    page.evaluate("url => { location.href = url; }", f"{tiebreak.url}/")
    page.wait_for_url(f"{tiebreak.url}/")
    assert page.title() == "Projects · Tiebreak"
    context.close()


def test_a_browser_without_the_password_sees_nothing(
    chromium: Browser, tiebreak: TiebreakProcesses
) -> None:
    context = chromium.new_context(http_credentials={"username": USER, "password": WRONG[1]})
    answer = context.new_page().goto(tiebreak.url)
    assert answer is not None
    assert answer.status == 401
    assert httpx.get(tiebreak.url, auth=LOG_IN, trust_env=False).status_code == 200
    context.close()
