"""The frame of the command line: help, exit codes, settings in force without secrets."""

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from streams import errors
from streams.cli import COMMANDS, cli
from streams.config.settings import load
from streams.kafka import connectivity

CANARY = "canary-77d0"


def shoal(*args: str, **environ: str) -> Result:
    clean: dict[str, str | None] = {f"SHOAL_{name}": value for name, value in environ.items()}
    return CliRunner().invoke(cli, args, prog_name="shoal", env=clean)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no shoal.toml lies


def test_help_lists_the_commands_the_exit_codes_and_the_completion() -> None:
    shown = shoal("--help")
    assert shown.exit_code == 0
    for word in ("config", "topics", "worker", "Exit codes", "_SHOAL_COMPLETE=bash_source"):
        assert word in shown.output


def test_help_imports_no_client() -> None:
    code = (
        "import sys\nfrom streams.cli import cli\ncli(['--help'], standalone_mode=False)\n"
        "print({'faust', 'kafka', 'aiokafka', 'numpy', 'pydantic'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_every_error_has_an_exit_code_that_the_help_tells() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ShoalError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    told = {int(line.split()[0]) for line in shoal("--help").output.splitlines() if line.strip()[:1].isdigit()}
    assert told == {0, *codes}


def test_each_command_is_named_as_its_module() -> None:
    with click.Context(cli) as context:
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert name in COMMANDS
        assert cli.get_command(context, "nonsense") is None


def test_a_known_error_is_one_line_and_its_exit_code() -> None:
    shown = shoal("config", NOPE="1")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == "shoal: error: nope: unknown setting\n"
    assert shoal("nonsense").exit_code == 2
    assert shoal("--config", "nowhere.toml", "config").exit_code == 2


def test_config_can_be_read_back_as_the_same_settings(tmp_path: Path) -> None:
    written = (
        'prefix = "x-"\n[alerts]\nrequest_rate = false\nrefunds = [2, 5]\n[[sources]]\nname = "s"\n'
        'fields = { "user id" = "user_id" }\ntypes = { "Käufe" = "purchase" }\n'
    )
    (tmp_path / "mine.toml").write_text(written, encoding="utf-8")
    shown = shoal("--config", "mine.toml", "--bootstrap-servers", "b:1", "config")
    assert shown.exit_code == 0, shown.output
    (tmp_path / "again.toml").write_text(shown.stdout.replace('hash_key = "********"\n', ""), encoding="utf-8")
    again = load(tmp_path / "again.toml", {})
    assert again == load(tmp_path / "mine.toml", {}, **{"kafka.bootstrap_servers": "b:1"})
    assert again.alerts.request_rate is None


def test_config_as_json_and_as_toml_agree() -> None:
    def without_null(value: object) -> object:
        if isinstance(value, dict):
            return {key: without_null(one) for key, one in value.items() if one is not None}
        return [without_null(one) for one in value] if isinstance(value, list) else value

    shown = tomllib.loads(shoal("config").stdout)
    assert shown["alerts"].pop("unusual") is False  # off; TOML has no null
    assert without_null(json.loads(shoal("config", "--json").stdout)) == shown


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_config_masks_secrets(form: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    secrets = {"KAFKA__SASL_PASSWORD": CANARY, "KAFKA__SSL_KEYFILE_PASSWORD": CANARY}
    shown = shoal("config", *form, **secrets, LEARNER__HASH_KEY_FILE=str(tmp_path / "key"))
    assert shown.exit_code == 0, shown.output
    assert CANARY not in shown.output
    assert shown.stdout.count("********") == 3


@pytest.mark.parametrize("command", [("snapshot", "-o", "x.parquet"), ("user", "5"), ("status",), ("topics",)])
def test_no_broker_is_told_in_a_line(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectivity, "BOOTSTRAP_MS", 500)
    told = shoal("--bootstrap-servers", "127.0.0.1:1", *command)
    assert told.exit_code == 4, told.output
    assert "no broker at 127.0.0.1:1" in told.output


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here")
def test_train_without_torch_says_what_to_install() -> None:
    shown = shoal("train", "--once")
    assert shown.exit_code == 2
    assert shown.stderr == "shoal: error: torch is missing: pip install 'shoal[embeddings]'\n"
