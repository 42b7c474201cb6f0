"""Packages from the npm registry that tests use: installed from a lock file, once, under `.pytest_cache/`."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tests.services import in_ci

PINNED = ("package.json", "package-lock.json", ".npmrc")
NODE_MAJOR_MIN = 18  # the platform's own library demands it
INSTALLS_WITHIN_S = 100


def missing(why: str) -> NoReturn:
    """Skip, saying what to install; in CI that is a failure."""
    text = f"{why}; install Node {NODE_MAJOR_MIN} or newer with npm (Debian: apt-get install nodejs npm)"
    if in_ci():
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def installed(pins: Path, cache: Path) -> Path:
    """The folder with the packages that the lock file in ``pins`` names, made when it has changed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing("there is no " + ("npm" if node else "node"))
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < NODE_MAJOR_MIN:
        missing(f"Node is {version}")
    digest = hashlib.sha256(b"".join((pins / name).read_bytes() for name in PINNED)).hexdigest()[:16]
    folder = cache / digest
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in PINNED:
            shutil.copyfile(pins / name, folder / name)
        install = [npm, "ci", "--omit=optional", "--loglevel=error"]
        done = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=INSTALLS_WITHIN_S, check=False
        )
        if done.returncode != 0:
            missing(f"npm could not install the packages: {done.stderr[-300:]}")
        (folder / "installed").touch()
    return folder
