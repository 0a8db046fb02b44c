"""Tables of the InClass nets paper and of the experiments beyond it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neumix.formatting import format_number
from neumix.mixtures import Linear, Normal, ProductMixture, Uniform
from neumix.papers.inclass.readings import (
    Band,
    batch_size,
    component_costs,
    gradient,
    mixture_of,
    standard_deviation,
    weight_range,
)
from neumix.results import Results

__all__ = [
    "table1",
    "table2",
    "table3",
    "table_batches",
    "table_checkerboard",
    "table_components",
    "table_identifiability",
    "table_labels",
    "table_labels_used",
    "table_prior",
    "table_uncertainty",
]

Floats = NDArray[np.float64]

_DASH = format_number(np.nan)
_TAIL_POINTS = 200_001

_VARIED = {
    "uncertainty/seeds": "seed; same data",
    "uncertainty/bootstrap": "seed and bootstrap resample",
    "uncertainty/fresh": "seed and fresh data",
}
_KNOWN = {
    "prior_knowledge/free": "nothing",
    "prior_knowledge/known_weights": "weights",
    "prior_knowledge/known_density": "densities of x",
}
_INPUTS = {
    "checkerboard/main": "raw, from 0 to 4",
    "checkerboard/centred": "centred, from -2 to 2",
}
_RECOVERED = 0.05
_TRAINED_ON = {
    "seeding": "noisy labels",
    "pairs": "noisy labels, then pairs",
    "hybrid": "noisy labels and pairs at once",
    "clean": "clean labels",
}
_MIXTURES = {
    "two_gaussians/main": "two Gaussians",
    "checkerboard/main": "checkerboard",
    "prior_knowledge/free": "linear densities",
}


def table1(results: Results) -> pd.DataFrame:
    """Return the specification of the two Gaussians."""
    return pd.DataFrame(_specification(mixture_of(results["two_gaussians/main"])))


def table2(results: Results) -> pd.DataFrame:
    """Return estimated pseudo weights and weights beside the true weights."""
    run = results["two_gaussians/main"]
    over = _over(run.values("weight_1"))
    return pd.DataFrame(
        {
            "Component": str(i),
            f"Pseudo weight of x ({over})": _spread(run.values(f"pseudo_weight_x{i}")),
            f"Pseudo weight of y ({over})": _spread(run.values(f"pseudo_weight_y{i}")),
            f"Weight ({over})": _spread(run.values(f"weight_{i}")),
            "True weight": f"{run.values(f'true_weight_{i}')[0]:g}",
        }
        for i in (1, 2)
    )


def table3(results: Results) -> pd.DataFrame:
    """Return the specification of the trivariate Gaussians and the estimated weights."""
    run = results["trivariate_gaussians/main"]
    header = f"Estimated weight ({_over(run.values('weight_1'))})"
    rows = enumerate(_specification(mixture_of(run)), 1)
    return pd.DataFrame({**row, header: _spread(run.values(f"weight_{i}"))} for i, row in rows)


def table_components(results: Results) -> pd.DataFrame:
    """Return held-out costs for every number of components, and what bounds them from below."""
    ratio = results["number_of_components/density_ratio"]
    exact, error = -ratio.values("exact_total_correlation"), ratio.values("exact_standard_error")[0]
    costs = component_costs(results)
    rows = [("C = 1", np.zeros(1), "0 (by definition)")]
    rows += [(f"C = {components}", cost, _spread(cost)) for components, cost in costs.items()]
    for name, metric in (("density ratio", "total_correlation"), ("Donsker-Varadhan", "donsker_varadhan_bound")):
        rows.append((f"-C*, {name}", -ratio.values(metric), _spread(-ratio.values(metric))))
    rows.append(("-C*, exact", exact, f"{_fixed(exact[0])} (standard error {_fixed(error)})"))
    over = _over(*costs.values(), ratio.values("total_correlation"))
    return pd.DataFrame(
        {
            "Quantity": name,
            f"Held-out cost in nats ({over})": text,
            "Above -C*, exact": _fixed(values.mean() - exact[0]),
        }
        for name, values, text in rows
    )


def table_batches(results: Results) -> pd.DataFrame:
    """Return errors by batch size and gradient."""
    runs = list(results.values())
    over = _over(*(run.values("weight_error") for run in runs))
    return pd.DataFrame(
        {
            "Batch size": str(batch_size(run)),
            "Gradient": gradient(run),
            f"Largest error of a weight ({over})": _spread(run.values("weight_error")),
            f"Mean total variation of the densities ({over})": _spread(run.values("density_error")),
            f"Cost in nats ({over})": _spread(run.values("cost")),
        }
        for run in runs
    )


def table_prior(results: Results) -> pd.DataFrame:
    """Return the spread of the weight and of gamma, by what is known in advance."""
    runs = dict(results)
    over = _over(*(run.values("gamma") for run in runs.values()))
    rows = [
        {
            "Known": _KNOWN[name],
            f"Weight of component 1 ({over})": _spread(run.values("weight_1")),
            "Range of the weight": _range(run.values("weight_1")),
            f"Gamma ({over})": _spread(run.values("gamma")),
            "Range of gamma": _range(run.values("gamma")),
            f"Mean total variation of the densities ({over})": _spread(run.values("density_error")),
        }
        for name, run in runs.items()
    ]
    weight = next(iter(runs.values())).values("true_weight_1")[0]
    true = dict(zip(rows[0], ("(true mixture)", f"{weight:g}", _DASH, "1", _DASH, "0"), strict=True))
    return pd.DataFrame([*rows, true])


def table_labels_used(results: Results) -> pd.DataFrame:
    """Return the accuracy on single images after every stage of training, by what it trained on."""
    found = {
        stage: (name, results[name].values(f"accuracy_{stage}"))
        for name in results.runs
        for stage in results[name].parameters["stages"]
    }
    over = _over(*(accuracy for _, accuracy in found.values()))
    return pd.DataFrame(
        {
            "Trained on": _TRAINED_ON[stage],
            "Run": found[stage][0],
            f"Accuracy in % ({over})": _spread(found[stage][1], 2),
        }
        for stage in _TRAINED_ON
        if stage in found
    )


def table_checkerboard(results: Results) -> pd.DataFrame:
    """Return the recovery of the checkerboard from raw and from centred inputs."""
    rows = []
    for name in results.runs:
        run = results[name]
        weight, cost, error = (run.values(metric) for metric in ("weight_1", "cost", "density_error"))
        over = _over(weight)
        rows.append(
            {
                "Inputs": _INPUTS[name],
                f"Weight of component 1 ({over})": _spread(weight),
                f"Cost in nats ({over})": _spread(cost),
                "Range of the cost": _range(cost),
                f"Fits with a mean total variation below {_RECOVERED}": f"{(error < _RECOVERED).sum()} of {len(error)}",
            }
        )
    return pd.DataFrame(rows)


def table_uncertainty(results: Results) -> pd.DataFrame:
    """Return the spread of weight and classifier over seeds, resamples and fresh data."""
    rows = []
    for name in results.runs:
        run = results[name]
        weight, band = run.values("weight_1"), Band.of(run)
        rows.append(
            {
                "What varies": _VARIED[name],
                "Fits": str(len(weight)),
                "Mean of the weight of component 1": _fixed(weight.mean()),
                "SD of the weight": _fixed(standard_deviation(weight)),
                "Mean pointwise SD of the classifier of x": _fixed(band.mean_sd),
                "Share of the data where the exact classifier lies in mean ± 2 SD (%)": _fixed(100 * band.coverage, 1),
            }
        )
    return pd.DataFrame(rows)


def table_labels(results: Results) -> pd.DataFrame:
    """Return the accuracy of each variate's classes, and the mutual information beside its largest value."""
    run = results["multi_label/main"]
    sizes = run.arrays["table"].shape
    rows = [
        (f"Accuracy of the {size} classes of {variate} (%)", _spread(run.values(f"accuracy_{variate}"), 2), "100")
        for variate, size in zip("xy", sizes, strict=True)
    ]
    true = _fixed(run.values("true_mutual_information")[0])
    rows.append(("Mutual information (nats)", _spread(run.values("mutual_information")), true))
    over = _over(run.values("mutual_information"))
    return pd.DataFrame(rows, columns=["Quantity", f"Found ({over})", "Of the true classes"])


def table_identifiability(results: Results) -> pd.DataFrame:
    """Return the essential suprema of the two theorems for each mixture, and the weights that (A.6) allows."""
    return pd.DataFrame(_conditions(_MIXTURES[name], mixture_of(results[name])) for name in results.runs)


def _conditions(title: str, mixture: ProductMixture) -> dict[str, str]:
    """Return a row of the table of conditions."""
    from neumix.models.inclass import theory

    weights = np.asarray(mixture.weights)
    densities = [mixture.densities(variate, _wide_grid(mixture, variate)) for variate in range(2)]
    necessary = theory.necessary_condition(weights, *densities)[:, ~np.eye(len(weights), dtype=bool)]
    sufficient = theory.sufficient_condition(weights, *densities)
    allowed = weight_range(weights, sufficient[0], sufficient[1])
    return {
        "Mixture": title,
        "Weight of component 1": f"{weights[0]:g}",
        "Eq. (36), x": _pair(necessary[0]),
        "Eq. (36), y": _pair(necessary[1]),
        "Eq. (37), x": _pair(sufficient[0]),
        "Eq. (37), y": _pair(sufficient[1]),
        "Allowed weight of component 1": _range(np.array(allowed)),
        "Unique": "yes" if np.allclose(sufficient, 1) else "no",
    }


def _wide_grid(mixture: ProductMixture, variate: int) -> Floats:
    """Return a grid five times as wide as the support: normal components come close to 1 far out in a tail only."""
    inner = mixture.grid(variate, 2)
    middle, reach = inner.mean(), np.ptp(inner)
    return np.linspace(middle - 5 * reach, middle + 5 * reach, _TAIL_POINTS)


def _specification(mixture: ProductMixture) -> list[dict[str, str]]:
    """Return a row for each component: weight and law of each variate."""
    return [
        {"Component": str(i), "Weight": str(weight)}
        | {variate: _law(law) for variate, law in zip("xyz", laws, strict=False)}
        for i, (weight, laws) in enumerate(zip(mixture.weights, mixture.components, strict=True), 1)
    ]


def _law(law: Normal | Uniform | Linear) -> str:
    if not isinstance(law, Normal):
        raise ValueError(f"expected a normal law, found {law.family}")
    return f"Normal(mean {law.mean:g}, SD {law.sd:g})"


def _over(*values: Floats) -> str:
    """Return what a spread is over, e.g. `mean ± SD of 10 seeds`."""
    counts = sorted({len(array) for array in values})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return "1 seed" if counts == [1] else f"mean ± SD of {number} seeds"


def _spread(values: Floats, decimals: int = 4) -> str:
    mean = _fixed(values.mean(), decimals)
    return mean if len(values) == 1 else f"{mean} ± {_fixed(standard_deviation(values), decimals)}"


def _range(values: Floats) -> str:
    return f"{_fixed(values.min())} to {_fixed(values.max())}"


def _pair(values: Floats) -> str:
    return " and ".join(_fixed(value) for value in values)


def _fixed(value: float | Floats, decimals: int = 4) -> str:
    return _DASH if np.isnan(value) else f"{value:z.{decimals}f}"
