"""The errors that end a command, each with its exit code.

0 done, 1 anything else, 2 usage or settings, 4 broker, 5 topics, 6 state refused, 7 transaction failed or fenced,
8 too many rejects, 9 recovery, 10 input file or request, 11 going on would lose records.
"""


class ShoalError(Exception):
    """What a user is told in a line, without a traceback."""

    exit_code: int = 1


class SettingsError(ShoalError):
    """Unusable settings or arguments."""

    exit_code = 2


class BrokerError(ShoalError):
    """The broker cannot be had, started or reached, or does not allow what is needed."""

    exit_code = 4


class TopicsError(ShoalError):
    """Topics are missing, or other than the settings say."""

    exit_code = 5


class StateError(ShoalError):
    """Local state or a model version that is not this deployment's, or cannot be read."""

    exit_code = 6


class TransactionError(ShoalError):
    """A transaction failed or was fenced off."""

    exit_code = 7


class RejectsError(ShoalError):
    """Most records in a row are rejects: a wrong schema, key or partitioner."""

    exit_code = 8


class RecoveryError(ShoalError):
    """Recovery from the changelog did not end."""

    exit_code = 9


class DataError(ShoalError):
    """An input file or a request that cannot be read or answered."""

    exit_code = 10


class LossError(ShoalError):
    """Going on would lose records, or count some twice."""

    exit_code = 11
