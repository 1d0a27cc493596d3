"""The errors that end a command, each with its exit code."""


class ShoalError(Exception):
    """What a user is told in a line, without a traceback."""

    exit_code: int = 1


class SettingsError(ShoalError):
    """Unusable settings or arguments."""

    exit_code = 2


class BrokerError(ShoalError):
    """The broker cannot be had, started or reached."""

    exit_code = 4
