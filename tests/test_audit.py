"""The audit on a pipeline that the real Snakemake has run: what is flipped, changed or gone is found, and named."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_copy import Pipeline, add_sixth_paper

from neumix import catalogue
from neumix.audit import digest
from neumix.audit.audit import MERGED, Audit, audit
from neumix.audit.checks import differences
from neumix.audit.findings import worst
from neumix.audit.hashes import CACHE, Hashes
from neumix.catalogue import Catalogue
from neumix.files import sha256
from neumix.settings import CatalogueError

pytestmark = pytest.mark.slow

W1, TABLE, FIGURE = "inclass.table2.w1", "inclass.table2", "inclass.fig5"
RUN = "results/smoke/runs/inclass/two_gaussians/main"
FLIPS = 200


def loaded(pipeline: Pipeline) -> Catalogue:
    return catalogue.load(pipeline.root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)


def audited(pipeline: Pipeline, *ids: str, settings: Catalogue | None = None) -> Audit:
    with Hashes(pipeline.root, cached=False) as hashes:
        return audit(pipeline.root, settings or loaded(pipeline), hashes, ids)


def command(pipeline: Pipeline, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neumix.cli", *words],
        cwd=pipeline.root,
        env=pipeline.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_finished_pipeline_is_ok(finished: Pipeline) -> None:
    found = audited(finished)
    assert found.ok, found.concerned
    assert {id_ for id_, target in found.targets.items() if target.jobs} >= {W1, TABLE, FIGURE, MERGED}
    assert found.targets["genmm.table1.mnist_k1"].jobs == ()


def test_the_chain_leads_from_the_number_to_the_training(finished: Pipeline) -> None:
    jobs = audited(finished, W1).targets[W1].jobs
    assert [job.kind for job in jobs] == ["train", "evaluate", "compare"]
    assert {job.id for job in jobs} == {"inclass/two_gaussians/main", "inclass"}


def files_of_every_kind() -> dict[str, set[str]]:
    """Return what hangs on some files, by file."""
    results = "results/smoke"
    groups = [
        ([f"{results}/tables/inclass.table2.{kind}" for kind in ("csv", "md", "tex", "html", "json")], {TABLE}),
        ([f"{results}/figures/inclass.fig5.{kind}" for kind in ("svg", "png", "json")], {FIGURE}),
        ([f"{RUN}/{name}" for name in ("run.json", "evaluation.json", "metrics.json", "history.csv")], {W1, FIGURE}),
        ([f"{results}/{kind}/inclass/two_gaussians/main.safetensors" for kind in ("weights", "arrays")], {W1, FIGURE}),
        ([f"{results}/comparison/inclass.csv", "config/published/inclass.csv"], {W1, MERGED}),
        ([f"{results}/comparison/inclass.json"], {W1}),
        ([f"{results}/comparison.csv", f"{results}/comparison.json"], {MERGED}),
    ]
    return {file: hangs for files, hangs in groups for file in files}


def test_every_flipped_byte_is_found_and_what_hangs_on_it_is_named(pipeline: Pipeline) -> None:
    rng, settings, hangs = random.Random(0), loaded(pipeline), files_of_every_kind()
    names = sorted(hangs)
    for flip in range(FLIPS):
        name = names[flip % len(names)]
        path = pipeline.root / name
        whole = path.read_bytes()
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        try:
            found = audited(pipeline, settings=settings)
        except CatalogueError as error:  # a published number that is none any more, or a word that is not known
            assert Path(name).name in str(error)
            continue
        finally:
            path.write_bytes(whole)
        bad = {id_ for id_, target in found.targets.items() if target.jobs and target.state != "ok"}
        gone = {id_ for id_ in hangs[name] if not found.targets[id_].jobs}  # a record that is no JSON any more
        assert not found.ok, f"{name}, byte {place}"
        assert hangs[name] <= bad | gone, f"{name}, byte {place}: {bad}"
    assert audited(pipeline, settings=settings).ok


def test_raw_data_are_checked(pipeline: Pipeline, tmp_path: Path) -> None:
    add_sixth_paper(pipeline, tmp_path / "mirror")
    pipeline.run("--config", "papers=dice", NEUMIX_DATA_MIRROR=str(tmp_path / "mirror"))
    settings = loaded(pipeline)
    assert audited(pipeline, "dice.sec1.n_rolls", settings=settings).ok
    rolls = pipeline.root / "data" / "dice-rolls" / "rolls.csv"
    whole = rolls.read_bytes()
    rolls.write_bytes(whole.replace(b"1", b"2", 1))
    found = audited(pipeline, "dice.sec1.n_rolls", settings=settings)
    assert found.targets["dice.sec1.n_rolls"].state == "tampered"
    rolls.unlink()
    target = audited(pipeline, "dice.sec1.n_rolls", settings=settings).targets["dice.sec1.n_rolls"]
    assert (target.state, target.findings[0].cause) == ("missing", "data")
    shown = command(pipeline, "show", "dice.sec1.n_rolls", "--scale", "smoke", "--json")
    (train,) = (job for job in json.loads(shown.stdout)["chain"] if job["kind"] == "train")
    assert train["data"]["data/dice-rolls/SHA256SUMS"]["files"][0]["urls"] == ["http://127.0.0.1:9/rolls.csv"]


def change_code(pipeline: Pipeline) -> None:
    pipeline.append("src/neumix/models/inclass/network.py", "\n_ADDED = 1\n")


def change_parameter(pipeline: Pipeline) -> None:
    def change(paper: dict[str, Any]) -> None:
        paper["experiments"]["two_gaussians"]["settings"]["stages"]["main"]["epochs"] = 7

    pipeline.edit(change)


def change_package(pipeline: Pipeline) -> None:
    lock = pipeline.root / "requirements.lock"
    text = lock.read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("scipy=="))
    lock.write_text(text.replace(line, "scipy==0.0.1"), encoding="utf-8")


def change_margin(pipeline: Pipeline) -> None:
    pipeline.replace("config/margins.yaml", "mixture_weight:      {abs: 0.02}", "mixture_weight:      {abs: 0.03}")


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (change_code, "code", "module neumix.models.inclass.network has changed"),
        (change_parameter, "parameter", "stages.main.epochs: 2 -> 7"),
        (change_package, "environment", "package scipy:"),
        (change_margin, "configuration", "config/margins.yaml"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_why_names_the_one_thing_that_changed(
    pipeline: Pipeline, change: Callable[[Pipeline], None], cause: str, words: str
) -> None:
    change(pipeline)
    target = audited(pipeline, W1).targets[W1]
    assert target.state == "stale"
    assert {finding.cause for finding in target.findings} == {cause}
    said = command(pipeline, "why", W1, "--scale", "smoke")
    assert f"because of {cause}" in said.stdout
    assert words in said.stdout


def forge(pipeline: Pipeline, name: str) -> None:
    """Change a number of a CSV file, and the hash and the digest in the record of the job that made it."""
    file, record = (pipeline.results / f"{name}.{kind}" for kind in ("csv", "json"))
    content = json.loads(record.read_text(encoding="utf-8"))
    head, _, rows = file.read_text(encoding="utf-8").partition("\n")
    file.write_text(f"{head}\n{rows.replace('0.', '1.', 1)}", encoding="utf-8")
    content["outputs"][file.relative_to(pipeline.root).as_posix()] = sha256(file)
    del content[digest.DIGEST]
    record.write_text(digest.text_with_digest(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "id_"), [("tables/inclass.table2", TABLE), ("comparison/inclass", W1), ("comparison", MERGED)]
)
def test_what_does_not_follow_from_its_numbers_is_found(pipeline: Pipeline, name: str, id_: str) -> None:
    """A forger who fixes the hashes and the digest of the record as well is caught by computing it again."""
    forge(pipeline, name)
    (finding,) = audited(pipeline).targets[id_].findings
    assert finding.state == "tampered"
    assert "not what follows from the numbers" in finding.detail


def test_a_table_of_metrics_is_computed_again_without_arrays(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.results / "arrays")
    forge(pipeline, "tables/inclass.table2")
    findings = audited(pipeline, TABLE).targets[TABLE].findings
    assert {finding.state for finding in findings} == {"missing", "tampered"}
    assert "not what follows from the numbers" in findings[-1].detail


def test_missing_weights_say_what_brings_them(pipeline: Pipeline) -> None:
    (pipeline.results / "weights" / "inclass" / "two_gaussians" / "main.safetensors").unlink()
    target = audited(pipeline, W1).targets[W1]
    assert target.state == "missing"
    assert "dvc pull results/smoke/weights.dvc" in target.findings[0].detail


def test_the_command_exits_with_1_unless_all_is_ok(pipeline: Pipeline) -> None:
    good = command(pipeline, "audit", "--scale", "smoke")
    assert (good.returncode, good.stderr) == (0, ""), good.stdout
    assert "0 missing, 0 stale, 0 tampered" in good.stdout
    (pipeline.results / "tables" / "inclass.table2.md").write_text("forged\n", encoding="utf-8")
    bad = command(pipeline, "audit", "--scale", "smoke", "--json")
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["states"][TABLE] == "tampered"


def test_nothing_loads_torch(finished: Pipeline) -> None:
    audited_here = "import sys; from neumix.cli import _audited, _catalogue; _audited(_catalogue('smoke'), [])"
    code = f"{audited_here}; assert 'torch' not in sys.modules"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=finished.root, env=finished.environment, capture_output=True, check=False
    )
    assert child.returncode == 0, child.stderr.decode()


def test_hashes_are_kept_and_renewed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    with Hashes(tmp_path) as hashes:
        first = hashes.of("a")
    noted = (tmp_path / CACHE).read_text(encoding="utf-8")
    with Hashes(tmp_path) as hashes:
        assert hashes.of("a") == first
    assert (tmp_path / CACHE).read_text(encoding="utf-8") == noted
    file.write_text("22")
    with Hashes(tmp_path) as hashes:
        assert hashes.of("a") != first
        assert hashes.of("b") is None
    (tmp_path / CACHE).write_text("{broken")
    with Hashes(tmp_path) as hashes:
        assert hashes.of("a") != first


def test_differences_are_named_by_their_place() -> None:
    old, new = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 3, "c": (1,)}, "d": 2, "e": [], "f": 0}
    assert list(differences(old, new)) == [("a.b", 1, 3), ("f", None, 0)]
    assert worst([]) == "ok"
