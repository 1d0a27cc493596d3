"""How a worker ends: a line, an exit code, and where it fell, but not what it held."""

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
def hold(user):
    {body}
try:
    hold({canary!r})
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
def test_an_unforeseen_error_shows_where_and_not_whose(body: str, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(body=body, canary=CANARY)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert CANARY not in done.stdout + done.stderr
    assert "in hold" in done.stderr
    assert f"shoal: error: {kind}" in done.stderr


def test_a_message_that_holds_no_record_is_told() -> None:
    code = "from streams.runtime.fatal_errors import exit_with_error\nexit_with_error(OSError(28, 'No space left on device'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("shoal: error: OSError(28, 'No space left on device')\n")


@pytest.mark.parametrize("library", ["aiokafka", "kafka"])
def test_what_a_client_met_is_the_brokers_without_a_traceback(library: str) -> None:
    code = f"""
from {library}.errors import KafkaTimeoutError
from streams.runtime.fatal_errors import exit_with_error
exit_with_error(KafkaTimeoutError('no'))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "shoal: error: a Kafka client failed: KafkaTimeoutError('no')\n")


def test_what_is_not_allowed_is_found_behind_what_it_brought_about() -> None:
    def chained() -> TransactionError:
        try:
            try:
                raise TopicAuthorizationFailedError("alerts")
            except TopicAuthorizationFailedError:
                raise KafkaTimeoutError from None
        except KafkaTimeoutError as error:
            found = TransactionError("failed")
            found.__cause__ = error
            return found

    refused = authorization_error(chained())
    assert refused is not None
    assert refused.exit_code == 4
    assert "alerts" in str(refused)
    assert authorization_error(TransactionError("failed")) is None
