"""The paper's claims in words, each checked on our numbers."""

import itertools
from collections.abc import Iterator, Sequence

import pandas as pd

from neumix.claims import Claim, difference, every
from neumix.papers.cpmm.readings import IMAGES, MODELS, SMALL, image_run, images_of, other_title_of, size_of, title_of
from neumix.results import Results, RunResult

__all__ = ["table_claims"]

_ORDERS = (
    ("CPMM", "Matched GMM", "Sec 5.2"),
    ("CPMM", "GMM w/ S.Clust.", "Sec 5.2"),
    ("CPMM", "GMM w/ Curr.", "Sec 5.2"),
    ("CPMM", "EiNet (Matched)", "Sec 5.2, against Table 1 on MNIST"),
    ("EiNet (Large)", "EiNet (Matched)", "Table 1"),
    ("Teacher", "CPMM", "Table 1"),
    ("FFJORD", "Teacher", "Table 1"),
    ("GMM w/ Curr.", "GMM w/ S.Clust.", "Sec 5.2"),
    ("GMM w/ S.Clust.", "Matched GMM", "Sec 5.2"),
)
"""Who is said to have fewer bits per dimension than whom."""

_RULE = (
    "Of runs on the same images: mean of seed-wise differences with the half-width of its 95% t interval. Holds if the"
    " interval lies on the claimed side of 0, does not hold if on the other. With one seed there is no interval, and"
    " the sign decides."
)
_NEVER = "Holds if a first component is the most likely one of no test image."


def table_claims(results: Results) -> pd.DataFrame:
    """Return each claim that the runs at hand bear on, where it is made, the numbers, the verdict and its rule."""
    sections: list[tuple[str, Iterator[tuple[str, Claim]]]] = [
        (_RULE, _orders(results)),
        (_RULE, _accuracies(results)),
        (_RULE, _outliers(results)),
        (_NEVER, _first_components(results)),
    ]
    return pd.DataFrame(
        {
            "Claim": claim.text,
            "Where": where,
            "Evidence": claim.evidence,
            "Verdict": claim.verdict,
            "Rule of the verdict": rule,
        }
        for rule, claims in sections
        for where, claim in claims
    )


def _pair(results: Results, first: str, second: str, dataset: str) -> tuple[RunResult, RunResult] | None:
    """Return the runs of two models on the same images of a dataset; none if there are none."""
    for one, other in itertools.product(_runs(results, first, dataset), _runs(results, second, dataset)):
        if images_of(one) == images_of(other):
            return one, other
    return None


def _runs(results: Results, title: str, dataset: str) -> list[RunResult]:
    names = [name for name, known in {**MODELS, **SMALL}.items() if known == title]
    found = [image_run(results, name, dataset) for name in names]
    return [run for run in found if run is not None]


def _pairs(results: Results, first: str, second: str) -> list[tuple[RunResult, RunResult]]:
    """Return the runs of two models on the same images, of each dataset that has both."""
    pairs = [_pair(results, first, second, dataset) for dataset in IMAGES]
    return [pair for pair in pairs if pair is not None]


def _orders(results: Results) -> Iterator[tuple[str, Claim]]:
    for fewer, more, where in _ORDERS:
        if found := _pairs(results, fewer, more):
            claim = _compared(f"{fewer} has fewer bits per dimension than {more}", found, "bits_per_dim", lower=True)
            yield where, claim


def _accuracies(results: Results) -> Iterator[tuple[str, Claim]]:
    for other in ("Matched GMM", "GMM w/ S.Clust.", "GMM w/ Curr."):
        if found := _pairs(results, "CPMM", other):
            text = f"CPMM has a higher clustering accuracy than {other}"
            yield "Sec 5.2, Table 1", _compared(text, found, "clustering_accuracy", lower=False)


def _outliers(results: Results) -> Iterator[tuple[str, Claim]]:
    pair = _pair(results, "CPMM", "FFJORD", "fashion")
    if pair is not None:
        text = f"CPMM tells {other_title_of(pair[0])} from {title_of(pair[0])} better than FFJORD does"
        yield "Sec 5.2, Table 2", _compared(text, [pair], "auroc", lower=False)


def _first_components(results: Results) -> Iterator[tuple[str, Claim]]:
    for dataset in IMAGES:
        run = image_run(results, "students/{}_cpmm", dataset)
        if run is not None and "first_component_share" in run.metrics:
            share = run.values("first_component_share")
            text = f"The first component of a trajectory is never the most likely one: {title_of(run)}"
            yield (
                "Fig 4, Fig 5",
                Claim(text, f"of {100 * share.mean():.2f}% of the test images", bool((share == 0).all())),
            )


def _compared(text: str, found: Sequence[tuple[RunResult, RunResult]], metric: str, *, lower: bool) -> Claim:
    """Return the claim that the first run of each pair has the better value of a metric, on every dataset."""
    verdicts, evidence = [], []
    for first, second in found:
        shared = min(len(first.values(metric)), len(second.values(metric)))
        ours, theirs = first.values(metric)[:shared], second.values(metric)[:shared]
        gap, half = difference(theirs, ours) if lower else difference(ours, theirs)
        verdicts.append(None if abs(gap) <= (half if shared > 1 else 0) else gap > 0)
        size = f"± {half:.3f}" if shared > 1 else "(one seed)"
        means = f"{ours.mean():.3f} against {theirs.mean():.3f}, better by {gap:+.3f} {size}"
        evidence.append(f"{title_of(first)}, {size_of(first)}: {means}")
    return Claim(text, "; ".join(evidence), every(verdicts))
