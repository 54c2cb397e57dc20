"""A real PostgreSQL that a test starts for itself: an empty cluster on a socket in a folder, gone with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

DEBIAN = Path("/usr/lib/postgresql")


def binary(name: str) -> str | None:
    """The path of a PostgreSQL program: on the PATH, or where Debian keeps it beside the PATH."""
    newest_first = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda p: -int(p.parts[-3].split(".")[0]))
    return shutil.which(name) or next(map(str, newest_first), None)


class Postgres:
    """A server of its own. It refuses to run as root, so as root it is started as somebody else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            names = {user.pw_name: user for user in pwd.getpwall()}
            user = names.get("postgres") or names["nobody"]
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._call("initdb", "-D", str(self.data), "-U", "lab", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")

    def _call(self, name: str, *arguments: str) -> None:
        program = binary(name)
        assert program is not None
        log = self.folder / "tools.log"
        with open(log, "ab") as output:  # no pipe: the server would inherit it and keep it open
            done = subprocess.run(
                [program, *arguments], cwd=self.folder, stdout=output, stderr=output, timeout=90, **self._who,
                env=os.environ | {"LC_ALL": "C"},
            )  # fmt: skip
        assert done.returncode == 0, log.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -F -c max_connections=200"
        self._call(
            "pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "-o", options, "start"
        )

    def stop(self, how: str = "immediate") -> None:
        """Stop it: `immediate` is a fall, every connection is lost."""
        self._call("pg_ctl", "-D", str(self.data), "-m", how, "-w", "stop")

    def url(self, database: str = "postgres") -> str:
        """As DATABASE_URL has it."""
        return f"postgresql://lab@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"t{uuid.uuid4().hex}"
        engine = create_engine(self.url().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"create database {name}"))
        engine.dispose()
        return self.url(name)


@contextmanager
def running() -> Iterator[Postgres]:
    """A started server, stopped and removed with the block."""
    # Not pytest's own folder: that is closed to other users, and too long for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="lab-pg-"))
    try:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
