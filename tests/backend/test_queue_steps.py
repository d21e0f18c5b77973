"""The queue as Label Studio is sent it, by the trainer's own steps, killed and rolled back."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import select

from backend.store import MIGRATIONS
from backend.tables import Project, Task
from backend.versions import roll_back
from tests.backend.loop_project import Loop
from tests.backend.queue_studio import Studio, check, of_the_engine, picture, studio, ticked

__all__ = ["studio"]


def test_the_queue_opens_at_once_and_is_made_anew_when_the_images_are_known(
    studio: Studio,
) -> None:
    herding = studio.settings.model_copy(update={"strategy": "typiclust"})
    studio.loop.tools.fetcher.close()
    studio.loop = Loop(herding, studio.store, studio.client, studio.engine)
    project = studio.settle()
    assert (project.champion, project.served) == (0, "v0.1")
    first, second = studio.orders()
    assert (first.name, first.known, first.picks, first.places) == ("v0", 0, [], b"")
    assert (second.name, second.known, second.reason) == (
        "v0.1",
        40,
        "40 tasks are known, 0 before",
    )
    assert len(studio.held("v0")) == len(studio.held("v0.1")) == 40
    check(studio, project)
    # The picks come first but for the audit images between them, and see every class.
    queue = [task for task in studio.queue() if task not in studio.audit()]
    assert queue[:10] == second.picks
    assert {task % 3 for task in second.picks[:3]} == {0, 1, 2}
    assert studio.audit()
    # Nothing is left to do.
    assert studio.settle().served == "v0.1"
    assert len(studio.orders()) == 2


def test_labels_that_teach_nothing_yet_use_the_picks_up(studio: Studio) -> None:
    studio.settle()
    for _ in range(25):
        [task] = studio.queue()[:1]
        studio.server.annotate(task, label=["cat"])
        project = studio.settle()
        if project.served != "v0.1":
            break
    assert (project.champion, project.served) == (0, "v0.2")
    *_, last = studio.orders()
    assert last.reason == "its picks are used up"
    check(studio, project)


def test_a_new_version_and_its_order(studio: Studio) -> None:
    studio.settle()
    done = studio.label_next(12)
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1")
    check(studio, project)
    order = studio.orders()[-1]
    assert (order.name, order.strategy, order.reason) == ("v1", "margin", "a new version")
    assert not set(order.picks) & (set(done) | studio.audit())
    # Of the twelve that were served, about one in five was an audit image.
    assert 1 <= len(set(done) & studio.audit()) <= 4


def test_predict_answers_what_was_sent(studio: Studio) -> None:
    studio.settle()
    uris = {task: f"/data/{task}" for task in studio.server.tasks}
    for served in ("v0.1", "v1"):
        name, said = studio.predict(uris)
        assert name == studio.server.project["model_version"] == served
        held = studio.held(served)
        waiting = studio.queue()
        assert {t: said[t] for t in waiting} == {
            t: (held[t][0]["score"], ticked(held[t][0]["result"])) for t in waiting
        }
        studio.label_next(12)
        studio.settle()
    # Those that are labelled are in the audit set or ticked, too.
    labelled = [t for t, task in studio.server.tasks.items() if task["annotations"]]
    name, said = studio.predict({task: uris[task] for task in labelled})
    assert {task for task in labelled if not said[task][1]} == studio.audit() & set(labelled)


def test_predict_ticks_no_image_that_will_be_in_the_audit_set(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    for task in range(50, 80):
        studio.server.add_picture(task, picture(task))
    _, said = studio.predict({task: f"/data/{task}" for task in range(50, 80)})
    studio.settle()
    # As long as an image resembles no other, what is said before it is looked at is right.
    leader = studio.leaders()
    alone = [t for t in range(50, 80) if list(leader.values()).count(leader[t]) == 1]
    held = {task: found[0] for task, found in studio.held("v1").items()}
    assert {t: said[t] for t in alone} == {
        t: (held[t]["score"], ticked(held[t]["result"])) for t in alone
    }
    unticked = {task for task in alone if not said[task][1]}
    assert unticked == studio.audit() & set(alone) != set()


def test_another_strategy_makes_the_order_anew(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    with studio.store.write() as session:
        session.get_one(Project, 1).choosing = False
    project = studio.settle()
    assert project.served == "v1.1"
    assert studio.orders()[-1].strategy == "random"
    check(studio, project)
    old, new = ({t: studio.held(n)[t][0] for t in studio.queue()} for n in ("v1", "v1.1"))
    assert [old[t]["result"] for t in old] == [new[t]["result"] for t in old]
    assert [old[t]["score"] for t in old] != [new[t]["score"] for t in old]
    # The places of the order before it are kept no longer, those of other versions are.
    assert {o.name: bool(o.places) for o in studio.orders()} == {
        "v0": False,
        "v0.1": True,
        "v1": False,
        "v1.1": True,
    }


def test_a_version_that_is_rolled_back_to_goes_on_with_its_last_order(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    with studio.store.write() as session:
        session.get_one(Project, 1).choosing = False
    studio.settle()
    sent = studio.held("v1.1")
    with studio.store.write() as session:
        # So that the switch stays where it is when v2 comes.
        session.get_one(Project, 1).payoff = {"checked": 2}
    studio.label_next(10)
    assert studio.settle().served == "v2"
    studio.server.add_picture(41, picture(41))
    studio.settle()
    assert 41 in studio.held("v2")

    roll_back(studio.store, of_the_engine(studio.settings), 1)
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1.1")
    again = studio.held("v1.1")
    assert again.keys() - sent.keys() == {41}
    assert {task: again[task] for task in sent} == sent
    check(studio, project)
    assert [order.name for order in studio.orders()] == ["v0", "v0.1", "v1", "v1.1", "v2"]
    # /predict goes on as before, too.
    name, said = studio.predict({task: f"/data/{task}" for task in studio.queue()})
    assert name == "v1.1"
    assert {t: score for t, (score, _) in said.items()} == {
        t: again[t][0]["score"] for t in studio.queue()
    }


def _as_before_there_were_orders(studio: Studio) -> None:
    """Put the database back into the form of a release without orders."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with studio.store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")


def test_what_a_release_without_orders_has_sent_is_ordered_anew(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    before = studio.held("v1")
    _as_before_there_were_orders(studio)
    studio.store.migrate()
    assert [(order.name, order.known, order.strategy) for order in studio.orders()] == [
        ("v0", 0, ""),
        ("v1", 0, ""),
    ]
    with studio.store.read() as session:
        assert session.get_one(Project, 1).choosing
        pushed = session.scalars(select(Task.pushed_order).where(Task.pushed_version == 1)).all()
    assert set(pushed) == {0}
    # Label Studio goes by the old order until the new one is there.
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1.1")
    assert studio.held("v1") == before
    check(studio, project)
