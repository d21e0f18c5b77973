"""What is said when Label Studio cannot connect a backend, over real sockets."""

from __future__ import annotations

import pytest

from backend.errors import LabelStudioError
from backend.labelstudio import LabelStudio
from tests.backend.scripted_server import TOKEN, Server, server

__all__ = ["server"]

BACKEND = "http://127.0.0.1:9090"
NO_BACKEND = (
    f"Successfully connected to {BACKEND} but it doesn't look like a valid ML backend. Reason: "
    "{reason}.\nCheck the ML backend server console logs to check the status."
)


def _refused(server: Server, said: str) -> LabelStudioError:
    refusal = {"validation_errors": {"non_field_errors": [said]}}
    server.answers = [(200, []), (200, []), (400, refusal), (200, [])]
    with LabelStudio(server.url, TOKEN, 5) as client, pytest.raises(LabelStudioError) as raised:
        client.save_backend(1, BACKEND, "Tiebreak", ("tiebreak", "a-wrong-password"))
    return raised.value


def test_a_wrong_password_is_told_from_a_wrong_labelling_config(server: Server) -> None:
    reason = f"401 Client Error: UNAUTHORIZED for url: {BACKEND}/setup"
    error = _refused(server, NO_BACKEND.format(reason=reason))
    assert "refuses the log-in (401 Client Error" in error.message
    assert "the same TIEBREAK_USER and TIEBREAK_PASSWORD" in error.mend
    assert "labelling config" not in error.mend


def test_a_labelling_config_with_nothing_to_learn(server: Server) -> None:
    reason = f"422 Client Error: UNPROCESSABLE for url: {BACKEND}/setup"
    error = _refused(server, NO_BACKEND.format(reason=reason))
    assert "refuses the project (422 Client Error" in error.message
    assert "labelling config has to change" in error.mend
