from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.bring_up import as_environment
from backend.errors import SettingsError, SetupError
from backend.secrets import credentials, log_in, log_in_hint, place, same, webhook_secret
from backend.settings import SECRETS, Settings, load_settings, variable_name
from tests.callers import PASSWORD

VARIABLES = [variable_name(name) for name in SECRETS]


@pytest.fixture
def bare(settings: Settings) -> Settings:
    """Settings that give no secret."""
    return settings.model_copy(update={"password": None, "api_token": None, "webhook_secret": None})


def test_what_is_not_given_is_made_once_and_kept_for_its_user_alone(bare: Settings) -> None:
    made = credentials(bare)
    assert credentials(bare) == made
    assert log_in(bare) == ("tiebreak", made.password)
    assert webhook_secret(bare) == made.webhook_secret
    secrets = {made.password, made.api_token, made.webhook_secret}
    assert len(secrets) == 3
    assert min(map(len, secrets)) >= 40
    for name in ("password", "api-token", "webhook-secret"):
        path = bare.data_dir / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert place(bare, name.replace("-", "_")) == str(path.resolve())
    assert not any(secret in repr(made) + repr(bare) for secret in secrets)
    assert sorted(p.name for p in bare.data_dir.iterdir()) == [
        "api-token",
        "password",
        "webhook-secret",
    ]


def test_several_processes_at_once_make_the_same(tmp_path: Path) -> None:
    program = (
        "from backend.settings import load_settings; from backend.secrets import credentials;"
        "import json, dataclasses; print(json.dumps(dataclasses.asdict("
        "credentials(load_settings()))))"
    )
    env = {"TIEBREAK_DATA_DIR": str(tmp_path / "data"), "PATH": ""}
    started = [
        subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    made = {process.communicate()[0] for process in started}
    assert len(made) == 1
    assert len(json.loads(made.pop())["password"]) == 43


@pytest.mark.parametrize("content", ["", "\n", "short"])
def test_a_file_that_was_emptied_opens_no_door(bare: Settings, content: str) -> None:
    bare.data_dir.mkdir()
    (bare.data_dir / "password").write_text(content)
    with pytest.raises(SetupError, match="password holds no secret") as caught:
        credentials(bare)
    assert "Remove the file" in caught.value.mend


def test_changing_the_password_is_removing_its_file(bare: Settings) -> None:
    before = log_in(bare)[1]
    (bare.data_dir / "password").unlink()
    assert log_in(bare)[1] != before


@given(st.text(), st.text())
def test_same_is_equality(one: str, other: str) -> None:
    assert same(one, one)
    assert same(one, other) == (one.encode("utf-8", "replace") == other.encode("utf-8", "replace"))


def test_every_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, variable in enumerate(VARIABLES):
        monkeypatch.delenv(variable, raising=False)
        path = tmp_path / variable.lower()
        path.write_text(f"the secret number {number}\n")
        monkeypatch.setenv(f"{variable}_FILE", str(path))
    settings = load_settings()
    for number, name in enumerate(SECRETS):
        assert getattr(settings, name).get_secret_value() == f"the secret number {number}"
    assert settings.database_address == "the secret number 1"
    assert place(settings, "password") == str(tmp_path / "tiebreak_password")
    assert "secret number" not in repr(settings)
    assert log_in_hint(settings).startswith("the user tiebreak and the password in /")
    # What is given in the program goes first, and a child reads the files itself.
    assert load_settings(password=PASSWORD).password.get_secret_value() == PASSWORD  # type: ignore[union-attr]
    assert as_environment(settings) == {}
    changed = settings.model_copy(update={"password": load_settings(password=PASSWORD).password})
    given = {"TIEBREAK_PASSWORD": PASSWORD, "TIEBREAK_PASSWORD_FILE": ""}
    assert as_environment(changed) == given


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file"),
        (b"", "is empty or longer"),
        (b"\n \n", "is empty or longer"),
        (b"x" * 70_000, "is empty or longer"),
        (b"\xff\xfe\x00secret-secret", "it is not UTF-8 text"),
    ],
)
def test_a_file_that_will_not_do_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: bytes | None,
    said: str,
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{variable}_FILE", str(path))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{variable}_FILE={path}" in caught.value.message
    assert said in caught.value.message


def test_both_ways_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIEBREAK_PASSWORD", "given-in-the-variable")
    monkeypatch.setenv("TIEBREAK_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match="TIEBREAK_PASSWORD_FILE are both set"):
        load_settings()
    # An empty one is not set: that is what a line without a value in a compose file comes to.
    monkeypatch.setenv("TIEBREAK_PASSWORD_FILE", "")
    assert load_settings().password is not None


@pytest.mark.parametrize("name", ["password", "api_token", "webhook_secret"])
def test_a_weak_secret_is_refused_and_not_shown(name: str) -> None:
    for weak in ("hunter2", "elevenchars", "pässwörter-sind-gut", "with\ta-tab-in-it"):
        with pytest.raises(SettingsError) as caught:
            load_settings(**{name: weak})
        assert f"{variable_name(name)}=(hidden): " in caught.value.message
        assert "must have 12 or more characters" in caught.value.message
        assert weak not in str(caught.value)
    assert getattr(load_settings(**{name: ""}), name) is None


@pytest.mark.parametrize("user", ["", "with:colon", "with space", "ü"])
def test_a_user_name_that_basic_cannot_carry_is_refused(user: str) -> None:
    with pytest.raises(SettingsError, match="TIEBREAK_USER="):
        load_settings(user=user)


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend.cli", "password", *arguments],
        env={"TIEBREAK_DATA_DIR": str(data_dir), "PATH": ""},
        capture_output=True,
        text=True,
    )


def test_the_command_says_what_to_type_in(tmp_path: Path) -> None:
    plain, as_json = run(tmp_path), json.loads(run(tmp_path, "--json").stdout)
    kept = (tmp_path / "password").read_text()
    assert plain.stdout == f"user:     tiebreak\npassword: {kept}\n"
    assert str(tmp_path / "password") in plain.stderr
    assert kept not in plain.stderr
    token = (tmp_path / "api-token").read_text()
    assert as_json == {"user": "tiebreak", "password": kept, "api_token": token}
    assert run(tmp_path, "--token").stdout == f"{token}\n"
