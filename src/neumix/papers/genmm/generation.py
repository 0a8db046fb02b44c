"""How good samples are, judged by a classifier's features, and what lies between two images' latents."""

import dataclasses
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from scipy.special import entr
from torch import Tensor

from neumix.measured import MeasuredRun
from neumix.metrics.sample_quality import (
    frechet_distance,
    inception_score,
    mmd,
    one_nearest_neighbour_accuracy,
)
from neumix.models.genmm import Model
from neumix.models.resnet import Model as Classifying
from neumix.results import Measurement
from neumix.seeding import numpy_rng
from neumix.settings import STRICT
from neumix.trained import TrainedRun
from neumix.training import generators

__all__ = ["Classifier", "Generation", "interpolate"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]
Images = NDArray[np.float32]

_SHOWN = 100
_COLUMNS = 10
_ROWS = 10  # between two images
_PAIRS = 100  # of images whose interpolations are classified
_WEIGHTS = (0.9, 0.7, 0.5, 0.3, 0.1)  # of the first image, for those


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classifier:
    """Accuracy of a classifier on held-out images."""

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `flow_images`."""
        model: Classifying = trained.model()
        metrics = {}
        for split in ("train", "test"):
            x, labels = (trained.dataset[split][name].values[:10_000] for name in ("x", "y"))
            probabilities = _batch(model.log_probabilities, x, trained.run.seeds)
            metrics[f"{split}_accuracy"] = (probabilities.argmax(2) == labels).mean(1)
        return Measurement(metrics, {})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Generation:
    """Scores of generated images beside held-out ones, samples, and interpolations, for the first seed.

    References:
        GenMM, Sec IV.B, IV.C, Fig 4 to 7.

    Arguments:
        needs: the run of the classifier.
        images: generated and as many real ones in each evaluation.
        evaluations: with fresh samples and other real images.
    """

    needs: tuple[str]
    images: Count = 1000
    evaluations: Count = 5

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `flow_images`."""
        model: Model = trained.model()
        judge: Classifying = trained.needs[self.needs[0]].model()
        generated, finite = self._generated(model)
        train, test = (trained.dataset[name]["x"].values for name in ("train", "test"))
        scores: list[dict[str, float]] = []
        classes: list[Floats] = []
        for evaluation, samples in enumerate(generated):
            rng = numpy_rng(evaluation, "real images")
            rows = (x[rng.choice(len(x), self.images, replace=False)] for x in (test, train))
            real, other, made = (_Judged.of(judge, x) for x in (*rows, samples))
            scores.append({**_scores(made, real), **_prefixed("real", _scores(other, real))})
            classes.append(made.probabilities.mean(0))
        metrics: dict[str, Any] = {name: [score[name] for score in scores] for name in scores[0]}
        metrics["class_entropy"] = [float(np.exp(entr(np.mean(classes, 0)).sum()))]
        metrics["not_finite_share"] = [1 - finite.mean()]
        metrics["n_parameters"] = [float(model.n_parameters)]
        arrays = {"samples": _grey(generated[0, :_SHOWN])}
        for rule in ("responsible", "random"):
            metrics[f"foreign_share_{rule}"] = [_foreign_share(model, judge, trained, rule)]
            arrays[f"interpolation_{rule}"] = _grey(_columns(model, trained, rule))
        arrays["interpolation_within"] = _grey(_columns(model, trained, "responsible", within=True))
        return Measurement(metrics, arrays)

    def _generated(self, model: Model) -> tuple[Images, NDArray[np.bool_]]:
        """Return samples of every evaluation, cut to the range of images, (E, N, H, W, 1), and which were finite."""
        samples = [
            model.sample(self.images, generators([e] * model.n_seeds, "samples"))[0][0, 0]
            for e in range(self.evaluations)
        ]
        x = torch.stack(samples)
        finite = torch.isfinite(x).flatten(2).all(2)
        return torch.nan_to_num(x).clamp(-0.5, 0.5).float().numpy(), finite.numpy()


def interpolate(model: Model, first: Tensor, last: Tensor, weight: float, component: Tensor | None = None) -> Tensor:
    r"""Decode convex combinations $\alpha z_1 + (1 - \alpha) z_2$ of images' latents, for the first seed.

    Each image is encoded by the generator that is most responsible for it. What is decoded by is, unless given, the
    generator of the image that has the larger weight. The paper's text says the opposite, the first image's generator
    where its weight is below one half, which would show each end by the other's generator.

    References:
        GenMM, Sec IV.C, Fig 7.

    Arguments:
        model: of one class of images.
        first: images (N, H, W, 1).
        last: images (N, H, W, 1).
        weight: of the first image, alpha.
        component: whose generators to decode by, (N,).
    """
    ends = [(x, model.responsibilities_of(x).argmax(3)) for x in (first, last)]  # components (S, C, N)
    latents = [model.encode(x, which) for x, which in ends]
    between = weight * latents[0] + (1 - weight) * latents[1]
    nearer = ends[0 if weight >= 0.5 else 1][1]
    return model.decode(between, nearer if component is None else component.expand_as(nearer))[0, 0]


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What a classifier makes of images: features (N, F), and probabilities of the classes (N, classes)."""

    features: Floats
    probabilities: Floats

    @classmethod
    def of(cls, judge: Classifying, x: Images) -> Self:
        return cls(_batch(judge.features, x, 1)[0], np.exp(_batch(judge.log_probabilities, x, 1)[0]))


def _scores(samples: _Judged, real: _Judged) -> dict[str, float]:
    """Return the four scores of samples beside as many real images."""
    nearest = one_nearest_neighbour_accuracy(real.features, samples.features)
    return {
        "inception_score": inception_score(samples.probabilities),
        "fid": frechet_distance(samples.features, real.features),
        "mmd": mmd(samples.features, real.features),
        "one_nn": nearest.overall,
        "one_nn_real": nearest.real,
        "one_nn_generated": nearest.generated,
    }


def _prefixed(prefix: str, scores: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": score for name, score in scores.items()}


def _batch(function: Any, x: Images, seeds: int) -> Floats:
    """Return what a network of several seeds makes of the same images (N, H, W, 1), (S, N, ...)."""
    values: Floats = function(torch.from_numpy(x).expand(seeds, *x.shape)).double().numpy()
    return values


def _grey(x: Images) -> NDArray[np.uint8]:
    """Return images in [-0.5, 0.5] as grey values, (..., H, W)."""
    return np.asarray(np.rint(255 * (np.clip(x[..., 0], -0.5, 0.5) + 0.5)), dtype=np.uint8)


def _columns(model: Model, trained: MeasuredRun, rule: str, *, within: bool = False) -> Images:
    """Return interpolations between two real images above and below them, (rows, columns, H, W, 1).

    The images are the first ones of each class and of the next class, or the first two of each class.
    """
    test = trained.dataset["test"]
    places = np.stack([np.flatnonzero(test["y"].values == label)[:2] for label in range(_COLUMNS)])
    first, second = (torch.from_numpy(test["x"].values[column]) for column in places.T)
    last = second if within else first.roll(-1, 0)
    weights = np.linspace(1, 0, _ROWS + 2)[1:-1]
    rows = [_between(model, first, last, float(weight), rule, f"row {row}") for row, weight in enumerate(weights)]
    return torch.stack([first, *rows, last]).numpy()


def _foreign_share(model: Model, judge: Classifying, trained: MeasuredRun, rule: str) -> float:
    """Return the share of interpolated images that are classified as neither of their ends' classes."""
    test = trained.dataset["test"]
    pairs = min(_PAIRS, len(test) // 2)
    first, last = (torch.from_numpy(test["x"].values[start : start + pairs]) for start in (0, pairs))
    ends = np.stack([test["y"].values[start : start + pairs] for start in (0, pairs)])
    foreign = []
    for weight in _WEIGHTS:
        x = _between(model, first, last, weight, rule, f"weight {weight}").numpy()
        foreign.append((_batch(judge.log_probabilities, x, 1)[0].argmax(1) != ends).all(0))
    return float(np.mean(foreign))


def _between(model: Model, first: Tensor, last: Tensor, weight: float, rule: str, purpose: str) -> Tensor:
    component = None
    if rule == "random":
        (generator,) = generators([0], "random generators", purpose)
        component = torch.multinomial(
            model.log_weights[0].exp().cpu(), len(first), replacement=True, generator=generator
        )
    return torch.nan_to_num(interpolate(model, first, last, weight, component)).clamp(-0.5, 0.5)
