"""The root of the command line: exit statuses, and errors as one sentence."""

import sys
from collections.abc import Sequence
from enum import IntEnum
from importlib import metadata
from typing import Annotated

import typer

from orchestrator.errors import Defect, OrchestratorError, StoreUnavailable

app = typer.Typer(
    name="counterfoil",
    epilog="Exit status: 0 done or charged, 1 error, 2 usage, 10 ended without a charge, 20 not known, 30 differences.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"counterfoil {metadata.version('counterfoil')}")
        except metadata.PackageNotFoundError:
            typer.echo("counterfoil, run from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Card payments on terminals: sent once, and ended with proof."""


class Exit(IntEnum):
    """What the exit status says."""

    DONE = 0  # done, or charged (partly too)
    ERROR = 1
    USAGE = 2
    NOT_CHARGED = 10  # ended without a charge
    UNKNOWN = 20
    DIFFERENCES = 30
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(application: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run, and say in one sentence what went wrong."""
    from orchestrator.cli.commands import register  # the commands import this module

    register(sys.argv[1:] if arguments is None else arguments)
    try:
        result = application(arguments, prog_name="counterfoil", standalone_mode=False)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Defect:
        raise
    except StoreUnavailable as error:
        return _refuse(f"{error} Look at `counterfoil doctor`.")
    except OrchestratorError as error:
        return _refuse(str(error))
    except Exception as error:
        # Typer carries the exceptions of its parser inside itself, under changing names; they all can say this.
        if not hasattr(error, "format_message"):
            raise
        return _usage(error)
    return result if isinstance(result, int) else Exit.DONE


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"counterfoil: {sentence}\n")
    return Exit.ERROR


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "counterfoil"
    if type(error).__name__ != "NoArgsIsHelpError":  # that one has printed the help already
        message: str = getattr(error, "format_message")().rstrip(".")  # noqa: B009  -- see above
        message += "" if message.endswith("?") else "."
        sys.stderr.write(f"{command}: {message} See `{command} --help`.\n")
    return Exit.USAGE
