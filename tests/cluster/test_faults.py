"""What goes wrong on a cluster, on a real Slurm: every run ends with the bits of an undisturbed one."""

import os
import signal
import time

import pytest
from cluster_run import ACTIVE, PROFILE, RUNNING, ClusterRun
from private_slurm import wait_for

TRAINING_ENDS = ("interrupted", "killed")


def test_a_job_that_is_cancelled_goes_on_in_the_next_attempt(run: ClusterRun) -> None:
    process = run.start()
    job = run.started()
    run.slurm.command("scancel", job)
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in run.end(process)
    record = run.resumed(*TRAINING_ENDS)
    first, last = record["attempts"]
    assert first["placement"]["job"] == job
    assert last["placement"] == record["placement"]
    assert record["placement"] == {
        "scheduler": "slurm",
        "job": run.slurm.jobs()[0],
        "partition": "cpu",
        "node": run.slurm.node,
    }


def test_a_time_limit_costs_nothing_but_time(run: ClusterRun) -> None:
    process = run.start("--set-resources", "train:slurm_extra='--signal=URG@10'")
    job = run.started()
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
    run.slurm.command("scontrol", "update", f"JobId={job}", f"EndTime={soon}")
    output = run.end(process)
    assert f"SLURM-job '{job}' failed, SLURM status is: 'TIMEOUT'" in output
    run.resumed(*TRAINING_ENDS)


def test_a_job_out_of_memory_is_given_more(run: ClusterRun) -> None:
    run.pipeline.edit(lambda paper: paper["experiments"]["two_gaussians"]["settings"].update(resources={"mem_mb": 350}))
    output = run.end(run.start())
    assert "failed, SLURM status is: " in output
    run.record()
    asked = [run.slurm.field(job, "MinMemoryNode") for job in run.jobs()]
    assert asked in (["350M", "700M"], ["350M", "700M", "1050M"])


def test_a_preempted_job_resumes_from_its_checkpoint(run: ClusterRun) -> None:
    process = run.start()
    job = run.started()
    urgent = ["--partition=urgent", "--cpus-per-task=8", "--mem=100", "--output=/dev/null", "--wrap=sleep 1"]
    run.slurm.command("sbatch", *urgent)
    wait_for(lambda: job not in run.slurm.jobs(*RUNNING), "preemption")
    run.end(process)
    record = run.resumed(*TRAINING_ENDS)
    assert [attempt["placement"]["job"] for attempt in record["attempts"]] == [job, job]


def test_notice_before_the_time_is_over_is_used_for_a_checkpoint(run: ClusterRun) -> None:
    process = run.start()
    job = run.started()
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 122))
    run.slurm.command("scontrol", "update", f"JobId={job}", f"EndTime={soon}")
    run.end(process)
    run.resumed("interrupted")


def test_after_a_kill_of_snakemake_its_jobs_are_cancelled_before_new_ones(run: ClusterRun) -> None:
    process = run.start()
    job = run.started()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert run.slurm.jobs(*ACTIVE) == [job]
    run.pipeline.run(*PROFILE, "--unlock")
    output = run.end(run.start())
    assert f"Slurm job {job} of an earlier run was cancelled" in output
    run.resumed(*TRAINING_ENDS)


def test_a_controller_that_restarts_and_is_away_for_a_minute_loses_no_job(run: ClusterRun) -> None:
    process = run.start()
    job = run.started()
    run.slurm.stop("slurmctld")
    run.slurm.start_controller()
    wait_for(lambda: run.slurm.jobs(*RUNNING) == [job], "job after the restart")
    run.slurm.stop("slurmctld")
    run.thaw()
    time.sleep(60)
    assert process.poll() is None
    run.slurm.start_controller()
    run.end(process)
    record = run.record()
    assert [attempt["state"] for attempt in record["attempts"]] == ["finished"]


def test_a_node_that_reports_a_full_disk_is_waited_for(run: ClusterRun) -> None:
    run.slurm.command("scontrol", "update", f"NodeName={run.slurm.node}", "State=DRAIN", "Reason=disk full")
    try:
        process = run.start()
        wait_for(lambda: run.slurm.jobs("PENDING"), "waiting job")
        time.sleep(2)
        assert not run.slurm.jobs(*RUNNING)
    finally:
        run.slurm.command("scontrol", "update", f"NodeName={run.slurm.node}", "State=RESUME")
    run.end(process)
    assert [attempt["state"] for attempt in run.record()["attempts"]] == ["finished"]


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ("mem_mb=100000000", "Memory specification can not be satisfied"),
        ("gpu=5", "Requested node configuration is not"),
    ],
)
def test_an_impossible_request_is_refused_at_once(run: ClusterRun, resource: str, reason: str) -> None:
    output = run.end(run.start("--set-resources", f"train:{resource}", "--retries", "0"), expected=1)
    assert "SLURM sbatch failed" in output
    assert reason in output
    assert not run.slurm.jobs(*ACTIVE)
