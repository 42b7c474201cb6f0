"""``simulate``, ``demo``, ``bench``, ``gauntlet``: what shows and measures the product. Their options are their own."""

import importlib
from collections.abc import Callable
from typing import Final

import typer

from orchestrator.cli.root import app
from orchestrator.errors import ConfigurationError

#: They read their own options, --help among them.
_AS_GIVEN: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_AS_GIVEN, add_help_option=False)
def simulate(context: typer.Context) -> int:
    """Run a fake cloud with fake terminals; `simulate --list` names what they can do."""
    from orchestrator.simulator.__main__ import main

    return main(context.args)


@app.command(context_settings=_AS_GIVEN, add_help_option=False)
def demo(context: typer.Context) -> int:
    """Take payments through every kind of trouble, on this machine, and prove what became of each."""
    return _main_of("orchestrator.demo")(context.args)


@app.command(context_settings=_AS_GIVEN, add_help_option=False)
def bench(context: typer.Context) -> int:
    """Measure payments per second and their cost, beside other ways to do it. Needs a checkout."""
    return _main_of("bench.__main__")(context.args)


@app.command(context_settings=_AS_GIVEN, add_help_option=False)
def gauntlet(context: typer.Context) -> int:
    """Play many payments while processes are killed, and count what went wrong. Needs a checkout."""
    return _main_of("gauntlet.__main__")(context.args)


def _main_of(module: str) -> Callable[[list[str]], int]:
    """The ``main(arguments) -> exit status`` of a module that an installation may lack."""
    package = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        if package == "orchestrator":
            raise ConfigurationError("this installation has no demonstration; install the whole package") from None
        message = f"`counterfoil {package}` needs a checkout: clone the repository, and run `make {package}` in it"
        raise ConfigurationError(message) from None
    main: Callable[[list[str]], int] = found.main
    return main
