"""What every command shares: exit codes, error sentences, signals, shell completion."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from rcan_video.commands.completion import complete
from rcan_video.commands.config import files_read
from rcan_video.errors import Interrupted, PipeClosed, RcanVideoError, bug_sentence, did_you_mean

if TYPE_CHECKING:
    from rcan_video.progress import Display

# SIGHUP: a terminal that is closed. Windows has none.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(slots=True)
class Shell:
    """The ``obj`` of a command's context: ``display`` says errors too, once the command has opened one."""

    name: str
    display: Display | None = None

    def fail(self, text: str, code: int) -> int:
        """Say the sentence of an error. Returns ``code``."""
        if self.display is None:
            with contextlib.suppress(OSError, ValueError):  # nobody listens: the exit code says it all
                click.echo(f"{self.name}: {text}", err=True)
        else:
            self.display.fail(text, code)
        return code


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a click command under ``name`` and leave the process with the exit code of ``rcan_video.errors``."""
    # How long a thread of torch's that has no work looks for more before it sleeps. OpenMP's own value keeps the
    # cores from the encoder; none at all pays a wake-up for every layer (62 instead of 51 ms a frame, measured with
    # fast x2 at 480x270 on two cores). Read by OpenMP when torch is imported, therefore set here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    _occupy_standard_descriptors()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and the shell's "&" leave it
            signal.signal(number, _interrupt)
    sys.exit(_run(command, name, debug="--debug" in sys.argv))


def _run(command: click.Command, name: str, *, debug: bool) -> int:
    shell = Shell(name)
    try:
        complete(command, name)
        # Not command.main(): that takes any EOFError for Ctrl-D and any broken pipe for its own.
        with command.make_context(name, sys.argv[1:], obj=shell) as context:
            command.invoke(context)
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return shell.fail(f"{_sentence(error).rstrip('.')} (see {name} --help)", error.exit_code)
    except (KeyboardInterrupt, Interrupted) as error:
        again = shlex.join([name, *sys.argv[1:]])
        kept = isinstance(error, Interrupted) and error.kept
        state = "; to go on" if kept else ", this run has kept nothing; again"
        return shell.fail(f"{str(error) or 'interrupted'}{state}: {again}", Interrupted.exit_code)
    except PipeClosed as error:
        return error.exit_code
    except RcanVideoError as error:
        if debug:
            traceback.print_exc()
        return shell.fail(str(error), error.exit_code)
    except Exception as error:  # the last resort: whatever comes here is a bug, and says so
        if debug:
            traceback.print_exc()
        return shell.fail(bug_sentence(error), RcanVideoError.exit_code)
    finally:
        if shell.display is not None:
            shell.display.close()


def _sentence(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
        return f"there is no option {error.option_name}{did_you_mean(error.option_name, known)}"
    said = error.format_message()
    if isinstance(error, click.BadParameter) and error.ctx is not None and error.param is not None and error.param.name:
        name = error.param.name
        source = error.ctx.get_parameter_source(name)
        if source == ParameterSource.ENVIRONMENT:
            return f"{said.rstrip('.')} (from {error.ctx.auto_envvar_prefix}_{name.upper()})"
        if source == ParameterSource.DEFAULT_MAP:
            files = " and ".join(map(str, files_read(error.ctx)))
            return f"{said.rstrip('.')} (from {files})"
    return said


def _occupy_standard_descriptors() -> None:
    """Where the caller has closed standard input, output or error, the next file that is opened would get its number,
    and with it what libraries print there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _interrupt(signum: int, frame: object) -> None:
    """The first signal ends the work in good order; a second one ends the process at once."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
