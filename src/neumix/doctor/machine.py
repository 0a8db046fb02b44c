"""Checks of this machine: Python, packages, GPU, disk, data, DVC, what an earlier run has left."""

import configparser
import contextlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet

from neumix import dag
from neumix.catalogue import Catalogue
from neumix.doctor.findings import Finding, bad, good, poor
from neumix.doctor.profile import Profile

__all__ = ["check_machine"]

_SPARE = 10 * 2**30  # bytes for weights, arrays and checkpoints of the largest scale
_SECONDS = 5.0  # for an answer from a mirror


def check_machine(catalogue: Catalogue, profile: Profile) -> Iterator[Finding]:
    """Check what every profile needs."""
    yield _python()
    yield _packages(Path("requirements.lock"))
    yield _torch(catalogue, profile)
    absent = _absent_datasets(catalogue)
    size = sum(file.size for name in absent for file in catalogue.datasets[name].files)
    yield _disk(Path.cwd(), size + _SPARE)
    yield from _data(catalogue, absent)
    yield from _dvc(Path(".dvc"))
    yield from _earlier_run(Path(".snakemake"))


def _python() -> Finding:
    version, needed = platform.python_version(), importlib.metadata.metadata("neumix")["Requires-Python"]
    if version not in SpecifierSet(needed, prereleases=True):
        return bad(f"Python {version}", f"the code needs {needed}", "make with PYTHON=python3.11, after rm -rf .venv")
    return good(f"Python {version}")


def _packages(lock: Path) -> Finding:
    if not lock.exists():
        return bad(f"no {lock} here", "nothing says which versions belong to the results", "run in the repository")
    pinned = (line.partition("==") for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line)
    other = [f"{name} {_version(name)} for {version}" for name, _, version in pinned if _version(name) != version]
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        return bad(
            f"packages differ from {lock}: {shown}", "results would not be comparable", "rm -rf .venv && make test"
        )
    return good(f"packages are those of {lock}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _torch(catalogue: Catalogue, profile: Profile) -> Finding:
    import torch

    runs = [run for run in catalogue.selected_runs if run.resources.gpu]
    build = (
        f"torch {torch.__version__}, built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs only'}"
    )
    if torch.version.cuda is None and (runs or catalogue.settings.device == "cuda"):
        what = f"{build}; {len(runs)} runs of scale {catalogue.settings.scale} ask for a GPU"
        return bad(what, "they would take a GPU and train on the CPU", "pip install the CUDA build of the same version")
    if profile.executor == "local" and runs and not torch.cuda.is_available():
        what = f"{build}, but it sees no GPU; {len(runs)} runs ask for one"
        return poor(
            what, "they would train on the CPU, for days", "check nvidia-smi and the driver, or choose scale laptop"
        )
    return good(build)


def _disk(folder: Path, needed: int) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{free / 2**30:.1f} GiB free here"
    short = f"{what}, about {needed / 2**30:.0f} may be needed"
    if not os.access(folder, os.W_OK):
        return bad(f"{folder.name} cannot be written", "results go here", "move the repository to a folder of yours")
    if free < needed / 10:
        return bad(
            f"{what}, about {needed / 2**30:.0f} may be needed", "jobs would fail in the middle", "free some space"
        )
    if free < needed:
        return poor(short, "jobs may fail", "free some space")
    return good(what)


def _absent_datasets(catalogue: Catalogue) -> list[str]:
    runs = catalogue.selected_runs
    manifests = dict.fromkeys(manifest for run in runs for manifest in dag.manifests(catalogue, run))
    return [Path(manifest).parent.name for manifest in manifests if not Path(manifest).exists()]


def _data(catalogue: Catalogue, absent: Sequence[str]) -> Iterator[Finding]:
    if not absent:
        yield good(f"data: all that scale {catalogue.settings.scale} needs is here")
    own = [os.environ.get("NEUMIX_DATA_MIRROR", ""), *catalogue.settings.mirrors]
    for name in absent:
        files = catalogue.datasets[name].files
        places = [f"{mirror.rstrip('/')}/{name}/{files[0].name}" for mirror in own if mirror]
        zipped = [f"{place}.gz" for place in places]
        if any(_answers(place) for place in [*places, *zipped, *files[0].urls]):
            yield good(f"data: {name} is not here and can be fetched")
        else:
            fix = f"set NEUMIX_DATA_MIRROR to a folder or address that has {name}/{files[0].name}"
            yield bad(f"data: {name} is nowhere to be had", "its runs would fail at the start", fix)


def _answers(place: str) -> bool:
    if not place.startswith("http"):
        return Path(place).is_file()
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        return httpx.head(place, follow_redirects=True, timeout=_SECONDS).is_success
    return False


def _dvc(folder: Path) -> Iterator[Finding]:
    config = configparser.ConfigParser()
    config.read([folder / "config", folder / "config.local"], encoding="utf-8")
    remotes = {name.split('"')[1]: dict(section) for name, section in config.items() if "remote" in name}
    chosen = config.get("core", "remote", fallback="")
    if ".invalid" in remotes.get(chosen, {}).get("url", ".invalid"):
        yield poor("DVC has no remote", "weights could not be pushed or pulled", "make remote URL=/a/shared/folder")
    else:
        yield good(f"DVC remote {chosen}")
    for name, section in remotes.items():
        if section.get("verify", "false") != "true":
            why = "dvc pull takes damaged files without a word"
            yield bad(f"DVC remote {name} is not verified", why, f"dvc remote modify {name} verify true")


def _earlier_run(folder: Path) -> Iterator[Finding]:
    if any(path.is_file() for path in folder.glob("locks/*")):
        why = "a new one is refused; one that was killed leaves this lock"
        yield poor("Snakemake runs here or was killed", why, "if none runs: .venv/bin/snakemake --unlock")
