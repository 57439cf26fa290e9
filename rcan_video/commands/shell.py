"""What every command shares: exit codes, error sentences, signals, and the display that fits the terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import traceback
from typing import NoReturn

import click

from rcan_video.errors import Interrupted, PipeClosed, RcanVideoError
from rcan_video.progress import Bar, Plain, Progress, Silent

# SIGHUP: a terminal that is closed. Windows has none.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a click command under ``name`` and leave the process with the exit code of ``rcan_video.errors``."""
    # How long a thread of torch's that has no work looks for more before it sleeps. OpenMP's own value keeps the
    # cores from the encoder; none at all pays a wake-up for every layer (62 instead of 51 ms a frame, measured with
    # fast x2 at 480x270 on two cores). Read by OpenMP when torch is imported, therefore set here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and the shell's "&" leave it
            signal.signal(number, _interrupt)
    sys.exit(_run(command, name, debug="--debug" in sys.argv))


def _run(command: click.Command, name: str, *, debug: bool) -> int:
    try:
        # Not command.main(): that takes any EOFError for Ctrl-D and any broken pipe for its own.
        with command.make_context(name, sys.argv[1:]) as context:
            command.invoke(context)
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _say(name, f"{error.format_message().rstrip('.')} (see {name} --help)")
        return error.exit_code
    except (KeyboardInterrupt, Interrupted) as error:
        again = shlex.join([name, *sys.argv[1:]])
        kept = isinstance(error, Interrupted) and error.kept
        state = "; to go on" if kept else ", this run has kept nothing; again"
        _say(name, f"{str(error) or 'interrupted'}{state}: {again}")
        return Interrupted.exit_code
    except PipeClosed as error:
        return error.exit_code
    except RcanVideoError as error:
        if debug:
            traceback.print_exc()
        _say(name, str(error))
        return error.exit_code
    except Exception as error:  # the last resort: whatever comes here is a bug, and says so
        if debug:
            traceback.print_exc()
        _say(name, f"this is a bug ({type(error).__name__}: {error}): please report it with what --debug prints")
        return RcanVideoError.exit_code


def progress_for_terminal(*, quiet: bool, verbose: bool) -> Progress:
    """A bar on a terminal, plain lines elsewhere, nothing with ``--quiet``."""
    if quiet:
        return Silent()
    if sys.stderr is None:  # closed by the caller
        return Silent()
    progress: Progress = Bar(verbose=verbose) if sys.stderr.isatty() else Plain(verbose=verbose)
    if hasattr(signal, "SIGUSR1"):  # Windows has none
        signal.signal(signal.SIGUSR1, lambda *_: progress.status())
    return progress


def _interrupt(signum: int, frame: object) -> None:
    """The first signal ends the work in good order; a second one ends the process at once."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def _say(name: str, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody listens: the exit code says it all
        click.echo(f"{name}: {text}", err=True)
