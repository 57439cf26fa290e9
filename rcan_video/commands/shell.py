"""What every command shares: exit codes, error sentences, signals, and the display that fits the terminal."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import NoReturn

import click

from rcan_video.errors import Interrupted, PipeClosed, RcanVideoError
from rcan_video.progress import Bar, Plain, Progress, Silent


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a click command under ``name`` and leave the process with the exit code of ``rcan_video.errors``."""
    # Threads that have no more work spin by default, and take the cores from the encoder. Read by OpenMP when torch
    # is imported, therefore set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv
    sys.exit(_run(command, name, debug=debug))


def _run(command: click.Command, name: str, *, debug: bool) -> int:
    try:
        command.main(prog_name=name, standalone_mode=False)
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort, Interrupted):
        _say("interrupted: no output was left; run the same command again")
        return Interrupted.exit_code
    except PipeClosed as error:
        return error.exit_code
    except RcanVideoError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        return error.exit_code
    except Exception as error:  # the last resort: whatever comes here is a bug, and says so
        if debug:
            traceback.print_exc()
        _say(f"this is a bug ({type(error).__name__}: {error}): please report it with what --debug prints")
        return RcanVideoError.exit_code


def progress_for_terminal(*, quiet: bool, verbose: bool) -> Progress:
    """A bar on a terminal, plain lines elsewhere, nothing with ``--quiet``."""
    if quiet:
        return Silent()
    return Bar(verbose=verbose) if sys.stderr.isatty() else Plain(verbose=verbose)


def _terminate(signum: int, frame: object) -> None:
    raise Interrupted


def _say(text: str) -> None:
    click.echo(f"rcan-video: {text}", err=True)
