from __future__ import annotations

import numpy as np
import pytest

from backend.compare_versions import compare_versions
from backend.judging import looks_so_far
from backend.settings import Settings
from backend.store import Store
from backend.tables import Version
from model.audit import in_audit
from model.head import Head
from tests.backend.conftest import Tables
from tests.backend.saved_versions import embed_again, save_version


def test_two_versions_are_compared_on_the_same_images(
    tables: Tables, store: Store, settings: Settings
) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    save_version(tables, settings, 1, weights=np.eye(16, 3, dtype=np.float32))
    save_version(tables, settings, 2, weights=np.eye(16, 3, dtype=np.float32)[:, [1, 0, 2]])
    found = compare_versions(store, half, 1, 1, 2)
    assert (found.images, found.note) == (0, "There are no held-out labels yet.")
    # v1 tells all three classes, v2 takes cats for dogs and dogs for cats.
    digests = [tables.task(n, np.eye(3, 16)[n % 3]) for n in range(1, 31)]
    for n in range(1, 31):
        tables.label(n, ("cat", "dog", "owl")[n % 3])
    embed_again(tables)
    held = [n for n, digest in enumerate(digests, start=1) if in_audit(digest, 0.5)]
    owls = [n for n in held if n % 3 == 2]
    found = compare_versions(store, half, 1, 1, 2)
    assert found.images == len(held)
    assert found.accuracies == (1.0, pytest.approx(len(owls) / len(held)))
    assert (found.gained, sorted(found.lost)) == ([], sorted(set(held) - set(owls)))
    # Both versions looked when they were trained, and this is the third time.
    with store.read() as session:
        assert looks_so_far(session, 1) == 3
    compare_versions(store, half, 1, 1, 2)
    with store.read() as session:
        assert looks_so_far(session, 1) == 4
    with store.write() as session:
        session.get_one(Version, (1, 1)).backbone = "resnet18-aabbccdd-224px"
    save_version(tables, settings, 3, backbone="resnet18-aabbccdd-224px")
    assert "by both of their networks" in compare_versions(store, half, 1, 2, 3).note


TAGS = """<View><Image name="image" value="$image"/>
<Choices name="tags" toName="image" choice="multiple">
<Choice value="wet"/><Choice value="old"/></Choices></View>"""


def test_a_class_is_chosen_from_its_threshold_on(store: Store, settings: Settings) -> None:
    tables = Tables(store, TAGS)
    half = settings.model_copy(update={"audit_share": 0.5})
    # Both say 0.27 of "wet" for every image; only the second ticks it from there on.
    for number, from_ in ((1, 0.5), (2, 0.2)):
        head = Head(
            ("wet", "old"),
            True,
            np.zeros((16, 2), dtype=np.float32),
            np.array([-1, -9], dtype=np.float32),
            np.ones(2, dtype=np.float32),
            np.array([from_, 0.5], dtype=np.float32),
        )
        save_version(tables, settings, number, heads={"tags": head})
    digests = [tables.task(n, np.ones(16)) for n in range(1, 31)]
    for n in range(1, 31):
        tables.label(n, *(["wet"] if n % 3 else []), control="tags")
    embed_again(tables)
    held = [n for n, digest in enumerate(digests, start=1) if in_audit(digest, 0.5)]
    wet = [n for n in held if n % 3]
    found = compare_versions(store, half, 1, 1, 2)
    assert found.images == len(held)
    assert (sorted(found.gained), sorted(found.lost)) == (wet, sorted(set(held) - set(wet)))
