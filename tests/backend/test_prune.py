from __future__ import annotations

from dataclasses import replace

import pytest

from backend.champion import Champions, artifact_folder
from backend.errors import LabelStudioUnreachable, SetupError
from backend.labelstudio import LabelStudio
from backend.projects import list_versions
from backend.prune import PruneReport, prune
from backend.settings import Settings
from backend.store import Store
from backend.tables import Version
from backend.versions import promote, show_version
from tests.backend.conftest import Tables
from tests.backend.prediction_keeper import PredictionKeeper
from tests.backend.saved_versions import save_version


def _names(report: PruneReport) -> tuple[list[str], dict[str, str]]:
    return report.removed, report.kept


def test_pruning_keeps_what_is_needed(
    tables: Tables,
    store: Store,
    keeper_client: LabelStudio,
    keeper: PredictionKeeper,
    settings: Settings,
) -> None:
    two = settings.model_copy(update={"keep_versions": 2})
    for number in range(1, 9):
        save_version(tables, settings, number, kept=number != 6)
    keeper.held = [(1, "v3"), (2, "v3"), (3, "someone's own")]
    promote(store, settings, 1, 2)
    promote(store, settings, 1, 4)

    removed = ["v1", "v5", "v6"]
    kept = {
        "v2": "served before",
        "v3": "2 predictions in Label Studio name it",
        "v4": "serves",
        "v7": "one of the newest 2",
        "v8": "served before",
    }
    planned = prune(store, keeper_client, two, 1, dry_run=True)
    assert _names(planned) == (removed, kept)
    assert tables.project().history == [1, 2, 3, 4, 5, 7, 8, 2]
    champion = Champions(store, settings.data_dir).get(1)
    assert champion is not None
    assert champion.version == 4
    sizes = {n: show_version(store, settings, 1, n)["bytes"] for n in range(1, 9)}
    assert planned.bytes == sizes[1] + sizes[5] + sizes[6] > 0

    done = prune(store, keeper_client, two, 1)
    assert replace(done, dry_run=True) == planned
    on_disk = {n for n in range(1, 9) if artifact_folder(settings.data_dir, 1, n).exists()}
    assert on_disk == {2, 3, 4, 7, 8}
    assert tables.project().history == [2, 3, 4, 7, 8, 2]
    with store.read() as session:
        assert {v["version"] for v in list_versions(session, 1) if v["pruned"]} == set(removed)
    with pytest.raises(SetupError, match="files of v5 were pruned"):
        promote(store, settings, 1, 5)
    assert _names(prune(store, keeper_client, two, 1)) == ([], kept)


def test_a_pruning_that_was_killed_is_finished(
    three: Tables, store: Store, keeper_client: LabelStudio, settings: Settings
) -> None:
    one = settings.model_copy(update={"keep_versions": 1})
    with store.write() as session:
        session.get_one(Version, (1, 2)).pruned = True
    assert artifact_folder(settings.data_dir, 1, 2).exists()
    assert prune(store, keeper_client, one, 1).removed == ["v2"]
    assert not artifact_folder(settings.data_dir, 1, 2).exists()


def test_nothing_is_pruned_while_label_studio_is_away(
    three: Tables, store: Store, settings: Settings
) -> None:
    one = settings.model_copy(update={"keep_versions": 1})
    client = LabelStudio("http://127.0.0.1:9", "0" * 40)
    with client, pytest.raises(LabelStudioUnreachable):
        prune(store, client, one, 1)
    assert artifact_folder(settings.data_dir, 1, 2).exists()
