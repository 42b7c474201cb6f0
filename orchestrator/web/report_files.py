"""Reports of the platform's as they come in: written part by part, read through, and only then given their name."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from orchestrator.reconciliation.sources import NAME, Source, of_merchant
from orchestrator.web.problems import Problem
from orchestrator.web.services import Services

#: A report of a million lines has some 200 MB.
REPORT_BYTES_MAX: Final = 1024**3
REPORT_WITHIN_S: Final = 900.0


async def take_report(
    services: Services, merchant_account: str, name: str, parts: AsyncIterator[bytes]
) -> tuple[str, Source]:
    """Put a report where runs of its merchant account find it; return its name and what it holds.

    Raises:
        Problem: it is no report by its name, too large, too slow, or cannot be read; nothing is kept then.
    """
    if not re.fullmatch(NAME, name):
        wanted = "is what the platform calls the report, such as payments_accounting_report_2025_11_25.csv"
        raise Problem("invalid-field", f"name: {wanted}", field="name")
    folder = of_merchant(services.counterfoil.reports_dir, merchant_account)
    unfinished = folder / f".{name}.{secrets.token_hex(8)}.part"
    try:
        await services.run(_make, folder)
        await _received(services, parts, unfinished)
        source = await services.run(_kept, unfinished, folder / name, merchant_account)
    finally:
        await services.run(unfinished.unlink, True)
    return name, source


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


async def _received(services: Services, parts: AsyncIterator[bytes], path: Path) -> None:
    """Write the body to a file, part by part."""
    size_bytes = 0
    with await services.run(path.open, "wb") as file:
        try:
            async with asyncio.timeout(REPORT_WITHIN_S):
                async for part in parts:
                    size_bytes += len(part)
                    if size_bytes > REPORT_BYTES_MAX:
                        raise Problem("body-too-large", f"A report may have {REPORT_BYTES_MAX} bytes at most")
                    await services.run(file.write, part)
        except TimeoutError:
            raise Problem("body-too-slow", f"A report has to arrive within {REPORT_WITHIN_S:.0f} s") from None


def _kept(unfinished: Path, path: Path, merchant_account: str) -> Source:
    """Read a report through, and give it its name; one that cannot be read is not kept."""
    source = Source(unfinished, merchant_account)
    for _ in source.read():
        pass
    if source.problems:
        first = source.problems[0]
        more = f" ({len(source.problems) - 1} more)" if len(source.problems) > 1 else ""
        raise Problem("invalid-field", f"line {first.line}: {first.problem}{more}", field=f"line {first.line}")
    unfinished.rename(path)
    return source
