"""The command line: one small file a command, loaded when it is called. The only package that prints."""

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from streamcnn import __version__
from streamcnn.errors import StreamcnnError
from streamcnn.explaining import did_you_mean

COMMANDS = {
    "run": "Listen to a source and report what the nets hear.",
    "replay": "Find the events in sound files.",
    "watch": "Follow a running daemon's events.",
    "events": "Show what the daemon's journal holds.",
    "score": "Compare detections with labels.",
    "keys": "Make keys for an encrypted wire.",
    "devices": "List the sound devices that can record.",
    "convert": "Turn a trained model into a net's file.",
    "verify": "Check that a net streams what its model computes.",
    "inspect": "Show a net's layers and timing.",
    "bench": "Measure what this machine can run.",
    "train": "Train one of the shipped nets again.",
}
INTERRUPTED = 130


class _ReaderGoneError(Exception):
    """Whoever read our output (`| head`) has had enough of it."""


class _Named:
    """A file whose errors say which file it is."""

    def __init__(self, file: TextIO, name: str):
        self._file, self._name = file, name

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._naming():
            return self._file.write(text)

    def flush(self) -> None:
        """Have all of it written."""
        with self._naming():
            self._file.flush()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.filename is None:
                error.filename = self._name
            raise


class _Commands(click.Group):
    """Loads a command's file only when the command is called, so that `run` never pays for `train`."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the commands in the order of a user's first hour."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load a command."""
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"streamcnn.cli.{name}").command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called, or say which one was perhaps meant."""
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            context.fail(f"there is no command '{name}'; {did_you_mean(name, COMMANDS)}")
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> object:
        """Run the command. Click would end it with code 1 where the reader of its output has gone."""
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="streamcnn")
def cli() -> None:
    """Real-time streaming inference for audio and other sampled signals.

    'streamcnn run' listens to the built-in demo; 'streamcnn COMMAND --help' tells the rest.
    Exit codes: 0 done, 1 the work failed, 2 wrong usage or input, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit; users see one clear line, never a traceback."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the life of the process)
    sys.stdout = _Named(sys.stdout, "standard output")
    if not sys.warnoptions:  # they are for programmers; users are told by errors
        warnings.simplefilter("ignore")
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except StreamcnnError as error:
        click.echo(f"streamcnn: {error}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        where = f"; see '{error.ctx.command_path} --help'" if getattr(error, "ctx", None) else ""
        click.echo(f"streamcnn: {error.format_message().rstrip('.')}{where}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (BrokenPipeError, _ReaderGoneError):
        # That is its right. Python must not flush into the void at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"streamcnn: {where}{error.strerror or error}", err=True)
        code = 1
    except MemoryError:
        click.echo("streamcnn: out of memory", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
