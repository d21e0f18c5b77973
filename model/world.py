"""The processes that train one network together: who does which share, and what they agree on.

They are torch's process group, made by whoever started them; without one a process is alone.
Whatever decides (how an epoch did, when it is over) is the number of the first process, so that
machines whose roundings differ take the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """``size`` processes, of which this is number ``rank``, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and tells for all."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of n places are this process's: in one piece, the last pieces shorter or empty."""
        most = -(-n // self.size)
        return slice(min(n, self.rank * most), min(n, (self.rank + 1) * most))

    def gather(
        self, part: NDArray[np.float32], n: int, device: torch.device
    ) -> NDArray[np.float32]:
        """All n rows, from the (k, width) float32 rows of each process's share."""
        if self.size == 1:
            return part
        most = -(-n // self.size)
        own = torch.zeros((most, part.shape[1]), device=device)
        own[: len(part)] = torch.from_numpy(part).to(device)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(parts, own)
        return torch.cat(parts)[:n].cpu().numpy()

    def agree(self, values: tuple[float, ...], device: torch.device) -> tuple[float, ...]:
        """The numbers of the first process."""
        if self.size == 1:
            return values
        told = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.broadcast(told, src=0)
        return tuple(told.tolist())

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of a number that each has."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def spread(self, module: nn.Module, *, moving_statistics: bool) -> nn.Module:
        """``module`` whose gradients are the mean over all processes; all begin as the first one.

        ``moving_statistics``  its batch normalisations learn, so that their state is shared too
        """
        if self.size == 1:
            return module
        if moving_statistics and next(module.parameters()).is_cuda:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(module, broadcast_buffers=moving_statistics)

    def align(self, module: nn.Module) -> None:
        """Give ``module`` the buffers that it has in the first process."""
        for buffer in module.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, src=0)


ALONE = World()


def current_world() -> World:
    """The process group that this process is part of."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size())
