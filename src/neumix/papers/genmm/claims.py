"""The paper's claims in words, each checked on our numbers."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neumix.claims import Claim, difference, every
from neumix.formatting import format_number
from neumix.papers.genmm.readings import (
    LATENT,
    MODELS,
    SCORES,
    ByComponents,
    classifiers,
    dataset_label,
    image_runs,
)
from neumix.results import Results, RunResult

__all__ = ["apart", "ruggedness", "table_claims"]

Floats = NDArray[np.float64]
ImageRuns = Mapping[tuple[str, str], ByComponents]

_START = 5  # epochs before ruggedness is counted
_NEAR = 0.01  # accuracy that still counts as about the same

_STEPS_RULE = (
    "Holds if every step to the next K lowers it, does not hold if the largest K is not below K = 1, otherwise not "
    "decided."
)
_RUGGED_RULE = (
    f"Sum of the rises of the training curve after {_START} epochs, per epoch. Holds if LatMM's is larger at every "
    "equal K above 1, does not hold if at none, otherwise not decided."
)
_RANGES_RULE = (
    "Holds if the ranges of the evaluations at both K lie apart in this order, does not hold if in the other order, "
    "not decided if they overlap."
)
_SOMETIMES_RULE = (
    "Holds if the range of a score at K = 3 lies on the worse side of that at K = 1 at least once, does not hold if it "
    "lies on the better side every time, otherwise not decided."
)
_FLAT_RULE = (
    "Of a score that rises up to K = 7: holds if the range at K = 9 does not lie above that at K = 7, does not hold if "
    "it does; not decided if the score does not rise before."
)
_FOREIGN_RULE = (
    "Share of interpolated images classified as neither end. Holds if it is larger for random generators at every K "
    "above 1, does not hold if at none, otherwise not decided."
)
_INTERVAL_RULE = (
    "Mean of seed-wise differences with the half-width of its 95% t interval. Holds if every interval lies above 0, "
    "does not hold if one lies below, otherwise not decided."
)
_NEAR_RULE = (
    "Mean of seed-wise differences with the half-width of its 95% t interval. Holds if the interval lies within "
    f"{_NEAR} of 0, does not hold if it lies outside, otherwise not decided."
)


def table_claims(results: Results) -> pd.DataFrame:
    """Return each claim that the runs at hand bear on, where it is made, what decides it, the numbers, the verdict."""
    likelihood, quality = image_runs(results, "nll"), image_runs(results, "sample_quality")
    sections: list[tuple[str, str, Iterator[Claim]]] = [
        ("Sec IV.B, Fig 3, Table I", _STEPS_RULE, _falling_likelihood(likelihood)),
        ("Sec IV.B, Fig 3", _RUGGED_RULE, _rugged(likelihood)),
        ("Sec IV.B, Fig 4 and 5", _RANGES_RULE, _trends(quality)),
        ("Sec IV.B", _SOMETIMES_RULE, _sometimes_worse(quality)),
        ("Sec IV.B, Fig 4 and 5", _FLAT_RULE, _flattening(quality)),
        ("Sec IV.C, Fig 7", _FOREIGN_RULE, _foreign(quality)),
        ("Sec IV.D, Table II", _INTERVAL_RULE, _rising_accuracy(results)),
        ("Sec IV.D", _NEAR_RULE, _latent_like_one(results)),
    ]
    return pd.DataFrame(
        {
            "Claim": claim.text,
            "Where": where,
            "Evidence": claim.evidence,
            "Verdict": claim.verdict,
            "Rule of the verdict": rule,
        }
        for where, rule, claims in sections
        for claim in claims
    )


def apart(low: Floats, high: Floats) -> bool | None:
    """Return whether all of some values lie above all of others; none if the ranges overlap."""
    if high.min() > low.max():
        return True
    return False if high.max() < low.min() else None


def ruggedness(curve: Floats) -> float:
    """Return the sum of the rises of curves (epochs, S) after the first epochs, per epoch, mean over seeds."""
    steps = np.diff(curve[_START:], axis=0)
    return float(np.maximum(steps, 0).sum(0).mean() / max(len(steps), 1))


def _unanimous(parts: Sequence[bool]) -> bool | None:
    """Return whether all agree: true if all are, false if none is."""
    return True if all(parts) else None if any(parts) else False


def _seeds(run: RunResult, metric: str) -> str:
    count = len(run.values(metric))
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _title(model: str, runs: ByComponents) -> str:
    return f"{MODELS[model]} on {dataset_label(next(iter(runs.values())))}"


def _falling_likelihood(found: ImageRuns) -> Iterator[Claim]:
    for (model, _), runs in found.items():
        if len(runs) < 2:
            continue
        means = {k: run.values("lowest_nll").mean() for k, run in runs.items()}
        falls = [later < earlier for earlier, later in itertools.pairwise(means.values())]
        ends = list(means.values())
        holds = True if all(falls) else None if ends[-1] < ends[0] else False
        listed = ", ".join(f"K = {k}: {mean:.4f}" for k, mean in means.items())
        seeds = _seeds(next(iter(runs.values())), "lowest_nll")
        yield Claim(f"Lowest training NLL falls with K: {_title(model, runs)}", f"{listed} nats/pixel ({seeds})", holds)


def _rugged(found: ImageRuns) -> Iterator[Claim]:
    for (model, dataset), ours in found.items():
        others = found.get(("latmm", dataset), {})
        shared = [k for k in ours if k in others and k > 1]
        if model != "genmm" or not shared:
            continue
        pairs = {k: [ruggedness(runs[k].arrays["train_curve"]) for runs in (others, ours)] for k in shared}
        listed = "; ".join(f"K = {k}: LatMM {latmm:.2g}, GenMM {genmm:.2g}" for k, (latmm, genmm) in pairs.items())
        data, seeds = dataset_label(ours[shared[0]]), _seeds(ours[shared[0]], "lowest_nll")
        holds = _unanimous([latmm > genmm for latmm, genmm in pairs.values()])
        yield Claim(f"LatMM's curves are more rugged than GenMM's: {data}", f"{listed} nats/pixel ({seeds})", holds)


def _trends(found: ImageRuns) -> Iterator[Claim]:
    for (model, _), runs in found.items():
        first, last = min(runs), max(runs)
        if first == last:
            continue
        for metric, score in SCORES.items():
            rises = metric == "inception_score"
            ends = [runs[k].values(metric) for k in (first, last)]
            holds = apart(*ends) if rises else apart(*reversed(ends))
            text = f"{score} {'rises' if rises else 'falls'} from K = {first} to K = {last}: {_title(model, runs)}"
            yield Claim(text, _ranges(runs, metric, (first, last)), holds)


def _sometimes_worse(found: ImageRuns) -> Iterator[Claim]:
    better: dict[str, bool | None] = {}
    for (model, _), runs in found.items():
        if not {1, 3} <= set(runs):
            continue
        for metric, score in SCORES.items():
            ends = [runs[k].values(metric) for k in (1, 3)]
            rises = metric == "inception_score"
            better[f"{score} of {_title(model, runs)}"] = apart(*ends) if rises else apart(*reversed(ends))
    if not better:
        return
    worse = [name for name, value in better.items() if value is False]
    counts = f"worse in {len(worse)} of {len(better)} cases, better in {list(better.values()).count(True)}"
    listed = f" (worse: {', '.join(worse)})" if worse else ""
    holds = True if worse else False if all(better.values()) else None
    yield Claim("K = 3 is sometimes worse than K = 1", f"{counts}{listed}", holds)


def _flattening(found: ImageRuns) -> Iterator[Claim]:
    for (model, _), runs in found.items():
        if model != "genmm" or not {1, 7, 9} <= set(runs):
            continue
        first, before, last = (runs[k].values("inception_score") for k in (1, 7, 9))
        holds = apart(before, last) is not True if apart(first, before) else None
        text = f"IS flattens or drops at K = 9: {_title(model, runs)}"
        yield Claim(text, _ranges(runs, "inception_score", (1, 7, 9)), holds)


def _foreign(found: ImageRuns) -> Iterator[Claim]:
    for (model, _), runs in found.items():
        mixtures = {k: run for k, run in runs.items() if k > 1}
        if model != "genmm" or not mixtures:
            continue
        shares = {
            k: [float(run.values(f"foreign_share_{rule}")[0]) for rule in ("random", "responsible")]
            for k, run in mixtures.items()
        }
        listed = "; ".join(f"K = {k}: {random:.1%} against {own:.1%}" for k, (random, own) in shares.items())
        text = f"Random generators show other classes than the two images': {_title(model, runs)}"
        holds = _unanimous([random > own for random, own in shares.values()])
        yield Claim(text, f"{listed} for the responsible ones (one seed)", holds)


def _rising_accuracy(results: Results) -> Iterator[Claim]:
    for runs in classifiers(results).values():
        names = [name for name in runs if name != LATENT]
        if len(names) < 2:
            continue
        data = dataset_label(runs[names[0]])
        ends = [(names[-1], names[0])]
        steps = [(later, earlier) for earlier, later in itertools.pairwise(names)]
        yield _above(runs, f"Accuracy at {names[-1]} exceeds that at {names[0]}: {data}", ends)
        yield _above(runs, f"Accuracy rises at every step of K: {data}", steps)


def _above(runs: Mapping[str, RunResult], text: str, pairs: Sequence[tuple[str, str]]) -> Claim:
    """Return the claim that the first of each pair of runs has the higher accuracy."""
    parts = [_interval(*(runs[name].values("accuracy") for name in pair)) for pair in pairs]
    listed = "; ".join(
        f"{higher} against {lower.removeprefix('K = ')}: {_signed(*part)}"
        for (higher, lower), part in zip(pairs, parts, strict=True)
    )
    return Claim(text, listed, every([_positive(*part) for part in parts]))


def _latent_like_one(results: Results) -> Iterator[Claim]:
    for runs in classifiers(results).values():
        if LATENT not in runs or "K = 1" not in runs:
            continue
        gap, half = _interval(*(runs[name].values("accuracy") for name in (LATENT, "K = 1")))
        inside, outside = abs(gap) + half <= _NEAR, abs(gap) - half > _NEAR
        text = f"LatMM's accuracy is about that of GenMM with K = 1: {dataset_label(runs[LATENT])}"
        yield Claim(text, f"LatMM - GenMM: {_signed(gap, half)}", True if inside else False if outside else None)


def _interval(higher: Floats, lower: Floats) -> tuple[float, float]:
    """Return mean and half-width of the interval of the differences over the seeds that both have."""
    shared = min(len(higher), len(lower))
    return difference(higher[:shared], lower[:shared])


def _positive(gap: float, half: float) -> bool | None:
    return None if abs(gap) <= half else gap > 0


def _signed(gap: float, half: float) -> str:
    return f"{gap:+.4f} (one seed)" if math.isinf(half) else f"{gap:+.4f} ± {half:.4f}"


def _ranges(runs: ByComponents, metric: str, counts: Sequence[int]) -> str:
    values = {k: runs[k].values(metric) for k in counts}
    return ", ".join(f"K = {k}: {format_number(v.min())} to {format_number(v.max())}" for k, v in values.items())
