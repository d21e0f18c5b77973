from __future__ import annotations

from typing import get_args

import pytest

from backend.errors import SettingsError
from backend.learning_settings import BackboneName, StrategyName
from backend.settings import Settings, label_studio_access, load_settings, variable_name
from model.backbones import BACKBONES, FROM_SCRATCH
from model.queries import STRATEGIES


def test_every_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://labels.example/studio/")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token")
    monkeypatch.setenv("DATABASE_URL", "sqlite:////srv/x.db")
    monkeypatch.setenv("TIEBREAK_PORT", "9191")
    settings = load_settings()
    assert label_studio_access(settings) == ("http://labels.example/studio", "token")
    assert settings.database_address == "sqlite:////srv/x.db"
    assert settings.port == 9191


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TIEBREAK_PORT", "99999", "less than or equal to 65535"),
        ("TIEBREAK_STRATEGY", "guess", "'margin'"),
        ("TIEBREAK_AUDIT_SHARE", "0.9", "less than or equal to 0.5"),
        ("LABEL_STUDIO_URL", "labels.example", "http://"),
        ("TIEBREAK_BACKBONE", "resnet7", "'resnet18'"),
        ("TIEBREAK_BACKBONE", "small_cnn", "small_cnn trains from scratch, for comparisons only"),
        ("TIEBREAK_BACKBONE", "alexnet_bn", "a pretrained network is needed: mobilenet_v2, "),
    ],
)
def test_a_bad_setting_names_its_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{variable}='{value}'" in caught.value.message
    assert said in caught.value.message


def test_our_own_words_stand_alone() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(public_url="labels.example", password="short")
    assert "TIEBREAK_PUBLIC_URL='labels.example': must start with http://" in caught.value.message
    assert "TIEBREAK_PASSWORD=(hidden): must have 12 or more" in caught.value.message


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "very-secret-token")
    assert "very-secret-token" not in repr(load_settings())


@pytest.mark.parametrize("missing", ["label_studio_url", "label_studio_api_key"])
def test_no_label_studio_is_an_error_that_names_the_variable(missing: str) -> None:
    given = {"label_studio_url": "http://x", "label_studio_api_key": "k"} | {missing: None}
    with pytest.raises(SettingsError, match=missing.upper()):
        label_studio_access(Settings(**given))


def test_variable_names() -> None:
    assert variable_name("database_url") == "DATABASE_URL"
    assert variable_name("min_new_labels") == "TIEBREAK_MIN_NEW_LABELS"


def test_every_backbone_can_be_set() -> None:
    assert get_args(BackboneName) == tuple(BACKBONES)


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_networks_from_scratch_cannot_be_set(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} trains from scratch"):
        load_settings(backbone=name)


def test_every_query_strategy_can_be_set() -> None:
    assert get_args(StrategyName) == tuple(STRATEGIES)
