"""Requests that try to break a running server, and what is held against its answers."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import ValidationError
from schemathesis import GenerationMode

from tests.backend.described_client import check_answer
from tests.backend.fuzz_bodies import predict_bodies, webhook_bodies
from tests.backend.real_server import WEBHOOK_SECRET, RealServer

SECONDS = 60


@dataclass
class Findings:
    """What was sent and answered. ``faults`` are what must not be; the first of each kind."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def fault(self, kind: str, what: str) -> None:
        """Keep the first fault of a kind."""
        self.faults.setdefault(kind, what[:2000])


class Canary:
    """A listener on 127.0.0.1 that counts who connects to it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listener.setblocking(False)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x.png"

    def close(self) -> int:
        """Close it; how often it was connected to."""
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                found += 1
        self._listener.close()
        return found


class Fuzzer:
    """Sends requests to a server and holds each answer to the description of ``app``.

    Nobody may ever connect to ``canary``, whose address is among those of the images.
    """

    def __init__(self, server: RealServer, app: Flask, random_seed: int) -> None:
        self.found = Findings()
        self.canary = Canary()
        self._server = server
        self._app = app
        self._seed = random_seed
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = server.auth

    def every_route(self, count: int) -> None:
        """``count`` requests that schemathesis makes of the description, half of them wrong."""
        spec = self._server.client.get("/openapi.json").json()
        schema = schemathesis.openapi.from_dict(spec)
        strategies = [
            (result.ok(), mode)
            for result in schema.get_all_operations()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ]
        wanted, each = self.found.sent + count, -(-count // len(strategies))
        for turn in range(10):  # what has few variants is used up early, and leaves room for others
            for operation, mode in strategies:
                if (left := wanted - self.found.sent) <= 0:
                    return
                strategy = operation.as_strategy(generation_mode=mode)
                self._run(strategy, self._send_case, min(each, left), turn)

    def predictions(self, count: int) -> None:
        """``count`` requests of ``POST /predict``."""
        self._run(
            predict_bodies(self.canary.address), lambda body: self._post("/predict", body), count
        )

    def webhooks(self, count: int) -> None:
        """``count`` requests of ``POST /webhook``."""
        self._run(webhook_bodies(), lambda body: self._post("/webhook", body), count)

    def _run(
        self,
        strategy: st.SearchStrategy[Any],
        send: Callable[[Any], None],
        count: int,
        turn: int = 0,
    ) -> None:
        wanted = self.found.sent + count

        @seed(self._seed + turn)
        @settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def run(example: Any) -> None:
            if self.found.sent < wanted:
                send(example)

        # schemathesis says so where an operation has nothing that could be wrong
        with contextlib.suppress(schemathesis.errors.SchemathesisError):
            run()

    def _send_case(self, case: Any) -> None:
        self._send(case.as_transport_kwargs(base_url=self._server.url))

    def _post(self, path: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "X-Tiebreak-Secret": WEBHOOK_SECRET}
        url = f"{self._server.url}{path}"
        self._send({"method": "POST", "url": url, "data": body, "headers": headers})

    def _send(self, arguments: dict[str, Any]) -> None:
        arguments.pop("cookies", None)
        try:
            prepared = self._session.prepare_request(requests.Request(**arguments))
        except (requests.RequestException, ValueError):
            return  # no client can send it
        shown = f"{prepared.method} {prepared.path_url} {str(prepared.body)[:500]}"
        self.found.sent += 1
        try:
            answer = self._session.send(prepared, timeout=SECONDS, allow_redirects=False)
        except (requests.RequestException, UnicodeError) as error:
            self.found.fault(f"no answer: {type(error).__name__}", shown)
            return
        self._judge(answer, shown)

    def _judge(self, answer: requests.Response, shown: str) -> None:
        request = answer.request
        self.found.statuses[answer.status_code] += 1
        path = requests.compat.urlsplit(request.url).path
        if answer.status_code >= 500:
            self.found.fault(f"{request.method} {path[:40]}: {answer.status_code}", shown)
        if b"Traceback (most" in answer.content:
            self.found.fault("traceback", shown)
        try:
            check_answer(
                self._app,
                str(request.method),
                requests.compat.unquote(path),
                answer.status_code,
                answer.headers,
                answer.content,
            )
        except (AssertionError, ValidationError, KeyError) as error:
            kind = f"not as described: {str(error).splitlines()[0][:80] if str(error) else shown}"
            self.found.fault(kind, f"{shown}\n{answer.status_code} {answer.text[:500]}")
