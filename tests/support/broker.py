"""One broker for all processes of a test session: the first that needs it starts it, it ends after the last.

The broker belongs to a process of its own, the keeper. Every process that uses the broker holds a shared lock on a
file; the keeper waits for the exclusive lock, which it gets when no user is left, even where users were killed.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.embedded_kafka import broker as brokers
from streams.embedded_kafka.process import locked


@contextmanager
def shared_broker(home: Path, overrides: Mapping[str, str] | None = None) -> Iterator[str]:
    """Bootstrap servers of the broker of a folder, which stays for as long as anybody is in such a block.

    overrides: lines of server.properties, of whoever comes first.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is about to end
        with locked(home / "start.lock"):
            broker = brokers.status(home)
            bootstrap = broker.bootstrap if broker is not None else _keeper(home, overrides or {})
        yield bootstrap


def _keeper(home: Path, overrides: Mapping[str, str]) -> str:
    """Start the keeper; returns the bootstrap servers once the broker answers."""
    log = home / "keeper.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.broker", str(home), json.dumps(dict(overrides))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
    assert process.stdout is not None
    told = process.stdout.readline().decode().strip()
    process.stdout.close()
    if not told:
        raise RuntimeError(f"the test session's broker did not start: {log.read_text()[-3000:]}")
    return told


def keep(home: Path, overrides: Mapping[str, str]) -> None:
    """The keeper: run the broker until nobody uses it."""
    with (home / "users").open("w") as users, brokers.Broker.running(home, overrides=overrides) as broker:
        print(broker.bootstrap, flush=True)
        fcntl.flock(users, fcntl.LOCK_EX)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), json.loads(sys.argv[2]))
