"""Reads the project's documents as a reader would, and says what in them is not so.

Everything that a page says in code (commands, settings, routes, metrics, tasks, targets, files) and every link is held
against the code itself. ``faults`` takes text, so that it can be shown a page with a fault in it.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

#: A word that stands for something else: `POIID`, `<you>`, `$KEY`, `…`, `[OPTIONS]`, `{id}`.
PLACEHOLDER: Final = re.compile(r"[A-Z][A-Z_:|\[\]]*|<.*>|\$.*|.*…|\[.*\]?|.*\]|\{.*\}|\.\.\.")
#: Fences that hold other languages than a shell's.
_OTHER_LANGUAGES: Final = {"python", "json", "mermaid", "sql", "toml", "yaml", "csv"}
_FENCE: Final = re.compile(r"^```([a-z]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?<=\n\n)(?: {4}\S[^\n]*\n)+")
_SPAN: Final = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK: Final = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)|\b(?:href|src|srcset)=\"([^\"]+)\"")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR: Final = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")

_SETTING: Final = re.compile(r"\bCOUNTERFOIL_[A-Z][A-Z0-9_]*\b")
_METRIC: Final = re.compile(r"\bcounterfoil_[a-z0-9_]+\b")
_ROUTE: Final = re.compile(
    r"(?:\b(GET|POST|PUT|PATCH|DELETE)\s+)?(?:(?<=[\s\"'(=>])|^|//[^/\s`]+)(/(?:v1|console|webhooks|notifications|metrics|healthz|readyz|docs)\b[^\s\"'`)>,;|\\]*)"
)
_ALERT: Final = re.compile(r"\bCounterfoil[A-Z]\w+\b")
_TASK: Final = re.compile(r"\btasks\.[a-z_]+\.[a-z_]+\b")
_FILE: Final = re.compile(
    r"^((?:orchestrator|tasks|config|tests|docs|bench|crash|fuzz|gauntlet|\.ci)/[\w./-]+)(?:::(\w+))?$"
)
_MODULE: Final = re.compile(r"\bpython[0-9.]* -m ((?:orchestrator|tasks|config|tests|bench|crash|fuzz|gauntlet)[\w.]*)")
_ASSIGNMENT: Final = re.compile(r"[A-Z_]+=\S*")


class Code(NamedTuple):
    """Something in code: whole lines of a fence, which are meant to be typed, or a span, which may be a mention."""

    text: str
    typed: bool


@dataclass(frozen=True)
class Facts:
    """What there really is."""

    root: Path
    commands: Mapping[str, Any]
    settings: AbstractSet[str]
    routes: Mapping[str, AbstractSet[str]]
    tasks: AbstractSet[str]
    targets: AbstractSet[str]
    variables: AbstractSet[str]
    metrics: AbstractSet[str]
    alerts: AbstractSet[str]
    groups: AbstractSet[str] = field(init=False)

    def __post_init__(self) -> None:
        """Know the groups of commands: `terminals`, `terminals key`."""
        inner = {path.rpartition(" ")[0] for path in self.commands}
        object.__setattr__(self, "groups", inner | {path.rpartition(" ")[0] for path in inner})


# -- what a page says --------------------------------------------------------------------------------------------------


def code_of(text: str) -> Iterator[Code]:
    """Everything that stands in code, other languages left out."""
    for language, body in _FENCE.findall(text):
        if language not in _OTHER_LANGUAGES:
            yield from (Code(line, typed=True) for line in body.replace("\\\n", " ").splitlines())
    prose = _FENCE.sub("", text)
    for block in _INDENTED.findall(prose):
        yield from (Code(line.strip(), typed=True) for line in block.replace("\\\n", " ").splitlines())
    for _, span in _SPAN.findall(_INDENTED.sub("", prose)):
        yield Code(" ".join(span.split()), typed=False)


def links_of(text: str) -> Iterator[str]:
    """Targets of links and pictures, those in code left out."""
    prose = _SPAN.sub("", _FENCE.sub("", text))
    for link, attribute in _LINK.findall(prose):
        yield link or attribute


def anchors_of(text: str) -> set[str]:
    """Names that can stand behind `#`, as the common renderers make them of headings."""
    found: set[str] = set(_ANCHOR.findall(text))
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("\\", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


# -- what is wrong with it ---------------------------------------------------------------------------------------------


def faults(text: str, page: Path, facts: Facts) -> list[str]:
    """Everything on the page that is not so, each in a sentence."""
    found = [f"link {link}: {why}" for link in links_of(text) if (why := wrong_link(link, page, facts.root))]
    for code in code_of(text):
        for check in _CHECKS:
            found += [f"`{code.text}`: {why}" for why in check(code, facts)]
    found += [f"{name} is no setting" for name in set(_SETTING.findall(text)) - facts.settings]
    return found


def wrong_link(link: str, page: Path, root: Path) -> str | None:
    """Why a link leads nowhere."""
    if re.match(r"[a-z]+:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(root) or not target.exists():
        return "there is no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors_of(target.read_text(encoding="utf-8")):
        return "there is no such heading"
    return None


def _wrong_commands(code: Code, facts: Facts) -> Iterator[str]:
    for words in _lines_of("counterfoil", code):
        if why := wrong_command(words, facts, whole=code.typed):
            yield why


def wrong_command(words: list[str], facts: Facts, *, whole: bool) -> str | None:
    """Why these words behind ``counterfoil`` are no command; what is typed has to have all that is required."""
    path, rest = _command_path(words, facts)
    if path not in facts.commands:
        if rest and not rest[0].startswith("-") and not PLACEHOLDER.fullmatch(rest[0]):
            return f"there is no command `{' '.join([*path.split(), rest[0]])}`"
        return None
    command = facts.commands[path]
    if command.context_settings.get("ignore_unknown_options", False):
        return None
    try:
        given = _sorted_words(rest, command)
    except LookupError as error:
        return str(error)
    missing = [each.metavar or each.opts[0] for each in command.params if each.required and each.name not in given]
    return f"{', '.join(missing)} missing" if whole and missing else None


def _command_path(words: list[str], facts: Facts) -> tuple[str, list[str]]:
    """The longest beginning that is a command or a group, and what follows."""
    for length in range(len(words), 0, -1):
        path = " ".join(words[:length])
        if path in facts.commands or path in facts.groups:
            return path, words[length:]
    return "", words


def _sorted_words(words: list[str], command: Any) -> set[str]:
    """The names of the parameters that are given; raises LookupError for what the command does not take."""
    options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts) if name[:1] == "-"}
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    given: set[str] = set()
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            if word in {"…", "...", "[OPTIONS]"}:
                continue
            if not arguments:
                message = f"takes no `{word}`"
                raise LookupError(message)
            given.add(arguments[0].name)
            if arguments[0].nargs == 1:
                arguments.pop(0)
            continue
        if name in {"--help", "-h"}:
            continue
        if name not in options:
            message = f"there is no option {name}"
            raise LookupError(message)
        given.add(options[name].name)
        if not options[name].is_flag:
            _look_at_value(value if equals else next(rest, "…"), options[name], command)
    return given


def _look_at_value(value: str, option: Any, command: Any) -> None:
    """Raise LookupError where the option has a list of values and this is none of them."""
    names, _ = option.get_help_record(command.make_context("", [], resilient_parsing=True)) or ("", "")
    choices = re.search(r"<([a-z_]+(?:\|[a-z_]+)+)>", names)
    if choices and not PLACEHOLDER.fullmatch(value) and value not in choices[1].split("|"):
        message = f"{option.opts[0]} takes no `{value}`"
        raise LookupError(message)


def _lines_of(program: str, code: Code) -> Iterator[list[str]]:
    """The words behind each call of a program."""
    text = code.text
    if code.typed:
        text = re.sub(r"\s#\s.*$|^\s*#.*$", "", text)
    for part in re.split(r"\s(?:\|\|?|&&|&|;)(?:\s|$)|\$\(", text.strip().removeprefix("$ ")):
        try:
            words = shlex.split(part.replace("'…'", "…"))
        except ValueError:
            words = part.split()
        while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] == "export"):
            words = words[1:]
        if words[:2] == ["docker", "compose"] and program in words:
            words = words[words.index(program) :]
        if words and words[0] == program:
            yield [word.rstrip(")") for word in _without_redirection(words[1:])]


def _without_redirection(words: list[str]) -> list[str]:
    redirected = (at for at, word in enumerate(words) if re.match(r"\d?[<>]", word) and not re.match(r"<.*>", word))
    return words[: next(redirected, None)]


def _wrong_targets(code: Code, facts: Facts) -> Iterator[str]:
    for words in _lines_of("make", code):
        for word in words:
            name, equals, _ = word.partition("=")
            if equals and name not in facts.variables:
                yield f"the Makefile knows no {name}"
            elif not equals and not word.startswith("-") and word not in facts.targets and not PLACEHOLDER.match(word):
                yield f"there is no target {word}"


def _wrong_modules(code: Code, facts: Facts) -> Iterator[str]:
    for module in _MODULE.findall(code.text):
        path = facts.root / module.replace(".", "/")
        if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
            yield f"there is no module {module}"


def _wrong_files(code: Code, facts: Facts) -> Iterator[str]:
    if named := _FILE.match(code.text):
        path = facts.root / named[1]
        if not path.exists():
            yield "there is no such file"
        elif named[2] and f"def {named[2]}(" not in path.read_text(encoding="utf-8"):
            yield "there is no such test"


def _wrong_tasks(code: Code, facts: Facts) -> Iterator[str]:
    yield from (f"there is no task {name}" for name in _TASK.findall(code.text) if name not in facts.tasks)


def _wrong_metrics(code: Code, facts: Facts) -> Iterator[str]:
    for name in _METRIC.findall(code.text):
        if name not in facts.metrics:
            yield f"there is no metric {name}"
    for name in _ALERT.findall(code.text):
        if name not in facts.alerts:
            yield f"there is no alert {name}"


def _wrong_routes(code: Code, facts: Facts) -> Iterator[str]:
    for method, said in _ROUTE.findall(code.text):
        path = re.split(r"\[?[?#]", said)[0].rstrip(".:'/")
        methods = methods_of(path, facts.routes)
        if not methods:
            yield f"there is no route {path}"
        elif method and method not in methods:
            yield f"{path} takes no {method}"


def methods_of(path: str, routes: Mapping[str, AbstractSet[str]]) -> set[str]:
    """What may be done at a path: those of every route that it can be; a prefix of some route may be mentioned."""
    said = path.strip("/").split("/")
    found: set[str] = set()
    for route, methods in routes.items():
        parts = route.strip("/").split("/")
        open_end = bool(parts) and ":path}" in parts[-1]
        if len(parts) == len(said) or (open_end and len(said) > len(parts)):
            pairs = list(zip(parts, said, strict=False))
            if all(_same_segment(part, word) for part, word in pairs):
                found |= methods
    return found


def _same_segment(part: str, word: str) -> bool:
    if part.startswith("{"):
        return bool(word)
    return word in (part, "…")


_CHECKS: Final[tuple[Callable[[Code, Facts], Iterator[str]], ...]] = (
    _wrong_commands,
    _wrong_targets,
    _wrong_modules,
    _wrong_files,
    _wrong_tasks,
    _wrong_metrics,
    _wrong_routes,
)
