"""Checks of Slurm: the controller, partitions, requests, how jobs are looked after, the nodes' view of this folder."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from neumix.doctor.findings import Finding, bad, good, poor
from neumix.doctor.profile import Profile
from neumix.run import Resources

__all__ = ["check_slurm"]

_SECONDS = 20.0  # for one command
_NODE_SECONDS = 60  # for a job that starts at once


def check_slurm(profile: Profile, requests: Sequence[Resources]) -> Iterator[Finding]:
    """Check that jobs would be accepted, run where this folder is, and be looked after to their end.

    Arguments:
        profile: with executor `slurm`.
        requests: the largest that will be made.
    """
    missing = [name for name in ("sbatch", "squeue", "scancel", "sinfo", "scontrol") if not shutil.which(name)]
    if missing:
        yield bad(f"{', '.join(missing)} not found", "jobs could not be submitted", "run on a login node, load slurm")
        return
    config, error = _ask("scontrol", "show", "config")
    if config is None:
        yield bad(
            f"Slurm's controller does not answer: {error}", "jobs could not be submitted", "try again, ask support"
        )
        return
    yield good(f"Slurm {_setting(config, 'SLURM_VERSION')} answers")
    yield from _partitions(profile, requests)
    yield from _requests(profile, requests)
    yield from _status(profile, config)
    yield from _arrays(profile)
    yield from _nodes(profile, requests)


def _ask(*command: str, seconds: float | None = None) -> tuple[str | None, str]:
    """Return what a command prints, or none and why it failed."""
    limit = seconds or _SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"no answer in {limit:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
    return (done.stdout + done.stderr, "") if done.returncode == 0 else (None, (done.stderr or done.stdout).strip())


def _setting(config: str, name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(.*)$", config, re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _partitions(profile: Profile, requests: Sequence[Resources]) -> Iterator[Finding]:
    listed, error = _ask("sinfo", "--noheader", "--format=%R %a")
    known = dict(line.split() for line in (listed or "").splitlines())
    file = profile.settings.get("slurm-partition-config", "the profile")
    for request in requests:
        partition, kind = profile.partition_of(request), "GPU jobs" if request.gpu else "CPU jobs"
        if partition is None:
            yield bad(f"no partition for {kind}", f"none in {file} allows what they ask for", f"name one in {file}")
        elif partition not in known:
            there = ", ".join(known) or error
            yield bad(f"no partition '{partition}' for {kind}", f"Slurm has {there}", f"write their names into {file}")
        elif known[partition] != "up":
            yield bad(f"partition {partition} is {known[partition]}", f"{kind} would wait", f"name another in {file}")
        else:
            yield good(f"partition {partition} for {kind}")


def _options(profile: Profile, request: Resources) -> list[str]:
    partition, account = profile.partition_of(request), os.environ.get("NEUMIX_ACCOUNT")
    model = os.environ.get("NEUMIX_GPU_MODEL")
    gpus = f"--gpus={model}:{request.gpu}" if model else f"--gpus={request.gpu}"
    chosen = [f"--partition={partition}"] if partition else []
    return [*chosen, *([f"--account={account}"] if account else []), *([gpus] if request.gpu else [])]


def _requests(profile: Profile, requests: Sequence[Resources]) -> Iterator[Finding]:
    for request in requests:
        size = [f"--cpus-per-task={request.threads}", f"--mem={request.mem_mb}", f"--time={request.runtime}"]
        answer, error = _ask("sbatch", "--test-only", *_options(profile, request), *size, "--wrap=true")
        asked = f"{request.threads} CPUs, {request.mem_mb} MB, {request.runtime} min, {request.gpu} GPUs"
        if answer is None:
            fix = "partitions.yaml, $NEUMIX_ACCOUNT, $NEUMIX_GPU_MODEL, or resources in config/papers"
            yield bad(f"Slurm refuses {asked}: {error}", "the largest jobs could not run", fix)
        else:
            yield good(f"Slurm accepts {asked}")


def _status(profile: Profile, config: str) -> Iterator[Finding]:
    command = profile.settings.get("slurm-status-command", "sacct")
    answer, error = _ask(_other_sacct(), "--noheader", "--allocations", "--format=JobID")
    if answer is not None:
        yield good("sacct answers")
    elif command == "sacct":
        why = "the end of a job would never be noticed"
        yield bad(f"sacct does not work: {error}", why, "slurm-status-command: squeue in the profile")
    else:
        yield good(f"sacct does not work ({error}); {command} is asked instead")
    age = re.match(r"\d+", _setting(config, "MinJobAge"))
    if command == "squeue" and age and int(age[0]) < 3 * profile.polling and answer is None:
        what = f"MinJobAge is {age[0]} s and jobs are looked at every {profile.polling} s"
        fix = f"slurm-init-seconds-before-status-checks: {max(1, int(age[0]) // 3)} in the profile"
        yield bad(what, "jobs would be forgotten before their end is noticed", fix)
    elif age:
        yield good(f"MinJobAge {age[0]} s is long enough to look every {profile.polling} s")
    if _setting(config, "EnforcePartLimits") == "NO":
        why = "a request beyond a partition's limits would wait for ever instead of being refused"
        yield poor("EnforcePartLimits is NO", why, "keep the limits in partitions.yaml as they are in Slurm")


def _other_sacct() -> str:
    """Return Slurm's own `sacct`, not the one that the profile puts before it."""
    own = Path("workflow/profiles/slurm/bin").resolve()
    folders = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part).resolve() != own]
    return shutil.which("sacct", path=os.pathsep.join(folders)) or "sacct"


def _arrays(profile: Profile) -> Iterator[Finding]:
    if profile.settings.get("slurm-array-jobs"):
        why = "a task that fails deletes the finished results of another"
        yield bad("the profile submits job arrays", why, "remove slurm-array-jobs from the profile")


def _nodes(profile: Profile, requests: Sequence[Resources]) -> Iterator[Finding]:
    """Run something small where jobs would run: is this folder there, is the environment, is the GPU?"""
    for request in requests:
        code = "import neumix, torch; print('sees', torch.cuda.is_available())"
        with tempfile.NamedTemporaryFile("w", dir=".", prefix=".doctor-", suffix=".py") as script:
            script.write(code)
            script.flush()
            size = ["--ntasks=1", "--mem=1000", "--time=2", f"--immediate={_NODE_SECONDS}", f"--chdir={Path.cwd()}"]
            command = ["srun", *_options(profile, request), *size, sys.executable, script.name]
            answer, error = _ask(*command, seconds=3 * _NODE_SECONDS)
        yield _seen(answer, error, request)


def _seen(answer: str | None, error: str, request: Resources) -> Finding:
    kind = "GPU node" if request.gpu else "node"
    if answer is None:
        busy = re.search("Unable to allocate|no answer|queued and waiting", error)
        if busy:
            return poor(f"no {kind} was free to look at", "whether it has this folder is not known", "try again later")
        why = "a job would not find the repository or its environment"
        return bad(f"a {kind} cannot run what is here: {error}", why, "use a folder that all nodes share")
    if request.gpu and "sees True" not in answer:
        why = "GPU jobs would train on the CPU"
        return bad("torch on a GPU node sees no GPU", why, "check the driver there and the CUDA build of torch")
    return good(f"a {kind} sees this folder and its environment{' and a GPU' if request.gpu else ''}")
