"""Make the secrets of a new installation, once: each in a file of its own, never printed.

``SECRETS_FOLDER`` is a folder for Tiebreak and Label Studio, whose user alone may read it;
``DATABASE_SECRETS_FOLDER`` one for those that open the database, whose server runs as another
user. What is there stays as it is. Tiebreak's own password and tokens are not here: it makes them
itself.
"""

import os
import secrets
import sys
from pathlib import Path

OWNER = 10001
"""The user of Tiebreak's and Label Studio's containers."""
DATABASE_HOST = os.environ.get("POSTGRE_HOST", "postgres")


def keep(folder: Path, name: str, secret: str, mode: int) -> None:
    """Write a secret that is not there yet, whole or not at all."""
    path = folder / name
    if path.exists():
        return
    partial = folder / f".{name}.partial"
    partial.unlink(missing_ok=True)
    partial.touch(mode=mode)
    partial.write_text(secret)
    partial.chmod(mode)
    give(partial)
    partial.replace(path)
    print(f"made {path}", file=sys.stderr)


def give(path: Path) -> None:
    """Root, as whom a container begins, leaves nothing of its own behind."""
    if os.geteuid() == 0:
        os.chown(path, OWNER, OWNER)


def main() -> None:
    """Make what is missing. The database's address repeats the password that is kept."""
    ours, database = Path(os.environ["SECRETS_FOLDER"]), Path(os.environ["DATABASE_SECRETS_FOLDER"])
    for folder, mode in ((ours, 0o700), (database, 0o755)):
        folder.chmod(mode)
        give(folder)
    keep(database, "postgres_password", secrets.token_hex(24), 0o444)
    password = (database / "postgres_password").read_text()
    address = f"postgresql+psycopg://tiebreak:{password}@{DATABASE_HOST}/tiebreak"
    keep(ours, "database_url", address, 0o400)
    keep(ours, "label_studio_password", secrets.token_urlsafe(12), 0o400)
    keep(ours, "label_studio_token", secrets.token_hex(20), 0o400)


if __name__ == "__main__":
    main()
