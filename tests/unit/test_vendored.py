"""What is copied from elsewhere is what its manifest says, whole and unchanged."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import orchestrator.web

FOLDERS = sorted(path.parent for path in (Path(orchestrator.web.__file__).parent / "vendored").glob("*/MANIFEST.json"))
by_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "MANIFEST.json").read_text())
    return found


def test_nothing_is_vendored_without_a_manifest() -> None:
    assert FOLDERS
    assert sorted(FOLDERS[0].parent.iterdir()) == FOLDERS


@by_folder
def test_every_vendored_file_has_the_hash_of_its_manifest_and_no_other_file_lies_there(folder: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["MANIFEST.json"]
    assert found == manifest(folder)["sha256"]


@by_folder
def test_a_manifest_says_what_it_is_and_ships_its_licence(folder: Path) -> None:
    said = manifest(folder)
    assert said["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", said["version"])
    assert said["licence"] == "Apache-2.0"
    assert {"LICENSE", "NOTICE"} <= set(said["sha256"])


@by_folder
def test_no_vendored_file_names_a_source_map(folder: Path) -> None:
    assert not [path.name for path in folder.iterdir() if b"sourceMappingURL=" in path.read_bytes()]
