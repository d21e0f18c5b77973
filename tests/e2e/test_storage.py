"""Images from every kind of place in one project: S3, uploads, web addresses and data URIs."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from backend.labelstudio import LabelStudio
from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import DIGIT_CONFIG, all_tasks, assert_all_scored, connect_by_hand
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses

Environ = dict[str, Any]
BUCKET = "scans"
ACCESS = {"aws_access_key_id": "access", "aws_secret_access_key": "secret"}


class StorageServer:
    """An S3 on 127.0.0.1 that also serves files under ``/plain``; keeps what was asked of it.

    ``seen`` has (path, Authorization header, everything else that was sent) of every request.
    """

    def __init__(self, files: Path) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self._files = files
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self, path: str) -> list[str]:
        """Authorization headers of the requests for a path, "" for none."""
        return [authorization for asked, authorization, _ in self.seen if asked == path]

    def _answer(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        sent = {key: str(value) for key, value in environ.items() if isinstance(key, str)}
        self.seen.append((path, environ.get("HTTP_AUTHORIZATION", ""), str(sent)))
        if path.startswith("/plain/"):
            start("200 OK", [("Content-Type", "image/png")])
            return [(self._files / Path(path).name).read_bytes()]
        answer: Iterable[bytes] = self._s3(environ, start)
        return answer


@pytest.fixture
def storage(digit_files: Path) -> Iterator[StorageServer]:
    """A storage server with digits 0 to 5 in its bucket."""
    server = StorageServer(digit_files)
    server.start()
    s3 = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **ACCESS)
    s3.create_bucket(Bucket=BUCKET)
    for number in range(6):
        data = (digit_files / f"{number:04d}.png").read_bytes()
        s3.put_object(Bucket=BUCKET, Key=f"{'ab'[number % 2]}/{number}.png", Body=data)
    s3.close()
    server.seen.clear()
    yield server
    server.stop()


def add_s3(label_studio: LabelStudioServer, project: int, url: str, **fields: object) -> None:
    """Give a project an S3 storage and sync it."""
    body = {
        "project": project,
        "bucket": BUCKET,
        "s3_endpoint": url,
        "region_name": "us-east-1",
        "use_blob_urls": True,
        "recursive_scan": True,
        **ACCESS,
        **fields,
    }
    number = label_studio.admin.post("/api/storages/s3/", body)["id"]
    label_studio.admin.post(f"/api/storages/s3/{number}/sync", {})


def embedded(tiebreak: TiebreakProcesses, project: int, count: int) -> None:
    """Wait until so many images are embedded, and see that none is broken."""
    status = tiebreak.wait(project, lambda s: s if s["embedded"] + s["broken"] == count else None)
    assert (status["images"], status["broken_images"]) == (count, [])


def test_images_come_from_everywhere_and_the_token_goes_nowhere(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    storage: StorageServer,
    digit_files: Path,
    project_titles: Iterator[str],
) -> None:
    tiebreak = start_tiebreak(label_studio, TIEBREAK_IMAGE_ALLOWED_NETWORKS='["127.0.0.0/8"]')
    admin = label_studio.admin
    project = admin.create_project(next(project_titles), DIGIT_CONFIG)
    # One storage sends the reader to a signed address, the other hands the bytes through.
    add_s3(label_studio, project, storage.url, prefix="a/", presign=True, presign_ttl=5)
    add_s3(label_studio, project, storage.url, prefix="b/", presign=False)
    uris = {task["data"]["image"] for task in all_tasks(admin, project)}
    assert uris == {f"s3://{BUCKET}/{'ab'[n % 2]}/{n}.png" for n in range(6)}
    connect_by_hand(admin, project, tiebreak.url)
    embedded(tiebreak, project, 6)

    with LabelStudio(label_studio.url, label_studio.token) as client:
        assert client.upload_files(project, [digit_files / f"{n:04d}.png" for n in (6, 7)]) == 2
    encoded = base64.b64encode((digit_files / "0008.png").read_bytes()).decode()
    web = f"{storage.url}/plain/0009.png"
    images = (web, f"data:image/png;base64,{encoded}")
    admin.import_tasks(project, [{"data": {"image": image}} for image in images])
    embedded(tiebreak, project, 10)
    assert_all_scored(admin, project, tiebreak.settle(project))

    # Nothing that reached the other server held the token; the web address had no credentials.
    assert storage.asked("/plain/0009.png") == [""]
    assert storage.asked(f"/{BUCKET}/a/0.png")
    assert all(label_studio.token not in sent for _, _, sent in storage.seen)
    assert all(
        authorization.startswith("AWS4-HMAC") or not authorization
        for _, authorization, _ in storage.seen
    )


def test_a_private_address_needs_to_be_allowed(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    storage: StorageServer,
    digit_files: Path,
    project_titles: Iterator[str],
) -> None:
    admin = label_studio.admin
    project = admin.create_project(next(project_titles), DIGIT_CONFIG)
    admin.import_tasks(project, [{"data": {"image": f"{storage.url}/plain/0009.png"}}])
    connect_by_hand(admin, project, tiebreak.url)
    [[_, reason]] = tiebreak.wait(project, lambda s: s["broken_images"])
    assert "TIEBREAK_IMAGE_ALLOWED_NETWORKS" in reason
    assert storage.seen == []
