"""Runs Snakemake and writes down what its log events say of jobs, one JSON object a line; `neumix plan` starts it."""

# Snakemake prints jobs for readers, and nothing promises that the text stays. Its objects for a workflow and
# its jobs are internal. Log events are what it offers to programs: `snakemake_interface_logger_plugins` names
# them, and every logger plugin depends on their fields. The command line decides the rest, so that a plan is of
# what the same command would run.

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["COUNTS", "JOB", "NOTHING", "EventWriter", "main"]

JOB, COUNTS, NOTHING = "job", "counts", "nothing to be done"
"""Kinds of lines: a job, the number of jobs of each rule, and that there are none."""

_RESOURCES = ("mem_mb", "runtime", "gpu")


class EventWriter(logging.Handler):
    """Writes a line for each job, for the numbers of jobs, and if there is nothing to be done.

    Arguments:
        path: file to write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.write_text("", encoding="utf-8")
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write down a log record, if it is about jobs."""
        from snakemake.common import NOTHING_TO_BE_DONE_MSG  # type: ignore[import-untyped]
        from snakemake_interface_logger_plugins.common import LogEvent

        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._write({"kind": JOB, **_job(record)})
        elif event == LogEvent.RUN_INFO:
            self._write({"kind": COUNTS, "rules": dict(record.__dict__["stats"])})
        elif event is None and record.getMessage() == NOTHING_TO_BE_DONE_MSG:
            self._write({"kind": NOTHING})

    def _write(self, content: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(content) + "\n")


def _job(record: logging.LogRecord) -> dict[str, Any]:
    fields = record.__dict__
    resources = dict(fields["resources"].items())
    return {
        "rule": fields["rule_name"],
        "wildcards": list(fields["wildcards"].values()),
        "threads": fields["threads"],
        "inputs": list(fields["input"]),
        "outputs": list(fields["output"]),
        "reason": fields["reason"],
        **{name: value for name in _RESOURCES if isinstance(value := resources.get(name), int)},
    }


def main(events: Path, arguments: list[str]) -> None:
    """Run Snakemake's command line.

    Arguments:
        events: file to write.
        arguments: for Snakemake.
    """
    from snakemake.cli import main as snakemake  # type: ignore[import-untyped]

    # Snakemake clears the handlers of its own logger; those of the logger above stay.
    logging.getLogger("snakemake").addHandler(EventWriter(events))
    snakemake(arguments)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
