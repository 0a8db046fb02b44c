"""Classification by the class whose mixture gives a point the highest likelihood."""

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score

from neumix.data.dataset import Split
from neumix.models.genmm import Model
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun

__all__ = ["Classification", "accuracies_of_first_classes", "reliability", "unseen_class_auroc"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classification:
    r"""Accuracy of $\arg\max_y p(x; \Phi_y)$, and what one density for each class allows besides.

    References:
        GenMM, Sec IV.D, Table II.

    Arguments:
        train_points: so many first training points are classified as well.
        bins: of confidence, for the reliability of class posteriors.
    """

    train_points: Count = 4000
    bins: Count = 15

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `class_tuples`."""
        model: Model = trained.model()
        scores, labels = _scores(model, trained.dataset["test"], None)
        train_scores, train_labels = _scores(model, trained.dataset["train_points"], self.train_points)
        bins = [reliability(seed, labels, self.bins) for seed in scores]
        added = np.stack([accuracies_of_first_classes(seed, labels) for seed in scores])
        unseen = np.stack([unseen_class_auroc(seed, labels) for seed in scores])
        metrics: dict[str, Any] = {
            "accuracy": (scores.argmax(2) == labels).mean(1),
            "train_accuracy": (train_scores.argmax(2) == train_labels).mean(1),
            "test_nll": _own_nll(scores, labels) / model.dimension + model.offset,
            "train_nll": _own_nll(train_scores, train_labels) / model.dimension + model.offset,
            "posterior_nll": np.array([-log_softmax(s, 1)[np.arange(len(s)), labels].mean() for s in scores]),
            "calibration_error": np.array([b["share"] @ np.abs(b["confidence"] - b["accuracy"]) for b in bins]),
            "unseen_class_auroc": unseen.mean(1),
            "n_parameters": [float(model.n_parameters)],
        }
        for stage in trained.run.stages:
            for epoch in trained.run.stages[stage].snapshots:
                then, _ = _scores(trained.model(f"{stage}@{epoch}"), trained.dataset["test"], None)
                metrics[f"accuracy@{epoch}"] = (then.argmax(2) == labels).mean(1)
        stacked = {f"reliability_{key}": np.stack([b[key] for b in bins]) for key in bins[0]}
        return Measurement(metrics, {"accuracy_by_classes": added, "unseen_class_auroc": unseen, **stacked})


def accuracies_of_first_classes(scores: Floats, labels: Labels) -> Floats:
    """Return the accuracy among the first 1, 2, ... classes, of their points alone, as classes are added one by one.

    No density is trained again: adding a class adds a column to the scores.

    References:
        GenMM, Sec IV.D, on new classes.

    Arguments:
        scores: log-density of every point under every class's mixture, (N, C).
        labels: (N,).
    """
    found = []
    for known in range(1, scores.shape[1] + 1):
        among = labels < known
        found.append((scores[among, :known].argmax(1) == labels[among]).mean())
    return np.array(found)


def reliability(scores: Floats, labels: Labels, bins: int) -> dict[str, Floats]:
    """Return, for equal bins of the highest class posterior, the share of points, mean posterior, and accuracy.

    Posteriors take every class to be as likely as another beforehand. Empty bins have confidence and accuracy 0.

    References:
        Guo et al. (2017), On calibration of modern neural networks.

    Arguments:
        scores: log-density of every point under every class's mixture, (N, C).
        labels: (N,).
        bins: number of bins.
    """
    posterior = softmax(scores, 1)
    confidence, correct = posterior.max(1), posterior.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    mean = [np.bincount(place, values, bins) / np.maximum(count, 1) for values in (confidence, correct.astype(float))]
    return {"share": count / len(labels), "confidence": mean[0], "accuracy": mean[1]}


def unseen_class_auroc(scores: Floats, labels: Labels) -> Floats:
    """Return, for each class, how well points of it are told from all others without its mixture, in percent, (C,).

    A point's score is its highest log-density among the other classes, those that would be known had this class never
    been seen.

    Arguments:
        scores: log-density of every point under every class's mixture, (N, C).
        labels: (N,).
    """
    found = []
    for unseen in range(scores.shape[1]):
        known = np.delete(scores, unseen, 1).max(1)
        found.append(100 * roc_auc_score(labels != unseen, known))
    return np.array(found)


def _scores(model: Model, split: Split, count: int | None) -> tuple[Floats, Labels]:
    """Return the log-density in nats of points under every class's mixture, (S, N, C), and their labels."""
    log_prob = model.log_prob(torch.from_numpy(split["x"].values[:count]))  # (S, C, N)
    scores: Floats = log_prob.transpose(1, 2).double().numpy()
    return scores, split["y"].values[:count]


def _own_nll(scores: Floats, labels: Labels) -> Floats:
    """Return the mean negative log-density of points under their own class's mixture, (S,)."""
    own = np.take_along_axis(scores, labels[None, :, None], 2)
    return np.asarray(-own.mean((1, 2)))
