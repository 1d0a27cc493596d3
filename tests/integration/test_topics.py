"""Topics are created as the settings say, and checked where they are there."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic

from streams.cli import cli
from streams.config.settings import Settings, load
from streams.errors import TopicsError
from streams.kafka.topics import ensure, specs

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, prefix: str) -> Settings:
    one: dict[str, Any] = {"topics.replication": 1, "topics.min_insync_replicas": 1, "topics.partitions": 2}
    return load(environ={}, prefix=prefix, **one, **{"kafka.bootstrap_servers": kafka})


@pytest.fixture
def admin(kafka: str) -> Any:
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    client.close()


def test_created_as_specified_then_ok(settings: Settings, admin: Any) -> None:
    with pytest.raises(TopicsError, match=f"missing: {settings.prefix}clickstream"):
        ensure(settings, create=False)
    assert {state for _, state in ensure(settings)} == {"created"}
    assert {state for _, state in ensure(settings, create=False)} == {"ok"}
    wanted = specs(settings)
    resources = [ConfigResource("TOPIC", spec.name, list(spec.config)) for spec in wanted]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    partitions = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
    for spec in wanted:
        assert {key: entry["value"] for key, entry in configs[spec.name].items()} == spec.config
        assert partitions[spec.name] == spec.partitions


def test_what_must_be_compacted_is_and_goes_with_the_sources(settings: Settings) -> None:
    by_name = {spec.name: spec for spec in specs(settings)}
    compacted = {name for name, spec in by_name.items() if spec.config["cleanup.policy"] == "compact"}
    assert compacted == {settings.topic("segments"), settings.topic("models"), settings.changelog}
    assert by_name[settings.changelog].partitions == by_name[settings.source_topics[0]].partitions == 2
    assert by_name[settings.topic("models")].partitions == by_name[settings.topic("training_rows")].partitions == 1


def test_another_topic_of_the_name_is_refused(settings: Settings, admin: Any) -> None:
    clicks, segments, alerts = settings.source_topics[0], settings.topic("segments"), settings.topic("alerts")
    admin.create_topics(
        [
            NewTopic(clicks, 3, 1),
            NewTopic(segments, 2, 1, topic_configs={"max.message.bytes": str(16 << 20)}),
            NewTopic(alerts, 2, 1, topic_configs={"max.message.bytes": "1000000"}),
        ],
        wait_for_metadata=True,
    )
    with pytest.raises(TopicsError) as caught:
        ensure(settings)
    told = str(caught.value).split("; ")
    assert told == [
        f"{clicks}: partitions: expected 2, found 3",
        f"{segments}: cleanup.policy: expected compact, found delete",
        f"{alerts}: max.message.bytes: expected {16 << 20}, found 1000000",
    ]
    assert settings.topic("models") not in admin.list_topics()  # nothing is created beside what is wrong


def test_more_replicas_than_brokers_names_the_setting(settings: Settings) -> None:
    three = settings.model_copy(update={"topics": settings.topics.model_copy(update={"replication": 3})})
    with pytest.raises(TopicsError, match=r"topics\.replication"):
        ensure(three)


def test_the_command(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--bootstrap-servers", settings.kafka.bootstrap_servers, "--prefix", settings.prefix, "topics"]
    environ = {"SHOAL_TOPICS__REPLICATION": "1", "SHOAL_TOPICS__MIN_INSYNC_REPLICAS": "1"}
    shown = CliRunner().invoke(cli, [*options, "--check"], env=environ)
    assert shown.exit_code == 5
    assert shown.stderr.startswith("shoal: error: missing: ")
    made = CliRunner().invoke(cli, [*options, "--json"], env=environ)
    assert made.exit_code == 0
    assert {topic["state"] for topic in json.loads(made.stdout)} == {"created"}
    assert CliRunner().invoke(cli, [*options, "--check"], env=environ).exit_code == 0
    more = environ | {
        "SHOAL_TOPICS__SOURCE_RETENTION": "200",
        "SHOAL_TOPICS__REPLICATION": "2",
        "SHOAL_TOPICS__MIN_INSYNC_REPLICAS": "2",
    }
    short = CliRunner().invoke(cli, [*options, "--check"], env=more)
    clicks = f"{settings.prefix}clickstream"
    assert short.exit_code == 5
    assert f"{clicks}: retention.ms: expected at least 720000000, found 604800000" in short.stderr
    assert f"{clicks}: min.insync.replicas: expected at least 2, found 1" in short.stderr
    assert f"{clicks}: replication: expected 2, found 1" in short.stderr
    assert f"{settings.prefix}segments: retention.ms" not in short.stderr
    ensure(
        load(
            environ=more,
            prefix=settings.prefix,
            **{"topics.partitions": 4, "kafka.bootstrap_servers": settings.kafka.bootstrap_servers},
        ),
        create=False,
    )  # a worker lives with it
