"""Tables of the CWM paper and of the experiments beyond it."""

import pandas as pd

from neumix.papers.cwm.claims import table_claims
from neumix.papers.cwm.gradient_items import table_gradients
from neumix.papers.cwm.readings import (
    SCORE,
    components,
    epochs,
    image_bound,
    model_of,
    targets_of,
)
from neumix.results import Results, RunResult
from neumix.spread import mean_and_sd

__all__ = ["table1", "table_claims", "table_components", "table_gradients", "table_variational"]

_DASH = "–"


def table1(results: Results) -> pd.DataFrame:
    """Return parameters and held-out score of every model; the last row is the image itself."""
    rows = [
        {
            "Model": model_of(name),
            "K": str(components(run) or _DASH),
            "Parameters, as the paper counts": f"{run.values('n_parameters')[0]:.0f}",
            **_score_columns(run),
        }
        for name, run in results.items()
    ]
    bound = {"Model": "The image itself (upper bound)", "Mean log-likelihood (nats)": f"{image_bound(results):.5f}"}
    bound["Below the image (nats)"] = "0"
    return pd.DataFrame([*rows, bound]).fillna(_DASH)


def table_components(results: Results) -> pd.DataFrame:
    """Return the held-out score by number and kind of components."""
    return pd.DataFrame(
        {
            "Model": "CWM, spline components" if "spline" in name else "GMM" if "gmm" in name else "CWM",
            "K": str(components(run)),
            "Trained values": f"{run.values('n_trained_values')[0]:.0f}",
            **_score_columns(run),
        }
        for name, run in results.items()
    )


def table_variational(results: Results) -> pd.DataFrame:
    """Return both divergences of every variational fit."""
    return pd.DataFrame(
        {
            "Target": target,
            "Model": model,
            "Parameters": f"{run.values('n_parameters')[0]:.0f}",
            "KL(model || target) (nats)": mean_and_sd(run.values("reverse_kl"), 4),
            "KL(target || model) (nats)": mean_and_sd(run.values("forward_kl"), 4),
            "Effective importance samples (%)": mean_and_sd(100 * run.values("effective_share"), 1),
        }
        for target, fits in targets_of(results).items()
        for model, run in fits.items()
    )


def _score_columns(run: RunResult) -> dict[str, str]:
    return {
        "Mean log-likelihood (nats)": mean_and_sd(run.values(SCORE), 4),
        "Standard error of a seed's score": f"{run.values('standard_error').mean():.4f}",
        "Below the image (nats)": mean_and_sd(run.values("gap_to_image"), 4),
        "Samples outside the image (%)": mean_and_sd(100 * run.values("share_outside"), 2),
        "Epochs": str(epochs(run) or "EM"),
        "Seeds": str(len(run.values(SCORE))),
    }
