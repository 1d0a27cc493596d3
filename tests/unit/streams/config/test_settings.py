"""What is unknown, of a wrong type or impossible is refused with its name; secrets do not show."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from streams.config.settings import load
from streams.errors import SettingsError

CANARY = "canary-3f1c"


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"SHOAL_NOPE": "1"}, "nope"),
        ({"SHOAL_LEARNER__K_LEAST": "1"}, "learner.k_least"),
        ({"SHOAL_LEARNER__K_LEAST": "x"}, "learner.k_least"),
        ({"SHOAL_KAFKA__NOPE": "1"}, "kafka.nope"),
        ({"SHOAL_TIMEZONE": "Mars/Base"}, "timezone"),
        ({"SHOAL_KAFKA__SASL_PASSWORD_FILE": "/nowhere"}, "SASL_PASSWORD"),
    ],
)
def test_refused_with_the_keys_name(environ: dict[str, str], key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        load(environ=environ)


def test_file_then_environment_then_overrides(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY + "\n")
    (tmp_path / "shoal.toml").write_text('prefix = "a-"\ntimezone = "Europe/Berlin"\n[topics]\npartitions = 2\n')
    environ = {"SHOAL_PREFIX": "b-", "SHOAL_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "secret")}
    settings = load(tmp_path / "shoal.toml", environ, **{"topics.partitions": 3})
    assert (settings.prefix, settings.timezone, settings.topics.partitions) == ("b-", "Europe/Berlin", 3)
    assert settings.topic("segments") == "b-segments"
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == CANARY
    assert CANARY not in settings.model_dump_json() + repr(settings)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ('[topics]\npartitions = "4"', "topics.partitions"),
        ("[topics]\npartitions = true", "topics.partitions"),
        ("[web]\nport = 1.5", "web.port"),
        ("[web]\nport = 65536", "web.port"),
        ("lateness = nan", "lateness"),
        ("[learner]\nevery = inf", "learner.every"),
        ("[learner]\nk_least = 20\nk_most = 20\nfirst_rows = 10", "learner.first_rows"),
        ("[learner]\nk_least = 20", "learner.k_most"),
        ("[topics]\nreplication = 1", "topics.min_insync_replicas must"),
        ("[state]\nflush_interval = 30.0", "state.flush_interval must"),
        ("[alerts]\nrefunds = [9, 3]", "alerts.refunds"),
        ("[alerts]\nrequest_rate = [1]", "alerts.request_rate"),
        ('[topics]\nalerts = "segments"', "segments is named twice"),
        ("sources = []", "sources"),
        ('[[sources]]\nname = "a"\nnope = 1', "sources.0.nope: unknown"),
        ("kafka = 3", "kafka"),
        ('[[sources]]\nname = "a"\nschema = "ga5"', "sources.0.schema"),
        ("lateness = \n", "line 1"),
        ('[[sources]]\nname = "a"\nrekey_from = "a"', "a is named twice"),
        ('[[sources]]\nname = "a"\nrekey_from = "r"\n[[sources]]\nname = "b"\nrekey_from = "r"', "r is named twice"),
        ('[kafka]\nbootstrap_servers = "nowhere"', "kafka.bootstrap_servers"),
        ('application = "a b"', "application"),
        ('[kafka]\nssl_keyfile = "k"', "kafka: ssl_keyfile"),
        ('[learner]\nhash_key = ""', "learner.hash_key"),
        ('[[sources]]\nname = "a"\nschema = "rees46"\nfields = { a = "brand" }', "sources.0: fields"),
        ('[[sources]]\nname = "a"\nschema = "rees46"\ntypes = { a = "view" }', "sources.0: types"),
    ],
)
def test_a_file_is_checked_strictly(written: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "shoal.toml").write_text(written)
    with pytest.raises(SettingsError, match=key.replace(".", r"\.")):
        load(tmp_path / "shoal.toml", {})


def test_a_variable_is_text_where_the_setting_is_else_toml() -> None:
    settings = load(
        environ={
            "SHOAL_KAFKA": '{ bootstrap_servers = "a:1", ssl_check_hostname = true }',
            "SHOAL_PREFIX": "true",
            "SHOAL_KAFKA__SSL_CHECK_HOSTNAME": "false",
            "SHOAL_KAFKA__SASL_PASSWORD": "[1",
            "SHOAL_LATENESS": "60",
            "SHOAL_ALERTS__REFUNDS": "false",
            "SHOAL_ALERTS__SPEND_FACTOR": "[2, 3.5]",
            "SHOAL_STATE__DATADIR": "7",
            "SHOAL_SOURCES": '[{ name = "a", fields = { uid = "user_id" } }]',
            "SHOAL_CACHE": "/c",
            "PATH": "/bin",
        }
    )
    assert (settings.kafka.bootstrap_servers, settings.kafka.ssl_check_hostname) == ("a:1", False)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "[1"
    assert (settings.prefix, settings.lateness, settings.state.datadir) == ("true", 60.0, Path("7"))
    assert (settings.alerts.refunds, settings.alerts.spend_factor) == (None, (2.0, 3.5))
    assert settings.sources[0].fields == {"uid": "user_id"}


def test_a_value_and_a_file_for_it_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    environ = {"SHOAL_LEARNER__HASH_KEY": "y", "SHOAL_LEARNER__HASH_KEY_FILE": str(tmp_path / "secret")}
    with pytest.raises(SettingsError, match="SHOAL_LEARNER__HASH_KEY"):
        load(environ=environ)


@pytest.mark.parametrize("key", ["KAFKA__SECURITY_PROTOCOL", "KAFKA", "LEARNER__CLIP", "CURRENCY", "TIMEZONE", "NOPE"])
def test_no_error_shows_a_value(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={f"SHOAL_{key}": CANARY})
    assert CANARY not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load(environ={}).topics.partitions = 5
