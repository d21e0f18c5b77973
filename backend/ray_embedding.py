"""Embedding as Ray Data: working copies are read where they are, and embedded on all workers.

A row is the digest of an image until it is read on the trainer's machine, which alone has the
copies; then the copy's bytes, of some 25 kB, travel to a worker, which decodes and embeds them as
the trainer would. What is under way is bounded by Ray Data, whatever the number of images. When a
worker dies, what it had is given to another one.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from backend.engine import Embedded
from backend.errors import ImageError
from backend.ray_cluster import Places, here, places
from backend.shared_files import SharedFiles
from backend.working_copies import WorkingCopies
from model.errors import StorageError

if TYPE_CHECKING:
    from model.backbones import Backbone
    from model.embed import RuntimeName

ROWS = 64
"""Images of a block, which is what is done again when a worker dies."""
READERS = 2
Batch = dict[str, Any]


class Copies(BaseModel):
    """Where the working copies are on the trainer's machine, and how they are decoded.

    ``artifacts`` and what follows: the bucket that has those which the folder has not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    side: int
    max_pixels: int = 100_000_000
    artifacts: str | None = None
    s3_endpoint: str | None = None
    max_bytes: int | None = None

    def kept(self) -> WorkingCopies:
        """The working copies."""
        shared = SharedFiles(self.artifacts, self.s3_endpoint) if self.artifacts else None
        return WorkingCopies(self.folder, self.side, shared=shared, max_bytes=self.max_bytes)


class Network:
    """A backbone in a form that travels: its description, and its weights as safetensors.

    ``runtime`` computes it, as on the trainer's own machine.
    """

    def __init__(self, backbone: Backbone, runtime: RuntimeName = "auto") -> None:
        import safetensors.torch

        self.runtime = runtime

        self.name, self.identity = backbone.name, backbone.identity
        self.width, self.input_size = backbone.width, backbone.input_size
        state = backbone.network.state_dict()
        self.weights = safetensors.torch.save(
            {key: value.contiguous() for key, value in state.items() if not value.is_meta}
        )

    def backbone(self) -> Backbone:
        """The backbone again, in evaluation mode."""
        import safetensors.torch

        from model.backbones import BACKBONES, Backbone, build_network

        state = safetensors.torch.load(self.weights)
        network = build_network(BACKBONES[self.name], state, source=self.identity)
        return Backbone(self.name, self.identity, self.width, self.input_size, network)


def _read(copies: Copies, batch: Batch) -> Batch:
    return Reader(copies)(batch)


class Reader:
    """Digests -> the bytes of working copies, on the trainer's machine."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies.kept()

    def __call__(self, batch: Batch) -> Batch:
        digests = [str(digest) for digest in batch["digest"]]
        return {"digest": digests, "data": [self._read(digest) for digest in digests]}

    def _read(self, digest: str) -> bytes:
        try:
            return self._copies.path(digest).read_bytes() if self._copies.has(digest) else b""
        except (OSError, StorageError):
            return b""


class Worker:
    """Bytes of working copies -> embeddings: one network, loaded once, on a GPU or some cores."""

    def __init__(self, network: Any, copies: Copies, cores: int) -> None:
        import ray
        import torch

        from model.embed import Embedder

        cores = max(1, cores)
        torch.set_num_threads(cores)
        travelled: Network = ray.get(network)
        self._embedder = Embedder(travelled.backbone(), runtime=travelled.runtime)
        self._side = travelled.input_size
        self._copies = copies
        self._threads = ThreadPoolExecutor(cores)

    def __call__(self, batch: Batch) -> Batch:
        waiting = [self._threads.submit(self._decode, data) for data in batch["data"]]
        size = self._embedder.batch_size
        parts = [self._embed(waiting[at : at + size]) for at in range(0, len(waiting), size)]
        problems = [problem for _, told in parts for problem in told]
        vectors = np.concatenate([vectors for vectors, _ in parts])
        return {"digest": batch["digest"], "vector": vectors, "problem": np.array(problems)}

    def _embed(
        self, waiting: Sequence[Future[Image.Image | str]]
    ) -> tuple[NDArray[np.float16], list[str]]:
        """What is decoded already is embedded, while the threads decode what follows."""
        found = [future.result() for future in waiting]
        pictures = [each for each in found if isinstance(each, Image.Image)]
        vectors = np.zeros((len(found), self._embedder.width), dtype=np.float16)
        vectors[[isinstance(each, Image.Image) for each in found]] = self._embedder.embed(pictures)
        return vectors, [each if isinstance(each, str) else "" for each in found]

    def _decode(self, data: bytes) -> Image.Image | str:
        """The picture as the network sees it, or why there is none."""
        from backend.decode import decode_image
        from model.embed import square_pixels

        if not data:
            return "There is no working copy."
        side, most = self._copies.side, self._copies.max_pixels
        try:
            picture = decode_image(data, max_pixels=most, side=side)
        except ImageError as error:
            return error.message
        return Image.fromarray(square_pixels(picture, self._side, 0))


def embed_on_ray(
    copies: Copies, network: Any, digests: Sequence[str]
) -> Generator[Embedded, None, None]:
    """The embeddings of working copies, each once, as they come.

    ``network``  reference to a :class:`Network` in the cluster's object store

    EngineError when the cluster has no place to work.
    """
    import ray.data
    from ray.data import TaskPoolStrategy

    room = places()
    _quiet()
    blocks = min(len(digests), max(2 * room.most, -(-len(digests) // ROWS)))
    rows = ray.data.from_items(
        [{"digest": digest} for digest in digests], override_num_blocks=blocks
    )
    read = rows.map_batches(
        partial(_read, copies),
        batch_size=None,
        batch_format="numpy",
        num_cpus=0,
        compute=TaskPoolStrategy(size=READERS),
        scheduling_strategy=here(),
    )
    done = read.map_batches(
        Worker,
        fn_constructor_args=(network, copies, room.cpus),
        batch_size=None,
        batch_format="numpy",
        **_share(room, blocks),
    )
    for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
        told = [str(digest) for digest in batch["digest"]]
        problems = {
            digest: str(problem)
            for digest, problem in zip(told, batch["problem"], strict=True)
            if problem
        }
        yield Embedded(told, np.asarray(batch["vector"], dtype=np.float16), problems)


def _share(room: Places, blocks: int) -> dict[str, Any]:
    from ray.data import ActorPoolStrategy

    pool = ActorPoolStrategy(
        min_size=1, max_size=min(room.most, blocks), max_tasks_in_flight_per_actor=2
    )
    return {"compute": pool, "num_cpus": room.cpus, "num_gpus": room.gpus}


def _quiet() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
