"""The checks of the doctor one by one, without a network."""

from __future__ import annotations

import pytest

from backend.doctor.examination import Examination
from backend.doctor.findings import Finding
from backend.doctor.fixes import fix
from backend.doctor.registry import EVERYWHERE, OF_A_PROJECT
from backend.doctor.runner import look_at
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from tests.tiebreak_process import NOWHERE


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are asked for at a proxy that is not there."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)


def look(name: str, settings: Settings, url: str = NOWHERE, project: int | None = None) -> Finding:
    """The finding of one check."""
    [check] = [check for check in (*EVERYWHERE, *OF_A_PROJECT) if check.name == name]
    with LabelStudio(url, "0" * 40, 5) as client:
        exam = Examination(settings, client, project)
        [finding] = look_at([check], exam, project, (), lambda line: None)
    return finding


def mend(settings: Settings, finding: Finding) -> list[str]:
    """What --fix says that it did."""
    with LabelStudio(NOWHERE, "0" * 40, 5) as client:
        return fix(settings, client, [finding], lambda line: None)
