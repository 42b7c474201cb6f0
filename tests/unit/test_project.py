"""The project keeps its own rules: who may import whom, sizes, pins, and what a tracked file may not say."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator", "tasks", "config")

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# -- who may import whom -----------------------------------------------------------------------------------------------

# From the inside out; a module may import from its own package and from any layer before its own. Who is not named is
# at the edge, and nothing further in may depend on it.
LAYERS: tuple[tuple[str, ...], ...] = (
    tuple(
        f"orchestrator.{name}"
        for name in (
            "model",
            "evidence",
            "transitions",
            "meaning",
            "books",
            "classify",
            "decide",
            "commands",
            "policy",
            "errors",
            "ids",
            "cards",
            "keys",
            "passwords",
            "lifecycle",
            "refunds",
            "subscription",
        )
    ),
    ("orchestrator.log_context",),  # the standard library alone too, but no part of what is decided
    (
        "orchestrator.terminal_api",
        "orchestrator.wire",
        "orchestrator.views",
        "orchestrator.background",
        "orchestrator.tracing",
    ),
    (
        "orchestrator.webhooks",
        "orchestrator.reports",
        "orchestrator.verdicts",
        "orchestrator.story",
        "orchestrator.search",
    ),
    (
        "orchestrator.store",
        "orchestrator.terminal",
        "orchestrator.caller",
        "orchestrator.management",
        "orchestrator.embedded",
    ),
    (
        "orchestrator.record",
        "orchestrator.refund_record",
        "orchestrator.bell",
        "orchestrator.announce",
        "orchestrator.tell",
    ),
    ("orchestrator.booking", "orchestrator.publishers"),
    (
        "orchestrator.intake",
        "orchestrator.inventory",
        "orchestrator.perform",
        "orchestrator.receive",
        "orchestrator.vigil",
        "orchestrator.webhook_intake",
        "orchestrator.reconciliation",
        "orchestrator.ruling",
    ),
    ("orchestrator.refunding",),  # takes in as intake does, and sends as perform does
    ("orchestrator.bootstrap",),
)
CORE = 0
EDGE = len(LAYERS)
# Layers whose modules belong together and may import each other; in the others, neighbours stay strangers.
OPEN_LAYERS = {CORE, EDGE}

# Who may use a library that has one place in this project.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "httpx": (
        "orchestrator.wire",
        "orchestrator.management",
        "orchestrator.caller",
        "orchestrator.client",
        "orchestrator.simulator",
    ),
    "celery": ("tasks", "config.celery", "orchestrator.publishers"),
    "kombu": ("tasks", "config.celery", "orchestrator.publishers"),
    "sqlmodel": ("orchestrator.store",),
    "sqlalchemy": ("orchestrator.store",),
    "alembic": ("orchestrator.store",),
    "opentelemetry": ("orchestrator.tracing",),
    "psycopg": ("orchestrator.store", "orchestrator.embedded"),  # the latter asks its own server whether it is up
    "orchestrator.simulator": ("orchestrator.simulator", "orchestrator.cli", "orchestrator.demo"),
}
CLIENT_MAY_IMPORT = {"httpx", "pydantic", "orchestrator.client"}


class Import(NamedTuple):
    """One imported name, as dotted as the statement says it."""

    name: str
    line: int


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def layer(module: str) -> int:
    for number, packages in enumerate(LAYERS):
        if any(within(module, package) for package in packages):
            return number
    return EDGE


def unit(module: str) -> str:
    """`orchestrator.store.queries` is a part of `orchestrator.store`."""
    return ".".join(module.split(".")[:2])


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import, also those inside functions and under TYPE_CHECKING; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who is imported"
            yield from (Import(f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def trespass(module: str, name: str) -> str | None:
    """Why this module may not import this name, or None."""
    for library, places in ONLY_IN.items():
        if within(name, library) and not any(within(module, place) for place in places):
            return f"{library} belongs to {', '.join(places)}"
    top = name.partition(".")[0]
    own, standard = top in PACKAGES, top in sys.stdlib_module_names
    if not standard and module == "orchestrator.client" and not any(within(name, ok) for ok in CLIENT_MAY_IMPORT):
        return "a caller installs the client with httpx and pydantic alone"
    if top == "tasks" and not within(module, "tasks"):
        return "nothing but tasks imports tasks"
    here = layer(module)
    if here == CORE and not standard and layer(name) != CORE:
        return "the core imports the standard library alone"
    if not own or top == "config":
        return "configuration is passed in" if top == "config" and here < EDGE - 1 else None
    there = layer(name)
    stranger = there == here and here not in OPEN_LAYERS and unit(name) != unit(module)
    if within(module, "orchestrator") and name.startswith("orchestrator.") and (there > here or stranger):
        return f"{unit(name)} is not further in than {unit(module)}"
    return None


def reads_environment(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr in {"environ", "environb", "getenv"}:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in {"environ", "environb", "getenv"})


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def parsed() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in modules():
        yield path, module_name(path), ast.parse(path.read_text(), str(path))


def test_the_project_has_modules_to_judge() -> None:
    assert {module_name(path).partition(".")[0] for path in modules()} == set(PACKAGES)


def test_imports_point_inwards() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}: {why}"
        for path, module, tree in parsed()
        for name, line in imports(tree)
        if (why := trespass(module, name))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("orchestrator.decide", "pydantic.BaseModel"),
        ("orchestrator.decide", "orchestrator.store"),
        ("orchestrator.decide", "config.settings"),
        ("orchestrator.terminal_api.messages", "orchestrator.record"),
        ("orchestrator.terminal", "orchestrator.store.queries"),
        ("orchestrator.record", "orchestrator.perform"),
        ("orchestrator.store.queries", "orchestrator.bootstrap"),
        ("orchestrator.record", "sqlalchemy.select"),
        ("orchestrator.record", "httpx"),
        ("orchestrator.web.api", "celery.Celery"),
        ("orchestrator.cli", "tasks.app"),
        ("orchestrator.bootstrap", "orchestrator.web"),
        ("orchestrator.web.api", "orchestrator.simulator.server"),
        ("orchestrator.client", "orchestrator.model"),
        ("config.settings", "tasks.app"),
    ],
)
def test_an_import_that_points_outwards_is_found(module: str, name: str) -> None:
    assert trespass(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("orchestrator.decide", "dataclasses.dataclass"),
        ("orchestrator.decide", "orchestrator.model.State"),
        ("orchestrator.terminal_api.messages", "orchestrator.model.Money"),
        ("orchestrator.store.queries", "orchestrator.store.tables"),
        ("orchestrator.record", "orchestrator.store"),
        ("orchestrator.perform", "orchestrator.terminal"),
        ("orchestrator.bootstrap", "config.settings"),
        ("orchestrator.web.api", "orchestrator.bootstrap"),
        ("tasks.payments", "orchestrator.bootstrap"),
        ("config.settings", "orchestrator.model.Transport"),
    ],
)
def test_an_import_that_points_inwards_is_let_through(module: str, name: str) -> None:
    assert trespass(module, name) is None


def test_the_settings_alone_read_the_environment() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, module, tree in parsed()
        if module != "config.settings"
        for line in reads_environment(tree)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_a_look_at_the_environment_is_found(source: str) -> None:
    assert list(reads_environment(ast.parse(source)))


# -- sizes -------------------------------------------------------------------------------------------------------------


def table_lines(tree: ast.Module) -> int:
    """Lines of data tables: literals, also wrapped in one call, that a module assigns at its top."""
    lines = 0
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Call) and value.args:
            value = value.args[0]
        if isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set):
            lines += value.end_lineno - value.lineno + 1 if value.end_lineno else 0
    return lines


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring aside."""
    assert node.end_lineno
    lines, first = node.end_lineno - node.lineno + 1, node.body[0]
    if ast.get_docstring(node) and first.end_lineno:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_modules_can_be_read_in_one_sitting() -> None:
    sizes = {path: len(path.read_text().splitlines()) - table_lines(tree) for path, _, tree in parsed()}
    assert not {str(path.relative_to(ROOT)): lines for path, lines in sizes.items() if lines > MODULE_LINES_MAX}


def test_functions_fit_on_a_screen() -> None:
    sizes = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": function_lines(node)
        for path, module, tree in parsed()
        if not within(module, "orchestrator.store.migrations.versions")  # a schema written out: a table of data
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert sizes
    assert not {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES_MAX}


# -- pins --------------------------------------------------------------------------------------------------------------

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-bench.txt", "requirements-fuzz.txt")


def pins(name: str) -> dict[str, str]:
    """Package to version, of one requirements file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    entries = re.sub(r"\\\n\s*", "", (ROOT / name).read_text()).strip().splitlines()
    assert entries
    assert not [e for e in entries if not re.match(r"^[a-z0-9._-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}$", e)]


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_no_requirements_file_names_a_place(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not [sign for sign in ("://", "--index", "--extra", "--find-links", "@ ", "/") if sign in text]


def test_the_requirements_files_agree_with_each_other() -> None:
    versions: dict[str, set[str]] = {}
    for name in REQUIREMENTS:
        for package, version in pins(name).items():
            versions.setdefault(package, set()).add(version)
    assert not {package: found for package, found in versions.items() if len(found) > 1}


def test_the_project_and_its_build_backend_are_pinned_in_full() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.split(r"[\[<>=;, ]", requirement, maxsplit=1)[0] for requirement in wanted}
    assert names <= set(pins("requirements.txt"))


# -- what is said and shipped ------------------------------------------------------------------------------------------

# Put together from halves, so that this file passes its own test.
FORBIDDEN = {
    "a folder of one machine": r"(?<![\w./])/(?:wo" + r"rk|ro" + r"ot)/",
    "a package registry": r"(?i)\b(?:files\.)?python" + r"hosted\.org|\bpypi\." + r"org/simple|/opt/py" + r"pi",
    "the tools it was typed with": r"(?i)\b(?:clau" + r"de|anthro" + r"pic|chat" + r"gpt|co" + r"pilot|ll" + r"m)\b",
    "a conflict": r"^(?:<{7}|>{7}) ",
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_speak_of_the_project_alone() -> None:
    found = []
    for path in tracked():
        if path.suffix == ".png":  # three letters in a row are chance there
            continue
        text = path.read_text(errors="replace")
        found += [
            f"{path.relative_to(ROOT)}: {what}: {match.group()}"
            for what, pattern in FORBIDDEN.items()
            if (match := re.search(pattern, text, re.MULTILINE))
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text", ["see /wo" + "rk/main", "'/ro" + "ot/.cache'", "made with Clau" + "de", "<" * 7 + " HEAD"]
)
def test_a_forbidden_word_is_found(text: str) -> None:
    assert any(re.search(pattern, text, re.MULTILINE) for pattern in FORBIDDEN.values())


def test_nothing_secret_or_generated_is_tracked() -> None:
    names = [str(path.relative_to(ROOT)) for path in tracked()]
    assert not [n for n in names if re.search(r"(^|/)(\.env(?!\.example$)|secrets/|\.venv)|\.(pyc|rdb|aof|log)$", n)]


def test_the_version_is_the_newest_of_the_changelog() -> None:
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    numbers = [tuple(map(int, heading.split("."))) for heading in headings]
    assert headings[0] == version
    assert all(newer > older for newer, older in pairwise(numbers))


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony.group(1).split()) == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))


def test_the_wheel_holds_every_file_of_the_three_packages_and_no_other(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("counterfoil-*.whl"))) as wheel:
        shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "counterfoil = orchestrator.cli:main" in wheel.read(entry_points).decode()
    ours = {str(path.relative_to(ROOT)) for path in tracked() if path.relative_to(ROOT).parts[0] in PACKAGES}
    assert ours <= shipped
    assert {name.partition("/")[0] for name in shipped} == set(PACKAGES)


# -- CI ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_a_skipped_test_is_red_in_ci_and_only_there(tmp_path: Path, ci: str, status: int) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\n@pytest.mark.skip(reason='no server')\ndef test_x(): ...\n")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.conftest",
            "-c",
            os.devnull,
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status, run.stdout + run.stderr
    assert ("CI counts as failed" in run.stdout) is (status == 1)
