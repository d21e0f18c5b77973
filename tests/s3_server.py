"""A real S3 server on 127.0.0.1: moto's, with one bucket, which can refuse and be damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Environ = dict[str, Any]
BUCKET = "tiebreak-files"
KEY, SECRET = "planted-access-key", "planted-secret-key"
ACCESS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
ERROR = "<Error><Code>{0}</Code><Message>{0}</Message></Error>"


class S3Server:
    """An S3 at :attr:`url`. ``asked`` has method and path of every request since it was emptied.

    ``refusal``: code of the error that every request is answered with, empty for none. ``before``
    is called with method and path before a request is answered, and may hold it.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refusal = ""
        self.before: Callable[[str, str], None] = lambda method, path: None
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(host, port, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://{host}:{self._server.server_port}"

    def start(self) -> None:
        """Answer, with an empty bucket."""
        self._thread.start()
        httpx.post(
            f"{self.url}/moto-api/reset", trust_env=False
        )  # moto keeps it all in the process
        with self.client() as client:
            client.create_bucket(Bucket=BUCKET)
        self.asked.clear()

    def stop(self) -> None:
        """Answer no more; what was in the bucket is gone."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client beside Tiebreak's own."""
        made = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        try:
            yield made
        finally:
            made.close()

    def all_keys(self) -> list[str]:
        """The keys of all objects."""
        with self.client() as client:
            found = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return sorted(each["Key"] for each in found)

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        with self.client() as client:
            data: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Put other bytes in an object's place."""
        with self.client() as client:
            client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def remove(self, key: str) -> None:
        """Take an object away."""
        with self.client() as client:
            client.delete_object(Bucket=BUCKET, Key=key)

    def _answer(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append(request)
        self.before(*request)
        if self.refusal:
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [ERROR.format(self.refusal).encode()]
        answer: Iterable[bytes] = self._s3(environ, start)
        return answer
