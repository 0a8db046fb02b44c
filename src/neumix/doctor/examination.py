"""All checks for a profile, in the order in which a reader wants to mend things."""

import os
import shlex
import shutil
from collections.abc import Iterator

from neumix.catalogue import Catalogue
from neumix.doctor.findings import Finding, bad, good
from neumix.doctor.machine import check_machine
from neumix.doctor.profile import Profile, largest_requests, read_profile
from neumix.doctor.slurm import check_slurm

__all__ = ["examine"]


def examine(catalogue: Catalogue, name: str) -> Iterator[Finding]:
    """Check whether a run with a profile can work; yields what it finds as it goes.

    Arguments:
        catalogue: for the scale and the papers to run.
        name: of the profile.

    Raises:
        CatalogueError: there is no such profile.
    """
    profile = read_profile(name)
    yield from check_machine(catalogue, profile)
    if profile.executor == "slurm":
        yield from check_slurm(profile, largest_requests(catalogue))
    elif profile.executor == "cluster-generic":
        yield _submit_command(profile)


def _submit_command(profile: Profile) -> Finding:
    command = str(profile.settings.get("cluster-generic-submit-cmd", ""))
    program = next(iter(shlex.split(command)), "")
    if not shutil.which(program, path=os.environ.get("PATH")):
        where = f"workflow/profiles/{profile.name}/config.yaml"
        return bad(f"'{program}' not found", "jobs could not be submitted", f"set $NEUMIX_SUBMIT, or choose in {where}")
    return good(f"jobs are submitted with {program}")
