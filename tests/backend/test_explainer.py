from __future__ import annotations

import base64
import io
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.errors import SetupError
from backend.projects import register_project
from model.errors import ArgumentError
from model.overlays import laid_over
from tests.backend.explained_project import CLASSES, ExplainedProject, explained, png, stripes
from tests.serving import serving

__all__ = ["explained"]


def test_it_says_what_the_head_says(explained: ExplainedProject) -> None:
    picture = stripes(1, 99)
    found = explained.explainer().explain(1, picture)
    embedding = explained.engine.embed([picture], explained.backbone)
    said = explained.head.probabilities(embedding)[0]
    assert [name for name, _ in found.top] == [CLASSES[i] for i in np.argsort(-said)]
    np.testing.assert_allclose([p for _, p in found.top], np.sort(said)[::-1], atol=1e-6)
    assert (found.label, found.explained, found.version) == (found.top[0][0],) * 2 + ("v1",)
    assert found.confidence == found.top[0][1]
    assert found.superpixels.size == found.heat.size == picture.size
    assert found.fit <= 1


def test_the_nearest_is_the_image_itself(explained: ExplainedProject) -> None:
    found = explained.explainer().explain(1, explained.pictures[4])
    nearest = found.nearest[0]
    assert (nearest.task, nearest.digest) == (4, explained.digests[4])
    assert nearest.choices == [CLASSES[4 % 3]]
    assert nearest.similarity == pytest.approx(1, abs=1e-3)
    similar = [near.similarity for near in found.nearest]
    assert similar == sorted(similar, reverse=True)
    assert len({near.digest for near in found.nearest}) == len(similar) == 6
    assert all(near.task <= 12 for near in found.nearest), "waiting tasks have no label"


def test_the_same_image_gives_the_same_explanation(explained: ExplainedProject) -> None:
    first, again = (explained.explainer().explain(1, stripes(0, 7)) for _ in range(2))
    assert first.superpixels.tobytes() == again.superpixels.tobytes()
    assert first.heat.tobytes() == again.heat.tobytes()


def test_another_class_is_explained_on_demand(explained: ExplainedProject) -> None:
    found = explained.explainer()
    by_default = found.explain(1, stripes(0, 7))
    other = next(name for name in CLASSES if name != by_default.explained)
    asked = found.explain(1, stripes(0, 7), class_name=other)
    assert asked.explained == other
    assert asked.top == by_default.top
    assert asked.superpixels.tobytes() != by_default.superpixels.tobytes()


def test_what_is_not_there_is_refused(explained: ExplainedProject) -> None:
    explainer = explained.explainer()
    with pytest.raises(ArgumentError, match=r"class='cow'; one of .*cat.* is allowed"):
        explainer.explain(1, stripes(0, 7), class_name="cow")
    with pytest.raises(ArgumentError, match="control='mood'; one of label is allowed"):
        explainer.explain(1, stripes(0, 7), control="mood")
    with pytest.raises(SetupError, match="Project 2 has learned nothing yet"):
        explainer.explain(2, stripes(0, 7))


@pytest.fixture
def file(explained: ExplainedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = explained.settings
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("TIEBREAK_BACKBONE", settings.backbone)
    monkeypatch.setenv("TIEBREAK_RUNTIME", settings.runtime)
    monkeypatch.setenv("TIEBREAK_INPUT_SIZE", str(settings.input_size))
    monkeypatch.setenv("TIEBREAK_WEIGHTS_DIR", str(settings.weights_dir))
    if settings.database_url:
        monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.png").write_bytes(png(stripes(2, 50)))
    return tmp_path / "new.png"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def test_the_command_writes_a_page_that_needs_nobody(
    explained: ExplainedProject, file: Path
) -> None:
    result = run(file)
    assert result.exit_code == 0, result.output
    expected = explained.explainer().explain(1, stripes(2, 50))
    first = result.stdout.splitlines()[0]
    assert first == f"{expected.label}: {expected.confidence:.1%} by v1, control label"
    page = Path("explanation.html").read_text()
    assert "new.png in “Test”" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    layers = re.findall(r'class="layer" src="data:image/png;base64,([^"]+)"', page)
    shown = [Image.open(io.BytesIO(base64.b64decode(layer))).tobytes() for layer in layers]
    assert shown == [expected.superpixels.tobytes(), expected.heat.tobytes()]


def test_the_command_draws_a_picture_and_prints_json(
    explained: ExplainedProject, file: Path
) -> None:
    result = run(file, "--class", "cat", "--project", "Test", "--out", "e.png", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["project"], found["explained"], found["out"]) == (1, "cat", "e.png")
    assert sum(each["probability"] for each in found["top"]) == pytest.approx(1, abs=1e-5)
    assert found["nearest"][0].keys() == {"task", "digest", "choices", "similarity"}
    drawn = Image.open("e.png")
    assert drawn.size == (3 * 64 + 16, 64)
    picture = stripes(2, 50)
    expected = explained.explainer().explain(1, picture, class_name="cat")
    third = drawn.crop((144, 0, 208, 64))
    assert third.tobytes() == laid_over(picture, expected.heat).tobytes()


def test_the_page_leaves_out_what_may_be_secret_of_an_address(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(file.read_bytes())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    monkeypatch.setenv("TIEBREAK_IMAGE_ALLOWED_NETWORKS", '["127.0.0.0/8"]')
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Pictures)) as server:
        address = f"http://127.0.0.1:{server.server_port}/bucket/cat.png?X-Signature=abc/d0e1f2"
        result = run(address)
    assert result.exit_code == 0, result.output
    page = Path("explanation.html").read_text()
    assert "cat.png in “Test”" in page
    assert "Signature" not in page
    assert "d0e1f2" not in page + result.output


def test_what_the_command_refuses(explained: ExplainedProject, file: Path) -> None:
    Path("text.png").write_text("no picture")
    for arguments, said in (
        (["nowhere.png"], "nowhere.png cannot be read (No such file or directory)"),
        (["text.png"], "not an image"),
        ([file, "--out", "e.gif"], "e.gif has no known kind"),
        ([file, "--class", "cow"], "class='cow'; one of"),
        ([file, "--project", "9"], "“9” names 0 connected projects"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1, arguments
        assert said in " ".join(result.stderr.split()), result.stderr
    register_project(explained.store, 2, title="More", label_config="<View/>")
    assert "2 projects are connected: 1 “Test”, 2 “More”" in run(file).stderr
