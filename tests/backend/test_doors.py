from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from backend import doors
from backend.app import create_app
from backend.cross_site import SAFE_METHODS
from backend.hints import pending_look
from backend.projects import register_project
from backend.secrets import SECRET_HEADER
from backend.settings import Settings
from backend.store import Store
from tests.backend.served_app import client_of, settings_in
from tests.callers import API_TOKEN, PASSWORD, USER, WEBHOOK_SECRET, basic, logged_in

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""
HINT = {"action": "START_TRAINING", "project": {"id": 7, "title": "t", "label_config": CONFIG}}
BEARER = {"Authorization": f"Bearer {API_TOKEN}"}
BASE64 = "dGllYnJlYWs6"  # tiebreak:
WRONG: dict[str, dict[str, str]] = {
    "none": {},
    "empty": {"Authorization": ""},
    "no scheme": {"Authorization": PASSWORD},
    "wrong password": basic(password="password-of-others"),
    "wrong user": basic(user="admin"),
    "empty password": basic(password=""),
    "empty user": basic(user=""),
    "nothing in Basic": {"Authorization": "Basic"},
    "no colon": {"Authorization": "Basic dGllYnJlYWs="},
    "no password": {"Authorization": f"Basic {BASE64}"},
    "no base64": {"Authorization": "Basic ////=%%"},
    "no ASCII": {"Authorization": "Basic \xe9\xe9\xe9\xe9"},
    "no UTF-8": {"Authorization": "Basic gICAgICAgA=="},
    "password a little longer": basic(password=f"{PASSWORD} "),
    "password a little shorter": basic(password=PASSWORD[:-1]),
    "wrong bearer": {"Authorization": "Bearer token-of-others"},
    "empty bearer": {"Authorization": "Bearer "},
    "password as bearer": {"Authorization": f"Bearer {PASSWORD}"},
    "token as password": basic(password=API_TOKEN),
    "webhook's secret as bearer": {"Authorization": f"Bearer {WEBHOOK_SECRET}"},
    "digest": {"Authorization": f'Digest username="{USER}"'},
    "Label Studio's way": {"Authorization": f"Token {API_TOKEN}"},
    "in a cookie": {"Cookie": f"session={API_TOKEN}"},
    "believe me": {"X-Forwarded-User": USER, "X-Forwarded-For": "127.0.0.1"},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A server that knows project 7; the tests share it."""
    folder = tmp_path_factory.mktemp("doors")
    made = create_app(settings_in(folder, failed_logins_per_minute=100_000))
    register_project(made.extensions["tiebreak"].store, 7, title="t", label_config=CONFIG)
    yield made
    made.extensions["tiebreak"].store.close()


@pytest.fixture(scope="module")
def store(app: Flask) -> Store:
    """The database of that server."""
    return cast(Store, app.extensions["tiebreak"].store)


def routes(app: Flask) -> list[tuple[str, str]]:
    """Method and path of every route, and of some that are none."""
    found = [("GET", "/nowhere"), ("POST", "/health"), ("OPTIONS", "/health"), ("PUT", "/predict")]
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<int:\w+>", "7", rule.rule)
        path = re.sub(r"<path:\w+>", "tiebreak.css", path)
        found += [(method, path) for method in sorted(rule.methods or ())]
    return [route for route in found if route not in (("GET", "/health"), ("HEAD", "/health"))]


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
def test_every_route_is_closed(app: Flask, store: Store, headers: dict[str, str]) -> None:
    client, before = app.test_client(), pending_look(store, 7)
    found = routes(app)
    assert len(found) > 20
    for method, path in found:
        answer = client.open(path, method=method, json=HINT, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="Tiebreak"')
        if method != "HEAD":
            assert answer.json["code"] in ("no_credentials", "wrong_credentials")
            assert "tiebreak password" in answer.json["mend"]
    assert pending_look(store, 7) == before


HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))


@given(
    st.sampled_from(["", "Basic ", "Bearer "]),
    HEADER,
    HEADER,
    st.sampled_from(["/webhook", "/predict", "/api/projects", "/"]),
)
def test_whatever_is_sent_as_credentials_is_a_401(
    app: Flask, scheme: str, sent: str, secret: str, path: str
) -> None:
    headers = {"Authorization": f"{scheme}{sent}", SECRET_HEADER: secret}
    answer = app.test_client().post(path, json=HINT, headers=headers)
    assert answer.status_code == 401


@given(st.text(st.characters(exclude_characters=":", exclude_categories=("Cs",))), st.text())
def test_any_user_and_password_but_the_right_ones_are_a_401(
    app: Flask, user: str, password: str
) -> None:
    sent = base64.b64encode(f"{user}:{password}".encode("utf-8", "replace")).decode()
    answer = app.test_client().get("/", headers={"Authorization": f"Basic {sent}"})
    assert answer.status_code == 401


def test_the_right_ones_open_every_route(app: Flask) -> None:
    client = logged_in(app)
    for method, path in routes(app):
        with client.open(path, method=method, json=HINT) as answer:
            assert answer.status_code in (200, 400, 404, 405, 422), (method, path)


def test_health_is_open_and_tells_nothing(app: Flask) -> None:
    client = app.test_client()
    for headers in ({}, basic(password="wrong")):
        answer = client.get("/health", headers=headers)
        assert (answer.status_code, answer.json["status"]) == (200, "UP")
        assert set(answer.json) == {"status", "model_class"}


def test_the_token_reads_the_api_and_does_nothing_else(app: Flask) -> None:
    client = app.test_client()
    for method, path in routes(app):
        with client.open(path, method=method, json=HINT, headers=BEARER) as answer:
            opened = path.startswith(doors.BEARER_PATHS) and method in SAFE_METHODS
            assert (answer.status_code != 401) == opened, (method, path)
    assert client.get("/api/projects", headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({SECRET_HEADER: WEBHOOK_SECRET}, 200),
        (basic(), 200),
        ({SECRET_HEADER: "wrong", **basic()}, 200),
        ({SECRET_HEADER: WEBHOOK_SECRET, **basic(password="wrong")}, 200),
        ({SECRET_HEADER: WEBHOOK_SECRET, "Authorization": "Bearer wrong"}, 200),
        ({}, 401),
        ({SECRET_HEADER: ""}, 401),
        ({SECRET_HEADER: "wrong"}, 401),
        ({SECRET_HEADER: PASSWORD}, 401),
        ({SECRET_HEADER: f"{WEBHOOK_SECRET}, {WEBHOOK_SECRET}"}, 401),
        (basic(password=WEBHOOK_SECRET), 401),
        (BEARER, 401),
    ],
)
def test_a_webhook_needs_its_secret_or_the_password(
    app: Flask, store: Store, headers: dict[str, str], status: int
) -> None:
    before = pending_look(store, 7)
    answer = app.test_client().post("/webhook", json=HINT, headers=headers)
    assert answer.status_code == status
    assert (pending_look(store, 7) != before) == (status == 200)


def test_the_secret_opens_nothing_but_the_webhook(app: Flask) -> None:
    client = app.test_client()
    for method, path in routes(app):
        answer = client.open(
            path, method=method, json=HINT, headers={SECRET_HEADER: WEBHOOK_SECRET}
        )
        # OPTIONS of that path is the same door.
        assert (answer.status_code == 401) == (path != "/webhook" or method == "PUT"), (
            method,
            path,
        )


ELSEWHERE: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none", "Origin": "https://elsewhere.example"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "http://localhost.elsewhere.example"},
    {"Origin": "http://localhost@elsewhere.example"},
    {"Origin": "http://user@localhost"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "file://localhost"},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
@pytest.mark.parametrize("path", ["/webhook", "/train", "/predict", "/setup"])
def test_other_sites_change_nothing_although_the_browser_is_logged_in(
    app: Flask, store: Store, path: str, headers: dict[str, str]
) -> None:
    before = pending_look(store, 7)
    answer = logged_in(app).post(path, json=HINT, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (403, "cross_site")
    assert pending_look(store, 7) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Origin": "http://LOCALHOST:80"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    ],
    ids=str,
)
def test_ones_own_page_and_programs_may(app: Flask, store: Store, headers: dict[str, str]) -> None:
    before = pending_look(store, 7)
    assert logged_in(app).post("/train", json={"project": 7}, headers=headers).status_code == 200
    assert pending_look(store, 7) != before


def test_other_sites_may_link_here(app: Flask) -> None:
    answer = logged_in(app).get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_what_a_form_can_send_is_not_read(app: Flask, store: Store, kind: str | None) -> None:
    before = pending_look(store, 7)
    answer = logged_in(app).post("/train", data=b'{"project": 7}', content_type=kind)
    assert (answer.status_code, answer.json["code"]) == (415, "not_json")
    assert pending_look(store, 7) == before


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", basic()),
        ("/static/tiebreak.css", basic()),
        ("/api/projects", BEARER),
        ("/api/projects", {}),
        ("/nowhere", basic()),
        ("/health", {}),
    ],
)
def test_every_answer_is_guarded(app: Flask, path: str, headers: dict[str, str]) -> None:
    with app.test_client().get(path, headers=headers) as answer:
        sent = answer.headers
    policy = dict(part.split(" ", 1) for part in sent["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in sent["Content-Security-Policy"]
    assert sent["X-Frame-Options"] == "DENY"
    assert sent["X-Content-Type-Options"] == "nosniff"
    assert sent["Referrer-Policy"] == "no-referrer"
    assert sent["Cross-Origin-Resource-Policy"] == "same-origin"
    assert (sent["Cache-Control"] == "no-store") == (not path.startswith("/static"))


def app_with(settings: Settings, **update: Any) -> Flask:
    return create_app(settings.model_copy(update=update))


@pytest.fixture
def guessing(settings: Settings) -> Iterator[FlaskClient]:
    """Ten wrong log-ins a minute, and nobody has logged in yet."""
    made = app_with(settings, failed_logins_per_minute=10, trusted_proxies=1)
    yield made.test_client()
    made.extensions["tiebreak"].store.close()


def ask(client: FlaskClient, address: str, password: str = PASSWORD) -> Any:
    headers = {"X-Forwarded-For": address, **basic(password=password)}
    return client.get("/api/projects", headers=headers)


def test_who_guesses_is_held_off_even_if_the_next_guess_is_right(guessing: FlaskClient) -> None:
    statuses = [ask(guessing, "203.0.113.5", f"guess-{n}").status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    answer = ask(guessing, "203.0.113.5")
    assert (answer.status_code, answer.json["code"]) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert ask(guessing, "203.0.113.6").status_code == 200


@pytest.mark.parametrize("address", ["192.0.2.7", "127.0.0.1", "::1"])
def test_nobody_locks_label_studio_out_from_its_own_address(
    guessing: FlaskClient, address: str
) -> None:
    # It has called before, or it runs on this machine.
    if address == "192.0.2.7":
        assert ask(guessing, address).status_code == 200
    statuses = [ask(guessing, address, f"guess-{n}").status_code for n in range(50)]
    assert statuses == [401] * 10 + [429] * 40
    assert ask(guessing, address).status_code == 200


def test_an_old_password_again_and_again_is_no_guessing(guessing: FlaskClient) -> None:
    for _ in range(50):
        ask(guessing, "192.0.2.8", "the-password-before")
    # So the new one is taken at once when Label Studio is told of it.
    assert ask(guessing, "192.0.2.8").status_code == 200


def test_no_password_at_all_is_no_wrong_one(guessing: FlaskClient) -> None:
    for _ in range(50):
        header = {"X-Forwarded-For": "192.0.2.9"}
        assert guessing.post("/webhook", json=HINT, headers=header).status_code == 401
    assert ask(guessing, "192.0.2.9").status_code == 200


def test_an_address_cannot_be_made_up_without_a_proxy(settings: Settings) -> None:
    made = app_with(settings, failed_logins_per_minute=10)
    client = made.test_client()
    statuses = [ask(client, f"203.0.113.{n}", f"guess-{n}").status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    made.extensions["tiebreak"].store.close()


def test_too_many_requests_are_told_to_wait(settings: Settings) -> None:
    made = app_with(settings, requests_per_minute=5)
    client = logged_in(made)
    answers = [client.get("/api/projects") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    made.extensions["tiebreak"].store.close()


def test_a_busy_label_studio_is_never_limited(settings: Settings) -> None:
    # 50 webhooks a second, and 8 people who each ask for a prediction every second.
    asked = Settings.model_fields["requests_per_minute"].default
    assert asked >= 10 * (50 + 8) * 60


def test_what_is_too_large_is_said(settings: Settings) -> None:
    made = app_with(settings, max_request_bytes=1000, predict_max_tasks=3)
    client = logged_in(made)
    answer = client.post("/webhook", data=b" " * 1001, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")
    assert "1,000" in answer.json["message"]
    tasks = [{"id": n, "data": {}} for n in range(4)]
    answer = client.post("/predict", json={"tasks": tasks, "project": "7"})
    assert (answer.status_code, answer.json["code"]) == (413, "too_many_tasks")
    for depth in (500, 450_000):
        body = b'{"project": 7, "x": ' + b"[" * depth + b"]" * depth + b"}"
        with client_of(settings) as deep:
            answer = deep.post("/train", data=body, content_type="application/json")
        assert (answer.status_code, answer.json["code"]) == (400, "bad_payload")
    made.extensions["tiebreak"].store.close()


@pytest.mark.parametrize("secret", [PASSWORD, API_TOKEN, WEBHOOK_SECRET])
def test_no_secret_is_answered(app: Flask, secret: str) -> None:
    client = logged_in(app)
    for method, path in routes(app):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with client.open(path, method=method, json=HINT, headers=headers) as answer:
                assert secret not in answer.get_data(as_text=True)
                assert secret not in str(answer.headers)
