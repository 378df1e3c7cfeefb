"""A PostgreSQL server for one test, in a folder of its own, reached by a socket there."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

OTHERS = ("postgres", "nobody")  # who runs it where the tests are run by root, whom it refuses
PROGRAMS = ("initdb", "postgres")
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "dynamic_shared_memory_type": "mmap",  # no names in /dev/shm
}


def programs():
    """The folder with the programs of the server, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((it for it in folders if all((it / name).exists() for name in PROGRAMS)), None)


@contextlib.contextmanager
def postgres():
    """Runs a server; how psycopg reaches it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket is short
        user = _give_away(folder)
        data = Path(folder) / "data"
        command = [programs() / "initdb", "--pgdata", data, "--auth", "trust", "--no-sync"]
        _run([*command, "--username", "tests"], folder, user)
        options = (f"--{name}={value}" for name, value in OPTIONS.items())
        with open(Path(folder) / "log", "w+") as log:
            server = subprocess.Popen(
                [programs() / "postgres", "-D", data, "-k", folder, *options],
                cwd=folder,
                stdout=log,
                stderr=log,
                **user,
            )
            try:
                where = f"host={folder} user=tests dbname=postgres"
                _wait_for(where, server, log)
                yield where
            finally:
                server.send_signal(signal.SIGINT)  # ends without waiting for its clients
                server.wait()


def rows(server, query):
    """What the server answers, sorted."""
    import psycopg

    with psycopg.connect(server) as connection:
        return sorted(connection.execute(query).fetchall())


def _give_away(folder):
    """Gives a folder to who runs the server; who that is, as `subprocess` has it."""
    if os.geteuid() != 0:
        return {}
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    other = next(known[name] for name in OTHERS if name in known)
    os.chown(folder, other.pw_uid, other.pw_gid)
    return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}


def _run(command, folder, user):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **user)
    assert done.returncode == 0, done.stderr


def _wait_for(where, server, log):
    """Tries until the server answers; the watchdog ends it otherwise."""
    import psycopg

    while True:
        try:
            psycopg.connect(where).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None:
                log.seek(0)
                raise AssertionError(f"the server ended\n{log.read()}") from None
            time.sleep(0.01)
