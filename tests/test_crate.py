"""A crate holds what the records tell of, is valid without a network, and its verifier finds every damage."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from neumix import provenance
from neumix.audit import verify
from neumix.audit.crate import export_crate
from neumix.provenance import Recorder
from neumix.records import FORMAT, read_record
from neumix.seeding import numpy_rng

METADATA = "ro-crate-metadata.json"
RESULTS = Path("results/smoke")
RUN = "toy/one/main"
WEIGHTS = f"{RESULTS}/weights/{RUN}.safetensors"
ARRAYS = f"{RESULTS}/arrays/{RUN}.safetensors"
TRAIN, EVALUATE = f"{RESULTS}/runs/{RUN}/run.json", f"{RESULTS}/runs/{RUN}/evaluation.json"
OLD_CODE, NEW_CODE = "width = 3\n", "width = 4  # changed since\n"
PROJECT = {
    "Snakefile": "rule all:\n",
    "README.md": "# A toy\n",
    "LICENSE": "MIT License\n",
    "LICENSE-DATA.md": "# Not ours\n",
    "environment.yml": "name: toy\n",
    "pyproject.toml": "[project]\n",
    "requirements.lock": "a==1\n",
    "config/published/toy.csv": "id\n",
    "src/neumix/toy.py": OLD_CODE,
    "src/neumix/__pycache__/toy.pyc": "no source",
    "data/toy/SHA256SUMS": "00  points\n",
    **{f"workflow/scripts/{kind}.py": "run()\n" for kind in ("train", "evaluate", "render_table", "compare")},
}


def write(path: str | Path, content: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return Path(path)


def recorder(kind: str, id_: str, record: str, inputs: dict[str, list[str]], outputs: list[str]) -> Recorder:
    return Recorder(
        kind=kind,
        id=id_,
        record=Path(record),
        attempts=RESULTS / "attempts" / kind / f"{id_}.jsonl",
        scale="smoke",
        parameters={"model": {"name": "toy", "widths": [3, 4]}, "rate": 0.1, "none": None, "by": {"a.b": {"c": 1}}},
        inputs={role: [Path(path) for path in paths] for role, paths in inputs.items()},
        outputs=[Path(path) for path in outputs],
        seeds=(0, 1),
    )


def do(kind: str, id_: str, record: str, inputs: dict[str, list[str]], outputs: list[str]) -> None:
    with recorder(kind, id_, record, inputs, outputs):
        for path in outputs:
            write(path, f"{kind} made {path}\n")


def train() -> Recorder:
    return recorder("train", RUN, TRAIN, {"code": ["src/neumix/toy.py"], "data": ["data/toy/SHA256SUMS"]}, [WEIGHTS])


def git(*words: str) -> None:
    identity = ["-c", "user.name=toy", "-c", "user.email=toy@example.org"]
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose jobs failed, were killed and finished; after that its code changed and its arrays went."""
    root = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for path, content in PROJECT.items():
            write(path, content)
        git("init", "--quiet")
        git("add", ".")
        git("commit", "--quiet", "--message=toy")
        with pytest.raises(ZeroDivisionError), train():
            _ = 1 / 0
        train().__enter__()  # killed: it never comes to its end
        write(WEIGHTS, "weights\n")
        with train():
            pass
        metrics, table = f"{RESULTS}/runs/{RUN}/metrics.json", f"{RESULTS}/tables/toy.table1"
        do("evaluate", RUN, EVALUATE, {"record": [TRAIN], "weights": [WEIGHTS]}, [metrics, ARRAYS])
        do("render_table", "toy.table1", f"{table}.json", {"records": [EVALUATE]}, [f"{table}.csv", f"{table}.md"])
        comparison = {"published": ["config/published/toy.csv"], "records": [EVALUATE]}
        do("compare", "toy", f"{RESULTS}/comparison/toy.json", comparison, [f"{RESULTS}/comparison/toy.csv"])
        recorder("train", "toy/one/never", f"{RESULTS}/runs/toy/one/never/run.json", {}, []).__enter__()
        write("src/neumix/toy.py", NEW_CODE)
        Path(ARRAYS).unlink()
    return root


@pytest.fixture(scope="module")
def exported(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_crate(toy, "smoke", tmp_path_factory.mktemp("exported") / "crate")


@pytest.fixture
def crate(exported: Path, tmp_path: Path) -> Path:
    """A copy of the crate to do as one likes with."""
    return Path(shutil.copytree(exported, tmp_path / "crate"))


@pytest.fixture
def repository(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "repository"))


def entities(crate: Path) -> dict[str, dict[str, Any]]:
    graph = json.loads((crate / METADATA).read_text())["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def ids(value: Any) -> set[str]:
    return {reference["@id"] for reference in listed(value)}


def of_type(crate: Path, type_: str) -> dict[str, dict[str, Any]]:
    return {id_: entity for id_, entity in entities(crate).items() if type_ in listed(entity["@type"])}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(crate: Path, change: Callable[[dict[str, dict[str, Any]]], None]) -> None:
    """Change entities of the metadata in place."""
    content = json.loads((crate / METADATA).read_text())
    change({entity["@id"]: entity for entity in content["@graph"]})
    (crate / METADATA).write_text(json.dumps(content))


def verified(crate: Path) -> subprocess.CompletedProcess[str]:
    """Run the verifier of a crate from elsewhere, with nothing installed."""
    command = [sys.executable, "-I", "-S", str(crate / "verify.py")]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


# An absolute URL is recommended for software, but the workflow must be a file of the crate; the profile allows for
# that, the validator does not.
LOCAL_SOFTWARE = ["process-run-crate-0.5_5.1", "The SoftwareApplication id SHOULD be an absolute URI"]


def test_the_validator_is_content_without_a_network(exported: Path, crate: Path, tmp_path: Path) -> None:
    edit(crate, lambda found: found["Snakefile"].pop("programmingLanguage"))
    script = Path(__file__).with_name("offline_validator.py")
    wanted = [f"{exported}:REQUIRED", f"{exported}:RECOMMENDED", f"{crate}:REQUIRED"]
    environment = os.environ | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path / "cache"), *wanted]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    required, recommended, broken = json.loads(done.stdout)
    assert (required["passed"], required["issues"]) == (True, [])
    assert recommended["issues"] == [LOCAL_SOFTWARE]
    assert 50 < required["checks"] < recommended["checks"]
    assert not broken["passed"]


def test_every_file_has_the_hash_and_size_that_the_metadata_says(exported: Path) -> None:
    files = of_type(exported, "File")
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert {unquote(id_) for id_ in files} == there - {METADATA}
    for id_, file in files.items():
        assert (digest(exported / unquote(id_)), (exported / unquote(id_)).stat().st_size) == (
            file["sha256"],
            int(file["contentSize"]),
        )
    assert ids(entities(exported)["./"]["hasPart"]) == set(files)


def test_every_attempt_at_every_job_is_an_action(exported: Path) -> None:
    runs = {**of_type(exported, "CreateAction"), **of_type(exported, "ActivateAction")}
    finished = {
        f"#{job}" for job in (f"train/{RUN}/3", f"evaluate/{RUN}/1", "render_table/toy.table1/1", "compare/toy/1")
    }
    assert set(of_type(exported, "CreateAction")) == {*finished, "#workflow/smoke"}
    assert set(of_type(exported, "ActivateAction")) == {f"#train/{RUN}/1", f"#train/{RUN}/2", "#train/toy/one/never/1"}
    assert ids(entities(exported)["./"]["mentions"]) == set(runs)
    for id_, run in runs.items():
        assert run["actionStatus"].endswith("CompletedActionStatus" if id_ in finished else "FailedActionStatus")
        assert ("error" in run) == (id_ not in finished)
    assert runs[f"#train/{RUN}/1"]["error"] == "ZeroDivisionError: division by zero"
    assert "killed" in runs[f"#train/{RUN}/2"]["error"] and "killed" in runs["#train/toy/one/never/1"]["error"]
    assert "train toy/one/never: killed" in runs["#workflow/smoke"]["error"]


def test_steps_and_engine_control_the_actions(exported: Path) -> None:
    found = entities(exported)
    controls = of_type(exported, "ControlAction")
    assert ids(controls[f"#control/train/{RUN}"]["object"]) == {f"#train/{RUN}/{number}" for number in (1, 2, 3)}
    assert controls[f"#control/train/{RUN}"]["actionStatus"].endswith("CompletedActionStatus")
    assert controls["#control/train/toy/one/never"]["actionStatus"].endswith("FailedActionStatus")
    assert len(controls) == 5
    (engine,) = of_type(exported, "OrganizeAction").values()
    assert ids(engine["object"]) == set(controls) and ids(engine["result"]) == {"#workflow/smoke"}
    (snakemake,) = (found[id_] for id_ in ids(engine["instrument"]))
    assert snakemake["softwareVersion"] == importlib.metadata.version("snakemake")
    assert found[next(iter(ids(found["Snakefile"]["programmingLanguage"])))]["version"] == snakemake["softwareVersion"]
    position = {step["name"]: int(step["position"]) for step in of_type(exported, "HowToStep").values()}
    assert position["train"] < position["evaluate"] < min(position["render_table"], position["compare"])


def test_actions_read_and_make_what_their_records_tell(toy: Path, exported: Path) -> None:
    found, seen = entities(exported), 0
    for path in (toy / RESULTS).rglob("*.json"):
        if path.name == "metrics.json":
            continue
        record = read_record(path)
        action = found[f"#{record['kind']}/{record['id']}/{len(record['attempts'])}"]
        read = {(found[id_]["name"], found[id_]["sha256"]) for id_ in ids(action["object"]) if "sha256" in found[id_]}
        made = {(found[id_]["name"], found[id_]["sha256"]) for id_ in ids(action["result"])}
        files = {item for role in record["inputs"].values() for item in role.items()}
        assert read == {*files, ("requirements.lock", record["environment"]["lock_sha256"])}
        name = path.relative_to(toy).as_posix()
        assert made == {*record["outputs"].items(), (name, digest(path))}
        assert action["startTime"][:23] == record["started"][:23]
        seen += 1
    assert seen == 4


def test_settings_are_values_of_formal_parameters(exported: Path) -> None:
    found = entities(exported)
    told = [found[id_] for id_ in ids(found[f"#train/{RUN}/3"]["object"]) if found[id_]["@type"] == "PropertyValue"]
    assert {value["name"]: json.loads(value["value"]) for value in told if value["name"] != "model.name"} == {
        "model.widths": [3, 4],
        "rate": 0.1,
        "by": {"a.b": {"c": 1}},
        "job.seeds": [0, 1],
        "job.threads": 1,
    }
    types = {value["name"]: found[value["exampleOfWork"]["@id"]]["additionalType"] for value in told}
    assert (types["model.name"], types["rate"], types["job.threads"]) == ("Text", "Float", "Integer")
    tool = found[found[f"#train/{RUN}/3"]["instrument"]["@id"]]
    assert {value["exampleOfWork"]["@id"] for value in told} <= ids(tool["input"])
    connections = of_type(exported, "ParameterConnection").values()
    ends = {(link["sourceParameter"]["@id"], link["targetParameter"]["@id"]) for link in connections}
    assert ("#parameter/train/output/outputs", "#parameter/evaluate/input/weights") in ends


def test_machine_environment_and_use_are_told(exported: Path) -> None:
    found = entities(exported)
    action = found[f"#train/{RUN}/3"]
    properties = {found[id_]["name"]: found[id_] for id_ in ids(action["additionalProperty"])}
    assert set(properties) == {"machine", "software environment", "git commit"}
    machine = {found[id_]["name"]: found[id_]["value"] for id_ in ids(properties["machine"]["valueReference"])}
    assert machine == {name: value for name, value in provenance.machine().items() if value is not None}
    used = {found[id_]["name"]: float(found[id_]["value"]) for id_ in ids(action["resourceUsage"])}
    assert set(used) == {"wall_seconds", "peak_memory_mb"} and min(used.values()) >= 0
    tool = found[action["instrument"]["@id"]]
    software = {found[id_]["name"]: found[id_]["softwareVersion"] for id_ in ids(tool["softwareRequirements"])}
    assert software["python"] == platform.python_version()
    assert software["numpy"] == importlib.metadata.version("numpy")


def test_code_that_has_changed_since_comes_from_git(exported: Path) -> None:
    old = f"earlier/{hashlib.sha256(OLD_CODE.encode()).hexdigest()[:12]}/src/neumix/toy.py"
    assert (exported / old).read_text() == OLD_CODE
    assert (exported / "src/neumix/toy.py").read_text() == NEW_CODE
    found = entities(exported)
    assert found[old]["alternateName"] == "src/neumix/toy.py"
    read = ids(found[f"#train/{RUN}/3"]["object"])
    assert old in read and "src/neumix/toy.py" not in read


@pytest.mark.parametrize("content", [None, "other weights\n"])
def test_what_cannot_be_had_is_told_by_its_hash(repository: Path, tmp_path: Path, content: str | None) -> None:
    expected = digest(repository / WEIGHTS)
    (repository / WEIGHTS).unlink()
    if content:
        (repository / WEIGHTS).write_text(content)
    crate = export_crate(repository, "smoke", tmp_path / "crate")
    missing = entities(crate)[f"#not-included/{expected[:12]}/{WEIGHTS}"]
    assert (missing["name"], missing["sha256"], missing["@type"]) == (WEIGHTS, expected, "CreativeWork")
    assert ("not on this machine" if content is None else "another content") in missing["description"]
    assert missing["@id"] in ids(entities(crate)[f"#train/{RUN}/3"]["result"])
    assert not (crate / WEIGHTS).exists()
    assert verified(crate).returncode == 0


def test_the_verifier_needs_nothing_and_is_content_with_a_new_crate(exported: Path) -> None:
    done = verified(exported)
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(exported / METADATA) in done.stdout and len(done.stdout.splitlines()) == 1


def test_every_flipped_byte_is_found(crate: Path) -> None:
    rng = numpy_rng(0, "flips")
    for id_ in of_type(crate, "File"):
        file = crate / unquote(id_)
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        (problem,) = verify.problems(crate)
        assert problem.startswith(f"{unquote(id_)}: SHA-256 ")
        file.write_bytes(content)
    assert not list(verify.problems(crate))


def unlink(crate: Path) -> None:
    (crate / WEIGHTS).unlink()


def lengthen(crate: Path) -> None:
    (crate / WEIGHTS).write_text("weights\n\n")


def add_file(crate: Path) -> None:
    (crate / "results" / "extra.csv").write_text("1\n")


def add_link(crate: Path) -> None:
    (crate / "results" / "extra.csv").symlink_to(crate / "README.md")


def add_dangling_link(crate: Path) -> None:
    (crate / "extra").symlink_to("nowhere")


def add_linked_folder(crate: Path) -> None:
    (crate / "extra").symlink_to("/etc", target_is_directory=True)


def replace_by_link(crate: Path) -> None:
    (crate / "README.md").rename(crate.parent / "README.md")
    (crate / "README.md").symlink_to(crate.parent / "README.md")


def add_pipe(crate: Path) -> None:
    os.mkfifo(crate / "extra")


def leave_folder(crate: Path) -> None:
    (crate.parent / "outside").write_text("x")
    edit(crate, lambda found: found["README.md"].update({"@id": "results/../../outside"}))


def leave_folder_in_disguise(crate: Path) -> None:
    edit(crate, lambda found: found["README.md"].update({"@id": "%2e%2e/outside"}))


def start_at_root(crate: Path) -> None:
    edit(crate, lambda found: found["README.md"].update({"@id": "/etc/passwd"}))


def point_to_web(crate: Path) -> None:
    edit(crate, lambda found: found["README.md"].update({"@id": "https://example.org/README.md"}))


def drop_hash(crate: Path) -> None:
    edit(crate, lambda found: found["README.md"].pop("sha256"))


def change_size(crate: Path) -> None:
    edit(crate, lambda found: found["README.md"].update({"contentSize": "1"}))


def describe_twice(crate: Path) -> None:
    edit(crate, lambda found: found["LICENSE"].update({"@id": "README.md"}))


def truncate(crate: Path) -> None:
    content = (crate / METADATA).read_bytes()
    (crate / METADATA).write_bytes(content[: len(content) // 2])


def empty_graph(crate: Path) -> None:
    (crate / METADATA).write_text('{"@graph": [1, 2]}')


def drop_metadata(crate: Path) -> None:
    (crate / METADATA).unlink()


DAMAGE: dict[Callable[[Path], None], list[str]] = {
    unlink: [f"{WEIGHTS}: not there"],
    lengthen: [f"{WEIGHTS}: 9 bytes, the metadata says 8", f"{WEIGHTS}: SHA-256 "],
    add_file: ["results/extra.csv: the metadata does not describe it"],
    add_link: ["results/extra.csv: a symbolic link"],
    add_dangling_link: ["extra: a symbolic link"],
    add_linked_folder: ["extra: a symbolic link"],
    replace_by_link: ["README.md: a symbolic link", "README.md: not there"],
    add_pipe: ["extra: not a plain file"],
    leave_folder: ["results/../../outside: not a path below", "README.md: the metadata does not describe it"],
    leave_folder_in_disguise: ["../outside: not a path below", "README.md: the metadata does not describe it"],
    start_at_root: ["/etc/passwd: not a path below", "README.md: the metadata does not describe it"],
    point_to_web: ["https://example.org/README.md: not a path below", "README.md: the metadata does not describe it"],
    drop_hash: ["README.md: SHA-256 "],
    change_size: ["README.md: 8 bytes, the metadata says 1"],
    describe_twice: [
        "README.md: 8 bytes, the metadata says 12",
        "README.md: SHA-256 ",
        "README.md: described more than once",
        "LICENSE: the metadata does not describe it",
    ],
    truncate: [f"{METADATA}: cannot be read: JSONDecodeError"],
    empty_graph: [f"{METADATA}: cannot be read: TypeError"],
    drop_metadata: [f"{METADATA}: not there"],
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_the_verifier_finds_each_kind_of_damage(crate: Path, damage: Callable[[Path], None]) -> None:
    damage(crate)
    done = verified(crate)
    *problems, total = done.stdout.splitlines()
    assert (done.returncode, done.stderr, total.split()[0]) == (1, "", str(len(DAMAGE[damage])))
    for expected in DAMAGE[damage]:
        assert any(problem.startswith(expected) for problem in problems), problems


def test_a_name_that_cannot_be_printed_stays_on_one_line(crate: Path) -> None:
    Path(os.fsdecode(bytes(crate) + b"/two\nlines \xff")).write_text("x")
    done = verified(crate)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    assert "two\\nlines" in done.stdout


def test_the_same_records_give_the_same_crate_and_nothing_private(toy: Path, exported: Path, tmp_path: Path) -> None:
    again = export_crate(toy, "smoke", tmp_path / "crate")
    assert (again / METADATA).read_bytes() == (exported / METADATA).read_bytes()
    text = (exported / METADATA).read_text()
    assert str(toy) not in text and socket.gethostname() not in text and "toy@example.org" not in text


def test_no_network_is_needed_to_export(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError("there is no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert export_crate(toy, "smoke", tmp_path / "crate").is_dir()


def test_linked_files_are_not_copied(toy: Path, tmp_path: Path) -> None:
    copied = export_crate(toy, "smoke", tmp_path / "copied")
    linked = export_crate(toy, "smoke", tmp_path / "linked", link=True)
    assert not (copied / WEIGHTS).samefile(toy / WEIGHTS)
    assert (linked / WEIGHTS).samefile(toy / WEIGHTS)
    assert (copied / METADATA).read_bytes() == (linked / METADATA).read_bytes()


def test_a_run_can_be_exported_with_what_it_needs(toy: Path, tmp_path: Path) -> None:
    crate = export_crate(toy, "smoke", tmp_path / "crate", [RUN])
    assert set(of_type(crate, "ControlAction")) == {f"#control/train/{RUN}", f"#control/evaluate/{RUN}"}
    assert verified(crate).returncode == 0
    with pytest.raises(ValueError, match=r"run 'toy/one/mian' has no record .*; did you mean 'toy/one/main'\?"):
        export_crate(toy, "smoke", tmp_path / "other", ["toy/one/mian"])


def test_a_crate_is_replaced_and_nothing_else(toy: Path, crate: Path, tmp_path: Path) -> None:
    (crate / "stray").write_text("x")
    export_crate(toy, "smoke", crate)
    assert verified(crate).returncode == 0
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="mine: there already, and not a crate"):
        export_crate(toy, "smoke", tmp_path / "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"crate", "mine"}


def newer_format(root: Path) -> None:
    record = json.loads((root / TRAIN).read_text())
    (root / TRAIN).write_text(json.dumps({**record, "format": FORMAT + 1}))


def incomplete_record(root: Path) -> None:
    record = json.loads((root / TRAIN).read_text())
    (root / TRAIN).write_text(json.dumps({key: record[key] for key in record if key not in ("machine", "seeds")}))


def truncated_record(root: Path) -> None:
    (root / TRAIN).write_text((root / TRAIN).read_text()[:100])


def no_records(root: Path) -> None:
    shutil.rmtree(root / RESULTS)


def linked_output(root: Path) -> None:
    (root / WEIGHTS).rename(root / "elsewhere")
    (root / WEIGHTS).symlink_to(root / "elsewhere")


def linked_folder(root: Path) -> None:
    (root / RESULTS / "weights").rename(root / "elsewhere")
    (root / RESULTS / "weights").symlink_to(root / "elsewhere")


def linked_code(root: Path) -> None:
    (root / "src/neumix/linked.py").symlink_to("toy.py")


def change_outputs(root: Path, path: str) -> None:
    record = json.loads((root / TRAIN).read_text())
    (root / TRAIN).write_text(json.dumps({**record, "outputs": {path: "0" * 64}}))


def outside(root: Path) -> None:
    change_outputs(root, "results/../../secret")


def absolute(root: Path) -> None:
    change_outputs(root, "/etc/passwd")


def no_licence(root: Path) -> None:
    (root / "LICENSE").unlink()


REFUSED: dict[Callable[[Path], None], str] = {
    newer_format: rf"run\.json: format {FORMAT + 1} is newer than {FORMAT}, the newest known; update neumix",
    incomplete_record: r"run\.json: not a run record: it has no machine, seeds",
    truncated_record: r"run\.json: not a run record",
    no_records: "no records; run the pipeline first",
    linked_output: rf"{WEIGHTS}: a symbolic link",
    linked_folder: r"results/smoke/weights: a symbolic link",
    linked_code: r"src/neumix/linked\.py: a symbolic link",
    outside: r"'results/\.\./\.\./secret': a crate holds only files below its folder",
    absolute: "'/etc/passwd': a crate holds only files below its folder",
    no_licence: "LICENSE: not there; a crate needs it",
}


@pytest.mark.parametrize("fault", REFUSED, ids=lambda fault: fault.__name__)
def test_what_no_crate_can_be_made_of_leaves_none(
    repository: Path, exported: Path, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    old = Path(shutil.copytree(exported, tmp_path / "crates" / "old"))
    fault(repository)
    for target in (old, tmp_path / "crates" / "new"):
        with pytest.raises((ValueError, FileNotFoundError), match=REFUSED[fault]):
            export_crate(repository, "smoke", target)
    assert [path.name for path in (tmp_path / "crates").iterdir()] == ["old"]
    assert (old / METADATA).read_bytes() == (exported / METADATA).read_bytes()


def test_a_file_that_changes_meanwhile_is_an_error(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes() + b"more")

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(ValueError, match="it changed while the crate was written"):
        export_crate(toy, "smoke", tmp_path / "crate")
    assert not list(tmp_path.iterdir())


def test_exporting_does_not_load_torch() -> None:
    code = "import sys, neumix.audit.crate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
