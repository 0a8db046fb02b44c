"""The plan: what Snakemake would run, estimates that hold on what was recorded, and schedules that can be kept."""

import dataclasses
import json
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.audit.plan import Cost, Plan, make_plan
from neumix.audit.plan_estimate import BASES, Estimate, Estimator, Range
from neumix.audit.plan_jobs import PlannedJob, files_of, read
from neumix.audit.plan_records import Evidence, Observed, observe
from neumix.audit.plan_schedule import Node, critical_path, makespan
from neumix.audit.plan_tasks import Sizes, Task, task_of
from neumix.audit.plan_text import plan_json, plan_text
from neumix.catalogue import Catalogue
from neumix.results import RunFiles

ROOT = Path(__file__).parent.parent
CPU = "some processor"
GAUSSIANS = "inclass/two_gaussians/main"
NO_STARTUP = Range()


def loaded(root: Path, scale: str = "smoke") -> Catalogue:
    return catalogue.load(root, catalogue.load_settings({"scale": scale}), check_modules=False)


# Schedules


@st.composite
def graphs(draw: Callable[..., Any]) -> list[Node]:
    """Draw jobs that wait for earlier ones only."""
    size = draw(st.integers(1, 12))
    seconds = [draw(st.integers(1, 20)) for _ in range(size)]
    needs = [draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set() for i in range(size)]
    return [Node(float(time), tuple(before)) for time, before in zip(seconds, needs, strict=True)]


@given(graphs(), st.integers(1, 5))
def test_a_schedule_keeps_the_bounds_that_every_schedule_has(nodes: list[Node], slots: int) -> None:
    work, longest = sum(node.seconds for node in nodes), max(critical_path(nodes))
    span = makespan(nodes, slots)
    assert max(work / slots, longest) <= span + 1e-9
    assert span <= work / slots + (1 - 1 / slots) * longest + 1e-9  # Graham's bound


@given(graphs())
def test_one_core_takes_the_sum_and_enough_cores_the_critical_path(nodes: list[Node]) -> None:
    assert makespan(nodes, 1) == sum(node.seconds for node in nodes)
    assert makespan(nodes, len(nodes)) == max(critical_path(nodes))


def test_schedules_known_by_hand() -> None:
    assert makespan([], 2) == 0
    assert critical_path([Node(3), Node(4, (0,)), Node(1, (0,))]) == [7, 4, 1]
    # The long one starts first although it is last in the list: 5 beside 3 + 2, not 3 beside 2 + 5.
    assert makespan([Node(3), Node(2), Node(5)], 2) == 5
    assert makespan([Node(4, slots=2), Node(3), Node(3)], 2) == 7
    assert makespan([Node(4, slots=8)], 2) == 4  # scaled down, as Snakemake does
    assert makespan([Node(4, gpus=1), Node(4, gpus=1), Node(1)], 4, gpus=1) == 8
    assert makespan([Node(4, gpus=1), Node(4, gpus=1), Node(1)], 4) == 4


def test_jobs_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        makespan([Node(1, (1,)), Node(1, (0,))], 2)


# Estimates


def training(name: str = "main", *, experiment: str = "one", epochs: int = 10, seeds: int = 2, model: int = 1) -> Any:
    stages = {"main": {"loss": {"name": "nll"}, "epochs": epochs, "batch_size": 10, "split": "train"}}
    data, net = {"name": "toy", "settings": {}}, {"name": "net", "settings": {"width": model}}
    place = {"paper": "toy", "experiment": experiment, "name": name}
    return place | {"data": data, "model": net, "stages": stages, "seeds": seeds}


def task(sizes: Sizes | None = None, **changes: Any) -> Task:
    parameters = training(**changes)
    return task_of("train", f"toy/{parameters['experiment']}/{parameters['name']}", parameters, sizes or Sizes())


def evidence(done: Task, cost: float, *, gpu: str | None = None) -> Evidence:
    return Evidence(done, f"record of {done.id}", cost, None, CPU, gpu)


def estimator(*records: Evidence, limits: tuple[tuple[float, float], ...] = ()) -> Estimator:
    return Estimator(Observed(tuple(records), Sizes(), ()), CPU, None, limits)


def seconds(
    known: Estimator, wanted: Task, *, threads: int = 1, limit: float | None = 3600, gpu: bool = False
) -> Estimate:
    return known.seconds(wanted, threads=threads, startup=NO_STARTUP, limit=limit, gpu=gpu)


counts = st.integers(1, 50)


@given(counts, counts, counts, counts, st.floats(0.5, 100))
def test_where_cost_is_proportional_to_work_the_guess_is_exact(
    epochs: int, seeds: int, more_epochs: int, more_seeds: int, unit: float
) -> None:
    def cost(epochs: int, seeds: int) -> float:
        return 5 * unit * epochs * seeds

    done = {n * epochs: task(name=f"run{n}", epochs=n * epochs, seeds=seeds) for n in range(1, 6)}
    records = (evidence(one, cost(number, seeds)) for number, one in done.items())
    found = seconds(estimator(*records), task(name="new", epochs=more_epochs, seeds=more_seeds))
    assert found.basis == "experiment"
    assert found.range.likely == pytest.approx(cost(more_epochs, more_seeds))
    assert found.range.low < found.range.likely < found.range.high


def test_the_nearest_record_is_chosen_and_named() -> None:
    same, other, elsewhere = task(), task(name="other"), task(experiment="two")
    known = estimator(evidence(other, 50), evidence(elsewhere, 70), evidence(same, 30))
    assert (seconds(known, same).basis, seconds(known, same).source) == ("same", "record of toy/one/main")
    longer = seconds(known, task(epochs=30))
    assert (longer.basis, longer.source) == ("experiment", "record of toy/one/main x 3")
    more = seconds(known, task(seeds=6))
    assert (more.basis, more.source) == ("experiment", "record of toy/one/main x 3")
    third = seconds(known, task(experiment="three"))
    assert (third.basis, third.range.likely) == ("method", pytest.approx(50))
    unheard = dataclasses.replace(same, method="other model by nll", id="toy/one/x")
    assert seconds(known, unheard).basis == "limit"


def test_intervals_widen_with_distance() -> None:
    records = [evidence(task(name=f"run{n}", epochs=n), 10.0 * n) for n in range(1, 9)]
    known = estimator(*records)

    def width(found: Estimate) -> float:
        return math.log(found.range.high / found.range.low)

    wanted = (task(name="run4", epochs=4), task(epochs=4), task(epochs=4000))
    same, near, far = (seconds(known, one) for one in wanted)
    assert width(same) <= width(near) < width(far)
    foreign = estimator(*(dataclasses.replace(record, cpu="another") for record in records))
    assert width(seconds(foreign, task(epochs=4))) == pytest.approx(width(near) + 2 * math.log(2))


def test_threads_share_the_work() -> None:
    known = estimator(evidence(task(), 120))
    assert seconds(known, task(), threads=2).range.likely == pytest.approx(60)


def test_without_any_record_the_workflow_says_the_most() -> None:
    found = seconds(estimator(), task(), limit=600)
    assert (found.basis, found.range) == ("limit", Range(0, 600, 600))
    used = estimator(limits=((60.0, 600.0), (30.0, 600.0), (6.0, 600.0)))
    assert seconds(used, task(), limit=1000).range.likely == pytest.approx(50)
    assert seconds(used, task(), limit=1000).range.high == 1000
    assert seconds(estimator(), task(), limit=None).range == Range()


def test_a_record_without_a_gpu_bounds_a_job_with_one_from_above() -> None:
    slow = evidence(task(), 7200)
    found = seconds(estimator(slow), task(), gpu=True)
    assert found.range.high == found.range.likely == 3600  # what the workflow allows
    assert found.range.low < 7200 / 50
    fast = estimator(slow, evidence(task(), 40, gpu="a GPU"))
    assert seconds(fast, task(), gpu=True).range.likely == pytest.approx(40)
    assert seconds(fast, task()).range.likely == pytest.approx(7200)


def test_a_record_with_a_gpu_says_little_of_a_job_without_one() -> None:
    found = seconds(estimator(evidence(task(), 40, gpu="a GPU")), task())
    assert found.range.high > 40 * 50


def test_noise_that_records_show_is_what_the_interval_covers() -> None:
    rng, covered = random.Random(0), []
    for _ in range(60):
        truths = [10.0 * epochs for epochs in range(1, 31)]
        noisy = [truth * math.exp(rng.gauss(0, 0.7)) for truth in truths]
        records = [evidence(task(name=f"run{n}", epochs=n + 1), cost) for n, cost in enumerate(noisy[:-1])]
        found = seconds(estimator(*records), task(name="new", epochs=30))
        covered.append(found.range.low <= noisy[-1] <= found.range.high)
    assert 48 <= sum(covered) < 60


def test_committed_records_lie_within_the_intervals_that_the_others_give() -> None:
    observed = observe(ROOT, loaded(ROOT, "laptop"))
    committed = [record for record in observed.evidence if record.source.startswith("results/laptop/runs/")]
    covered = []
    for record in committed[::3]:
        others = tuple(other for other in committed if other is not record)
        known = Estimator(dataclasses.replace(observed, evidence=others), record.cpu, record.gpu)
        found = known.nearest(record.task, "core_seconds", gpu=record.gpu is not None)
        if found is not None:
            covered.append(found.range.low <= max(1.0, record.core_seconds) <= found.range.high)
    assert len(covered) > 40
    assert sum(covered) / len(covered) > 0.8


# Records


@pytest.mark.slow
def test_records_tell_points_parameters_and_the_time_of_a_resumed_training(pipeline: Pipeline) -> None:
    before = observe(pipeline.root, loaded(pipeline.root))
    run = RunFiles(pipeline.results, GAUSSIANS)
    record = json.loads(run.record.read_text())
    (points,) = {points for (data, _), points in before.sizes.points.items() if "normal" in data}
    assert points == 500
    assert 4484 in before.sizes.parameters.values()
    rows = run.history.read_text().splitlines()
    column = rows[0].split(",").index("seconds")
    last = rows[-1].split(",")
    last[column] = "1234.5"
    run.history.write_text("\n".join([*rows[:-1], ",".join(last)]) + "\n")
    record["resumes"] = 1
    run.record.write_text(json.dumps(record))
    after = observe(pipeline.root, loaded(pipeline.root))
    assert cost_of(before, "train").core_seconds == pytest.approx(record["wall_seconds"])
    assert cost_of(after, "train").core_seconds == 1234.5


def cost_of(observed: Observed, rule: str) -> Evidence:
    (found,) = (one for one in observed.evidence if (one.task.rule, one.task.id) == (rule, GAUSSIANS))
    return found


@pytest.mark.slow
def test_sizes_come_from_disk_or_from_what_dvc_keeps(pipeline: Pipeline) -> None:
    run = RunFiles(pipeline.results, GAUSSIANS)
    small = sum(path.stat().st_size for path in (run.record, run.history))
    whole = cost_of(observe(pipeline.root, loaded(pipeline.root)), "train").output_bytes
    assert whole == small + run.weights.stat().st_size
    run.weights.unlink()
    assert cost_of(observe(pipeline.root, loaded(pipeline.root)), "train").output_bytes is None
    tracked = "outs:\n- md5: 0\n  size: 5000\n  path: archives/inclass.two_gaussians.main.tar\n"
    (pipeline.results / "weights.dvc").write_text(tracked)
    assert cost_of(observe(pipeline.root, loaded(pipeline.root)), "train").output_bytes == small + 5000


@pytest.mark.slow
def test_a_record_of_another_layout_is_left_out(pipeline: Pipeline) -> None:
    record = RunFiles(pipeline.results, GAUSSIANS).record
    content = json.loads(record.read_text())
    del content["parameters"]["stages"]
    record.write_text(json.dumps(content))
    rules = Counter(one.task.rule for one in observe(pipeline.root, loaded(pipeline.root)).evidence)
    assert (rules["train"], rules["evaluate"]) == (1, 2)


# What Snakemake says


def event(rule: str, *outputs: str) -> str:
    content = {"rule": rule, "wildcards": [], "threads": 1, "inputs": [], "outputs": outputs, "reason": ""}
    return json.dumps({"kind": "job", **content})


def test_jobs_are_as_many_as_snakemake_counts() -> None:
    count = json.dumps({"kind": "counts", "rules": {"merge": 1, "all": 1, "total": 2}})
    events = [count, event("merge", "a.csv"), event("all"), count]
    assert [job.name for job in read(events)] == ["merge merge"]
    for broken in (events[:2], events[1:3], [], [count]):
        with pytest.raises(ValueError, match="not those that this version"):
            read(broken)
    assert read([json.dumps({"kind": "nothing to be done"})]) == []


def test_ids_stand_for_files() -> None:
    laptop = loaded(ROOT, "laptop")
    assert files_of(laptop, ["data/euler/SHA256SUMS"]) == ["data/euler/SHA256SUMS"]
    run = [f"results/laptop/runs/{GAUSSIANS}/{name}.json" for name in ("metrics", "evaluation")]
    assert files_of(laptop, ["inclass.table2.w1", "inclass.table2.w2"]) == run
    drawn = [f"results/laptop/figures/inclass.fig5.{kind}" for kind in ("svg", "png")]
    assert files_of(laptop, ["inclass.fig5"]) == drawn
    with pytest.raises(ValueError, match=r"did you mean 'inclass.table2.w2'"):
        files_of(laptop, ["inclass.table2.w2x"])
    genmm = laptop.papers["genmm"]
    cited = next(value.id for value in genmm.published if value.id not in genmm.file.values)
    with pytest.raises(ValueError, match="not measured at scale laptop"):
        files_of(laptop, [cited])


# The whole


def plan_of(*costs: Cost) -> Plan:
    return Plan("smoke", costs, Range(1, 2, 3), 2, "cores", 1, Range(), (), 0, 10**9)


def costing(ends: tuple[float, float, float], gpu: int = 0, basis: Any = "same") -> Cost:
    job = PlannedJob("train", "toy/one/main", 2, (), ("a",), "", 60, gpu)
    return Cost(job, Estimate(Range(*(3600 * end for end in ends)), basis, "a record"), None)


hours = st.floats(0, 9)


@given(st.lists(st.tuples(hours, hours, hours, st.integers(0, 4)), max_size=5), st.floats(0, 99))
@settings(deadline=None)
def test_a_plan_is_refused_exactly_if_the_upper_end_is_beyond_the_limit(jobs: list[Any], limit: float) -> None:
    costs = [costing(tuple(sorted(ends)), gpu) for *ends, gpu in jobs]  # type: ignore[arg-type]
    plan = plan_of(*costs)
    upper = sum(cost.time.range.high * cost.job.gpu for cost in costs) / 3600
    if not math.isclose(upper, limit):
        assert (plan.refusal(limit) is not None) == (upper > limit)
    assert plan.refusal(None) is None
    assert plan_json(plan)["gpu_hours"]["high"] == pytest.approx(upper)
    assert plan_text(plan).startswith("smoke: ")


def test_the_text_says_what_the_times_rest_on_and_what_may_go_wrong() -> None:
    text = plan_text(plan_of(costing((0.1, 0.2, 0.3)), costing((0, 1, 2), basis="limit")))
    assert "core-hours: 2.4 (0.2 to 4.6)" in text
    assert "1 from a record of the same job and settings" in text
    assert "1 nothing comparable was recorded" in text
    assert "Disk leaves out 2 jobs" in text
    assert "A cluster may end 1 of them" in text  # two hours where one is allowed
    assert plan_text(plan_of()) == "smoke: nothing to be done"


def neumix(pipeline: Pipeline, *words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from neumix.cli import run\ntry: run()\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "plan", "--cores", "2", *words]
    return subprocess.run(
        command, cwd=pipeline.root, env=pipeline.environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_finished_pipeline_has_nothing_to_do(finished: Pipeline) -> None:
    done = neumix(finished)
    assert (done.returncode, done.stdout) == (0, "smoke: nothing to be done\n"), done.stderr


@pytest.mark.slow
def test_a_change_is_planned_as_snakemake_would_run_it(pipeline: Pipeline) -> None:
    def longer(paper: dict[str, Any]) -> None:
        settings = paper["experiments"]["two_gaussians"]["settings"]
        settings["stages"]["main"]["epochs"] = 6
        settings["resources"] = {"gpu": 1, "runtime": 30}

    pipeline.edit(longer)
    done = neumix(pipeline, "--json", "--max-gpu-hours", "0.00001")
    assert done.returncode == 1
    assert "refuses to start: up to" in done.stderr
    found = json.loads(done.stdout)
    drawn = ("render_table inclass.table2", "render_figure inclass.fig5")
    names = {f"train {GAUSSIANS}", f"evaluate {GAUSSIANS}", *drawn, "compare inclass", "merge merge", "report report"}
    assert {f"{job['rule']} {job['id']}" for job in found["jobs"]} == names
    assert sum(found["rules"].values()) == len(found["jobs"])
    train = next(job for job in found["jobs"] if job["rule"] == "train")
    assert (train["id"], train["gpu"], train["basis"]) == (GAUSSIANS, 1, "experiment")
    assert train["source"].startswith(f"results/smoke/runs/{GAUSSIANS}/run.json x 3")
    assert found["gpu_hours"]["high"] == pytest.approx(train["seconds"]["high"] / 3600)
    assert found["bases"] == {**dict.fromkeys(BASES, 0), **Counter(job["basis"] for job in found["jobs"])}
    assert {job["basis"] for job in found["jobs"]} <= {"same", "experiment", "limit"}
    longest = max(job["seconds"]["likely"] for job in found["jobs"])
    assert longest < found["wall_seconds"]["likely"] < sum(job["seconds"]["likely"] for job in found["jobs"])


@pytest.mark.slow
def test_a_value_needs_its_own_run_only_and_snakemakes_refusal_is_passed_on(pipeline: Pipeline) -> None:
    for path in pipeline.results.rglob("metrics.json"):
        path.unlink()
    plan = make_plan(pipeline.root, loaded(pipeline.root), ["inclass.table2.w1"], cores=1)
    assert [cost.job.name for cost in plan.costs] == [f"evaluate {GAUSSIANS}"]
    assert plan.costs[0].time.basis == "same"
    with pytest.raises(ValueError, match="No rule to produce results/smoke/nothing"):
        make_plan(pipeline.root, loaded(pipeline.root), ["results/smoke/nothing"], cores=1)
