"""The paper's claims about its Table I, each checked on our scores."""

import itertools
from collections.abc import Iterable, Mapping

import pandas as pd

from neumix.claims import Claim, difference, every
from neumix.papers.cwm.readings import MODELS, SCORE
from neumix.results import Results, RunResult

__all__ = ["table_claims"]

_ORDERS = {
    "as printed": ("cwm", "nsf", "gmm", "rnvp"),
    "columns of RNVP and NSF swapped": ("cwm", "rnvp", "gmm", "nsf"),
}


def table_claims(results: Results) -> pd.DataFrame:
    """Return each claim, the numbers that decide it, and whether it holds."""
    runs = {name.partition("/")[2]: run for name, run in results.items()}
    claims = [*_place_first(runs), *_orders(runs), *_fewer_parameters(runs)]
    return pd.DataFrame({"Claim": claim.text, "Evidence": claim.evidence, "Verdict": claim.verdict} for claim in claims)


def _place_first(runs: Mapping[str, RunResult]) -> list[Claim]:
    return [_ranking("CWM has the highest score", runs, [("cwm", other) for other in ("nsf", "gmm", "rnvp")])]


def _orders(runs: Mapping[str, RunResult]) -> list[Claim]:
    return [
        _ranking(f"{' > '.join(MODELS[name] for name in order)} ({reading})", runs, itertools.pairwise(order))
        for reading, order in _ORDERS.items()
    ]


def _ranking(text: str, runs: Mapping[str, RunResult], pairs: Iterable[tuple[str, str]]) -> Claim:
    """Return the claim that the first of each pair of models scores higher than the second."""
    parts = [_better(runs, *pair) for pair in pairs]
    return Claim(text, "; ".join(evidence for _, evidence in parts), every([holds for holds, _ in parts]))


def _better(runs: Mapping[str, RunResult], higher: str, lower: str) -> tuple[bool | None, str]:
    mean, half = difference(runs[higher].values(SCORE), runs[lower].values(SCORE))
    holds = None if abs(mean) <= half else mean > 0
    return holds, f"{MODELS[higher]} - {MODELS[lower]} = {mean:+.4f} ± {half:.4f}"


def _fewer_parameters(runs: Mapping[str, RunResult]) -> list[Claim]:
    counts = {name: int(runs[name].values("n_trained_values")[0]) for name in MODELS}
    listed = ", ".join(f"{title}: {counts[name]}" for name, title in MODELS.items())
    return [
        Claim("CWM has fewer parameters than both flows", listed, counts["cwm"] < min(counts["rnvp"], counts["nsf"])),
        Claim("CWM has fewer parameters than the GMM", listed, counts["cwm"] < counts["gmm"]),
    ]
