"""What the console's pages load from elsewhere lies here, is what its manifest says, whole and unchanged."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.web.console.rendering import STATIC

FOLDERS = sorted(path.parent for path in (STATIC / "vendored").glob("*/MANIFEST.json"))
LICENCES = {"htmx.org": "0BSD", "uplot": "MIT"}
by_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "MANIFEST.json").read_text())
    return found


def test_nothing_is_vendored_without_a_manifest() -> None:
    assert len(FOLDERS) == len(LICENCES)
    assert sorted((STATIC / "vendored").iterdir()) == FOLDERS


@by_folder
def test_every_vendored_file_has_the_hash_of_its_manifest_and_no_other_file_lies_there(folder: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["MANIFEST.json"]
    assert found == manifest(folder)["sha256"]


@by_folder
def test_a_manifest_says_what_it_is_and_ships_its_licence(folder: Path) -> None:
    said = manifest(folder)
    assert re.fullmatch(r"\d+\.\d+\.\d+", said["version"])
    assert said["licence"] == LICENCES[said["name"]]
    assert said["sha256"]["LICENSE"]
    assert said["changes"] == []


@by_folder
def test_no_vendored_file_names_a_source_map(folder: Path) -> None:
    assert not [path.name for path in folder.iterdir() if b"sourceMappingURL=" in path.read_bytes()]


def test_the_version_that_the_manifest_names_is_the_one_that_the_file_says() -> None:
    said = manifest(STATIC / "vendored" / "htmx")
    assert f'version:"{said["version"]}"' in (STATIC / "vendored" / "htmx" / "htmx.min.js").read_text()
    said = manifest(STATIC / "vendored" / "uplot")
    assert f"(v{said['version']})" in (STATIC / "vendored" / "uplot" / "uPlot.iife.min.js").read_text()[:200]
