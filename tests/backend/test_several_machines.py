"""Two machines on one project: a cut network and clocks apart by two minutes cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.backend.databases import NewDatabase
from tests.machines import why_not
from tests.tiebreak_process import REPOSITORY


def test_a_machine_that_is_cut_off_loses_its_project_and_nothing_else(
    new_database: NewDatabase,
) -> None:
    # Asked for so that it is skipped where there is no PostgreSQL.
    assert new_database
    if reason := why_not():
        pytest.skip(reason)
    # It goes into a network of its own, which this process must not.
    command = [sys.executable, "-m", "benchmarks.several_machines", "--small", "--lease", "3"]
    done = subprocess.run(
        [*command, "--json"], cwd=REPOSITORY, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout)
    assert found["failures"] == []
    assert found["clocks"] == [60, -60]
    # Not before the lease ran out, and not a clock's minute later.
    assert 2 <= found["takeover_seconds"] < 45
    assert found["other_backend_answered"]
    assert found["same_predictions"]
    assert found["exit_codes"] == [{"trainer": 0, "serve": 0}] * 2
