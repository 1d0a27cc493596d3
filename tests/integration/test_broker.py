import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from streams.cli.broker import broker as command
from streams.embedded_kafka.broker import Broker, start, status, stop
from streams.embedded_kafka.process import free_port, is_ours
from streams.errors import BrokerError

pytestmark = pytest.mark.kafka

# starts a broker, tells its pid and waits
HOLD = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts in the background
from streams.embedded_kafka.broker import Broker
with Broker.running(Path(sys.argv[1])) as broker:
    print(broker.pid, flush=True)
    input()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    stop(tmp_path / "home")


def read_one(bootstrap: str, topic: str) -> tuple[bytes, int]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    try:
        record = next(iter(consumer))
        return record.value, record.timestamp
    finally:
        consumer.close()


def test_record_of_2016_survives_a_restart(home: Path, prefix: str) -> None:
    topic, july_2016 = f"{prefix}old", 1_469_000_000_000
    first = start(home)
    admin = KafkaAdminClient(bootstrap_servers=first.bootstrap)
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=first.bootstrap)
    producer.send(topic, b"value", timestamp_ms=july_2016).get(timeout=30)
    producer.close()
    assert read_one(first.bootstrap, topic) == (b"value", july_2016)

    again = start(home)
    assert (again, again.started) == (Broker(first.pid, first.port, first.controller_port, first.data), False)
    with Broker.running(home) as third:
        assert third.pid == first.pid
    assert status(home) is not None  # the block did not start it, so it does not stop it
    with pytest.raises(BrokerError, match="already"):
        start(home, port=free_port(None, None, exclude=first.port))

    assert stop(home)
    assert status(home) is None
    assert not stop(home)
    with Broker.running(home) as anew:
        assert anew.started
        assert read_one(anew.bootstrap, topic) == (b"value", july_2016)
    assert status(home) is None


def test_note_of_another_process_is_stale_and_leaves_it_alone(home: Path) -> None:
    data = home / "kafka"
    data.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (data / "broker.json").write_text(json.dumps({"pid": stranger.pid, "port": 1, "controller_port": 2}))
        assert status(home) is None
        assert not stop(home)
        assert stranger.poll() is None
        stranger.kill()
    (data / "broker.json").write_text("{")
    assert status(home) is None


def test_failed_start_shows_the_end_of_the_log(home: Path) -> None:
    with pytest.raises(BrokerError, match=r"num\.io\.threads"):
        start(home, overrides={"num.io.threads": "none"})
    assert status(home) is None


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(PR_SET_PDEATHSIG) is Linux's")
def test_it_ends_with_a_starter_that_is_killed(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert status(home) is not None
        ending = os.pidfd_open(pid)
        starter.kill()
    assert starter.returncode == -signal.SIGKILL
    assert select.select([ending], [], [], 60)[0], "the broker outlived its starter"
    os.close(ending)
    assert not is_ours(pid, home / "kafka" / "server.properties")


def test_ctrl_c_stops_it(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGINT)
    assert starter.returncode == -signal.SIGINT
    assert not is_ours(pid, home / "kafka" / "server.properties")


def test_command_line(home: Path) -> None:
    runner = CliRunner()
    arguments = ["--home", str(home)]
    assert json.loads(runner.invoke(command, ["status", "--json", *arguments]).stdout) == {"running": False}
    started = runner.invoke(command, ["start", *arguments], catch_exceptions=False)
    assert started.exit_code == 0
    told = json.loads(runner.invoke(command, ["status", "--json", *arguments]).stdout)
    assert told["running"]
    assert told["bootstrap_servers"] == started.stdout.strip()
    assert runner.invoke(command, ["stop", *arguments]).exit_code == 0
    assert "no broker" in runner.invoke(command, ["status", *arguments]).stdout
    assert runner.invoke(command, ["start", "--port", "0"]).exit_code == 2
