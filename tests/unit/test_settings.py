"""What is unknown, of a wrong type or impossible is refused with its name; secrets do not show."""

from pathlib import Path

import pytest

from streams.errors import SettingsError
from streams.settings import load

CANARY = "canary-3f1c"


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"SHOAL_NOPE": "1"}, "nope"), ({"SHOAL_LEARNER__K": "1"}, "learner.k"),
        ({"SHOAL_LEARNER__K": "x"}, "learner.k"),
        ({"SHOAL_KAFKA__NOPE": "1"}, "kafka.nope"), ({"SHOAL_TIMEZONE": "Mars/Base"}, "timezone"),
        ({"SHOAL_KAFKA__SASL_PASSWORD_FILE": "/nowhere"}, "SASL_PASSWORD"),
    ],
)  # fmt: skip
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
