"""Collects what the report shows from the catalogue and the results on disk."""

from pathlib import Path


def build_report(root: Path, scale: str) -> None:
    out = root / "results" / scale / "report"
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text("stub")
