"""``tiebreak doctor`` against a real Label Studio: each planted fault is found, with its mend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.doctor.findings import Finding
from backend.doctor.runner import examine
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from tests.callers import LOG_IN
from tests.e2e.conftest import SINGLE_CHOICE, StartLabelStudio, StartTiebreak
from tests.e2e.digits import Digits, all_tasks
from tests.e2e.label_studio_person import Person
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import SERVER, TRAINER, TiebreakProcesses
from tests.serving import serving
from tests.tiebreak_process import NOWHERE

Json = dict[str, Any]
GOOD = {"ok", "skipped"}
CONNECT = "tiebreak connect"


class Doctor:
    """Examinations of one project, in this process or by the command."""

    def __init__(self, tiebreak: TiebreakProcesses, project: int) -> None:
        self.tiebreak = tiebreak
        self.project = project
        self._client: LabelStudio | None = None

    def settings(self, **changes: Any) -> Settings:
        """Those of the processes, with ``changes``."""
        env = self.tiebreak.env
        named = {
            name.removeprefix("TIEBREAK_").lower() if name.startswith("TIEBREAK_") else name: value
            for name, value in env.items()
        }
        return Settings(**named).model_copy(update=changes)

    def bad(self, project: int | None = None, **changes: Any) -> dict[str, Finding]:
        """Check → finding, of those that failed or warn."""
        settings = self.settings(**changes)
        assert settings.label_studio_url
        assert settings.label_studio_api_key
        key = changes.get("token") or settings.label_studio_api_key.get_secret_value()
        with LabelStudio(settings.label_studio_url, key, 10) as client:
            found = examine(settings, client, [project or self.project])
        assert all(f.what and f.why and f.mend for f in found if f.state not in GOOD)
        return {f.check: f for f in found if f.state not in GOOD}

    def command(self, *options: str) -> tuple[int, Json]:
        """Exit code and JSON of the command."""
        named = ["doctor", str(self.project), "--json", *options]
        done = CliRunner().invoke(app, named, env=self.tiebreak.env)
        assert done.stdout, done.stderr
        assert "looking at" in done.stderr
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def gone(label_studio: LabelStudioServer, digit_project: int) -> str:
    """Address of a backend of Tiebreak's name that was connected and is there no longer."""
    with serving(HTTPServer(("127.0.0.1", 0), _AnyBackend)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        body = {"project": digit_project, "url": url, "title": "Tiebreak"}
        label_studio.admin.post("/api/ml/", body)
    return url


class _AnyBackend(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        body = b'{"status": "UP", "model_version": "v0"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_faults_in_label_studio_and_what_fix_mends(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
    gone: str,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, TIEBREAK_POLL_SECONDS="3600")
    doctor = Doctor(tiebreak, project)
    digits.add_tasks(project, range(12))
    tiebreak.connect(project)
    order = tiebreak.settle(project)["order"]

    # Only the backend at an old address is wrong so far.
    old = doctor.bad()
    assert old.keys() == {"stale-backends"}
    assert gone in old["stale-backends"].what

    [hook] = [h for h in admin.get("/api/webhooks/", project=project) if tiebreak.url in h["url"]]
    wrong = {"X-Tiebreak-Secret": "another-secret-of-somebody"}
    admin.patch(f"/api/webhooks/{hook['id']}/", {"headers": wrong})
    _add_webhook(admin, project, "http://127.0.0.1:9/webhook", wrong)
    theirs = _add_webhook(admin, project, "http://127.0.0.1:9/theirs", {})
    _set_order(admin, project, "Tiebreak", "Sequential sampling")
    [broken] = admin.import_tasks(project, [{"data": {"image": f"{label_studio.url}/no.png"}}])
    secret = tiebreak.data / "webhook-secret"
    secret.chmod(0o644)

    bad = doctor.bad()
    expected = {
        "stale-backends": "Delete them",
        "webhook": CONNECT,
        "delivery": CONNECT,
        "stale-webhooks": "Delete them",
        "sampling": CONNECT,
        "model-version": "--fix",
        "images": "",
        "secret-files": "chmod 600",
    }
    assert bad.keys() == expected.keys()
    for check, words in expected.items():
        assert words in bad[check].mend
    assert order in bad["model-version"].what
    assert "http://127.0.0.1:9/theirs" not in bad["stale-webhooks"].what
    assert f"task {broken}" in bad["images"].what

    code, report = doctor.command("--fix")
    failed = {f["check"] for f in report["findings"] if f["state"] == "failed"}
    assert (code, failed, report["healthy"]) == (1, {"images"}, False)
    assert len(report["fixed"]) >= 5
    for text in (secret.read_text(), wrong["X-Tiebreak-Secret"], label_studio.token):
        assert text not in json.dumps(report)
    assert secret.stat().st_mode & 0o777 == 0o600
    left = {h["id"] for h in admin.get("/api/webhooks/", project=project)}
    assert theirs in left
    assert [b["url"] for b in admin.get("/api/ml/", project=project)] == [tiebreak.url]

    admin.delete(f"/api/tasks/{broken}/")
    before = _all_of(admin, project)
    code, report = doctor.command()
    assert (code, report["healthy"], report["fixed"]) == (0, True, []), report
    assert {f["state"] for f in report["findings"]} == {"ok"}
    # Looking has changed nothing.
    assert _all_of(admin, project) == before


def test_faults_of_the_connection_and_of_the_settings(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
    tmp_path: Path,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, TIEBREAK_POLL_SECONDS="3600")
    doctor = Doctor(tiebreak, project)
    digits.add_tasks(project, range(3))

    not_yet = doctor.bad()
    assert {"backend", "webhook"} <= not_yet.keys()
    assert CONNECT in not_yet["backend"].mend
    _, report = doctor.command("--fix")
    # The trainer may still be starting, and it is what tells Label Studio the order.
    failed = {f["check"] for f in report["findings"] if f["state"] == "failed"}
    assert failed <= {"trainer", "model-version"}
    tiebreak.settle(project)

    # Another name and a limit; another token and folder; another Label Studio.
    named = doctor.bad(public_url="http://tiebreak:9090", step_seconds=30.0)
    assert "no dot" in named["backend-address"].what
    assert "TIEBREAK_PUBLIC_URL" in named["backend-address"].mend
    assert "TIEBREAK_STEP_SECONDS" in named["timeouts"].mend
    stranger = doctor.bad(token="1" * 40, data_dir=tmp_path / "other")
    assert stranger.keys() >= {"token", "data-folder", "database"}
    assert "LABEL_STUDIO_API_KEY" in stranger["token"].mend
    assert doctor.bad(label_studio_url=NOWHERE).keys() == {"label-studio"}

    # A webhook that is switched off, and nothing runs; then another password.
    [hook] = admin.get("/api/webhooks/", project=project)
    admin.patch(f"/api/webhooks/{hook['id']}/", {"is_active": False})
    tiebreak.stop(SERVER)
    tiebreak.stop(TRAINER)
    stopped = doctor.bad()
    assert "switched off" in stopped["webhook"].what
    assert {"server", "trainer", "backend"} <= stopped.keys()
    assert "tiebreak serve" in stopped["server"].mend
    assert "tiebreak trainer" in stopped["trainer"].mend
    assert "/health" in stopped["backend"].mend
    tiebreak.env["TIEBREAK_PASSWORD"] = "another-password-of-the-tests"
    tiebreak.start_server()
    changed = doctor.bad()
    assert CONNECT in changed["backend"].mend
    assert "password" in changed["backend"].what
    _, report = doctor.command("--fix")
    failed = {f["check"] for f in report["findings"] if f["state"] == "failed"}
    assert failed == {"trainer"}
    assert LOG_IN[1] not in json.dumps(report)


def test_nothing_to_learn(
    label_studio: LabelStudioServer, tiebreak: TiebreakProcesses, project_titles: Iterator[str]
) -> None:
    text = '<View><Text name="t" value="$text"/><TextArea name="x" toName="t"/></View>'
    number = label_studio.admin.create_project(next(project_titles), text)
    doctor = Doctor(tiebreak, number)
    assert "<Choices" in doctor.bad()["label-config"].mend
    code, report = doctor.command("--fix")
    assert code == 1
    assert "nothing to learn" in " ".join(report["fixed"])
    assert label_studio.admin.get("/api/ml/", project=number) == []


def test_private_addresses_refused_and_tokens_switched_off(
    start_label_studio: StartLabelStudio, real_weights: Path, tmp_path: Path
) -> None:
    """Connected while it was allowed, then started with Label Studio's defaults."""
    label_studio = start_label_studio()
    tiebreak = TiebreakProcesses(tmp_path / "tiebreak", label_studio, real_weights)
    admin = label_studio.admin
    project = admin.create_project("Guarded", SINGLE_CHOICE)
    tiebreak.start_server()
    try:
        tiebreak.connect(project)
        label_studio.start_with(ML_BLOCK_LOCAL_IP="true", SSRF_PROTECTION_ENABLED="true")
        bad = Doctor(tiebreak, project).bad()
        assert {"backend", "delivery"} <= bad.keys(), bad
        for check in ("backend", "delivery"):
            for words in ("ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false"):
                assert words in bad[check].mend, bad
        off = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
        admin.post("/api/jwt/settings", off)
        assert "personal access token" in Doctor(tiebreak, project).bad()["token"].mend
    finally:
        tiebreak.close()


def test_connect_says_that_the_name_needs_a_dot(
    label_studio: LabelStudioServer, tiebreak: TiebreakProcesses, project: int
) -> None:
    env = tiebreak.env
    tiebreak.env = env | {"TIEBREAK_PUBLIC_URL": "http://tiebreak:9090"}
    try:
        said = tiebreak.run("connect", str(project))
    finally:
        tiebreak.env = env
    assert said.returncode == 1
    assert "it has no dot" in said.stderr
    assert "TIEBREAK_PUBLIC_URL" in said.stderr
    assert label_studio.admin.get("/api/ml/", project=project) == []


def _add_webhook(admin: Person, project: int, url: str, headers: Mapping[str, str]) -> int:
    body = {"project": project, "url": url, "headers": headers, "send_for_all_actions": True}
    return int(admin.post("/api/webhooks/", body)["id"])


def _set_order(admin: Person, project: int, version: str, sampling: str) -> None:
    admin.patch(f"/api/projects/{project}", {"model_version": version, "sampling": sampling})


def _all_of(admin: Person, project: int) -> list[Any]:
    """Everything that Label Studio has of a project, but when it was last called."""
    backends = admin.get("/api/ml/", project=project)
    for row in backends:
        row.pop("updated_at")
    remote = admin.get(f"/api/projects/{project}")
    hooks = admin.get("/api/webhooks/", project=project)
    tasks = all_tasks(admin, project)
    for prediction in (p for task in tasks for p in task["predictions"]):
        prediction.pop("created_ago")
    return [remote, backends, hooks, tasks]
