from __future__ import annotations

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from backend.champion import Champions, artifact_folder
from backend.errors import SetupError
from backend.hints import pending_look
from backend.projects import list_versions
from backend.settings import Settings
from backend.store import MIGRATIONS, Store
from backend.tables import Project, Version
from backend.versions import (
    promote,
    roll_back,
    show_version,
    version_number,
)
from backend.versions_text import version_text
from model.errors import ArtifactError
from model.head import Head
from tests.backend.conftest import SINGLE, Tables
from tests.backend.databases import on_sqlite
from tests.backend.saved_versions import save_version


def _damage(settings: Settings, number: int) -> bytes:
    path = artifact_folder(settings.data_dir, 1, number) / "heads.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    return whole


def _served_by(tables: Tables, settings: Settings) -> int:
    found = Champions(tables.store, settings.data_dir).get(1)
    assert found is not None
    return found.version


@pytest.mark.parametrize(("written", "number"), [("v3", 3), ("3", 3), (" v12 ", 12)])
def test_names_of_versions(written: str, number: int) -> None:
    assert version_number(written) == number


@pytest.mark.parametrize("written", ["", "v", "v0", "-1", "v1.0", "latest", "v" + "9" * 30])
def test_what_is_no_version(written: str) -> None:
    with pytest.raises(SetupError, match="is not a version"):
        version_number(written)


def test_a_version_is_promoted_by_hand(three: Tables, store: Store, settings: Settings) -> None:
    done = promote(store, settings, 1, 1)
    assert (done.version, done.before, done.changed, done.warnings) == ("v1", "v3", True, [])
    project = three.project()
    assert (project.champion, project.history, project.pushing) == (1, [1, 3], True)
    assert _served_by(three, settings) == 1
    look = pending_look(store, 1)
    assert look is not None
    assert (look.everything, look.task_ids) == (False, ())
    with store.read() as session:
        assert [v["serves"] for v in list_versions(session, 1)] == [False, False, True]


def test_the_version_that_serves_is_left_alone(
    three: Tables, store: Store, settings: Settings
) -> None:
    done = promote(store, settings, 1, 3)
    assert (done.changed, done.sentence) == (False, "v3 serves already.")
    project = three.project()
    assert (project.champion, project.history, project.pushing) == (3, [1], False)
    assert pending_look(store, 1) is None


def test_a_refused_version_is_promoted_with_a_warning(
    three: Tables, store: Store, settings: Settings
) -> None:
    done = promote(store, settings, 1, 2)
    assert done.warnings == ["The gate refused v2. Refused: worse."]
    with store.read() as session:
        row = session.get_one(Version, (1, 2))
    assert (row.kept, row.reason) == (True, "Promoted by hand. Refused: worse.")


def test_what_cannot_serve_is_not_promoted(three: Tables, store: Store, settings: Settings) -> None:
    with pytest.raises(SetupError, match="no version v9; there are: v1, v2, v3"):
        promote(store, settings, 1, 9)
    _damage(settings, 1)
    with pytest.raises(ArtifactError, match="is damaged"):
        promote(store, settings, 1, 1)
    other = settings.model_copy(update={"backbone": "resnet18", "input_size": 96})
    with pytest.raises(SetupError, match="settings are resnet18 at 96 pixels") as caught:
        promote(store, other, 1, 2)
    assert "TIEBREAK_BACKBONE=mobilenet_v2 TIEBREAK_INPUT_SIZE=224" in caught.value.mend
    project = three.project()
    assert (project.champion, project.history, project.pushing) == (3, [1], False)


def test_what_a_version_does_not_know_is_said(
    three: Tables, store: Store, settings: Settings
) -> None:
    with store.write() as session:
        session.get_one(Project, 1).label_config = SINGLE.replace("owl", "fox")
    assert promote(store, settings, 1, 1).warnings == [
        "v1 does not know “fox” of “label”.",
        "“owl” of v1 is not in “label” any more.",
    ]
    with store.write() as session:
        session.get_one(Project, 1).label_config = SINGLE.replace('name="label"', 'name="kind"')
    with pytest.raises(SetupError, match="v3 has learned nothing that the labelling config"):
        promote(store, settings, 1, 3)


def test_rolling_back_goes_through_what_served(
    three: Tables, store: Store, settings: Settings
) -> None:
    assert roll_back(store, settings, 1).sentence == "v1 serves now, instead of v3."
    with pytest.raises(SetupError, match="No version served before v1"):
        roll_back(store, settings, 1)
    # What was rolled away from is not what v4 replaces, so it is not gone back to either.
    save_version(three, settings, 4)
    assert roll_back(store, settings, 1).version == "v1"
    # A promotion by hand is undone like any other.
    promote(store, settings, 1, 3)
    promote(store, settings, 1, 4)
    assert [roll_back(store, settings, 1).version for _ in range(2)] == ["v3", "v1"]
    assert three.project().history == []


def test_nothing_to_roll_back_to(tables: Tables, store: Store, settings: Settings) -> None:
    with pytest.raises(SetupError, match="Nothing is learned yet"):
        roll_back(store, settings, 1)


def test_a_damaged_champion_falls_back_to_what_served_before(
    three: Tables, store: Store, settings: Settings
) -> None:
    roll_back(store, settings, 1)
    save_version(three, settings, 4)
    champions = Champions(store, settings.data_dir)
    whole = _damage(settings, 4)
    found = champions.get(1)
    assert found is not None
    assert found.version == 1
    (artifact_folder(settings.data_dir, 1, 4) / "heads.safetensors").write_bytes(whole)
    found = champions.get(1)
    assert found is not None
    assert found.version == 4


def test_a_version_is_shown_with_what_its_files_hold(
    three: Tables, store: Store, settings: Settings
) -> None:
    found = show_version(store, settings, 1, 3)
    assert (found["version"], found["serves"], found["problem"]) == ("v3", True, "")
    assert found["heads"] == [
        {"control": "label", "classes": ["cat", "dog", "owl"], "multiple": False}
    ]
    assert found["manifest"] == {"seed": 3, "strategy": "margin"}
    folder = artifact_folder(settings.data_dir, 1, 3)
    assert found["bytes"] == sum(p.stat().st_size for p in folder.iterdir())
    _damage(settings, 3)
    assert "is damaged" in show_version(store, settings, 1, 3)["problem"]


def test_a_version_is_shown_with_where_ticks_begin(
    tables: Tables, store: Store, settings: Settings
) -> None:
    flat = np.zeros((16, 2), dtype=np.float32)
    two, thresholds = np.ones(2, dtype=np.float32), np.array([0.25, 0.5], dtype=np.float32)
    tags = Head(("wet", "old"), True, flat, two, two, thresholds)
    save_version(tables, settings, 1, heads={"tags": tags})
    found = show_version(store, settings, 1, 1)
    assert found["heads"] == [
        {
            "control": "tags",
            "classes": ["wet", "old"],
            "multiple": True,
            "thresholds": [0.25, 0.5],
        }
    ]
    told = "control tags: wet (ticked from 25.0% on), old (ticked from 50.0% on)"
    assert told in version_text(found)


@on_sqlite
def test_projects_of_before_get_their_history(settings: Settings) -> None:
    store = Store(settings.database_address)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO projects (id, title, label_config, config_problem, connected_at, "
                "cursor, gone, attempted, attempted_setup, champion, served, pushing, activity, "
                "waiting, error, failures, retry_at) "
                "VALUES (1, 'T', '', '', 0, '', 0, '', '', 4, 'v4', 0, '', '', '', 0, 0)"
            )
        )
        for number, kept in ((1, 1), (2, 0), (3, 1), (4, 1)):
            connection.execute(
                text(
                    "INSERT INTO versions (project_id, number, created_at, kept, reason, labels, "
                    f"backbone, metrics) VALUES (1, {number}, 0, {kept}, '', 5, 'b', '{{}}')"
                )
            )
    store.migrate()
    with store.read() as session:
        assert session.get_one(Project, 1).history == [1, 3]
        assert [v["pruned"] for v in list_versions(session, 1)] == [False] * 4
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        assert connection.execute(text("SELECT count(*) FROM versions")).scalar() == 4
    store.migrate()
    store.close()
