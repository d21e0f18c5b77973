"""Fine-tunes against a real Label Studio: asked for, killed, cancelled, promoted."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.callers import LOG_IN
from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import all_tasks, assert_all_scored, choices_of, connect_by_hand
from tests.e2e.finetune_killing import FINE_TUNES, kill_and_restart, result_of
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.stripes import Stripes
from tests.e2e.tiebreak_processes import Json, is_settled, labels_learned

pytestmark = pytest.mark.timeout(1800)


def test_a_trainer_killed_during_fine_tunes_finishes_them_all_alike(
    label_studio: LabelStudioServer, start_tiebreak: StartTiebreak, tmp_path: Path
) -> None:
    stripes = Stripes(label_studio, tmp_path / "stripes")
    admin, project = label_studio.admin, stripes.create_project("Stripes")
    stripes.add(project, labelled=72, waiting=30)
    tiebreak = start_tiebreak(label_studio, **FINE_TUNES)
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.wait(project, lambda s: labels_learned(s) == 72, 120)
    before = tiebreak.settle(project)
    tasks = [t for t in all_tasks(admin, project) if not t["is_labeled"]][:5]

    found = kill_and_restart(tiebreak, project, tasks, kills=3, seed=3)
    assert found["undisturbed"]["state"] == "promoted", found["undisturbed"]
    assert found["undisturbed"]["backbone"] != before["last_version"]["backbone"]
    assert sum(found["kills"].values()) == 3
    for outcome in found["outcomes"]:
        assert result_of(outcome) == result_of(found["undisturbed"])
    assert found["failures"] == []
    assert found["answers"] > 20
    promoted = {found["undisturbed"]["version"], *(o["version"] for o in found["outcomes"])}
    assert found["versions"].keys() <= promoted

    # What serves reads the tuned network, of images too that it never saw before.
    status = tiebreak.settle(project)
    assert status["last_version"]["backbone"] == found["undisturbed"]["backbone"]
    assert_all_scored(admin, project, status, once=False)
    late = stripes.tasks(range(200, 230))
    body = {"tasks": late, "project": f"{project}.1"}
    # The server has loaded no network yet, which takes long on a busy machine.
    answer = httpx.post(
        f"{tiebreak.url}/predict", json=body, auth=LOG_IN, timeout=300, trust_env=False
    )
    results = answer.raise_for_status().json()["results"]
    right = [
        choices_of(entry) == [stripes.truth(task)]
        for task, entry in zip(late, results, strict=True)
        if choices_of(entry)
    ]
    # The others are in the audit set.
    assert len(right) > 20
    assert sum(right) > 0.8 * len(right)

    # Somebody thinks better of it.
    assert _run(tiebreak, "train", str(project), "--finetune", "--no-wait")["status"] == "asked"
    cancelled = _run(tiebreak, "train", str(project), "--cancel")
    assert cancelled["finetune"]["state"] == "cancelled"
    assert cancelled["reason"] == f"Cancelled. {status['version']} serves as before."
    assert tiebreak.status(project)["version"] == status["version"]
    rolled = _run(tiebreak, "rollback", str(project))
    tiebreak.wait(project, lambda s: s["version"] == rolled["version"] and is_settled(s))


def _run(tiebreak, *arguments: str) -> Json:  # type: ignore[no-untyped-def]
    done = tiebreak.run(*arguments, "--json")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(json.loads(done.stdout))
