"""Data seen through a flow: what is delegated to the data themselves, the split of spaces, errors, closure."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_flow_images import write

from neumix.data import flow_spaces, logit_images, plane_curves
from neumix.data.dataset import Dataset
from neumix.data.declarations import load_declarations
from neumix.run import module_name
from neumix.settings import CatalogueError, parse

REPOSITORY = Path(__file__).parents[1]
NOWHERE = Path("nowhere")
TEACHER = "flows/teacher"
CURVES: dict[str, Any] = {"shape": "spiral", "size": 20}
SPACES = 5


def config(base: str = "plane_curves", **given: Any) -> flow_spaces.Config:
    content = {"base": {"name": base, **given}, "teacher": TEACHER}
    return parse(flow_spaces.Config, content, "paper.yaml: data")


def spaces_of(x: NDArray[np.float32], dtype: Any = np.float32) -> NDArray[Any]:
    """Return spaces (N, T, ...) on straight lines from zero to the data."""
    shares = np.linspace(0, 1, SPACES).reshape(1, -1, *[1] * (x.ndim - 1))
    found: NDArray[Any] = (x[:, None] * shares).astype(dtype)
    return found


def extended(dataset: Dataset, spaces: NDArray[Any], settings: flow_spaces.Config) -> Dataset:
    return flow_spaces.extend(dataset, settings, {TEACHER: {"spaces": spaces, "log_prob": np.zeros(3)}})


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_data_are_those_of_the_module(seeds: tuple[int, ...]) -> None:
    dataset = flow_spaces.load(NOWHERE, config(**CURVES), seeds)
    own = plane_curves.load(NOWHERE, plane_curves.Config(**CURVES), seeds)
    assert dataset.label == own.label
    assert dataset.shapes == own.shapes
    for name in ("x", "component"):
        np.testing.assert_array_equal(dataset["train"][name].values, own["train"][name].values)


def test_images_come_from_their_folder(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    dataset = flow_spaces.load(tmp_path, config("logit_images", source="mnist", train=3), (0,))
    own = logit_images.load(tmp_path, logit_images.Config(source="mnist", train=3), (0,))
    for split in ("train", "test"):
        np.testing.assert_array_equal(dataset[split]["x"].values, own[split]["x"].values)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("images", [False, True])
def test_every_training_point_is_held_in_every_space(dtype: Any, images: bool) -> None:
    settings = config("logit_images", source="digits", levels=17, train=9) if images else config(**CURVES)
    dataset = flow_spaces.load(NOWHERE, settings, (0, 1))
    x = dataset["train"]["x"].values
    spaces = spaces_of(x, dtype)
    found = extended(dataset, spaces, settings)
    assert list(found.splits) == [*dataset.splits, "spaces"]
    assert all(found[name] is dataset[name] for name in dataset.splits)
    assert found.label == dataset.label
    assert found.shapes["x"] == dataset.shapes["x"]
    assert found.shapes["path"] == (SPACES, *x.shape[1:])
    field = found["spaces"]["path"]
    assert len(field) == len(x)
    for position in range(2):
        np.testing.assert_array_equal(field.of_seed(position), spaces)
    assert field.values.dtype == dtype, "half of the memory, if the teacher saved it"
    assert "spaces" not in dataset.splits


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spaces: spaces[:-1], r"have points of shape \(2,\), 19 of them; the data here have shape \(2,\), 20"),
        (lambda spaces: spaces[..., :1], r"points of shape \(1,\), 20 of them; the data here have shape \(2,\), 20"),
        (lambda spaces: spaces[:, 0], r"points of shape \(\), 20 of them"),
        (lambda spaces: spaces[::-1], "the last space of flows/teacher is not the data of this run"),
        (lambda spaces: spaces[:, ::-1], "the last space of flows/teacher is not the data of this run"),
        (lambda spaces: spaces + np.float32(0.02), "give both the same data settings"),
        (lambda spaces: np.where(spaces == spaces[3, -1, 0], np.nan, spaces), "give both the same data settings"),
    ],
)
def test_spaces_of_other_points_are_refused(change: Any, said: str) -> None:
    settings = config(**CURVES)
    dataset = flow_spaces.load(NOWHERE, settings, (0,))
    with pytest.raises(ValueError, match=said):
        extended(dataset, change(spaces_of(dataset["train"]["x"].values)), settings)


def test_another_draw_is_refused() -> None:
    settings = config(**CURVES)
    other = flow_spaces.load(NOWHERE, config(**CURVES, draw=1), (0,))
    with pytest.raises(ValueError, match="not the data of this run"):
        extended(flow_spaces.load(NOWHERE, settings, (0,)), spaces_of(other["train"]["x"].values), settings)


def test_a_measure_without_spaces_is_named_with_what_it_has() -> None:
    settings = config(**CURVES)
    dataset = flow_spaces.load(NOWHERE, settings, (0,))
    with pytest.raises(ValueError, match="flows/teacher stores no array 'spaces', only a, b: name a run"):
        flow_spaces.extend(dataset, settings, {TEACHER: {"b": np.zeros(1), "a": np.zeros(1)}})


def test_the_teacher_is_needed() -> None:
    assert flow_spaces.needs(config(**CURVES)) == (TEACHER,)


@pytest.mark.parametrize(
    ("base", "settings", "origins"),
    [
        ("plane_curves", CURVES, ("plane-curves",)),
        ("logit_images", {"source": "digits"}, ("logit-images", "digits")),
        (
            "logit_images",
            {"source": "fashion_mnist", "other": "mnist"},
            ("logit-images", "fashion-mnist", "mnist"),
        ),
        ("fashion_mnist", {}, ("fashion-mnist",)),
    ],
)
def test_origins_are_the_module_and_its_own(base: str, settings: dict[str, Any], origins: tuple[str, ...]) -> None:
    found = flow_spaces.sources(config(base, **settings))
    assert found == origins
    files = {name for name in found if name in load_declarations(REPOSITORY / "config" / "datasets.yaml")}
    assert files == set(origins) & {"mnist", "fashion-mnist"}
    for name in found:
        assert Path(REPOSITORY / "src" / f"{module_name('data', name).replace('.', '/')}.py").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"base": {"name": "plane_curves"}}, "key 'teacher' is missing"),
        ({"teacher": TEACHER}, "key 'base' is missing"),
        ({"base": {"name": "plane_curves"}, "teacher": TEACHER, "shape": "spiral"}, "unknown key 'shape'"),
    ],
)
def test_bad_settings_are_named(content: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        parse(flow_spaces.Config, content, "paper.yaml: data")


def test_bad_settings_of_the_module_are_named() -> None:
    with pytest.raises(CatalogueError, match="data 'plane_curves': unknown key 'sise'; did you mean 'size'"):
        flow_spaces.load(NOWHERE, config(shape="spiral", sise=3), (0,))
