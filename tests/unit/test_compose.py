"""`docker-compose.yml` starts what the product has, with settings that it knows, in hardened containers."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("counterfoil:")}
PUBLIC = {"api"}  # the one that callers and terminals reach from elsewhere
PROFILES = {"demo": {"simulator"}, "rabbitmq": {"rabbitmq"}, "observability": {"prometheus", "grafana"}}
#: Everything that a browser or a caller on this machine reaches, and nothing else.
PORTS = {
    "api": ["8000:8000"],
    "flower": ["127.0.0.1:5555:5555"],
    "simulator": ["127.0.0.1:8100:8100"],
    "prometheus": ["127.0.0.1:9090:9090"],
    "grafana": ["127.0.0.1:3000:3000"],
}
SCHEMA = ROOT / "tests" / "vendored" / "compose-spec"

LOGINS = {"COUNTERFOIL_NOTIFICATION_USERNAME": "terminal", "COUNTERFOIL_FLOWER_USER": "ops"}

every_service = pytest.mark.parametrize("name", sorted(SERVICES))
every_service_of_ours = pytest.mark.parametrize("name", sorted(OURS))


def setting_names() -> set[str]:
    from config.settings import Settings

    return {f"COUNTERFOIL_{field.upper()}" for field in Settings.model_fields}


def argv(service: dict[str, Any]) -> list[str]:
    """What follows `counterfoil` on the command line."""
    if "entrypoint" not in service:
        return list(service["command"])
    words = shlex.split(service["command"][0])
    return words[words.index("counterfoil") + 1 :]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The Click command that these words name, and the words left over for it."""
    import typer

    from orchestrator.cli import app
    from orchestrator.cli.commands import register

    register()

    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, f"{command.name} wants a subcommand"
        assert words[0] in command.commands, f"{command.name} has no subcommand {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_the_file_is_what_the_compose_specification_asks_for() -> None:
    schema = json.loads((SCHEMA / "compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(COMPOSE | {"servces": {}})


def test_compose_itself_reads_the_file_where_it_is_installed() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return  # the specification is what there is, then
    command = [docker, "compose", "--profile", "*", "config", "--quiet"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr == ""


def test_the_specification_lies_here_whole_and_unchanged() -> None:
    manifest = json.loads((SCHEMA / "MANIFEST.json").read_text())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SCHEMA.iterdir()}
    del found["MANIFEST.json"]
    assert found == manifest["sha256"]
    assert "LICENSE" in found


def test_everything_that_the_product_needs_is_there_and_the_rest_is_asked_for_by_name() -> None:
    always = {"postgres", "redis", "migrate", "api", "worker", "worker-held", "beat", "flower"}
    assert set(SERVICES) == always.union(*PROFILES.values())
    for profile, names in PROFILES.items():
        assert {name for name in SERVICES if SERVICES[name].get("profiles") == [profile]} == names
    assert {name for name in SERVICES if "profiles" not in SERVICES[name]} == always


@every_service
def test_nobody_waits_for_what_a_profile_may_leave_out(name: str) -> None:
    own = SERVICES[name].get("profiles")
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert SERVICES[other].get("profiles") in (None, own) or how.get("required") is False


@every_service
def test_an_image_has_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+){0,2}", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_a_service_says_whether_it_is_well(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@every_service
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp:mode=1777" in service["tmpfs"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "a number that is not the superuser's"
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)


@every_service
def test_a_service_is_given_time_to_stop(name: str) -> None:
    assert re.fullmatch(r"\d+s", SERVICES[name]["stop_grace_period"])


def test_a_worker_outlives_the_longest_call_it_can_hold() -> None:
    held_call_ends_s = 150  # the platform's limit for a held-open payment call
    assert int(SERVICES["worker-held"]["stop_grace_period"].removesuffix("s")) > held_call_ends_s


@every_service
def test_only_the_api_is_reached_from_elsewhere(name: str) -> None:
    assert SERVICES[name].get("ports", []) == PORTS.get(name, [])
    assert name in PUBLIC or all(port.startswith("127.0.0.1:") for port in PORTS.get(name, []))


@pytest.mark.parametrize("name", ["postgres", "redis", "rabbitmq"])
def test_the_data_stays_on_a_network_without_a_way_out(name: str) -> None:
    assert SERVICES[name]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert "ports" not in SERVICES[name]
    assert SERVICES[name]["volumes"]


@every_service
def test_every_volume_is_declared_and_one_of_ours_belongs_to_the_user_in_the_image(name: str) -> None:
    mounts = [mount.split(":") for mount in SERVICES[name].get("volumes", [])]
    named = [mount for mount in mounts if not mount[0].startswith("./")]
    assert {volume for volume, _ in named} <= set(COMPOSE["volumes"])
    if name in OURS:
        made = re.search(r"install --directory .* --mode 0700 (.*) \\\n", (ROOT / "Dockerfile").read_text())
        assert made
        assert {path for _, path in mounts} <= set(made[1].split())


def mounted_files() -> list[tuple[str, str]]:
    """What lies in the checkout and is seen inside a container: the path here, and how it is mounted."""
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    return [(mount.split(":")[0], mount.split(":")[2]) for mount in mounts if mount.startswith("./")]


@pytest.mark.parametrize(("path", "how"), mounted_files())
def test_what_is_mounted_from_the_checkout_is_there_and_cannot_be_written(path: str, how: str) -> None:
    assert (ROOT / path).exists()
    assert how == "ro"


def test_the_dashboard_is_mounted_where_its_provider_looks() -> None:
    provider = yaml.safe_load((ROOT / "config/grafana/provisioning/dashboards/counterfoil.yml").read_text())
    inside = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"] if "counterfoil.json" in mount]
    assert [str(Path(path).parent) for path in inside] == [provider["providers"][0]["options"]["path"]]


def test_reports_that_come_in_by_the_api_are_read_by_the_worker() -> None:
    folder = SERVICES["worker"]["environment"]["COUNTERFOIL_REPORTS_DIR"]
    assert SERVICES["api"]["environment"]["COUNTERFOIL_REPORTS_DIR"] == folder
    assert SERVICES["api"]["volumes"] == SERVICES["worker"]["volumes"] == [f"reports:{folder}"]


def test_the_broker_keeps_what_it_took() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


@every_service_of_ours
def test_every_variable_is_a_setting_of_the_product(name: str) -> None:
    given = set(SERVICES[name]["environment"]) | secrets_of(SERVICES[name])
    assert given
    assert given <= setting_names()


def secrets_of(service: dict[str, Any]) -> set[str]:
    return {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}


@every_service
def test_no_secret_stands_in_the_file(name: str) -> None:
    service = SERVICES[name]
    assert not [
        key
        for key in service.get("environment", {})
        if re.search(r"PASSWORD$|SECRETS?$|_KEYS?$|_URL$", key)
        and key not in {"COUNTERFOIL_CLOUD_URL", "COUNTERFOIL_FLOWER_URL"}
    ]
    assert secrets_of(service) <= set(COMPOSE["secrets"])


def test_every_secret_setting_has_a_file_of_its_own() -> None:
    from config.settings import Settings, is_secret

    wanted = {f"COUNTERFOIL_{field.upper()}" for field in Settings.model_fields if is_secret(field)}
    for name, service in OURS.items():
        assert secrets_of(service) == wanted | {"COUNTERFOIL_DATABASE_URL", "COUNTERFOIL_BROKER_URL"}, name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `make secrets` wrote."""
    folder = tmp_path_factory.mktemp("checkout")
    makefile = ROOT / "Makefile"
    subprocess.run(["make", "-s", "-f", makefile, "secrets", f"PYTHON={sys.executable}"], cwd=folder, check=True)
    return folder / "secrets"


def test_every_secret_is_a_file_that_make_writes(written: Path) -> None:
    files = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert files.pop("COUNTERFOIL_BROKER_URL") == "./secrets/${BROKER_SECRET:-COUNTERFOIL_BROKER_URL}"
    assert files == {name: f"./secrets/{name}" for name in files}
    chosen = {"COUNTERFOIL_BROKER_URL", "RABBITMQ_URL"}
    assert {path.name for path in written.iterdir()} == set(files) | chosen
    assert written.stat().st_mode & 0o777 == 0o700


def test_secrets_that_are_written_fit_each_other_and_the_settings(written: Path) -> None:
    from config.settings import load_settings

    loaded = load_settings({"COUNTERFOIL_SECRETS_DIR": str(written), **LOGINS})
    assert loaded.database_url
    assert (written / "POSTGRES_PASSWORD").read_text() in loaded.database_url
    assert loaded.broker_url
    assert f":{(written / 'BROKER_CONF').read_text().removeprefix('requirepass ')}@redis" in loaded.broker_url
    password = re.search(r"^default_pass = (\w+)$", (written / "RABBITMQ_CONF").read_text(), re.MULTILINE)
    assert password
    assert (written / "RABBITMQ_URL").read_text() == f"amqp://counterfoil:{password[1]}@rabbitmq:5672//"
    assert loaded.notification_password
    assert loaded.hmac_keys
    assert loaded.tag_keys == loaded.callback_secrets == ()
    assert loaded.management_api_key is None


def test_secrets_that_are_there_are_left_alone(written: Path) -> None:
    before = {path.name: path.read_text() for path in written.iterdir()}
    (written / "COUNTERFOIL_API_KEY").write_text("the platform's")
    makefile = ROOT / "Makefile"
    command = ["make", "-s", "-f", makefile, "secrets", f"PYTHON={sys.executable}"]
    assert subprocess.run(command, cwd=written.parent, check=True, capture_output=True, text=True).stdout == ""
    assert {path.name: path.read_text() for path in written.iterdir()} == before | {
        "COUNTERFOIL_API_KEY": "the platform's"
    }


@every_service_of_ours
def test_every_command_exists_and_takes_the_options_given(name: str) -> None:
    command, words = command_of(argv(SERVICES[name]))
    if command.context_settings.get("ignore_unknown_options"):
        return  # hands its options on to the program it starts
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_between_them_the_workers_serve_every_queue_once() -> None:
    queues = [queue for name in ("worker", "worker-held") for queue in SERVICES[name]["command"][-1].split(",")]
    assert sorted(queues) == ["callbacks", "held", "payments", "reconciliation", "status", "timers"]


@pytest.mark.parametrize("name", sorted(set(OURS) - ONE_SHOT - {"simulator"}))
def test_nothing_starts_before_the_schema_is_there(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_image_is_pinned_small_and_not_the_superusers() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    final = dockerfile.rpartition("\nFROM ")[2]
    assert "--require-hashes" in dockerfile
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert not re.search(r"apt-get|gcc|pip install", final)
    assert {service["user"] for service in OURS.values()} == {"10001:10001"}


def test_the_image_is_tagged_with_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in OURS.values()} == {f"counterfoil:{version}"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the wheel holds that the image is built from: made from the very files that the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("build")
    first_stage = (ROOT / "Dockerfile").read_text().partition("\n# -- run")[0]
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.+)$", first_stage, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert f"!{source}" in ignored, f"{source} does not reach the build"
            into = folder / target / Path(source).name if target.endswith("/") else folder / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_the_image_holds_every_file_of_the_product(built: set[str]) -> None:
    """Migrations, templates, scripts and certificates as well as modules."""
    listed = subprocess.run(
        ["git", "ls-files", "orchestrator", "tasks", "config"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert len({Path(name).suffix for name in listed}) > 3
    assert set(listed) <= built
    assert "orchestrator/runbook.md" in built
    assert not [name for name in built if name.startswith("tests/")]


def test_the_image_can_be_built_with_what_traces_need() -> None:
    assert OURS["api"]["build"]["args"] == {"REQUIREMENTS": "${REQUIREMENTS:-requirements.txt}"}
    assert "COPY requirements.txt requirements-otel.txt ./" in (ROOT / "Dockerfile").read_text()
    pinned = {
        path: set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / path).read_text(), re.MULTILINE))
        for path in ("requirements.txt", "requirements-otel.txt")
    }
    assert pinned["requirements.txt"] < pinned["requirements-otel.txt"]
