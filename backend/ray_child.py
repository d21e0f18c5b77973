"""``python -m backend.ray_child``: the driver of the embedding on Ray, asked by its parent.

It reads one request a line, :class:`Request` as JSON, and answers each with :class:`Answer` lines
on what was its standard output, each followed by the bytes of its vectors; never an object. It ends
with its parent, and with its cluster: the next child begins anew.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from backend.engine import Embedded
from backend.errors import EngineError
from backend.log_context import imported
from backend.logs import configure_logging
from backend.network_source import NetworkSource
from backend.ray_cluster import MEND, connect
from backend.ray_embedding import Copies, Network, embed_on_ray
from backend.settings import load_settings
from model.errors import TiebreakError

log = logging.getLogger(__name__)

MOST_NETWORKS = 4


class Message(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Request(Message):
    """Images to embed, by digest, where their working copies are, and what computes the network."""

    network: NetworkSource
    runtime: Literal["auto", "openvino", "torch"]
    copies: Copies
    digests: tuple[str, ...]


class Answer(Message):
    """``digests`` are embedded: ``width`` × 2 bytes of each follow. ``problems`` are not, and are
    among ``digests``. ``done``: nothing more follows; ``error`` says why, where it failed."""

    digests: tuple[str, ...] = ()
    width: int = 0
    problems: dict[str, str] = {}
    done: bool = False
    error: str = ""
    mend: str = ""


class Driver:
    """Answers requests with the cluster at ``address``."""

    def __init__(self, address: str, answers: BinaryIO) -> None:
        self._address, self._answers = address, answers
        self._networks: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def run(self, requests: Iterator[bytes]) -> None:
        """Answer until there are no more requests."""
        for line in requests:
            try:
                self._follow(Request.model_validate_json(line))
            except TiebreakError as error:
                self._say(Answer(done=True, error=error.message, mend=error.mend))
            # Ray's errors are of many kinds, its own and of others.
            except Exception as error:
                log.exception("the embedding on Ray failed")
                why = " ".join(str(error).split())[:500]
                self._say(Answer(done=True, error=f"{type(error).__name__}: {why}", mend=MEND))

    def _follow(self, request: Request) -> None:
        import ray

        if not ray.is_initialized():
            connect(self._address)
        # A generator that is left alone would keep its actors.
        with closing(self._embedded(request)) as parts:
            for part in parts:
                self._tell(part)
        self._say(Answer(done=True))

    def _embedded(self, request: Request) -> Generator[Embedded, None, None]:
        return embed_on_ray(request.copies, self._sent(request), request.digests)

    def _sent(self, request: Request) -> Any:
        """A reference to the network in the cluster, where every machine fetches it once."""
        import ray

        key = request.network.identity, request.runtime
        if key not in self._networks:
            self._networks[key] = ray.put(Network(request.network.load(), request.runtime))
            while len(self._networks) > MOST_NETWORKS:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return self._networks[key]

    def _tell(self, part: Embedded) -> None:
        head = Answer(
            digests=tuple(part.digests), width=part.vectors.shape[1], problems=part.problems
        )
        self._say(head, part.vectors.astype("<f2").tobytes())

    def _say(self, answer: Answer, data: bytes = b"") -> None:
        self._answers.write(answer.model_dump_json().encode() + b"\n" + data)
        self._answers.flush()


def main() -> None:
    """Answer the parent, whatever else writes to standard output in between."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = load_settings()
    configure_logging(settings, "ray")
    with imported():
        try:
            Driver(sys.argv[1], answers).run(iter(sys.stdin.buffer.readline, b""))
        except (BrokenPipeError, EngineError):
            sys.exit(1)


if __name__ == "__main__":
    main()
