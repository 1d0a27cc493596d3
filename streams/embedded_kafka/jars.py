"""The jars of Apache Kafka: downloaded once from a Maven repository, kept in a cache, checked against a lock file.

`kafka-4.3.1.sha256` beside this file names every jar by its path in a Maven repository, with its SHA-256
(`sha256sum -c` reads it). So versions are fixed here and not resolved on each machine; jgo only downloads.
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
DOWNLOADS = 8  # at a time: most jars are small, so round trips take most of the time
TIMEOUT = 30  # seconds without a byte

ADVICE = (
    "What to do: name a mirror of Maven Central in SHOAL_MAVEN_MIRROR (a URL, or a folder in the layout of a "
    "Maven repository); or unpack Apache Kafka and name its folder in KAFKA_HOME; or use a Kafka of your own "
    "with --bootstrap-servers."
)


def lock() -> dict[str, str]:
    """The lock file of the package: path in a Maven repository → SHA-256 in hex."""
    return parse_lock(resources.files("streams.embedded_kafka").joinpath(LOCK_NAME).read_text(encoding="ascii"))


def parse_lock(text: str) -> dict[str, str]:
    """Lines of `sha256sum` → {path: SHA-256 in hex}. ValueError for a line of another form."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        digest, _, path = line.partition("  ")
        parts = PurePosixPath(path).parts
        if len(digest) != 64 or len(parts) < 4 or ".." in parts or path.startswith("/"):
            raise ValueError(f"not a line of a checksum lock: {line!r}")
        sums[path] = digest
    return sums


def default_cache(env: Mapping[str, str] = os.environ) -> Path:
    """This Kafka's folder in `$SHOAL_CACHE`, else in `$XDG_CACHE_HOME/shoal`, else in `~/.cache/shoal`."""
    base = env.get("SHOAL_CACHE") or (
        str(Path(env["XDG_CACHE_HOME"]) / "shoal") if env.get("XDG_CACHE_HOME") else "~/.cache/shoal"
    )
    return Path(base).expanduser().absolute() / f"kafka-{KAFKA_VERSION}"


def ensure(
    cache: Path,
    *,
    sums: Mapping[str, str] | None = None,
    mirror: str | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """The jars of `sums` (by default the package's lock file) in `cache`. Downloads those that are missing or damaged.

    mirror: URL of a Maven repository, or a folder laid out as one; None is Maven Central.
    notify: gets a line before a download.
    Every jar's checksum is verified on every call. A jar gets its name only once it is complete and verified, so
    several processes may share a cache. BrokerError where a jar is not available or has another checksum.
    """
    sums = lock() if sums is None else sums
    paths = {name: cache / name for name in sums}
    missing = [name for name, path in paths.items() if not path.exists() or _sha256(path) != sums[name]]
    if missing:
        notify(f"fetching {len(missing)} jars of Apache Kafka {KAFKA_VERSION} into {cache}")
        try:
            _download(missing, cache, sums, mirror)
        except OSError as error:  # the errors of requests are OSErrors too
            raise BrokerError(f"the jars of Apache Kafka are not available: {error}\n{ADVICE}") from error
    return list(paths.values())


def _download(names: list[str], cache: Path, sums: Mapping[str, str], mirror: str | None) -> None:
    """Download jars into the cache. Ctrl-C ends after the downloads under way, not after the whole list."""
    cache.mkdir(parents=True, exist_ok=True)
    # Inside the cache, so that it is on the same file system: the rename is then atomic.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as staging:
        context = _context(Path(staging), mirror)

        def download(name: str) -> None:
            try:
                downloaded = _artifact(context, name).resolve()
            except RuntimeError as error:  # raised by jgo where the repository does not have the jar
                reason = f"{name} is not in {mirror or 'Maven Central'}"
                raise BrokerError(f"the jars of Apache Kafka are not available: {reason}\n{ADVICE}") from error
            actual = _sha256(downloaded)
            if actual != sums[name]:
                raise BrokerError(
                    f"{name} has another SHA-256 than {LOCK_NAME} says: {actual}, not {sums[name]}. "
                    f"It was deleted.\n{ADVICE}"
                )
            staged = Path(staging) / name
            if downloaded != staged:  # jgo returns the file of a mirror that is a folder; it must stay there
                staged.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(downloaded, staged)
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(cache / name)

        with ThreadPoolExecutor(DOWNLOADS) as pool:
            try:
                for _ in pool.map(download, names):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _context(staging: Path, mirror: str | None) -> Any:
    from jgo.maven import MavenContext, PythonResolver  # imported here because that takes half a second

    """jgo's context: downloads into the staging folder, from the mirror or from Maven Central."""
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
