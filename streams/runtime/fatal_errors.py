"""The end of a worker that cannot go on."""

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
from state.stores.rocksdb import BrokenStore
from streams.errors import BrokerError, ShoalError, StateError

log = logging.getLogger(__name__)
KAFKA = (KafkaError, kafka.errors.KafkaError)  # what a client met that nothing nearer to it has told
QUOTING = (LookupError, ValueError, TypeError, AttributeError, AssertionError)
DENIED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def denied(error: BaseException) -> BrokerError | None:
    """What an ACL or a credential that is gone looks like, wherever a client met it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DENIED):
            told = f"{type(cause).__name__.removesuffix('Error')}: {', '.join(map(str, cause.args))}"
            return BrokerError(f"the brokers do not allow this user to go on: {told} (ACLs: docs/how-to/security.md)")
        cause = cause.__cause__ or cause.__context__
    return None


def fail(error: BaseException) -> None:
    """Say why and leave the process at once: what was not committed is done again by the next owner."""
    error = denied(error) or error
    if isinstance(error, KAFKA):
        error = BrokerError(f"the brokers: {error!r}")
    if isinstance(error, BrokenStore):
        error = StateError(f"{error}: the next start sets it aside and rebuilds it")
    if isinstance(error, LayoutError):
        error = StateError(str(error))
    if not isinstance(error, ShoalError):
        log.critical("the worker failed\n%s", "".join(traced(error)))
    print(f"shoal: error: {error if isinstance(error, ShoalError) else told(error)}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, ShoalError) else 1)


def told(error: BaseException) -> str:
    """An error nobody foresaw; of one that quotes what it was given only the type, for that may be a user id."""
    return type(error).__name__ if isinstance(error, QUOTING) else repr(error)


def traced(error: BaseException) -> list[str]:
    """Its traceback and those of its causes, told so; the last one is the error itself."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if before is None else [*traced(before), "\nthen\n\n"]
    frames = traceback.format_tb(error.__traceback__)
    return [*lines, "Traceback (most recent call last):\n", *frames, f"{told(error)}\n"]
