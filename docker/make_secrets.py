"""Make the secrets of a new installation, once: each in a file of its own, never printed.

``SECRETS_FOLDER`` is a folder for Tiebreak and Label Studio, whose user alone may read it;
``DATABASE_SECRETS_FOLDER`` one for those that open the database, whose server runs as another
user. What is there stays as it is, and so does a folder of somebody else's: an admin may have
mounted one. Tiebreak's own password and tokens are not here: it makes them itself.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path

OWNER = 10001
"""The user of Tiebreak's and Label Studio's containers, who needs every file."""
PRIVATE = ("database_url", "label_studio_password", "label_studio_token")
TOLD = "docs/docker.md, “Secrets of your own”"


def make(ours: Path, database: Path, host: str) -> None:
    """Make what is missing, and end with words where a file cannot be made or read."""
    files = [database / "postgres_password", *(ours / name for name in PRIVATE)]
    check([path for path in files if path.exists()])
    missing = [path for path in files if not path.exists()]
    if not missing:
        return
    try:
        for folder, mode in ((ours, 0o700), (database, 0o755)):
            take(folder, mode)
        fill(ours, database, host)
    except OSError as error:
        names = ", ".join(str(path) for path in missing)
        sys.exit(f"cannot make {names}: {error}. Put them there yourself: {TOLD}")
    check(files)


def check(files: list[Path]) -> None:
    """End with words unless the user that needs the files can read each."""
    if unreadable := [path for path in files if not readable(path)]:
        lines = [f"the user {reader()} cannot read {described(path)}" for path in unreadable]
        lines.append(f"Make the user {reader()} the owner of folder and files: {TOLD}")
        sys.exit("\n".join(lines))


def reader() -> int:
    """Who will read the files. Without root, everything belongs to whoever runs this."""
    return OWNER if os.geteuid() == 0 else os.geteuid()


def readable(path: Path) -> bool:
    """Whether the reader may enter the file's folder and read the file."""
    # Asked as that user, since owners and modes do not say all: there are access lists, and
    # mounts that show each user as the owner. From inside, so that only this folder counts.
    user = {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}
    command = ["/usr/bin/test", "-r", path.name]
    return subprocess.run(command, cwd=path.parent, check=False, **user).returncode == 0  # noqa: S603


def described(path: Path) -> str:
    """The file and its folder with owners and modes."""
    file, folder = path.stat(), path.parent.stat()
    return (
        f"{path}: owner {file.st_uid}, mode {file.st_mode & 0o777:04o}; "
        f"its folder: owner {folder.st_uid}, mode {folder.st_mode & 0o777:04o}"
    )


def take(folder: Path, mode: int) -> None:
    """Make a new volume the reader's; whatever else is mounted keeps its owner and mode."""
    if folder.stat().st_uid == 0 or not any(folder.iterdir()):
        folder.chmod(mode)
        give(folder)


def give(path: Path) -> None:
    """Root, as whom a container begins, leaves nothing of its own behind."""
    if os.geteuid() == 0:
        os.chown(path, OWNER, OWNER)


def fill(ours: Path, database: Path, host: str) -> None:
    """Write the files that are missing. The database's address repeats the password."""
    keep(database, "postgres_password", secrets.token_hex(24), 0o444)
    password = (database / "postgres_password").read_text()
    keep(ours, "database_url", f"postgresql+psycopg://tiebreak:{password}@{host}/tiebreak", 0o400)
    keep(ours, "label_studio_password", secrets.token_urlsafe(12), 0o400)
    keep(ours, "label_studio_token", secrets.token_hex(20), 0o400)


def keep(folder: Path, name: str, secret: str, mode: int) -> None:
    """Write a secret that is not there yet, whole or not at all."""
    path = folder / name
    if path.exists():
        return
    partial = folder / f".{name}.partial"
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(secret)
    partial.chmod(mode)
    give(partial)
    partial.replace(path)
    print(f"made {path}", file=sys.stderr)


def main() -> None:
    """Entry point."""
    ours, database = os.environ["SECRETS_FOLDER"], os.environ["DATABASE_SECRETS_FOLDER"]
    make(Path(ours), Path(database), os.environ.get("POSTGRE_HOST", "postgres"))


if __name__ == "__main__":
    main()
