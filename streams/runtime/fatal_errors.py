"""How a worker ends when it cannot continue: one line on stderr and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import kafka.errors
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from state.rows import LayoutError
from state.stores.database import BrokenStore
from streams.errors import BrokerError, ShoalError, StateError

log = logging.getLogger(__name__)
CLIENT_ERRORS = (KafkaError, kafka.errors.KafkaError)  # of both client libraries, where no caller handled them
ERRORS_THAT_QUOTE_DATA = (LookupError, ValueError, TypeError, AttributeError, AssertionError)
AUTHORIZATION_ERRORS = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def authorization_error(error: BaseException) -> BrokerError | None:
    """The BrokerError to report where an ACL or a credential is missing; None where neither caused the error.

    Follows the chain of causes, because the clients raise later errors on top of it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AUTHORIZATION_ERRORS):
            reason = f"{type(cause).__name__.removesuffix('Error')}: {', '.join(map(str, cause.args))}"
            return BrokerError(
                f"the brokers do not allow this user to continue: {reason} (ACLs: docs/how-to/security.md)"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def exit_with_error(error: BaseException) -> None:
    """Print the reason and end the process at once with the error's exit code.

    Nothing is cleaned up: the next owner of the partitions repeats what was not committed.
    """
    error = authorization_error(error) or error
    if isinstance(error, CLIENT_ERRORS):
        error = BrokerError(f"a Kafka client failed: {error!r}")
    if isinstance(error, BrokenStore):
        error = StateError(f"{error}: the next start sets the store aside and rebuilds it")
    if isinstance(error, LayoutError):
        error = StateError(str(error))
    if not isinstance(error, ShoalError):
        log.critical("the worker failed\n%s", "".join(format_traceback(error)))
    message = error if isinstance(error, ShoalError) else describe_unexpected(error)
    print(f"shoal: error: {message}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, ShoalError) else 1)


def describe_unexpected(error: BaseException) -> str:
    """An unexpected error as text; only its type where its message may quote data, such as a user id."""
    return type(error).__name__ if isinstance(error, ERRORS_THAT_QUOTE_DATA) else repr(error)


def format_traceback(error: BaseException) -> list[str]:
    """The tracebacks of an error and its causes, oldest first, each described by `describe_unexpected`."""
    previous = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if previous is None else [*format_traceback(previous), "\nthen\n\n"]
    frames = traceback.format_tb(error.__traceback__)
    return [*lines, "Traceback (most recent call last):\n", *frames, f"{describe_unexpected(error)}\n"]
