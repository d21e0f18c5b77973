"""Call a function in a fresh process, since one that has been a driver of Ray stays one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def in_a_process(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What ``function`` returns there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        return processes.submit(function, *arguments).result()
