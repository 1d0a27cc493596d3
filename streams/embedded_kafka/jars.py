"""The jars of Apache Kafka: fetched once from a Maven repository, kept in a cache, checked against a lock.

`kafka-4.3.1.sha256` beside this file names every jar by its path in a Maven repository, with its SHA-256
(`sha256sum -c` reads it). Versions are thus fixed here, not resolved anew on each machine: jgo only fetches.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from streams.errors import BrokerError

KAFKA_VERSION = "4.3.1"
LOCK_NAME = f"kafka-{KAFKA_VERSION}.sha256"
FETCHERS = 8  # downloads at a time; the time goes into round trips, for most jars are small
TIMEOUT = 30  # seconds without a byte

ADVICE = (
    "What to do: name a mirror of Maven Central in SHOAL_MAVEN_MIRROR (a URL, or a folder in the layout of a "
    "Maven repository); or unpack Apache Kafka and name its folder in KAFKA_HOME; or use a Kafka of your own "
    "with --bootstrap-servers."
)


def lock() -> dict[str, str]:
    """The lock that ships with the package: path in a Maven repository → SHA-256 in hex."""
    return parse_lock(resources.files("streams.embedded_kafka").joinpath(LOCK_NAME).read_text(encoding="ascii"))


def parse_lock(text: str) -> dict[str, str]:
    """Lines of `sha256sum` → {path: SHA-256 in hex}. Raises ValueError for a line of another form."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        digest, _, path = line.partition("  ")
        parts = PurePosixPath(path).parts
        if len(digest) != 64 or len(parts) < 4 or ".." in parts or path.startswith("/"):
            raise ValueError(f"not a line of a checksum lock: {line!r}")
        sums[path] = digest
    return sums


def default_cache(env: Mapping[str, str] = os.environ) -> Path:
    """`$SHOAL_CACHE`, else `$XDG_CACHE_HOME/shoal`, else `~/.cache/shoal`, and in it this Kafka's."""
    base = env.get("SHOAL_CACHE") or (
        str(Path(env["XDG_CACHE_HOME"]) / "shoal") if env.get("XDG_CACHE_HOME") else "~/.cache/shoal"
    )
    return Path(base).expanduser().absolute() / f"kafka-{KAFKA_VERSION}"


def ensure(
    cache: Path,
    *,
    sums: Mapping[str, str] | None = None,
    mirror: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """The jars of `sums` (by default the shipped lock) in `cache`; first fetches what lacks or is damaged.

    mirror: URL of a Maven repository, or a folder laid out as one; None is Maven Central.
    say: is told in a line what is fetched.
    Every jar's sum is checked on every call. A jar appears under its name whole and checked or not at all, so
    several processes may share a cache. Raises BrokerError where a jar cannot be had or has another sum.
    """
    sums = lock() if sums is None else sums
    paths = {name: cache / name for name in sums}
    missing = [name for name, path in paths.items() if not path.exists() or _sha256(path) != sums[name]]
    if missing:
        say(f"fetching {len(missing)} jars of Apache Kafka {KAFKA_VERSION} into {cache}")
        try:
            _fetch(missing, cache, sums, mirror)
        except OSError as error:  # requests' errors are OSErrors too
            raise BrokerError(f"the jars of Apache Kafka cannot be had: {error}\n{ADVICE}") from error
    return list(paths.values())


def _fetch(names: list[str], cache: Path, sums: Mapping[str, str], mirror: str | None) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    # in the cache's own file system: a rename is then atomic
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as staging:
        context = _context(Path(staging), mirror)

        def fetch(name: str) -> None:
            try:
                found = _artifact(context, name).resolve()
            except RuntimeError as error:  # jgo's own, where the repository does not have it
                lack = f"{name} is not in {mirror or 'Maven Central'}"
                raise BrokerError(f"the jars of Apache Kafka cannot be had: {lack}\n{ADVICE}") from error
            actual = _sha256(found)
            if actual != sums[name]:
                raise BrokerError(
                    f"{name} has another SHA-256 than {LOCK_NAME} says: {actual}, not {sums[name]}. "
                    f"It was thrown away.\n{ADVICE}"
                )
            staged = Path(staging) / name
            if found != staged:  # it came from a folder, which stays as it is
                staged.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, staged)
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(cache / name)

        with ThreadPoolExecutor(FETCHERS) as pool:
            try:
                for _ in pool.map(fetch, names):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C: not the whole list first
                raise


def _context(staging: Path, mirror: str | None) -> Any:
    from jgo.maven import MavenContext, PythonResolver  # half a second to import, needed once

    folder = None if mirror is None or "://" in mirror else Path(mirror).expanduser()
    remotes = {} if folder else None if mirror is None else {"mirror": mirror.rstrip("/")}
    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=staging,
        local_repos=[folder] if folder else [],
        remote_repos=remotes,
        timeout=TIMEOUT,
    )


def _artifact(context: Any, name: str) -> Any:
    """`org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar` → jgo's artifact."""
    *group, artifact, version, _ = PurePosixPath(name).parts
    return context.project(".".join(group), artifact).at_version(version).artifact()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
