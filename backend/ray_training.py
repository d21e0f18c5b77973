"""Fine-tuning as Ray Train: the same training as here, by several processes with DDP.

The child of a fine-tune (:mod:`backend.finetune_job`) is the driver. Working copies, labels and the
network go to the workers through the cluster's object store, and what comes back goes through one
:class:`Keeper` on the driver's machine: how far it is, the state after every epoch, the result. So
the workers need no shared folder, and the folder of the job holds what it holds without Ray: a
training that was begun here can go on there, and the other way round.

When a worker dies, Ray Train starts them again, as many as there is room for, from the last state.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from backend.decode import decode_image
from backend.errors import EngineError, ImageError
from backend.finetune_files import CHECKPOINT, PROGRESS, Progress, write
from backend.ray_cluster import MEND, Places, connect, here, places
from backend.ray_embedding import Copies, Network
from backend.working_copies import WorkingCopies
from model.checkpoints import STATE_FILE
from model.errors import ArgumentError, TiebreakError

if TYPE_CHECKING:
    from model.backbones import Backbone
    from model.control_labels import ControlLabels
    from model.finetune import FineTuned
    from model.finetune_options import FineTuneOptions
    from model.finetune_progress import FineTuneProgress

log = logging.getLogger(__name__)

MOST_FAILURES = 3
COPIES_AT_ONCE = 500
"""Working copies in one object of the store."""


KINDS: dict[str, type[TiebreakError]] = {"image": ImageError, "argument": ArgumentError}
"""Errors that the job goes on from in ways of their own."""


@dataclass(frozen=True)
class Cluster:
    """Where, and how many processes at most; 0: one for each GPU, or for each few cores."""

    address: str
    workers: int


class FailedOnRay(TiebreakError):
    """The workers of a training failed, and again when they were started anew."""


class Keeper:
    """On the driver's machine: what the workers tell, in the folder of the job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / CHECKPOINT / STATE_FILE
        self._result: dict[str, Any] | None = None

    def tell(self, progress: dict[str, Any]) -> None:
        """How far it is."""
        write(self._folder, PROGRESS, Progress(**progress))

    def keep(self, state: bytes) -> None:
        """The state after an epoch."""
        from model.files import write_whole

        self._state.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._state, state)

    def state(self) -> bytes:
        """What there is to go on from; empty for nothing."""
        return self._state.read_bytes() if self._state.exists() else b""

    def end(self, result: dict[str, Any]) -> None:
        """What came of it."""
        self._result = result

    def result(self) -> dict[str, Any] | None:
        """What came of it; None when no worker has ended it."""
        return self._result


def finetune_on_ray(
    cluster: Cluster,
    folder: Path,
    backbone: Backbone,
    copies: Copies,
    digests: Sequence[str],
    labels: Sequence[ControlLabels],
    options: FineTuneOptions,
) -> FineTuned:
    """As :func:`model.finetune.finetune`, with the working copies ``digests`` as its images.

    EngineError when the cluster cannot be reached, or has no place; ImageError when a working copy
    cannot be read; :class:`FailedOnRay` when its workers fail again and again.
    """
    connect(cluster.address)
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    room = places()
    most = max(1, min(cluster.workers or room.most, room.most))
    keeper: Any = ray.remote(num_cpus=0, scheduling_strategy=here())(Keeper).remote(folder)
    config = {
        "keeper": keeper,
        "network": ray.put(Network(backbone)),
        "copies": _sent(copies, digests),
        "decoded": {"side": copies.side, "max_pixels": copies.max_pixels},
        "labels": list(labels),
        "options": options,
        "cores": max(1, room.cpus),
    }
    trainer = TorchTrainer(
        _work,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if room.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(1, most) if most > 1 else 1,  # type: ignore[arg-type]
            use_gpu=bool(room.gpus),
            resources_per_worker=_share(room),
        ),
        run_config=RunConfig(
            name="fine-tune",
            storage_path=str(folder / "ray"),
            failure_config=FailureConfig(max_failures=MOST_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise FailedOnRay(f"The fine-tune on Ray failed: {_last_words(error)}") from error
    # What Ray raises itself is of many kinds.
    except Exception as error:
        raise EngineError(f"Ray gave the fine-tune up: {_last_words(error)}", mend=MEND) from error
    result: dict[str, Any] | None = ray.get(keeper.result.remote())
    if result is None:
        raise EngineError("The workers ended without a result.", mend=MEND)
    return _received(backbone, result)


def _share(room: Places) -> dict[str, float]:
    return {"CPU": room.cpus, **({"GPU": room.gpus} if room.gpus else {})}


def _sent(copies: Copies, digests: Sequence[str]) -> list[Any]:
    """References to the bytes of the working copies, some hundred in each."""
    import ray

    kept, sent = copies.kept(), []
    for at in range(0, len(digests), COPIES_AT_ONCE):
        part = digests[at : at + COPIES_AT_ONCE]
        sent.append(ray.put([_bytes(kept, digest) for digest in part]))
    return sent


def _bytes(copies: WorkingCopies, digest: str) -> bytes:
    copies.open(digest)  # a damaged one is removed, and the training goes on without it
    return copies.path(digest).read_bytes()


def _work(config: dict[str, Any]) -> Any:
    """One process of the training."""
    import ray
    import torch

    from model.finetune import finetune
    from model.world import current_world

    torch.set_num_threads(config["cores"])
    keeper, leads = config["keeper"], current_world().leads
    parts: list[list[bytes]] = ray.get(config["copies"])
    data = [each for part in parts for each in part]

    def load(row: int) -> Image.Image:
        return decode_image(data[row], **config["decoded"])

    def tell(progress: FineTuneProgress) -> None:
        keeper.tell.remote(asdict(progress))

    def keep(folder: Path) -> None:
        ray.get(keeper.keep.remote((folder / STATE_FILE).read_bytes()))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = ray.get(keeper.state.remote())
        if state:
            (folder / STATE_FILE).write_bytes(state)
        try:
            tuned = finetune(
                ray.get(config["network"]).backbone(),
                load,
                config["labels"],
                config["options"],
                checkpoint=folder,
                on_progress=tell,
                on_saved=keep,
            )
        except TiebreakError as error:
            # It would end so again: that is a result, not a failure to be tried again.
            kind = next((kind for kind in KINDS if isinstance(error, KINDS[kind])), "")
            told = {"kind": kind, "message": error.message, "mend": error.mend}
            return ray.get(keeper.end.remote({"error": told}))
    if leads:
        ray.get(keeper.end.remote(_packed(tuned)))
    return None


def _packed(tuned: FineTuned) -> dict[str, Any]:
    """A result in a form that travels: weights as safetensors, the rest as it is."""
    import safetensors.torch

    state = {key: value.contiguous() for key, value in tuned.network.state_dict().items()}
    rest = {key: value for key, value in vars(tuned).items() if key != "network"}
    return {"weights": safetensors.torch.save(state), "rest": rest}


def _received(backbone: Backbone, result: dict[str, Any]) -> FineTuned:
    import safetensors.torch

    from model.finetune import FineTuned
    from model.learner import trainable_copy

    if "error" in result:
        told = result["error"]
        if told["kind"] == "image":
            raise ImageError(told["message"], retry=True, mend=told["mend"])
        raise KINDS.get(told["kind"], TiebreakError)(told["message"], mend=told["mend"])
    network = trainable_copy(backbone.network)
    network.load_state_dict(safetensors.torch.load(result["weights"]))
    return FineTuned(network=network.eval().requires_grad_(False), **result["rest"])


def _last_words(error: Exception) -> str:
    return " ".join(str(error).split())[-500:]
