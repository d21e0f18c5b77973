"""Fine-tuned networks on disk: ``backbones/<identity>.safetensors`` and, beside it, its record.

The record says which file belongs to it, from which original the network came and which images it
was trained on: every head that is fitted on its embeddings must know them, because on those images
they look better than they are. A network without its record, or the other way round, is none.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import delete, select

from backend.finetune_files import Digest
from backend.settings import Settings
from backend.shared_files import SharedFiles, cached_file
from backend.store import Store
from backend.tables import Embedding, FineTune, Version
from model.artifact import Artifact
from model.errors import ArtifactError
from model.files import remove_quietly, sync_folder, write_whole, writing
from model.weights import file_digest

MANIFEST_KEY = "tuned"
_BUCKET_FOLDER = "backbones"


class TunedNetwork(BaseModel):
    """A fine-tuned network.

    ``base``     identity of the original backbone that it came from
    ``trained``  SHA-256 of the images whose gradients shaped it
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    name: str
    input_size: int = Field(ge=1)
    sha256: Digest
    base: str
    trained: frozenset[Digest]

    def manifest(self) -> dict[str, str]:
        """What a version says of the network that its heads read."""
        return {"identity": self.identity, "sha256": self.sha256, "base": self.base}


def tuned_folder(data_dir: Path) -> Path:
    """Folder of the fine-tuned networks."""
    return data_dir / "backbones"


def network_path(folder: Path, identity: str) -> Path:
    """File of a tuned network."""
    return folder / f"{identity}.safetensors"


def find_tuned(folder: Path, identity: str) -> TunedNetwork | None:
    """The tuned network of that identity; None when its record or its file is not there."""
    try:
        found = TunedNetwork.model_validate_json(_record_path(folder, identity).read_bytes())
    except (OSError, ValidationError):
        return None
    there = found.identity == identity and network_path(folder, identity).is_file()
    return found if there else None


def keep_network(settings: Settings, tuned: Path, record: TunedNetwork) -> None:
    """Move a network's file to its place, the record first; safe to repeat.

    Raises:
        ArtifactError: the file is not what its SHA-256 says.
        StorageError: it cannot be moved.
    """
    folder = tuned_folder(settings.data_dir)
    path = network_path(folder, record.identity)
    with writing("The fine-tuned network", path):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(_record_path(folder, record.identity), record.model_dump_json().encode())
        if tuned.exists():
            # Both are in the data folder; what crosses file systems would not come whole.
            os.replace(tuned, path)
        sync_folder(folder)
    for left in folder.glob(f".{record.identity}.*.partial"):
        remove_quietly(left)
    _verify(path, record.sha256)


def share_tuned(shared: SharedFiles, folder: Path, identity: str) -> None:
    """Send a network to the bucket, and then its record, which makes it one."""
    key = f"{_BUCKET_FOLDER}/{identity}"
    shared.put_file(f"{key}.safetensors", network_path(folder, identity))
    shared.put(f"{key}.json", _record_path(folder, identity).read_bytes())


def fetch_network(shared: SharedFiles, folder: Path, identity: str) -> None:
    """Fetch a network from the bucket where it is not here whole; none, where there is none.

    Raises:
        StorageError: the bucket cannot be had.
    """
    if _is_here(folder, identity):
        return
    path, key = network_path(folder, identity), f"{_BUCKET_FOLDER}/{identity}"
    if shared.get_file(f"{key}.safetensors", path):
        cached_file(shared, f"{key}.json", _record_path(folder, identity))


def fetch_tuned(shared: SharedFiles, folder: Path, artifact: Artifact) -> None:
    """Fetch the network that a version reads, where it reads a fine-tuned one."""
    if isinstance(artifact.manifest.get(MANIFEST_KEY), dict):
        fetch_network(shared, folder, artifact.backbone)


def tuned_base(artifact: Artifact) -> str:
    """Identity of the original backbone behind a version: its own, where it was not tuned."""
    tuned = artifact.manifest.get(MANIFEST_KEY)
    return str(tuned["base"]) if isinstance(tuned, dict) else artifact.backbone


def comparable(champion: Artifact, base: str) -> bool:
    """Whether a version reads the backbone ``base``, or one that was tuned from it."""
    return tuned_base(champion) == base


def check_tuned(folder: Path, artifact: Artifact) -> None:
    """:class:`ArtifactError` when a version's tuned network is not there, whole and its own."""
    tuned = artifact.manifest.get(MANIFEST_KEY)
    if not isinstance(tuned, dict):
        return
    path = network_path(folder, artifact.backbone)
    record = find_tuned(folder, artifact.backbone)
    if record is None or record.manifest() != tuned:
        raise ArtifactError(
            f"The fine-tuned network {path} or its record is missing or another one.",
            mend="Restore both from a copy, or go back to an earlier version.",
        )
    _verify(path, record.sha256)


def forget_unneeded(
    store: Store, settings: Settings, shared: SharedFiles | None = None
) -> list[str]:
    """Remove the tuned networks that no version with files and no fine-tune under way names, here
    and in the bucket.

    Their embeddings go too. Returns the identities.
    """
    folder = tuned_folder(settings.data_dir)
    there = {path.stem for path in folder.glob("*.safetensors")}
    if shared is not None:
        kept = [Path(key) for key in shared.under(f"{_BUCKET_FOLDER}/")]
        there |= {key.stem for key in kept if key.suffix == ".safetensors"}
    with store.write() as session:
        versions = select(Version.backbone).where(~Version.pruned)
        tunes = select(FineTune.backbone).where(FineTune.finished_at.is_(None))
        needed = {*session.scalars(versions), *session.scalars(tunes)}
        unneeded = sorted(there - needed)
        for identity in unneeded:
            session.execute(delete(Embedding).where(Embedding.backbone == identity))
    for identity in unneeded:
        for path in (network_path(folder, identity), _record_path(folder, identity)):
            path.unlink(missing_ok=True)
            if shared is not None:
                shared.remove([f"{_BUCKET_FOLDER}/{path.name}"])
    return unneeded


def _record_path(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.json"


def _is_here(folder: Path, identity: str) -> bool:
    record = find_tuned(folder, identity)
    if record is None:
        return False
    try:
        _verify(network_path(folder, identity), record.sha256)
    except ArtifactError:
        return False
    return True


def _verify(path: Path, promised: str) -> None:
    try:
        whole = file_digest(path) == promised
    except OSError as error:
        raise ArtifactError(
            f"The fine-tuned network {path} cannot be read ({error.strerror}).",
            mend="Restore it from a copy, or go back to an earlier version.",
        ) from error
    if not whole:
        raise ArtifactError(
            f"The fine-tuned network {path} is damaged.",
            mend="Restore it from a copy, or go back to an earlier version.",
        )
