"""The child process of a fine-tune: real ones, killed, broken and cancelled."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.finetune_child import FineTuneSlot, environment
from backend.finetune_files import (
    JOB,
    PROGRESS,
    RESULT,
    SKIPPED,
    File,
    Job,
    JobControl,
    JobOptions,
    JobRow,
    Progress,
    Result,
    Skipped,
    job_folder,
    read,
    write,
)
from backend.finetune_job import control_labels
from backend.finetunes import CANCELLED, FAILED, TRAINING, cancel_fine_tune
from tests.backend.finetune_project import FineTuneProject, fine_tuned

__all__ = ["fine_tuned"]

pytestmark = pytest.mark.timeout(900)

SHA = "0123456789abcdef" * 4


def _folder(project: FineTuneProject):  # type: ignore[no-untyped-def]
    return job_folder(project.settings.data_dir, 1, project.row().id)


def _pid(project: FineTuneProject) -> int:
    child = project.tools.slot._child
    assert child is not None
    return child.process.pid


def _epoch(project: FineTuneProject, number: int) -> None:
    """Wait until the child is in that epoch."""
    project.go_on(lambda row: (row.progress.get("epoch") or 0) >= number)


def test_a_child_waits_without_spinning_and_keeps_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1234")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment()
    assert found["OMP_WAIT_POLICY"] == "passive"
    assert found["MALLOC_MMAP_MAX_"] == "0"
    assert found["MALLOC_TOP_PAD_"] == "1234"  # what is set by hand stays
    assert found["MKL_NUM_THREADS"] == "3"
    assert found["PATH"] == os.environ["PATH"]


def test_a_killed_fine_tune_ends_as_an_undisturbed_one(fine_tuned: FineTuneProject) -> None:
    def outcome() -> tuple[list[float], str]:
        row = fine_tuned.go_on()
        assert len(row.progress["losses"]) == 3, (row.state, row.reason)
        return row.progress["losses"], row.progress["sha256"]

    fine_tuned.ask()
    undisturbed = outcome()
    assert len(set(undisturbed[0])) == 3
    fine_tuned.ask()
    # The child alone, as the kernel kills it for its memory ...
    _epoch(fine_tuned, 1)
    os.kill(_pid(fine_tuned), signal.SIGKILL)
    fine_tuned.go_on(lambda row: row.attempts == 1)
    assert "SIGKILL" in fine_tuned.row().reason
    # ... and then with its trainer, which writes nothing more.
    _epoch(fine_tuned, 2)
    fine_tuned.tools.slot.stop()
    fine_tuned.begin("second")
    assert outcome() == undisturbed
    assert not (fine_tuned.settings.data_dir / "finetunes" / "project-1").exists()


def test_a_cluster_that_is_not_there_is_waited_for(fine_tuned: FineTuneProject) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    changes = {"engine": "ray", "ray_address": address}
    fine_tuned.settings = fine_tuned.settings.model_copy(update=changes)
    fine_tuned.begin("second")
    fine_tuned.ask()
    row = fine_tuned.go_on(lambda row: row.state == TRAINING and bool(row.reason))
    assert f"The Ray cluster at {address} does not answer" in row.reason
    assert (row.attempts, row.state) == (0, TRAINING)
    assert row.retry_at > time.time()


def test_a_child_ends_with_its_trainer(fine_tuned: FineTuneProject) -> None:
    """Whichever signal took the trainer, nobody is left who learns for nobody."""
    fine_tuned.ask()
    _epoch(fine_tuned, 1)
    pid = _pid(fine_tuned)
    fine_tuned.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert fine_tuned.row().state == TRAINING


def test_a_child_has_a_lower_priority(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    fine_tuned.go_on(lambda row: bool(row.progress))
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, _pid(fine_tuned)) == min(19, ours + 1)


def test_broken_images_are_left_out(fine_tuned: FineTuneProject) -> None:
    copies = fine_tuned.tools.copies
    broken = [fine_tuned.digests[n] for n in (3, 7)]
    fine_tuned.ask()
    assert fine_tuned.steps.tend()
    copies.path(broken[0]).unlink()
    copies.path(broken[1]).write_bytes(b"not an image")
    row = fine_tuned.go_on(lambda row: (_folder(fine_tuned) / SKIPPED).exists())
    skipped = read(_folder(fine_tuned), SKIPPED, Skipped)
    assert skipped is not None
    assert skipped.images.keys() == set(broken)
    row = fine_tuned.go_on()
    assert (row.progress["skipped"], row.progress["rows"]) == (2, 46)


def test_a_missing_working_copy_is_fetched_again(fine_tuned: FineTuneProject) -> None:
    path = fine_tuned.tools.copies.path(fine_tuned.digests[5])
    path.unlink()
    fine_tuned.ask()
    fine_tuned.go_on(lambda row: row.state == TRAINING)
    assert path.exists()
    assert fine_tuned.row().labels == 48


def test_too_few_images_are_said(fine_tuned: FineTuneProject) -> None:
    for n in range(1, 40):
        fine_tuned.tables.label(n, "0", status="tied")
    fine_tuned.ask()
    row = fine_tuned.go_on()
    assert (row.state, row.labels, row.attempts) == (FAILED, 9, 0)
    assert "9 images; at least 20 are needed" in row.reason


def test_one_that_fails_again_and_again_is_given_up(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    fine_tuned.go_on(lambda row: row.state == TRAINING)
    # The weights were exchanged: the child refuses to go on from others.
    job = read(_folder(fine_tuned), JOB, Job)
    assert job is not None
    write(
        _folder(fine_tuned), JOB, job.model_copy(update={"identity": "mobilenet_v3_small-0-32px"})
    )
    row = fine_tuned.go_on()
    assert row.state == FAILED
    assert "mobilenet_v3_small-0-32px are not there any more" in row.reason
    assert row.attempts == 2
    assert fine_tuned.tables.project().champion == 1


def test_it_is_cancelled_while_the_child_learns(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    _epoch(fine_tuned, 1)
    pid = _pid(fine_tuned)
    cancel_fine_tune(fine_tuned.store, 1)
    row = fine_tuned.go_on()
    assert (row.state, row.reason) == (CANCELLED, "Cancelled. v1 serves as before.")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (fine_tuned.settings.data_dir / "finetunes" / "project-1").exists()
    assert fine_tuned.tables.project().champion == 1


def test_two_children_never_work_in_one_folder(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    _epoch(fine_tuned, 1)
    # Held still, so that it cannot end before the second one looks.
    os.kill(_pid(fine_tuned), signal.SIGSTOP)
    second = FineTuneSlot()
    second.start(99, 1, _folder(fine_tuned))
    time.sleep(1)
    assert second.ended() is None
    os.kill(_pid(fine_tuned), signal.SIGKILL)
    deadline = time.monotonic() + 120
    while (status := second.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status == 0
    result = read(_folder(fine_tuned), RESULT, Result)
    assert result is not None
    assert result.done


CONTROLS = (
    JobControl(name="kind", classes=("cat", "dog", "owl"), multiple=False),
    JobControl(name="marks", classes=("a", "b"), multiple=True),
    JobControl(name="same", classes=("x", "y"), multiple=False),
)


def _row(number: int, **targets: tuple[int, ...]) -> JobRow:
    return JobRow(digest=f"{number:064x}", targets=targets)


def test_labels_become_arrays() -> None:
    rows = [
        _row(1, kind=(2,), marks=(), same=(0,)),
        _row(2, kind=(0,), marks=(0, 1), same=(0,)),
        _row(3, marks=(0,)),
    ]
    kind, marks = control_labels(CONTROLS, rows)
    assert (kind.name, kind.targets[:2].tolist(), kind.known.tolist()) == (
        "kind",
        [2, 0],
        [True, True, False],
    )
    assert marks.targets.tolist() == [[False, False], [True, True], [True, False]]
    assert marks.known.all()


@pytest.mark.parametrize(
    "targets",
    [{"kind": [3]}, {"kind": [-1]}, {"kind": [0, 1]}, {"kind": []}, {"marks": [2]}, {"who": [0]}],
)
def test_a_job_that_does_not_fit_is_refused(tmp_path, targets) -> None:  # type: ignore[no-untyped-def]
    job = _job((_row(1, kind=(0,)),))
    text = job.model_dump_json().replace('{"kind":[0]}', str(targets).replace("'", '"'))
    assert text != job.model_dump_json()
    (tmp_path / JOB).write_text(text)
    assert read(tmp_path, JOB, Job) is None


def _job(rows: tuple[JobRow, ...]) -> Job:
    return Job(
        backbone="resnet18",
        identity="resnet18-01234567-96px",
        input_size=96,
        weights_dir=None,
        weights_cache="/w",
        images="/i",
        image_side=288,
        controls=CONTROLS,
        rows=rows,
        options=JobOptions(
            epochs=3,
            optimiser="sgd",
            backbone_rate=0.01,
            head_rate=0.1,
            momentum=0.8,
            weight_decay=0.001,
            augmentation="auto",
            augmentation_strength=0.5,
            balance="none",
            label_smoothing=0.1,
            mixup=0.2,
            seed=4,
        ),
        threads=2,
        nice=10,
    )


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=20)
digests = st.integers(0, 16**64 - 1).map(lambda n: f"{n:064x}")
files = st.one_of(
    st.builds(
        Progress,
        phase=words,
        epoch=st.integers(0, 99),
        epochs=st.integers(0, 99),
        seconds=finite,
        eta_seconds=st.none() | finite,
        validation_loss=st.none() | finite,
    ),
    st.builds(
        Result,
        done=st.booleans(),
        reason=words,
        sha256=words,
        trained=st.lists(digests, max_size=4).map(tuple),
        improved=st.booleans(),
        skipped=st.integers(0, 9),
        losses=st.lists(finite, max_size=4).map(tuple),
        summary=st.dictionaries(words, st.none() | finite | words, max_size=3),
    ),
    st.builds(Skipped, images=st.dictionaries(digests, words, max_size=3)),
    st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 1))), max_size=5).map(
        lambda rows: _job(
            tuple(_row(n, kind=(k,), marks=tuple(m)) for n, (k, m) in enumerate(rows))
        )
    ),
)


@given(files)
def test_files_come_back_as_they_were(tmp_path_factory, content: File) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("job")
    write(folder, "file.json", content)
    assert read(folder, "file.json", type(content)) == content


@given(files, st.data())
def test_a_cut_or_foreign_file_is_none(tmp_path_factory, content: File, data) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("job")
    write(folder, "file.json", content)
    whole = (folder / "file.json").read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    (folder / "file.json").write_bytes(whole[:cut])
    assert read(folder, "file.json", type(content)) is None
    (folder / "file.json").write_bytes(data.draw(st.binary(max_size=50)))
    assert read(folder, "file.json", type(content)) is None


def test_a_missing_file_is_none(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert read(tmp_path, PROGRESS, Progress) is None
