"""The findings, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backend.command import escaped
from backend.doctor.findings import Finding

MARKS = {
    "ok": "[green]✓[/]",
    "warning": "[yellow]![/]",
    "failed": "[bold red]✗[/]",
    "skipped": "[dim]–[/]",
}


def report_lines(
    findings: Sequence[Finding], titles: Mapping[int, str], done: Sequence[str]
) -> Iterator[str]:
    """Lines in rich's markup: each finding with its mend, what was mended, and the sum."""
    for sentence in done:
        yield f"[bold]fixed[/] {escaped(sentence)}"
    project: int | None = None
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        if finding.project is not None and finding.project != project:
            project = finding.project
            yield f"\n[bold]Project {project} “{escaped(titles.get(project, ''))}”[/]"
        yield f"{MARKS[finding.state]} {finding.check:<{width}}  {escaped(finding.what)}"
        for name, text in (("why", finding.why), ("mend", finding.mend)):
            if text:
                yield f"  {'':<{width}}  [dim]{name}:[/] {escaped(text)}"
    yield f"\n{_sum(findings)}"


def _sum(findings: Sequence[Finding]) -> str:
    failed = sum(finding.state == "failed" for finding in findings)
    warned = sum(finding.state == "warning" for finding in findings)
    mendable = any(finding.fix and finding.state == "failed" for finding in findings)
    if not failed:
        said = f"All well: {len(findings)} checks, none failed"
        return said + (f", {warned} with a warning." if warned else ".")
    said = f"{failed} of {len(findings)} checks failed."
    return said + (" --fix mends some of it." if mendable else "")
