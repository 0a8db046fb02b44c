"""A Slurm of one node, private to the tests, with GPUs that are no more than device files."""

import contextlib
import dataclasses
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
COMMANDS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sshare")
"""What speaks to this Slurm: Snakemake forgets $SLURM_CONF before it calls them."""

_CONF = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
AccountingStorageType=accounting_storage/none
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=60
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
DefMemPerCPU=1024
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


def unavailable() -> str | None:
    """Return why a private Slurm cannot be started here, if so."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        packages = "slurmctld slurmd slurm-client munge"
        return f"no Slurm here ({', '.join(missing)} not found); as root: apt-get install {packages}"
    if os.geteuid() != 0:
        return "a private Slurm needs root: it makes device files"
    return None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """Return the first true answer of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {what} after {seconds} seconds")


@dataclasses.dataclass(frozen=True)
class Slurm:
    """The private Slurm.

    Arguments:
        home: folder of its files.
    """

    home: Path

    @property
    def node(self) -> str:
        """Name of its only node."""
        return socket.gethostname().partition(".")[0]

    @property
    def _configuration(self) -> Path:
        return self.home / "slurm.conf"

    def command(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it prints."""
        environment = {**os.environ, "SLURM_CONF": str(self._configuration)}
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
        assert not check or result.returncode == 0, result.stderr
        return result.stdout.strip()

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of the jobs, newest first, in all states or in some."""
        chosen = ",".join(states) or "all"
        return self.command("squeue", "--noheader", f"--states={chosen}", "--sort=-i", "--format=%i").split()

    def field(self, job: str, name: str) -> str:
        """Return what Slurm knows of a job under a name, e.g. `JobState`."""
        text = self.command("scontrol", "show", "job", job)
        return next(part.partition("=")[2] for part in text.split() if part.startswith(f"{name}="))

    def configure(self) -> None:
        """Write the configuration, the key, the device files and commands that know where the configuration is."""
        for name in ("bin", "state", "spool"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        for index in range(2):  # twins of /dev/null: Slurm takes character devices only
            device = self.home / f"gpu{index}"
            if not device.exists():
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        memory = psutil.virtual_memory().total // 2**20 - 512
        text = _CONF.format(host=self.node, home=self.home, memory=memory, ports=_free_ports(2))
        self._configuration.write_text(text, encoding="utf-8")
        (self.home / "gres.conf").write_text(f"NodeName={self.node} Name=gpu File={self.home}/gpu[0-1]\n")
        key = self.home / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in COMMANDS:
            real, command = shutil.which(name), self.home / "bin" / name
            if real is not None:
                command.write_text(f'#!/bin/sh\nSLURM_CONF={self._configuration} exec {real} "$@"\n', encoding="utf-8")
                command.chmod(0o755)

    def start(self) -> None:
        """Start the daemons and wait until a job has run."""
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
        options = [f"--{option}={self.home / name}" for option, name in {**files, "seed-file": "munge.seed"}.items()]
        self.command("munged", "--force", *options)
        self.start_controller("-c")
        self.command("slurmd", "-c", "-N", self.node)
        # The state alone may be the one that was saved.
        canary = ["srun", "--mem=50", "--immediate=5", "true"]
        wait_for(lambda: subprocess.run(canary, capture_output=True, check=False).returncode == 0, "node", 60)

    def start_controller(self, *options: str) -> None:
        """Start slurmctld; with `-c` it forgets all jobs."""
        self.command("slurmctld", *options)

    def stop(self, *daemons: str) -> None:
        """Stop daemons, by default all."""
        for daemon in daemons or ("slurmd", "slurmctld", "munged"):
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
                process = psutil.Process(int((self.home / f"{daemon}.pid").read_text()))
                if process.name() == daemon:
                    process.terminate()
                    _await_end(process)


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _await_end(process: psutil.Process, seconds: float = 20) -> None:
    """Wait until a process is gone; one that nobody collects stays as a zombie and counts as gone."""
    end = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end, f"{process} does not end"
            time.sleep(0.05)


@contextlib.contextmanager
def running_slurm(home: Path) -> Iterator[Slurm]:
    """Run a private Slurm, the one that Slurm's commands speak to meanwhile, and stop it at the end."""
    slurm = Slurm(home)
    slurm.configure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(home / "bin"), prepend=os.pathsep)
        try:
            slurm.start()
            yield slurm
            slurm.command("scancel", "--user=root", check=False)
        finally:
            slurm.stop()
