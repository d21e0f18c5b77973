"""What the trainer's check of labels and images looks at, and when it looks anew."""

from __future__ import annotations

from backend.suspicious import check_labels, looked_at
from backend.tables import Project
from tests.backend.conftest import BACKBONE, Tables

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
