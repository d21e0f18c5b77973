from __future__ import annotations

from pathlib import Path

from backend.labelstudio import LabelStudio
from backend.settings import Settings
from backend.store import Store
from tests.backend.hostile_batch import HostileBatch
from tests.backend.hostile_images import FAMILIES, all_hostile
from tests.backend.small_label_studio import SmallLabelStudio


def test_no_name_stands_for_two() -> None:
    for family in FAMILIES.values():
        names = [one.name for one in family]
        assert len(set(names)) == len(names)


def test_hostile_files_among_good_ones(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
    tmp_path: Path,
) -> None:
    hostile = all_hostile(heavy=False)
    assert len(hostile) >= 40
    folder = tmp_path / "hostile"
    folder.mkdir()
    for number, one in enumerate(hostile):
        (folder / f"{number}.jpg").write_bytes(one.make())  # a name says nothing
    files = [(one, (folder / f"{n}.jpg").read_bytes()) for n, one in enumerate(hostile)]
    changed = settings.model_copy(update={"image_decode_seconds": 8.0, "predict_seconds": 250.0})
    batch = HostileBatch(changed, store, small_label_studio, small_client)
    found = batch.answer(files, good=1)
    assert [outcome for outcome in found if not outcome.expected] == []
    kept = settings.data_dir / "images"
    assert all(path.suffix in (".png", ".jpg") for path in kept.rglob("*") if path.is_file())
    batch.fetcher.close()
