"""Random toy models on a grid: what is drawn, and which parameter lists are one model."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix.data import toy_models
from neumix.data.toy_models import Config, Grid, check_on_grid, decoders, kinks, load, priors, simplex

NOWHERE = Path("nowhere")
HALVES = (-1.0, -0.5, 0.0, 0.5, 1.0)


def grid(**changes: Any) -> Grid:
    settings = {
        "weight_steps": 4,
        "means": (-1, 0, 1, 2),
        "alpha": (-1, 0, 1),
        "beta": (-1, 0, 1, 2),
        "pi": (-1, 0, 1),
        "component_sd": 1.0,
        "noise_sd": 0.5,
    }
    return Grid(**{**settings, **changes})


def drawn(seeds: list[int], simulations: int = 9, **changes: Any) -> dict[str, np.ndarray]:
    dataset = load(NOWHERE, Config(grid=grid(**changes), simulations=simulations), seeds)
    return {name: field.values for name, field in dataset["train"].fields.items()}


def test_models_are_drawn_from_the_grid_the_first_half_with_two_components():
    truths = drawn([0, 1, 2])
    assert {name: values.shape for name, values in truths.items()} == {
        "components": (3, 9),
        "weights": (3, 9, 3),
        "means": (3, 9, 3),
        "decoder": (3, 9, 3, 2),
    }
    np.testing.assert_array_equal(truths["components"], [[2] * 4 + [3] * 5] * 3)
    np.testing.assert_array_equal(truths["weights"][:, :4, 2], 0)
    check_on_grid(grid(), truths)


def test_every_value_of_the_grid_is_drawn_equally_often():
    truths = drawn(list(range(20)), simulations=200)
    for row, name in enumerate(("alpha", "beta", "pi")):
        values, counts = np.unique(truths["decoder"][:, :, row], return_counts=True)
        np.testing.assert_array_equal(values, getattr(grid(), name))
        np.testing.assert_allclose(counts / counts.sum(), 1 / len(values), atol=0.02)
    weights = truths["weights"][truths["components"] == 3]
    lists, counts = np.unique(np.round(4 * weights), axis=0, return_counts=True)
    np.testing.assert_array_equal(lists, np.unique(simplex(4, 3), axis=0))
    np.testing.assert_allclose(counts / counts.sum(), 1 / 15, atol=0.02)


def test_a_seeds_models_depend_on_this_seed_alone():
    together, alone = drawn([3, 5]), drawn([5])
    for name, values in together.items():
        np.testing.assert_array_equal(values[1:], alone[name])
    assert (together["decoder"][0] != together["decoder"][1]).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4))
def test_the_simplex_has_all_ordered_sums(steps, components):
    expected = {row for row in itertools.product(range(steps + 1), repeat=components) if sum(row) == steps}
    rows = simplex(steps, components)
    assert {tuple(row) for row in rows.tolist()} == expected
    assert len(rows) == len(expected)


def test_priors_are_the_different_mixtures_with_their_number_of_lists():
    found = priors(grid(weight_steps=3, means=(0, 1, 2, 3)))
    for number in (2, 3):
        counts: dict[tuple[float, ...], int] = {}
        for units in itertools.product(range(4), repeat=number):
            if sum(units) != 3:
                continue
            for atoms in itertools.product(range(4), repeat=number):
                measure = [0] * 4
                for unit, atom in zip(units, atoms, strict=True):
                    measure[atom] += unit
                counts[tuple(measure)] = counts.get(tuple(measure), 0) + 1
        seen = found.lists[number] > 0
        rows = np.round(3 * found.weights[seen]).astype(int).tolist()
        assert {tuple(row): count for row, count in zip(rows, found.lists[number][seen], strict=True)} == counts
    np.testing.assert_allclose(found.weights.sum(1), 1)
    supports = (found.weights > 0).sum(1)
    assert (np.diff(supports) >= 0).all()


def test_the_number_of_priors_is_the_one_counted_by_hand():
    found = priors(grid(weight_steps=5, means=tuple(range(-3, 4))))
    assert len(found.weights) == 7 + 21 * 4 + 35 * 6
    assert (found.lists[2] > 0).sum() == 7 + 21 * 4
    assert found.lists[2].sum() == 6 * 7**2
    assert found.lists[3].sum() == 21 * 7**3


def test_decoders_are_the_different_functions_with_their_number_of_lists():
    some = grid(alpha=(-1, 0, 0.5, 1), beta=(-2, 0, 1), pi=(-1, 0, 0.5))
    found = decoders(some)
    z = np.linspace(-4, 4, 161)
    axes = [axis for axis in (some.alpha, some.beta, some.pi) for _ in range(2)]
    counts: dict[tuple[float, ...], int] = {}
    for a1, a2, b1, b2, p1, p2 in itertools.product(*axes):
        values = a1 * np.maximum(b1 * z + p1, 0) + a2 * np.maximum(b2 * z + p2, 0)
        key = tuple(np.round(values, 6) + 0.0)
        counts[key] = counts.get(key, 0) + 1
    alpha, beta, pi = (found.parameters[:, row, :, None] for row in range(3))
    keys = np.round((alpha * np.maximum(beta * z + pi, 0)).sum(1), 6) + 0.0
    assert {tuple(key): count for key, count in zip(keys.tolist(), found.lists, strict=True)} == counts
    assert found.lists.sum() == 4**2 * 3**2 * 3**2


def test_kinks_are_the_points_where_a_neuron_can_switch():
    np.testing.assert_allclose(kinks(grid(beta=(-2, 0, 1), pi=(-1, 0, 1))), [-1, -0.5, 0, 0.5, 1])
    assert len(kinks(grid(beta=(0,)))) == 0
    assert len(decoders(grid(beta=(0,))).lists) == len(
        {a * p + b * q for a in (-1, 0, 1) for p in (0, 1) for b in (-1, 0, 1) for q in (0, 1)}
    )


def test_equal_functions_of_a_fine_grid_are_found_in_spite_of_rounding():
    tenths = tuple(value / 10 for value in range(-3, 4))
    found = decoders(grid(alpha=tenths, beta=(-0.3, 0.1, 0.2), pi=(0.1, 0.2, 0.3)))
    assert found.lists.sum() == 7**2 * 3**2 * 3**2
    z = np.linspace(-4, 4, 801)
    alpha, beta, pi = (found.parameters[:, row, :, None] for row in range(3))
    values = (alpha * np.maximum(beta * z + pi, 0)).sum(1)
    assert len(np.unique(np.round(values, 7) + 0.0, axis=0)) == len(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": (1, 1, 2)}, "means needs increasing values"),
        ({"alpha": ()}, "alpha needs increasing values"),
        ({"pi": (0, -1)}, "pi needs increasing values"),
        ({"means": (1,)}, "two values or more"),
        ({"noise_sd": 0}, "greater than 0"),
    ],
)
def test_a_senseless_grid_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        grid(**changes)


@pytest.mark.parametrize(
    ("name", "position", "value", "message"),
    [
        ("decoder", (0, 4, 0, 1), 0.5, "alpha: 0.5 is not on the grid"),
        ("decoder", (0, 4, 1, 1), 3.0, "beta: 3.0 is not on the grid"),
        ("decoder", (0, 4, 2, 0), 0.1, "pi: 0.1 is not on the grid"),
        ("means", (0, 0, 0), 5.0, "means: 5.0 is not on the grid"),
        ("weights", (0, 0), (0.3, 0.7, 0.0), "not a non-negative multiple of 1/4"),
        ("weights", (0, 0), (1.25, -0.25, 0.0), "not a non-negative multiple of 1/4"),
        ("weights", (0, 0), (0.5, 0.25, 0.0), "weights sum to 0.75"),
        ("weights", (0, 0), (0.25, 0.25, 0.5), "components is 2"),
        ("components", (0, 0), 4, "components is 4"),
    ],
)
def test_models_off_the_grid_are_refused(name, position, value, message):
    truths = drawn([0])
    check_on_grid(grid(), truths)
    truths[name][position] = value
    with pytest.raises(ValueError, match=message):
        check_on_grid(grid(), truths)


def test_the_draw_needs_no_data():
    assert toy_models.sources(Config(grid=grid(), simulations=2)) == ()
    with pytest.raises(ValueError, match="greater than 0"):
        Config(grid=grid(), simulations=0)
