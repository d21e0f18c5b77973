from __future__ import annotations

import numpy as np
import pytest

from backend.finetune_plan import LabelledImage, count_labels, labelled_pool, make_job, not_due
from backend.label_config import parse_label_config
from backend.settings import Settings
from backend.tables import Project
from model.audit import in_audit
from tests.backend.conftest import SINGLE, Tables

TWO = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image">
<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices>
<Choices name="marks" toName="image" choice="multiple">
<Choice value="red"/><Choice value="old"/></Choices></View>"""
CONTROLS = parse_label_config(SINGLE).controls


def _images(**counts: int) -> list[LabelledImage]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [
        LabelledImage(f"{n:064x}", "", "", n, {"label": (name,)}) for n, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("counts", "learned", "said"),
    [
        ({}, None, "two different classes"),
        ({"cat": 90}, None, "two different classes"),
        ({"cat": 30, "dog": 19}, None, "19 of 20 labels of “dog”"),
        ({"cat": 20, "dog": 20}, None, ""),
        ({"cat": 20, "dog": 20, "owl": 1}, None, "1 of 20 labels of “owl”"),
        # 1.5 times 40 is 60; 1.5 times 41 is 61.5, which takes 62.
        ({"cat": 30, "dog": 29}, 40, "59 of 60 labels"),
        ({"cat": 30, "dog": 30}, 40, ""),
        ({"cat": 30, "dog": 31}, 41, "61 of 62 labels"),
        ({"cat": 31, "dog": 31}, 41, ""),
        ({"cat": 20, "dog": 20}, 0, ""),
    ],
)
def test_when_one_is_due(
    settings: Settings, counts: dict[str, int], learned: int | None, said: str
) -> None:
    found = not_due(_images(**counts), CONTROLS, settings, learned)
    assert (said in found) if said else found == ""


def test_of_a_multiple_choice_images_with_the_class_count(settings: Settings) -> None:
    few = settings.model_copy(update={"finetune_min_per_class": 2})
    controls = parse_label_config(TWO).controls
    marked = [("red",), ("red", "old"), ("old",), ()]
    images = [
        LabelledImage(f"{n:064x}", "", "", n, {"marks": marks}) for n, marks in enumerate(marked)
    ]
    assert not_due(images, controls, few, None) == ""
    assert not_due(images[:2], controls, few, None) == "1 of 2 labels of “old”"
    assert count_labels(images) == 4


def test_what_is_learned_from(tables: Tables, settings: Settings) -> None:
    """Agreed labels of images that are not held out, each image once, in a fixed order."""
    with tables.store.write() as session:
        session.get_one(Project, 1).label_config = TWO
    vector = np.zeros(4)
    digests = {n: tables.task(n, vector) for n in range(1, 13)}
    for n in range(1, 11):
        tables.label(n, ("cat", "dog")[n % 2])
        tables.label(n, *(["red"] if n < 5 else []), control="marks")
    tables.label(11, "owl", status="tied")
    again = tables.task(20, vector, image="/data/1.png")
    tables.label(20, "owl")
    assert again != digests[1]  # another number, the same address and so the same image
    with tables.store.read() as session:
        project = session.get_one(Project, 1)
        images = labelled_pool(session, project, 0.3)
        everything = labelled_pool(session, project, 0.0)
    wanted = {digests[n] for n in range(2, 11) if not in_audit(digests[n], 0.3)}
    assert wanted <= {image.digest for image in images}
    assert not any(in_audit(image.digest, 0.3) for image in images)
    assert [image.digest for image in everything] == sorted(i.digest for i in everything)
    assert (len(everything), count_labels(everything)) == (10, 20)
    job = make_job(project, everything, settings, "mobilenet_v2-b0353104-224px")
    by_digest = {row.digest: row.targets for row in job.rows}
    assert by_digest[digests[2]] == {"label": (0,), "marks": (0,)}
    assert by_digest[digests[7]] == {"label": (1,), "marks": ()}
    assert (job.options.epochs, job.options.seed) == (settings.finetune_epochs, settings.seed)
    assert Settings.model_fields["mixup"].default == job.options.mixup == 0
