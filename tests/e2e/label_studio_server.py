"""A real Label Studio for tests: started, stopped and restarted on its own copy of a data folder.

The first server of a machine migrates an empty database, which takes a minute; the result is kept
as a template in ``.cache`` and every later server starts from a copy of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.e2e.label_studio_person import Person
from tests.tiebreak_process import REPOSITORY, free_port

ADMIN_EMAIL = "admin@tiebreak.example"
ADMIN_PASSWORD = "tiebreak-pass"
ADMIN_TOKEN = "0123456789012345678901234567890123456789"
DEFAULT_COMMAND = REPOSITORY / ".venv-label-studio" / "bin" / "label-studio"
COMMAND_VARIABLE = "TIEBREAK_TEST_LABEL_STUDIO"
START_SECONDS = 300.0
STOP_SECONDS = 20.0


class LabelStudioMissing(RuntimeError):
    """There is no Label Studio to test against, or it did not start."""


def label_studio_command() -> Path:
    """Label Studio's program: the environment variable's, or the one ``make test`` installs."""
    command = Path(os.environ.get(COMMAND_VARIABLE) or DEFAULT_COMMAND)
    if not os.access(command, os.X_OK):
        raise LabelStudioMissing(
            f"No Label Studio at {command}. Run `make test`, which installs it, "
            f"or name its program in {COMMAND_VARIABLE}."
        )
    return command.absolute()


class LabelStudioServer:
    """One Label Studio process on 127.0.0.1 with its own data folder.

    ``folder`` holds ``data`` (a copy of ``template``, unless it is already there), ``files`` (the
    root that local storages may serve) and ``label-studio.log``. ``env`` overrides Label Studio's
    environment. The port is chosen when the server is made and kept over restarts.
    """

    def __init__(
        self,
        folder: Path,
        template: Path | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.files = folder / "files"
        self.log = folder / "label-studio.log"
        self.env = dict(env or {})
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = ADMIN_TOKEN
        self.email = ADMIN_EMAIL
        self.password = ADMIN_PASSWORD
        self._process: subprocess.Popen[bytes] | None = None
        self._people: dict[str, Person] = {}
        self._personal_token: str | None = None
        self.files.mkdir(parents=True, exist_ok=True)
        if template and not self.data.exists():
            shutil.copytree(template, self.data)
        self.data.mkdir(exist_ok=True)

    def start(self) -> LabelStudioServer:
        """Start the process and wait until it answers."""
        command = [str(label_studio_command()), "start", "--no-browser"]
        command += ["--internal-host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_ready()
        return self

    def stop(self) -> None:
        """End the process and everything it started; the data folder stays."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def restart(self) -> None:
        """Stop and start again, on the same port and data."""
        self.stop()
        self.start()

    def start_with(self, **env: str) -> None:
        """Run with these variables beside the present ones; no restart if it already does."""
        if self._process is not None and env.items() <= self.env.items():
            return
        self.env.update(env)
        self.restart()

    def pause(self) -> None:
        """Freeze the process: connections are accepted by the kernel and never answered."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    @property
    def admin(self) -> Person:
        """The administrator."""
        return self._people.setdefault("admin", Person(self.url, self.token))

    @property
    def personal_token(self) -> str:
        """A personal access token of the administrator (a refresh JWT)."""
        if self._personal_token is None:
            self._personal_token = self.admin.create_personal_token()
        return self._personal_token

    def create_user(self, email: str, password: str = "annotator-pass") -> Person:
        """A second person of the same organisation, with a legacy token of their own."""
        if email not in self._people:
            self._people[email] = Person.sign_up(self.url, email, password)
        return self._people[email]

    def close(self) -> None:
        """Stop, and close every connection of the people."""
        self.stop()
        for person in self._people.values():
            person.close()
        self._people.clear()

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not _belongs_to_label_studio(k)}
        return inherited | {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data),
            "LABEL_STUDIO_USERNAME": ADMIN_EMAIL,
            "LABEL_STUDIO_PASSWORD": ADMIN_PASSWORD,
            "LABEL_STUDIO_USER_TOKEN": ADMIN_TOKEN,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.files),
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            **self.env,
        }

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline:
                assert self._process is not None
                if self._process.poll() is not None:
                    break
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.url}/health").status_code == 200:
                        return
                time.sleep(0.1)
        self.stop()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
        raise LabelStudioMissing(f"Label Studio did not start on port {self.port}:\n{tail}")


def prepare_template(cache: Path) -> Path:
    """The data folder of a Label Studio that was migrated once; made when it is not there.

    It is made beside its place and renamed, so that a cut-off attempt leaves no half template and
    two sessions at once do no harm.
    """
    template = cache / f"label-studio-template-{_installed_version()}"
    if template.is_dir():
        return template
    building = cache / f"{template.name}.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    server = LabelStudioServer(building)
    try:
        server.start().admin.allow_both_token_kinds()
        server.close()
        with contextlib.suppress(FileExistsError, OSError):
            server.data.rename(template)
    finally:
        server.close()
        shutil.rmtree(building, ignore_errors=True)
    return template


def _installed_version() -> str:
    environment = label_studio_command().parents[1]
    for info in environment.glob("lib/python3*/site-packages/label_studio-*.dist-info"):
        if found := re.fullmatch(r"label_studio-([\w.]+)\.dist-info", info.name):
            return found[1]
    return "unknown"


def _belongs_to_label_studio(variable: str) -> bool:
    return variable.startswith(("LABEL_STUDIO_", "TIEBREAK_", "DJANGO_")) or variable in {
        "HOST",
        "PORT",
        "DATABASE_URL",
        "ML_BLOCK_LOCAL_IP",
        "SSRF_PROTECTION_ENABLED",
        "USE_DEFAULT_BANNED_SUBNETS",
    }
