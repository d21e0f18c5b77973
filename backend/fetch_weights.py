"""``python -m backend.fetch_weights``: see that the backbone's weights are here, or fetch them.

A process of its own, because only torchvision knows where its weights are, and importing it takes
seconds that ``tiebreak up`` has better uses for.
"""

from __future__ import annotations

import sys

from backend.settings import load_settings
from model.backbones import BACKBONES
from model.errors import TiebreakError
from model.weights import find_weights


def main() -> int:
    settings = load_settings()
    try:
        find_weights(
            BACKBONES[settings.backbone].pretrained,
            weights_dir=settings.weights_dir,
            cache_dir=settings.weights_cache,
            on_progress=lambda line: print(line, flush=True),
        )
    except TiebreakError as error:
        print(error.message, error.mend, sep="\n", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
