from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr
from rich.console import Console

from backend import local_label_studio as local
from backend.bring_up import as_environment, check_port
from backend.errors import SetupError
from backend.settings import Settings, load_settings
from backend.up import run_up
from backend.up_project import Memory
from tests.tiebreak_process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """Settings with ports of their own and no Label Studio to be had."""
    return settings.model_copy(
        update={
            "label_studio_url": None,
            "label_studio_api_key": None,
            "port": free_port(),
            "label_studio_port": free_port(),
            "label_studio_command": settings.data_dir / "none",
        }
    )


def one_image(folder: Path) -> Path:
    """A folder with an image in it."""
    images = folder / "photos"
    images.mkdir()
    Image.new("RGB", (4, 4)).save(images / "one.png")
    return images


def up(settings: Settings, images: Path | None = None, classes: list[str] | None = None) -> None:
    """``tiebreak up`` in this process, for what it refuses."""
    run_up(settings, images=images, classes=classes, title=None, console=Console(stderr=True))


def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"^TIEBREAK_PORT={port}: 127.0.0.1:{port}") as caught:
            check_port("TIEBREAK_PORT", "127.0.0.1", port)
        assert "TIEBREAK_PORT=" in caught.value.mend
    check_port("TIEBREAK_PORT", "127.0.0.1", port)


def test_a_second_one_is_refused_while_the_first_lives(alone: Settings) -> None:
    program = f"""
import time
from pathlib import Path
from backend.up import _only_one
with _only_one(Path({str(alone.data_dir)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "held\n"
            with pytest.raises(SetupError, match=f"up already, as process {first.pid},") as caught:
                up(alone)
            assert "TIEBREAK_DATA_DIR" in caught.value.mend
        finally:
            first.kill()
    # a killed one leaves its file, but not its lock
    assert (alone.data_dir / "up.pid").exists()
    with pytest.raises(SetupError, match="Label Studio is not installed: there is no"):
        up(alone)


@pytest.mark.parametrize(
    ("images", "classes", "says"),
    [
        (Path("."), None, "IMAGES is given without CLASSES"),
        (None, ["a", "b"], "CLASSES is given without IMAGES"),
        (Path("no-such-folder"), ["a", "b"], "IMAGES=no-such-folder is not a folder"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_started(
    alone: Settings, images: Path | None, classes: list[str] | None, says: str
) -> None:
    with pytest.raises(SetupError, match=says):
        up(alone, images, classes)
    assert not (alone.data_dir / "logs").exists()


def test_a_label_studio_that_dies_is_shown_with_its_last_words(
    tmp_path: Path, alone: Settings
) -> None:
    broken = tmp_path / "label-studio"
    broken.write_text("#!/bin/sh\necho no room on this disk\nexit 3\n")
    broken.chmod(0o755)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "mobilenet_v2.pth").touch()
    given = {"label_studio_command": broken, "weights_dir": weights}
    with pytest.raises(SetupError, match="no room on this disk") as caught:
        up(alone.model_copy(update=given), one_image(tmp_path), ["a", "b"])
    assert caught.value.message.startswith("Label Studio ended (exit code 3)")
    assert "label-studio.log" in caught.value.mend


def test_ctrl_c_while_it_starts_leaves_nothing_and_is_quiet(tmp_path: Path) -> None:
    slow = tmp_path / "label-studio"
    slow.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "mobilenet_v2.pth").touch()
    env = {
        **os.environ,
        "TIEBREAK_DATA_DIR": str(tmp_path / "data"),
        "TIEBREAK_PORT": str(free_port()),
        "TIEBREAK_LABEL_STUDIO_PORT": str(free_port()),
        "TIEBREAK_LABEL_STUDIO_COMMAND": str(slow),
        "TIEBREAK_WEIGHTS_DIR": str(weights),
    }
    command = [sys.executable, "-m", "backend.cli", "up"]
    with (tmp_path / "err").open("w+") as errors:
        started = subprocess.Popen(
            [*command, "--images", str(one_image(tmp_path)), "--classes", "a,b"],
            cwd=ROOT,
            env=env,
            stderr=errors,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        pid = tmp_path / "pid"
        while not (
            pid.exists()
            and pid.read_text()
            and "Label Studio starts" in (tmp_path / "err").read_text()
        ):
            assert time.monotonic() < end
            assert started.poll() is None, (tmp_path / "err").read_text()
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(60) == 0
        said = (tmp_path / "err").read_text()
    assert "Traceback" not in said
    assert "Everything stops" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_account_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    account = local.keep_account(tmp_path)
    path = tmp_path / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(account.api_key) == 40
    assert len(account.password) >= 12
    assert local.keep_account(tmp_path) == account
    assert account.password not in repr(account)
    path.write_text('{"email": "x"}')
    with pytest.raises(SetupError, match=r"credentials\.json cannot be read as an account"):
        local.keep_account(tmp_path)


def test_label_studio_gets_no_stray_variables(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST", "https://elsewhere.example")
    monkeypatch.setenv("LABEL_STUDIO_HOST", "https://elsewhere.example")
    monkeypatch.setenv("HEARTEX_PORT", "1")
    monkeypatch.setenv("LABEL_STUDIO_LOG_LEVEL", "INFO")
    program = tmp_path / "label-studio"
    program.touch()
    account = local.Account("a@b.example", "password", "k" * 40)
    ours = settings.model_copy(update={"label_studio_command": program, "label_studio_port": 8123})
    spec = local.child_spec(ours, account)
    assert not {"HOST", "LABEL_STUDIO_HOST", "HEARTEX_PORT"} & spec.env.keys()
    assert spec.env["LABEL_STUDIO_LOG_LEVEL"] == "INFO"
    assert spec.env["LABEL_STUDIO_USER_TOKEN"] == "k" * 40
    assert Path(spec.env["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"]).is_dir()
    assert Path(spec.env["PYTHONPATH"], f"{spec.env['DJANGO_SETTINGS_MODULE']}.py").is_file()
    assert spec.command[2:] == (
        *("--no-browser", "--internal-host", "127.0.0.1"),
        *("--port", "8123"),
    )


def test_children_get_the_settings_that_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("TIEBREAK_", "LABEL_STUDIO_")) or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    given = load_settings(
        data_dir=tmp_path,
        label_studio_api_key=SecretStr("secret"),
        port=9999,
        image_allowed_networks=("10.0.0.0/8",),
        weights_dir=None,
    )
    variables = as_environment(given)
    assert variables == {
        "TIEBREAK_DATA_DIR": str(tmp_path),
        "LABEL_STUDIO_API_KEY": "secret",
        "TIEBREAK_PORT": "9999",
        "TIEBREAK_IMAGE_ALLOWED_NETWORKS": '["10.0.0.0/8"]',
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given


def test_memory_comes_back_and_a_broken_one_is_said(tmp_path: Path) -> None:
    path = tmp_path / "up.json"
    memory = Memory(path)
    entry = memory.of("http://x", "digits", "Digits")
    entry.project, entry.imported = 3, ["0000.png"]
    memory.save()
    assert Memory(path).of("http://x", "digits", "Digits") == entry
    assert Memory(path).of("http://y", "digits", "Digits").project is None
    assert Memory(path).projects() == {3}
    path.write_text("[1]")
    with pytest.raises(SetupError, match=r"up\.json cannot be read"):
        Memory(path)
