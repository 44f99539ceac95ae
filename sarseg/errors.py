"""What a user is told when something goes wrong, and the exit code that goes with it."""

from __future__ import annotations


class SarsegError(Exception):
    """Expected trouble: what happened, where, and what to do about it.

    Parameters
    ----------
    what : one sentence without a full stop, with the value that is wrong
    where : the file, key or scene that it concerns
    hint : what the user can do
    """

    exit_code = 1

    def __init__(self, what: str, where: object = None, hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where is not None else ""
        advice = f": {self.hint}" if self.hint else ""
        return " ".join(f"{self.what}{place}{advice}".split())


class UsageError(SarsegError):
    """Wrong use: an option, a configuration file, a call."""

    exit_code = 2


class InputError(SarsegError):
    """Bad input: a file that is absent, damaged, of the wrong kind, or in the wrong place."""

    exit_code = 3


class MissingError(SarsegError):
    """Something that the user must get or free: a geoid grid, disk space, a permission."""

    exit_code = 4
