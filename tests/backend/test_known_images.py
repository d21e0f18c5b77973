"""Images that were had once, and whose address answers no more."""

from __future__ import annotations

from sqlalchemy import delete

from backend.champion import Champions
from backend.payloads import PredictTask
from backend.predictor import Predictor
from backend.tables import Embedding, ImageSource
from backend.task_rows import source_key
from tests.backend.loop_project import MakeLoop, fill
from tests.backend.small_label_studio import SmallLabelStudio

SOURCE = source_key("/data/1")


def test_a_known_image_is_embedded_from_its_copy(
    small_label_studio: SmallLabelStudio, make_loop: MakeLoop
) -> None:
    fill(small_label_studio, 30, labelled=24)
    loop = make_loop(quiet_seconds=0.0, audit_share=0.0, label_studio_url=small_label_studio.url)
    assert loop.settle().champion == 1
    tools = loop.tools
    champions = Champions(tools.store, tools.settings.data_dir)
    server = Predictor(tools.settings, tools.store, champions, tools.fetcher, tools.engine)
    with tools.store.write() as session:
        digest = session.get_one(ImageSource, SOURCE).digest
        assert digest is not None
        # As when another network serves, by which no image is embedded yet.
        vector = session.get_one(Embedding, (digest, tools.engine.backbone)).vector
        session.execute(delete(Embedding).where(Embedding.digest == digest))
    del small_label_studio.pictures[1]
    asked = [PredictTask(id=1, data={"image": "/data/1"})]
    _, (said,) = server.predict(1, asked, None)
    assert said.score < 1
    assert said.result
    with tools.store.write() as session:
        assert session.get_one(Embedding, (digest, tools.engine.backbone)).vector == vector
        session.execute(delete(Embedding).where(Embedding.digest == digest))
    # Without the copy, too, it is not forgotten which bytes the address led to.
    tools.copies.path(digest).unlink()
    _, (said,) = server.predict(1, asked, None)
    assert (said.score, said.result) == (1, [])
    with tools.store.read() as session:
        row = session.get_one(ImageSource, SOURCE)
        assert (row.digest, row.failure) == (digest, "")
