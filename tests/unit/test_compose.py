"""docker-compose.yml, checked as far as that goes without a Docker engine: it has not been run."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streams.config.settings import Settings, load
from streams.kafka.topics import specs

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def settings(service: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """A service's settings as its container sees them: the image's variables, then its own, no shoal.toml."""
    monkeypatch.chdir(folder)
    built = dict(re.findall(r"\b(SHOAL_\w+)=(\S+)", DOCKERFILE))
    own = {
        key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)  # the default, where the environment does not say
        for key, value in services()[service]["environment"].items()
    }
    assert all(isinstance(value, str) for value in own.values())
    return load(environ=built | own)


def test_it_meets_the_compose_specification() -> None:
    # the published schema, as check-jsonschema carries it
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    found = yaml.safe_load(COMPOSE.read_text())
    check = jsonschema.Draft7Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in check.iter_errors(found)] == []
    assert not check.is_valid(found | {"services": {"worker": {"image": "shoal", "portz": []}}})  # it does look
    assert {"kafka", "topics", "worker", "prometheus", "grafana"} == found["services"].keys()
    assert "not run" in COMPOSE.read_text().partition("name:")[0]


def test_every_port_is_published_on_loopback() -> None:
    for name, service in services().items():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", [])), name
        assert "network_mode" not in service, name


def test_images_are_pinned() -> None:
    images = {name: service["image"] for name, service in services().items() if "build" not in service}
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert images.keys() == {"kafka", "prometheus", "grafana"}
    for image in images.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image), image
    assert {re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) is not None for base in bases} == {True}
    (sums,) = (ROOT / "streams" / "embedded_kafka").glob("kafka-*.sha256")  # the broker that the tests run on
    assert images["kafka"] == f"apache/kafka:{sums.stem.removeprefix('kafka-')}"


def test_the_worker_is_not_root_and_writes_only_where_it_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\S+)", last, re.M)
    uid = int(user.partition(":")[0])
    assert uid > 0
    assert f"useradd --uid {uid} " in last
    assert "--require-hashes" in DOCKERFILE
    for name in ("topics", "worker"):
        service = services()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service
        assert "privileged" not in service
    folders = [Path(one.split(":")[1]) for one in services()["worker"]["volumes"]]
    assert any(settings("worker", monkeypatch, tmp_path).state.datadir.is_relative_to(folder) for folder in folders)
    (workdir,) = re.findall(r"^WORKDIR (\S+)", last, re.M)
    assert f"--home-dir {workdir} --create-home" in last  # so the folder, and a new volume on it, is the user's


def test_its_variables_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker, topics = (settings(name, monkeypatch, tmp_path) for name in ("worker", "topics"))
    assert specs(worker) == specs(topics)
    assert (worker.kafka, worker.topics) == (topics.kafka, topics.topics)
    assert (worker.topics.replication, worker.topics.min_insync_replicas) == (1, 1)
    kafka = services()["kafka"]["environment"]
    assert f"PLAINTEXT://{worker.kafka.bootstrap_servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"HOST://{Settings().kafka.bootstrap_servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert worker.web.host == "0.0.0.0"  # Prometheus comes from another container


def test_the_worker_comes_back_after_exit_7_and_is_asked_whether_it_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = services()["worker"]
    assert worker["restart"] in ("always", "unless-stopped", "on-failure")
    assert worker["depends_on"]["kafka"] == {"condition": "service_healthy"}
    assert worker["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    probe = worker["healthcheck"]["test"]
    assert probe[:3] == ["CMD", "python", "-c"]
    compile(probe[3], "healthcheck", "exec")
    port = settings("worker", monkeypatch, tmp_path).web.port
    assert f'"127.0.0.1", {port}' in probe[3]
    assert "/readyz" in probe[3]
    assert worker["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_mounts_are_there_and_nothing_else_goes_into_the_image() -> None:
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for name, service in services().items():
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert mode == ["ro"], f"{name}: {mount}"
            else:
                assert source in volumes, f"{name}: {source}"
            assert target.startswith("/")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert {name for name in kept if not (ROOT / name).exists()} == set()
    assert kept >= {"pyproject.toml", "requirements.lock", "streams", "online_models", "state", "monitoring"}


def test_prometheus_and_grafana_are_told_of_each_other_and_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = {
        path: yaml.safe_load((ROOT / "monitoring" / path).read_text())
        for path in (
            "prometheus.yml",
            "alerts.yml",
            "grafana/provisioning/datasources/prometheus.yml",
            "grafana/provisioning/dashboards/shoal.yml",
        )
    }
    prometheus, alerts, datasources, dashboards = read.values()
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"worker:{settings('worker', monkeypatch, tmp_path).web.port}"]}]
    mounts = {}
    for name in ("prometheus", "grafana"):
        for mount in services()[name]["volumes"]:
            source, target = mount.split(":")[:2]
            mounts[target] = source
    assert mounts["/etc/prometheus/prometheus.yml"] == "./monitoring/prometheus.yml"
    for rules in prometheus["rule_files"]:  # beside the configuration
        assert mounts[f"/etc/prometheus/{rules}"] == f"./monitoring/{rules}"
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
            assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
    (source,) = datasources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = dashboards["providers"]
    folder = provider["options"]["path"]
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == folder
    assert (ROOT / mounts[folder] / home.name).exists()
    assert mounts["/etc/grafana/provisioning/datasources"] == "./monitoring/grafana/provisioning/datasources"
    assert mounts["/etc/grafana/provisioning/dashboards"] == "./monitoring/grafana/provisioning/dashboards"
