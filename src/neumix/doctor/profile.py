"""The profile of Snakemake that a run would use, and what the catalogue's jobs would ask of a cluster."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neumix.catalogue import Catalogue
from neumix.run import Resources
from neumix.settings import CatalogueError

__all__ = ["Profile", "largest_requests", "read_profile"]

FOLDER = Path("workflow/profiles")


@dataclasses.dataclass(frozen=True)
class Profile:
    """Settings of a profile, as Snakemake reads them."""

    name: str
    settings: Mapping[str, Any]

    @property
    def executor(self) -> str:
        """Name of the executor plugin; `local` for this machine."""
        return str(self.settings.get("executor", "local"))

    @property
    def polling(self) -> int:
        """Seconds before jobs in Slurm are looked at, which is the shortest time between two looks."""
        return int(self.settings.get("slurm-init-seconds-before-status-checks", 40))

    def partition_of(self, request: Resources) -> str | None:
        """Return the partition that Snakemake's plugin for Slurm would choose; none for Slurm's default."""
        import logging

        import snakemake_executor_plugin_slurm.partitions as slurm  # type: ignore[import-untyped]

        file = self.settings.get("slurm-partition-config")
        if not file:
            return None
        asked = {"mem_mb": request.mem_mb, "runtime": request.runtime, "gpu": request.gpu}
        job = types.SimpleNamespace(resources=asked, threads=request.threads, name="doctor")
        quiet = logging.getLogger(f"{__name__}.partitions")
        quiet.setLevel(logging.ERROR)
        found: str | None = slurm.get_best_partition(slurm.read_partition_file(Path(file)), job, quiet)
        return found


def read_profile(name: str) -> Profile:
    """Read a profile by name.

    Raises:
        CatalogueError: there is no such profile.
    """
    import yte  # type: ignore[import-untyped]

    path = FOLDER / name / "config.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.parent.name for file in FOLDER.glob("*/config.yaml")))
        raise CatalogueError(f"there is no profile {path}; there are: {known}")
    with path.open(encoding="utf-8") as stream:
        return Profile(name, yte.process_yaml(stream, require_use_yte=True))


def largest_requests(catalogue: Catalogue) -> list[Resources]:
    """Return what the selected papers' jobs ask of a cluster at most, for each number of GPUs."""
    runs = [run.resources for run in catalogue.selected_runs]
    # Measures ask for what their training does, but for no GPU.
    asked = [*runs, *(dataclasses.replace(resources, gpu=0) for resources in runs)]
    largest = []
    for gpu in sorted({resources.gpu for resources in asked}):
        same = [resources for resources in asked if resources.gpu == gpu]
        most = {name: max(getattr(resources, name) for resources in same) for name in ("threads", "mem_mb", "runtime")}
        largest.append(Resources(**most, gpu=gpu))
    return largest
