"""Every error a user can meet, and the exit code that goes with it.

    RcanVideoError 1
    ├── UsageError          2   options that contradict each other (click raises its own for the rest)
    ├── InputError          3   the input cannot be opened, is not video, or is damaged beyond use
    │   └── InputHangs      3   the input gives nothing any more: its reader is stuck in the system
    ├── OutputError         4   the output cannot be written, or its container refuses a stream
    │   └── PipeClosed      4   whoever read our standard output has gone: said by the exit code alone
    ├── WeightsError        5   a checkpoint that is none, is unknown, or does not fit the request
    ├── DeviceError         6   no such device, device lost
    │   ├── OutOfMemory     6
    │   └── NotFinite       6   the network returned NaN or infinity
    ├── VerificationError   7   what was written is not what was promised
    ├── BatchFailed               some files of several: with the highest of their codes
    └── Interrupted       130   Ctrl-C or SIGTERM

A message is one sentence that says what, where and what to do. Code 1 is kept for bugs. The command also ends with 3
where damage in the input was stepped over and the output is there.
"""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a ``word`` that is none of those ``known``: the one it is like, or nothing."""
    from difflib import get_close_matches

    like = get_close_matches(word, list(known), 1)
    return f"; did you mean {like[0]!r}?" if like else ""


def bug_sentence(error: Exception) -> str:
    """What is said about an exception that should not be."""
    return f"this is a bug ({type(error).__name__}: {error}): please report it with what --debug prints"


def damage_sentence(source: str, output: object) -> str:
    """What is said where damage in ``source`` was stepped over; ``output`` None: standard output."""
    name = "standard input" if source == "-" else source
    return f"{name} is damaged: {output or 'the output'} is whole but for what could not be read"


class RcanVideoError(Exception):
    """Base of all errors of this package; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(RcanVideoError):
    exit_code = 2


class InputError(RcanVideoError):
    exit_code = 3


class InputHangs(InputError):
    """The input gives nothing any more. Whoever reads it is stuck and cannot be waited for, nor may what it uses be
    closed."""


class OutputError(RcanVideoError):
    exit_code = 4


class PipeClosed(OutputError):
    """The reader of our standard output has closed it, as ``head`` does."""


class WeightsError(RcanVideoError):
    exit_code = 5


class DeviceError(RcanVideoError):
    exit_code = 6


class OutOfMemory(DeviceError):
    pass


class NotFinite(DeviceError):
    pass


class VerificationError(RcanVideoError):
    exit_code = 7


class BatchFailed(RcanVideoError):
    """Some of several files went wrong; all were tried."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Interrupted(RcanVideoError):
    """``kept``: some of the work is, and the same job goes on from there."""

    exit_code = 130

    def __init__(self, why: str = "interrupted", *, kept: bool = False) -> None:
        super().__init__(why)
        self.kept = kept
