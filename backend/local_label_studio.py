"""The Label Studio that ``tiebreak up`` starts: its account, its environment, its folders."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backend.errors import SetupError
from backend.settings import Settings
from backend.supervise import ChildSpec
from backend.what_is_up import CREDENTIALS

NAME = "Label Studio"
EMAIL = "admin@tiebreak.local"
SETTINGS_FOLDER = Path(__file__).with_name("label_studio_settings")
SETTINGS_MODULE = "tiebreak_label_studio"
# Label Studio takes settings from plain names too (HOST as well as LABEL_STUDIO_HOST), which shells
# set for other purposes; the last two belong to this process's Python.
UNWANTED = frozenset(
    [
        "HOST",
        "PORT",
        "DEBUG",
        "USERNAME",
        "PASSWORD",
        "USER_TOKEN",
        "DJANGO_DB",
        "PYTHONPATH",
        "PYTHONHOME",
    ]
)


@dataclass(frozen=True)
class Account:
    """The first user of our Label Studio; ``api_key`` is a legacy token of 40 characters."""

    email: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


def local_url(settings: Settings) -> str:
    """Address of the Label Studio that is started here."""
    return f"http://127.0.0.1:{settings.label_studio_port}"


def served_folder(settings: Settings) -> Path:
    """The document root: the only folder from which this Label Studio serves local files."""
    return settings.data_dir.resolve() / "served"


def keep_account(data_dir: Path) -> Account:
    """The account in ``credentials.json``, made on first use, readable by its own user only.

    SetupError when the file cannot be read as one.
    """
    path = data_dir / CREDENTIALS
    if not path.exists():
        account = Account(EMAIL, secrets.token_urlsafe(9), secrets.token_hex(20))
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(asdict(account), indent=2) + "\n")
        partial.replace(path)
    try:
        kept = json.loads(path.read_text())
        return Account(str(kept["email"]), str(kept["password"]), str(kept["api_key"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{path} cannot be read as an account ({type(error).__name__}: {error}).",
            mend=f"Put it back, or remove {data_dir} to start anew without any labels.",
        ) from error


def child_spec(settings: Settings, account: Account) -> ChildSpec:
    """How to run Label Studio on 127.0.0.1 with everything it keeps below the data folder.

    Its two protections against private addresses are off, since the backend is on one; bulk
    predictions take its quick path; and people take turns at the queue. SetupError when its program
    is not installed.
    """
    program = settings.label_studio_command
    if not program.exists():
        raise SetupError(
            f"Label Studio is not installed: there is no {program}.",
            mend="Run `make run`, which installs it; or name its program in "
            "TIEBREAK_LABEL_STUDIO_COMMAND; or use a running one: LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY.",
        )
    data_dir = settings.data_dir.resolve()
    home, served = data_dir / "label-studio", served_folder(settings)
    home.mkdir(parents=True, exist_ok=True)
    served.mkdir(parents=True, exist_ok=True)
    arguments = ("--no-browser", "--internal-host", "127.0.0.1")
    port = ("--port", str(settings.label_studio_port))
    return ChildSpec(
        NAME,
        (str(program), "start", *arguments, *port),
        data_dir / "logs" / "label-studio.log",
        _environment(account, home, served, os.environ),
        whole_env=True,
    )


def one_queue() -> dict[str, str]:
    """What a Label Studio on SQLite needs in its environment so that no two people who ask at once
    are given the same task: see :mod:`backend.label_studio_settings.tiebreak_label_studio`."""
    return {"PYTHONPATH": str(SETTINGS_FOLDER), "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE}


def _environment(
    account: Account, home: Path, served: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    kept = {
        name: value
        for name, value in inherited.items()
        if name.removeprefix("LABEL_STUDIO_").removeprefix("HEARTEX_") not in UNWANTED
    }
    return kept | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_USERNAME": account.email,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.api_key,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(served),
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short": "true",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        **one_queue(),
    }
