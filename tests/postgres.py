"""A PostgreSQL of one's own, on 127.0.0.1 and in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.tiebreak_process import free_port

USER = "postgres"
PASSWORD = "tiebreak"
DEBIAN = Path("/usr/lib/postgresql")


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL to run, or it did not do as told."""


class PostgresServer:
    """One cluster with one empty database, from :meth:`start` to :meth:`close`.

    PostgreSQL refuses to run as root, so root runs it as the user ``postgres``. ``host`` is where
    it listens beside its socket; with ``careless`` it does not wait for the disk, and a power cut
    would cost its data.
    """

    def __init__(self, host: str = "127.0.0.1", *, careless: bool = False) -> None:
        self.host = host
        self.port = free_port()
        self._careless = careless
        self._programs = _programs()
        self._user = USER if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="tiebreak-postgres-"))
        self._data = self._folder / "data"
        if self._user:
            shutil.chown(self._folder, self._user)

    def start(self) -> PostgresServer:
        """Make the cluster and wait until it answers."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        access = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}")
        self._run("initdb", "-D", self._data, "-E", "UTF8", *access)
        if not self.host.startswith("127."):
            with (self._data / "pg_hba.conf").open("a") as access_file:
                access_file.write(f"host all all {self.host}/24 scram-sha-256\n")
        options = f"-p {self.port} -h {self.host} -k {self._folder}"
        if self._careless:
            options += " -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")
        return self

    def close(self) -> None:
        """Stop it and remove its folder."""
        try:
            if (self._data / "postmaster.pid").exists():
                self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Address of a database, as ``DATABASE_URL`` takes it."""
        return f"postgresql://{USER}:{PASSWORD}@{self.host}:{self.port}/{database}"

    @property
    def env(self) -> dict[str, str]:
        """What Label Studio needs in its environment to keep its data there."""
        return {
            "DJANGO_DB": "default",
            "POSTGRE_NAME": "postgres",
            "POSTGRE_USER": USER,
            "POSTGRE_PASSWORD": PASSWORD,
            "POSTGRE_HOST": self.host,
            "POSTGRE_PORT": str(self.port),
        }

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise PostgresMissing(f"{program} failed: {done.stderr[-500:]}")


def _programs() -> Path:
    """The folder of PostgreSQL's programs; Debian keeps them off the path."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name))
    if not versions:
        raise PostgresMissing("There is no PostgreSQL; Debian: apt-get install postgresql")
    return versions[-1]
