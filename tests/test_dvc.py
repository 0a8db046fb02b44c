"""`data.dvc` and the raw data that it describes, with the real dvc in a scratch repository."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from neumix.data import euler, fashion_mnist, letter, mnist, satimage
from neumix.data.declarations import load_declarations
from neumix.data.fetch import fetch

REPOSITORY = Path(__file__).parents[1]
DECLARATIONS = load_declarations(REPOSITORY / "config" / "datasets.yaml")
TRACKED = [name for name in DECLARATIONS if name != "smallnorb"]

Status = Callable[[], dict[str, Any]]


def outputs() -> list[dict[str, Any]]:
    content = yaml.safe_load((REPOSITORY / "data.dvc").read_text(encoding="utf-8"))
    return list(content["outs"])


def mirror() -> Path | None:
    folders = [os.environ.get("NEUMIX_DATA_MIRROR", ""), str(REPOSITORY.parent / "shared" / "data")]
    found = [Path(folder) for folder in folders if folder and (Path(folder) / "mnist").is_dir()]
    return found[0] if found else None


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(folder / ".site"), "DVC_NO_ANALYTICS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a git repository with this repository's dvc files and without data."""
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "data.dvc"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def status(folder: Path) -> dict[str, Any]:
    changes = json.loads(run(folder, sys.executable, "-m", "dvc", "status", "--json"))
    merged: dict[str, Any] = {}
    for entry in changes.get("data.dvc", []):
        merged |= entry["changed outs"]
    return merged


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_every_declared_file_is_tracked_with_its_size() -> None:
    tracked = {output["path"]: output["size"] for output in outputs()}
    declared = {f"data/{name}/{file.name}": file.size for name in TRACKED for file in DECLARATIONS[name].files}
    assert tracked == declared
    assert not any(path.endswith(".gz") for path in tracked)


def test_missing_data_show(clone: Path) -> None:
    assert status(clone) == {output["path"]: "deleted" for output in outputs()}


def test_status_is_clean_until_a_byte_changes(clone: Path) -> None:
    (clone / "data" / "toy").mkdir(parents=True)
    content = np.random.default_rng(0).integers(256, size=10_000, dtype=np.uint8).tobytes()
    files = {f"data/toy/{name}": content[position:] for position, name in enumerate("abc")}
    recorded = []
    for path, data in files.items():
        (clone / path).write_bytes(data)
        md5 = hashlib.md5(data).hexdigest()
        recorded.append({"md5": md5, "size": len(data), "hash": "md5", "cache": False, "path": path})
    (clone / "data.dvc").write_text(yaml.safe_dump({"outs": recorded}), encoding="utf-8")
    for extra in ("data/.toy.lock", "data/toy/a.01234567.part", "data/toy/SHA256SUMS"):
        (clone / extra).write_text("not data")
    assert status(clone) == {}
    flip(clone / "data/toy/b", 5_000)
    assert status(clone) == {"data/toy/b": "modified"}
    flip(clone / "data/toy/b", 5_000)
    assert status(clone) == {}
    assert "data" not in run(clone, "git", "status", "--short").replace("data.dvc", "")


@pytest.mark.skipif(mirror() is None, reason="no mirror with the real data (set NEUMIX_DATA_MIRROR)")
def test_real_data_are_clean_and_load(clone: Path) -> None:
    folder = mirror()
    assert folder is not None
    root = clone / "data"
    for name in TRACKED:
        fetch(name, DECLARATIONS[name], root, [folder], sleep=lambda seconds: None)
    assert status(clone) == {}
    check_real_images(root)
    check_real_tables(root)
    check_real_portrait(root)
    flip(root / "mnist" / "train-images-idx3-ubyte", 20_000_000)
    assert status(clone) == {"data/mnist/train-images-idx3-ubyte": "modified"}


def check_real_images(root: Path) -> None:
    for dataset in (mnist, fashion_mnist):
        loaded = dataset.load(root, dataset.Config(), [0])
        assert loaded["train"]["x"].values.shape == (60_000, 28, 28)
        assert loaded["test"]["x"].values.shape == (10_000, 28, 28)
    digits = np.bincount(mnist.load(root, mnist.Config(), [0])["test"]["y"].values)
    np.testing.assert_array_equal(digits, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    clothes = np.bincount(fashion_mnist.load(root, fashion_mnist.Config(), [0])["train"]["y"].values)
    np.testing.assert_array_equal(clothes, np.full(10, 6000))


def check_real_tables(root: Path) -> None:
    letters = letter.load(root, letter.Config(), [0])
    np.testing.assert_array_equal(letters["train"]["x"].values[0], [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8])
    assert letters["train"]["y"].values[0] == ord("T") - ord("A")
    assert len(set(letters["test"]["y"].values)) == 26
    soil = satimage.load(root, satimage.Config(), [0])
    np.testing.assert_array_equal(np.bincount(soil["train"]["y"].values), [1072, 479, 961, 415, 470, 1038])
    np.testing.assert_array_equal(np.bincount(soil["test"]["y"].values), [461, 224, 397, 211, 237, 470])


def check_real_portrait(root: Path) -> None:
    """The density's negative entropy is the best mean log density that any model can reach, 0.22445 nats."""
    grey = euler.load(root, euler.Config(), [0])["image"]["x"].values.astype(float)
    p = grey / grey.sum()
    assert np.sum(p * np.log(p * p.size)) == pytest.approx(0.22445, abs=5e-5)
