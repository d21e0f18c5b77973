"""A postman between Label Studio and Tiebreak who loses, doubles and shuffles webhooks."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from backend.hints import add_hint
from backend.store import Store
from tests.e2e.digits import Digits
from tests.e2e.tiebreak_processes import TiebreakProcesses, wait_until
from tests.serving import serving

LONGEST_DELAY = 2.0
KEPT_HEADERS = ("content-type", "x-tiebreak-secret", "authorization")
RARELY = {"TIEBREAK_POLL_SECONDS": "3600"}
"""No periodic look, so that a test can tell what one look alone puts right."""


class BadPost(ThreadingHTTPServer):
    """Loses a share of what it is given, and delivers the rest twice, each after a while."""

    daemon_threads = True

    def __init__(self, target: str, share_lost: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/webhook"
        self.target, self.share_lost = target, share_lost
        self.moments = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.on_its_way = 0

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Lose it, or send it off twice."""
        with self.lock:
            self.counts["received"] += 1
            if self.moments.random() < self.share_lost:
                self.counts["lost"] += 1
                return
            delays = [self.moments.uniform(0, LONGEST_DELAY) for _ in range(2)]
            self.on_its_way += 2
        for delay in delays:
            threading.Thread(target=self._deliver, args=(body, headers, delay), daemon=True).start()

    def _deliver(self, body: bytes, headers: dict[str, str], delay: float) -> None:
        time.sleep(delay)
        status = "failed"
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(
                self.target, content=body, headers=headers, timeout=60, trust_env=False
            )
            status = "delivered" if answer.is_success else "refused"
        with self.lock:
            self.counts[status] += 1
            self.on_its_way -= 1


class _Handler(BaseHTTPRequestHandler):
    timeout = 20
    server: BadPost

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {name: self.headers[name] for name in KEPT_HEADERS if self.headers[name]}
        self.server.take(body, kept)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def bad_post(
    tiebreak: TiebreakProcesses, digits: Digits, project: int, *, share_lost: float, seed: int
) -> Iterator[BadPost]:
    """The webhooks of a project go through one from now on."""
    with serving(BadPost(f"{tiebreak.url}/webhook", share_lost, seed)) as post:
        admin = digits.label_studio.admin
        for hook in admin.get("/api/webhooks/", project=project):
            admin.patch(f"/api/webhooks/{hook['id']}/", {"url": post.url})
        yield post


def label_through(
    tiebreak: TiebreakProcesses, digits: Digits, project: int, *, actions: int, seed: int
) -> dict[str, Any]:
    """Let a person label, change, delete and skip while the post is bad; then look once.

    What Tiebreak holds is compared with Label Studio's export before and after that look.
    """
    moments = random.Random(seed)
    with bad_post(tiebreak, digits, project, share_lost=0.3, seed=seed) as post:
        done = _act(digits, project, moments, actions)
        wait_until(lambda: not post.on_its_way, 120, tiebreak.tails)
        followed = _hints_are_followed(tiebreak)
        exported = exported_labels(digits, project)
        wrong_before = _differences(agreed(tiebreak, project), exported)
        with contextlib.closing(Store(f"sqlite:///{tiebreak.data / 'tiebreak.db'}")) as store:
            add_hint(store, project, "LOOK", None, train=False)
        _hints_are_followed(tiebreak)
        wrong_after = _differences(agreed(tiebreak, project), exported_labels(digits, project))
    return {
        "actions": done,
        "webhooks": dict(post.counts),
        "labels": len(exported),
        "hints_followed": followed,
        "wrong_before_the_look": wrong_before,
        "wrong_after_one_look": wrong_after,
    }


def exported_labels(digits: Digits, project: int) -> dict[int, str]:
    """Task → its label, as Label Studio exports them."""
    answer = digits.label_studio.admin.get(f"/api/projects/{project}/export", exportType="JSON")
    found = {}
    for task in answer:
        for annotation in task["annotations"]:
            if not annotation["was_cancelled"]:
                found[int(task["id"])] = annotation["result"][0]["value"]["choices"][0]
    return found


def agreed(tiebreak: TiebreakProcesses, project: int) -> dict[int, str]:
    """Task → the label that Tiebreak learns from."""
    rows = tiebreak.labels(project).items()
    return {task: picked[0] for task, (status, picked) in rows if status == "agreed"}


def _act(digits: Digits, project: int, moments: random.Random, actions: int) -> Counter[str]:
    admin = digits.label_studio.admin
    done: Counter[str] = Counter()
    mine: dict[int, int] = {}
    for _ in range(actions):
        kind = moments.choice(("submit", "submit", "submit", "update", "delete", "skip"))
        if kind in ("update", "delete") and mine:
            task = moments.choice(sorted(mine))
            if kind == "update":
                admin.update(mine[task], label=str(moments.randrange(10)))
            else:
                admin.delete_annotation(mine.pop(task))
        elif (given := admin.next_task(project)) is not None:
            if kind == "skip":
                admin.skip(given["id"])
            else:
                kind = "submit"
                mine[int(given["id"])] = admin.submit(given["id"], label=digits.truth(given))
        done[kind] += 1
    return done


def _hints_are_followed(tiebreak: TiebreakProcesses) -> bool:
    wait_until(lambda: tiebreak.count("hints") == 0, 120, tiebreak.tails)
    return True


def _differences(mine: dict[int, str], theirs: dict[int, str]) -> int:
    return sum(mine.get(task) != theirs.get(task) for task in {*mine, *theirs})
