"""Bringing up what ``tiebreak up`` runs: Label Studio, backend, trainer, a project with images."""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from pydantic import SecretStr

from backend import local_label_studio as local
from backend.demo import ImageSet, find_images, write_digits
from backend.errors import LabelStudioUnauthorized, SetupError
from backend.labelstudio import LabelStudio
from backend.secret_files import SUFFIX, text_of_file
from backend.secrets import log_in_hint
from backend.settings import SECRETS, Settings, label_studio_access, variable_name
from backend.steps import Steps
from backend.supervise import ChildSpec, Supervisor, run_once, tail
from backend.up_project import Memory, ensure_project, import_served, upload
from backend.what_is_up import CREDENTIALS

LABEL_STUDIO_SECONDS = 300.0
LEAST_SILENCE = 60.0
"""A library may keep the interpreter to itself for some seconds."""
BACKEND_SECONDS = 60.0


@dataclass(frozen=True)
class Ready:
    """Where to go, once all is up; ``account`` is None for a Label Studio that is not ours.

    ``log_in`` says where the backend's user and password are.
    """

    project: int
    label_url: str
    label_studio_url: str
    backend_url: str
    log_in: str
    account: local.Account | None


class Everything:
    """What one ``tiebreak up`` runs, in the order in which it comes up.

    Label Studio boots first, since it takes longest; meanwhile the server starts, the images are
    written and the weights looked for. Then come the trainer, the project and its connection.
    """

    def __init__(self, settings: Settings, steps: Steps, supervisor: Supervisor) -> None:
        self.steps = steps
        self.supervisor = supervisor
        self.settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
        self.account: local.Account | None = None
        if settings.label_studio_url is None:
            self.account = local.keep_account(settings.data_dir)
            access = {
                "label_studio_url": local.local_url(settings),
                "label_studio_api_key": SecretStr(self.account.api_key),
            }
            self.settings = self.settings.model_copy(update=access)
        self.url, api_key = label_studio_access(self.settings)
        self.label_studio = LabelStudio(self.url, api_key, settings.label_studio_timeout)

    def start(self, images: Path | None, classes: list[str] | None, title: str | None) -> Ready:
        """Bring all of it up, as children of the supervisor."""
        self._check_ports()
        if images is None and classes:
            raise SetupError(
                "CLASSES is given without IMAGES.",
                mend="Give both, as in: make run IMAGES=some/folder CLASSES=cat,dog",
            )
        # A folder that will not do is said before anything is started.
        chosen = self._find_images(images, classes) if images else None
        first = not (self.settings.data_dir / "label-studio").exists()
        if self.account:
            self.supervisor.start(local.child_spec(self.settings, self.account))
        self.supervisor.start(self._own("backend", "backend.cli", "serve"))
        # Its imports take seconds, in which Label Studio boots.
        from backend.connect import connect_project

        chosen = chosen or self._digits()
        self._weights()
        self._await_label_studio(first)
        # Not earlier: the trainer's imports would take the processor from Label Studio's.
        trainer = self._own("trainer", "backend.cli", "trainer")
        silence = max(2 * self.settings.lease_seconds, LEAST_SILENCE)
        self.supervisor.start(replace(trainer, silence=silence))
        self._await_backend()
        project_id = self._project(chosen, title)
        with self.steps.step("Project and backend are connected") as step:
            report = connect_project(self.settings, self.label_studio, project_id, say=step.note)
        for line in report.warnings:
            self.steps.warn(line)
        hint = log_in_hint(self.settings)
        return Ready(project_id, report.label_url, self.url, self._own_url(), hint, self.account)

    def _check_ports(self) -> None:
        wanted = [("TIEBREAK_PORT", self.settings.host, self.settings.port)]
        if self.account:
            port = self.settings.label_studio_port
            wanted.append(("TIEBREAK_LABEL_STUDIO_PORT", "127.0.0.1", port))
        if len({port for _, _, port in wanted}) < len(wanted):
            raise SetupError(
                f"TIEBREAK_PORT and TIEBREAK_LABEL_STUDIO_PORT are both {self.settings.port}.",
                mend="Give one of them another port.",
            )
        for name, host, port in wanted:
            check_port(name, host, port)

    def _find_images(self, images: Path, classes: list[str] | None) -> ImageSet:
        with self.steps.step("Images are looked for") as step:
            found = find_images(images, classes, step.note)
            step.result = f"{len(found.names)} in {found.folder}"
        if found.left_out:
            shown = ", ".join(found.left_out[:5])
            more = f" and {len(found.left_out) - 5} more" if len(found.left_out) > 5 else ""
            self.steps.warn(f"Left out, as no image to label: {shown}{more}.")
        return found

    def _digits(self) -> ImageSet:
        with self.steps.step("Handwritten digits, as images") as step:
            digits = write_digits(local.served_folder(self.settings) / "digits", step.note)
            step.result = str(len(digits.names))
        return digits

    def _weights(self) -> None:
        settings = self.settings
        folders = [settings.weights_cache, *filter(None, [settings.weights_dir])]
        if any(_weights_in(folder, settings.backbone) for folder in folders):
            return  # the trainer checks what is in the file
        log = settings.data_dir / "logs" / "weights.log"
        spec = self._own("weights", "backend.fetch_weights", log=log)
        with self.steps.step(f"Pretrained weights of {settings.backbone}") as step:
            if run_once(spec, lambda: step.note(tail(log, 1))) == 0:
                return
            *reasons, mend = tail(log).splitlines() or ["Its process said nothing.", ""]
            raise SetupError(" ".join(reasons[-1:]), mend=mend)

    def _await_label_studio(self, first: bool) -> None:
        if self.account is None:
            with self.steps.step(f"Label Studio at {self.url}") as step:
                step.result = str(self.label_studio.whoami().get("email", ""))
            return
        with self.steps.step("Label Studio starts") as step:
            if first:
                step.note("its first start sets up its database, in 15 to 100 s")
            self._await_answer(local.NAME, f"{self.url}/health", LABEL_STUDIO_SECONDS)
            step.result = self.url
            self._check_account()

    def _check_account(self) -> None:
        try:
            self.label_studio.whoami()
        except LabelStudioUnauthorized as error:
            folder = self.settings.data_dir
            raise SetupError(
                f"Label Studio refuses the token in {folder / CREDENTIALS}.",
                mend="Legacy tokens may have been switched off in Label Studio (Organization → "
                "API Tokens Settings); or the file is of another data folder.",
            ) from error

    def _await_backend(self) -> None:
        with self.steps.step("Backend starts") as step:
            self._await_answer("backend", f"{self._own_url()}/health", BACKEND_SECONDS)
            step.result = self._own_url()

    def _project(self, images: ImageSet, title: str | None) -> int:
        memory = Memory(self.settings.data_dir / "up.json")
        ours = self.account is not None
        with self.steps.step("Project and images") as step:
            project, entry = ensure_project(self.label_studio, memory, images, title, ours=ours)
            if ours:
                served = local.served_folder(self.settings)
                new = import_served(self.label_studio, memory, entry, images, served)
            else:
                new = upload(self.label_studio, memory, entry, images, step.note)
            step.result = f"“{project.title}”, {new} new images" if new else f"“{project.title}”"
        return project.id

    def _own(self, name: str, module: str, *arguments: str, log: Path | None = None) -> ChildSpec:
        command = (sys.executable, "-m", module, *arguments)
        path = log or self.settings.data_dir / "logs" / f"{name}.log"
        return ChildSpec(name, command, path, as_environment(self.settings))

    def _own_url(self) -> str:
        return self.settings.model_copy(update={"public_url": None}).backend_url

    def _await_answer(self, name: str, url: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not _answers(url):
            self.supervisor.ensure_alive(name)
            if time.monotonic() > end:
                log = self.settings.data_dir / "logs"
                raise SetupError(
                    f"{name} did not answer at {url} within {seconds:.0f} s.",
                    mend=f"Read its log in {log}, then run the same command again.",
                )
            time.sleep(0.1)


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that give a child the same settings, those that were given and no defaults."""
    variables: dict[str, str] = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            text = json.dumps(value) if isinstance(value, tuple) else str(value)
            variables |= _variable(name, text)
    return variables


def _variable(name: str, text: str) -> dict[str, str]:
    """One setting for a child; what stands in a file stays there, unless it was replaced here."""
    variable = variable_name(name)
    if name not in SECRETS or (kept := text_of_file(variable)) is None:
        return {variable: text}
    return {} if kept == text else {variable: text, f"{variable}{SUFFIX}": ""}


def check_port(name: str, host: str, port: int) -> None:
    """SetupError that names the setting when the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"{name}={port}: {host}:{port} cannot be listened on ({error.strerror}).",
                mend=f"End the program that uses it, or give another port: make run {name}="
                f"{port + 1 if port < 65535 else 9090}",
            ) from error


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _weights_in(folder: Path, backbone: str) -> bool:
    patterns = (f"{backbone}-*.pth", f"{backbone}.pth", f"{backbone}.safetensors")
    return any(True for pattern in patterns for _ in folder.glob(pattern))
