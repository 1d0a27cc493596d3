import hashlib
from pathlib import Path

import pytest

from streams.embedded_kafka import jars
from streams.errors import BrokerError

NAMES = ("org/a/one/1.0/one-1.0.jar", "org/b/c/two/2.1/two-2.1.jar")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder laid out as a Maven repository, with two jars."""
    for name in NAMES:
        path = tmp_path / "mirror" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    return tmp_path / "mirror"


@pytest.fixture
def sums() -> dict[str, str]:
    return {name: hashlib.sha256(name.encode()).hexdigest() for name in NAMES}


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_shipped_lock_names_kafka_and_its_log_binding() -> None:
    files = {name.rpartition("/")[2] for name in jars.lock()}
    assert {"kafka_2.13-4.3.1.jar", "kafka-clients-4.3.1.jar", "slf4j-simple-1.7.36.jar"} <= files
    assert len(files) == 46


SUM = "0" * 64


@pytest.mark.parametrize("line", ["abc  a/b/c/d.jar", f"{SUM}  ../../../x.jar", f"{SUM}  /a/b/c/d.jar", SUM])
def test_lock_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="checksum lock"):
        jars.parse_lock(line)


def test_fetches_once(tmp_path: Path, mirror: Path, sums: dict[str, str]) -> None:
    said: list[str] = []
    cache = tmp_path / "cache"
    paths = jars.ensure(cache, sums=sums, mirror=str(mirror), notify=said.append)
    assert [path.read_bytes() for path in paths] == [name.encode() for name in NAMES]
    assert jars.ensure(cache, sums=sums, mirror="/nowhere", notify=said.append) == paths
    assert len(said) == 1
    assert names_in(cache) == set(NAMES)  # nothing half made is left
    assert names_in(mirror) == set(NAMES)


def test_damaged_jar_is_fetched_anew(tmp_path: Path, mirror: Path, sums: dict[str, str]) -> None:
    cache = tmp_path / "cache"
    first, _ = jars.ensure(cache, sums=sums, mirror=str(mirror))
    first.write_bytes(b"torn")
    jars.ensure(cache, sums=sums, mirror=str(mirror))
    assert first.read_bytes() == NAMES[0].encode()


def test_wrong_checksum_is_refused(tmp_path: Path, mirror: Path, sums: dict[str, str]) -> None:
    (mirror / NAMES[1]).write_bytes(b"another jar")
    with pytest.raises(BrokerError, match="another SHA-256") as caught:
        jars.ensure(tmp_path / "cache", sums=sums, mirror=str(mirror))
    assert "KAFKA_HOME" in str(caught.value)
    assert NAMES[1] not in names_in(tmp_path / "cache")


@pytest.mark.parametrize("mirror", ["/nowhere", "http://127.0.0.1:1"])
def test_error_says_what_to_do(tmp_path: Path, sums: dict[str, str], mirror: str) -> None:
    with pytest.raises(BrokerError) as caught:
        jars.ensure(tmp_path / "cache", sums=sums, mirror=mirror)
    for way in ("SHOAL_MAVEN_MIRROR", "KAFKA_HOME", "--bootstrap-servers"):
        assert way in str(caught.value)
    assert caught.value.exit_code == 4


def test_cache_folder() -> None:
    assert jars.default_cache({"SHOAL_CACHE": "/c"}) == Path("/c/kafka-4.3.1")
    assert jars.default_cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/shoal/kafka-4.3.1")
    assert jars.default_cache({}) == Path.home() / ".cache/shoal/kafka-4.3.1"
