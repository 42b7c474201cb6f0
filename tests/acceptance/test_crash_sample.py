"""A seeded sample of the crash test: SIGKILL at some seams of a payment's life. `make crash` tries all of them."""

from pathlib import Path

import pytest

from crash.run import Lanes, Servers, crash
from crash.seams import Mode, Result, Victim, parts
from crash.syscalls import supported

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

# The same seams in every run, so that a red one can be repeated.
SEED = 20
SEAMS = 8  # two for each of the four processes
LANES = 4


@pytest.mark.timeout(300)  # some 40 s on two cores of one's own: a ring that died with the sweep comes again after 30 s
@pytest.mark.parametrize("mode", list(Mode))
def test_a_payment_survives_sigkill_at_a_sample_of_its_seams(
    mode: Mode, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    if mode is Mode.SYSCALLS and not supported():
        pytest.skip("the system calls of this machine are not known; the lines are tried")

    with Lanes(Servers(postgres_url, redis_url), tmp_path / "lanes", LANES) as lanes:
        results = crash(lanes, parts((mode,), tuple(Victim)), SEAMS, SEED, tell=lambda _: None)

    tries = [result for result in results if result.tried.seam]
    assert len(tries) >= SEAMS  # what was not reached is tried once more, further in front
    assert {result.tried.part.victim for result in tries if result.killed} == set(Victim), "not every process died"
    assert not [told(result) for result in results if result.violations]


def told(result: Result) -> str:
    return f"{result.tried.part}, seam {result.tried.seam} ({result.place}): {', '.join(result.violations)}"
