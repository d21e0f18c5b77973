"""What the trainer's check of labels and images looks at, and when it looks anew."""

from __future__ import annotations

from alembic import command
from alembic.config import Config

from backend.quality_steps import _mark, last_of_the_first
from backend.settings import Settings
from backend.store import MIGRATIONS, Store
from backend.suspicious import check_labels, looked_at
from backend.tables import Project, Vote
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.databases import both_databases
from tests.backend.queue_of import bare_order, make_anew
from tests.backend.saved_versions import save_version
from tests.backend.test_suspicious import vote

ONE_FLAG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image" choice="multiple"><Choice value="blurred"/></Choices></View>"""


def test_a_control_with_one_choice_to_tick_is_checked(tables: Tables) -> None:
    classes = tables.clusters(150)
    with tables.store.write() as session:
        session.get_one(Project, 1).label_config = ONE_FLAG
    for task, name in enumerate(classes, 1):
        # Cats are blurred, but that of task 4 is not ticked.
        tables.label(task, *(["blurred"] if name == "cat" and task != 4 else []))
    assert classes[3] == "cat"
    with tables.store.read() as session:
        looked = looked_at(session, tables.project(), BACKBONE, 0.1)
    (found,) = check_labels(looked, seed=0)
    assert (found["task"], found["given"], found["likely"]) == (4, [], ["blurred"])


def test_images_of_the_first_import_are_not_new(tables: Tables, settings: Settings) -> None:
    tables.clusters(40)
    with tables.store.read() as session:
        assert last_of_the_first(session, 1) == 0
    # These came with the others, but are embedded only after the first version.
    for task in range(41, 81):
        tables.task(task)
    tables.label(7, "cat")
    save_version(tables, settings, 1, backbone=BACKBONE)
    for late in (100, 101):
        make_anew(tables, settings)
        tables.task(late)
        with tables.store.read() as session:
            assert last_of_the_first(session, 1) == 80


@both_databases
def test_in_older_tables_all_that_is_there_counts_as_old(store: Store) -> None:
    tables = Tables(store)
    for task in (3, 5):
        tables.task(task)
    with store.write() as session:
        session.add(Project(id=2, title="Empty", label_config="", connected_at=0.0))
        session.flush()
        session.add_all([bare_order(1, 1, 0), bare_order(2, 1, 0)])
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0013")
        command.upgrade(config, "head")
    with store.read() as session:
        assert [last_of_the_first(session, project) for project in (1, 2)] == [5, 0]


@both_databases
def test_what_dissenters_say_is_part_of_the_mark(store: Store) -> None:
    def mark() -> str:
        with store.read() as session:
            return _mark(session, session.get_one(Project, 1))

    def say(annotation: int, choice: str) -> str:
        with store.write() as session:
            session.get_one(Vote, (1, 1, annotation)).choices = {"label": [choice]}
        return mark()

    Tables(store)
    nothing = mark()
    for annotator in (1, 2):
        vote(store, 1, annotator, "dog")
    assert mark() == nothing
    vote(store, 1, 3, "owl")
    disputed = mark()
    assert disputed != nothing
    assert say(3001, "cat") not in (disputed, nothing)
    assert say(3001, "dog") == nothing
    assert say(1001, "owl") not in (disputed, nothing)
