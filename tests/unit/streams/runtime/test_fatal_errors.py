"""How a worker ends on an error: a line, an exit code and a traceback, but no data of users."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiokafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from streams.errors import TransactionError
from streams.runtime.fatal_errors import authorization_error

CANARY = "canary-91d3"
RUN = """
from streams.runtime.fatal_errors import exit_with_error
def process(user):
    {body}
try:
    process({canary!r})
except Exception as error:
    exit_with_error(error)
"""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("{}[user]", "KeyError"),
        ("int(user)", "ValueError"),
        ("(b'\\xff' + user.encode()).decode()", "UnicodeDecodeError"),
        ("user + 1 if len(user) > 99 else getattr(user, user)", "AttributeError"),
        ("try: {}[user]\n    except KeyError as error: raise RuntimeError('whatever') from error", "RuntimeError"),
    ],
)
def test_an_unexpected_error_shows_the_place_and_no_user_id(body: str, kind: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", RUN.format(body=body, canary=CANARY)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert CANARY not in result.stdout + result.stderr
    assert "in process" in result.stderr
    assert f"shoal: error: {kind}" in result.stderr


def test_a_message_without_user_data_is_shown() -> None:
    code = """
from streams.runtime.fatal_errors import exit_with_error
exit_with_error(OSError(28, 'No space left on device'))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.endswith("shoal: error: OSError(28, 'No space left on device')\n")


@pytest.mark.parametrize("library", ["aiokafka", "kafka"])
def test_an_error_of_a_kafka_client_is_a_broker_error_without_a_traceback(library: str) -> None:
    code = f"""
from {library}.errors import KafkaTimeoutError
from streams.runtime.fatal_errors import exit_with_error
exit_with_error(KafkaTimeoutError('slow'))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (4, "shoal: error: a Kafka client failed: KafkaTimeoutError('slow')\n")


def test_an_authorization_error_is_found_among_the_causes() -> None:
    def chained() -> TransactionError:
        try:
            try:
                raise TopicAuthorizationFailedError("alerts")
            except TopicAuthorizationFailedError:
                raise KafkaTimeoutError from None
        except KafkaTimeoutError as error:
            failed = TransactionError("failed")
            failed.__cause__ = error
            return failed

    reported = authorization_error(chained())
    assert reported is not None
    assert reported.exit_code == 4
    assert "alerts" in str(reported)
    assert authorization_error(TransactionError("failed")) is None
