"""``counterfoil config``: what is in force, and what could be."""

import typer
from rich.text import Text

from config.settings import Settings, settings
from orchestrator.cli.output import emit, table
from orchestrator.cli.product import Json
from orchestrator.cli.root import app

config = typer.Typer(help="The settings: what is in force, and where it came from.", no_args_is_help=True)
app.add_typer(config, name="config")


@config.command(name="show")
def show_settings(as_json: Json = False) -> None:
    """Show every setting with its value and where it came from; secrets only as set or not set."""
    shown = settings().describe()
    if as_json:
        emit([each._asdict() for each in shown])
        return
    lines = [
        (each.name, Text(each.value, style="" if each.origin == "default" else "bold"), Text(each.origin, style="dim"))
        for each in shown
    ]
    table(("setting", "value", "from"), lines, "")


@config.command()
def schema() -> None:
    """Print the JSON Schema of the environment."""
    emit(Settings.json_schema())
