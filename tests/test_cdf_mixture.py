"""Classifier weighted mixtures on the line: normalisation, exact cases, samples, tails, errors."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.special import log_ndtr, logsumexp
from scipy.stats import kstest, norm, skewnorm

from neumix.cdf_mixture import CDFMixture, SoftmaxClassifier
from neumix.gaussian_mixture import GaussianMixture
from neumix.seeding import numpy_rng

GRID = np.linspace(-22, 22, 20001)
MIDPOINTS = (np.arange(4000) + 0.5) / 4000
MEANS, SDS = np.array([-1.5, 0.0, 1.0]), np.array([1.0, 0.5, 2.0])
WAVY = SoftmaxClassifier([0.1, -0.5, 0.2], [[-0.2, 0.6, -0.6], [-1.2, 2.1, -3.1], [0.3, 2.6, 0.5]])


def linear(u):
    """The classifier of two classes whose first has probability u."""
    return np.stack([u, 1 - u], axis=-1)


def halves(u):
    """The classifier that gives the lower half of the interval to the first class, the upper to the second."""
    return np.stack([u <= 0.5, u > 0.5], axis=-1)


@st.composite
def classifiers(draw, min_size=1):
    classes, frequencies = draw(st.integers(min_size, 4)), draw(st.integers(0, 4))
    slopes = draw(arrays(np.float64, (classes, frequencies), elements=st.floats(-4, 4)))
    return SoftmaxClassifier(draw(arrays(np.float64, classes, elements=st.floats(-3, 3))), slopes)


@st.composite
def mixtures(draw):
    classifier = draw(classifiers())
    size = len(classifier.biases)
    means = draw(arrays(np.float64, size, elements=st.floats(-3, 3)))
    return CDFMixture(means, draw(arrays(np.float64, size, elements=st.floats(0.3, 2))), classifier)


@settings(max_examples=60, deadline=None)
@given(mixtures())
def test_the_density_integrates_to_one_and_each_component_to_the_mean_of_its_class(mixture):
    weighted = mixture.weighted_components(GRID)
    assert trapezoid(np.exp(mixture.log_prob(GRID)), GRID) == pytest.approx(1, abs=1e-8)
    expected = mixture.classifier(MIDPOINTS).mean(axis=0)
    np.testing.assert_allclose(trapezoid(weighted, GRID, axis=0), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(mixtures(), arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(1, 4)), elements=st.floats(-12, 12)))
def test_density_components_weights_and_responsibilities_agree(mixture, x):
    weights, weighted, posterior = mixture.weights(x), mixture.weighted_components(x), mixture.responsibilities(x)
    assert weights.shape == weighted.shape == posterior.shape == (*x.shape, mixture.n_components)
    density = np.exp(mixture.log_prob(x))
    assert density.shape == x.shape
    np.testing.assert_allclose(weighted.sum(axis=-1), density, rtol=1e-12)
    np.testing.assert_allclose(weighted, weights * norm.pdf(x[..., None], mixture.means, mixture.sds), rtol=1e-10)
    np.testing.assert_allclose(posterior.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(posterior * density[..., None], weighted, rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(mixtures(), st.floats(-12, 12))
def test_each_weight_is_the_classifier_at_the_cdf_of_its_own_component(mixture, x):
    for component, (mean, sd) in enumerate(zip(mixture.means, mixture.sds, strict=True)):
        expected = mixture.classifier(norm.cdf(x, mean, sd))[component]
        assert mixture.weights(x)[component] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(classifiers(), st.floats(0, 1))
def test_the_classifier_gives_probabilities_of_the_documented_form(classifier, u):
    found = classifier(u)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, rel=1e-12)
    waves = [np.cos(np.pi * (m + 1) * u) for m in range(classifier.coefficients.shape[1])]
    logits = np.array(
        [b + sum(np.multiply(c, waves)) for b, c in zip(classifier.biases, classifier.coefficients, strict=True)]
    )
    np.testing.assert_allclose(found, np.exp(logits - logsumexp(logits)), rtol=1e-9)


def test_weights_sum_to_one_at_every_point_only_if_the_classifier_is_constant():
    x = np.linspace(-5, 5, 201)
    np.testing.assert_allclose(WAVY(np.linspace(0, 1, 201)).sum(axis=-1), 1, rtol=1e-12)
    total = CDFMixture(MEANS, SDS, WAVY).weights(x).sum(axis=-1)
    assert total.min() < 0.9
    assert total.max() > 1.2
    # Far out every component sees the same end of the interval.
    np.testing.assert_allclose(CDFMixture(MEANS, SDS, WAVY).weights([-60.0, 60.0]).sum(axis=-1), 1, rtol=1e-12)
    level = SoftmaxClassifier(WAVY.biases, np.zeros((3, 2)))
    np.testing.assert_allclose(CDFMixture(MEANS, SDS, level).weights(x).sum(axis=-1), 1, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, 3, elements=st.floats(0.01, 1)), st.floats(-30, 30))
def test_a_constant_classifier_makes_an_ordinary_mixture(raw, x):
    weights = raw / raw.sum()
    mixture = CDFMixture(MEANS, SDS, SoftmaxClassifier.constant(weights))
    ordinary = GaussianMixture(weights, MEANS[:, None], (SDS**2)[:, None, None])
    np.testing.assert_allclose(mixture.log_prob(x), ordinary.log_prob([x]), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mixture.weights(x), weights, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(classifiers(min_size=2), st.floats(-8, 8))
def test_equal_components_make_their_common_density_whatever_the_classifier(classifier, x):
    size = len(classifier.biases)
    mixture = CDFMixture(np.full(size, 0.5), np.full(size, 1.5), classifier)
    assert mixture.log_prob(x) == pytest.approx(norm.logpdf(x, 0.5, 1.5), rel=1e-12)
    assert mixture.weights(x).sum() == pytest.approx(1, rel=1e-12)


def test_a_linear_classifier_makes_skew_normals():
    mixture, x = CDFMixture([-1.0, 2.0], [1.0, 0.5], linear), np.linspace(-6, 6, 101)
    expected = 0.5 * np.stack([skewnorm.pdf(x, 1, -1.0, 1.0), skewnorm.pdf(x, -1, 2.0, 0.5)], axis=-1)
    np.testing.assert_allclose(mixture.weighted_components(x), expected, rtol=1e-12, atol=1e-16)


def test_a_hard_classifier_makes_half_normals_with_nothing_between():
    mixture, x = CDFMixture([-1.0, 1.0], [1.0, 1.0], halves), np.array([-2.0, -1.0, 0.0, 0.9, 1.5])
    expected = [*norm.logpdf([-2.0, -1.0], -1), -np.inf, -np.inf, norm.logpdf(1.5, 1)]
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-12)
    np.testing.assert_array_equal(mixture.responsibilities([-2.0, 1.5]), [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"density is zero at x = 0\.0"):
        mixture.responsibilities(x)
    points, labels = mixture.sample(500, numpy_rng(0, "half normals"))
    np.testing.assert_array_equal(labels, points > 0)
    assert np.abs(points).min() >= 1


def test_the_tails_are_exact():
    x = np.array([-300.0, 300.0])
    ends = np.log(WAVY(np.array([0.0, 1.0])))
    expected = logsumexp(ends + norm.logpdf(x[:, None], MEANS, SDS), axis=-1)
    np.testing.assert_allclose(CDFMixture(MEANS, SDS, WAVY).log_prob(x), expected, rtol=1e-12)
    np.testing.assert_allclose(CDFMixture(MEANS, SDS, WAVY).responsibilities(x), [[0, 0, 1]] * 2, atol=1e-300)
    # A classifier that vanishes at 0 keeps the relative accuracy of the CDF's lower tail.
    joint = np.array([log_ndtr(-34.0) + norm.logpdf(-34), norm.logpdf(-36)])
    assert CDFMixture([0.0, 2.0], [1.0, 1.0], linear).log_prob(-34.0) == pytest.approx(logsumexp(joint), rel=1e-12)
    first = CDFMixture([0.0, 2.0], [1.0, 1.0], linear).weights(-34.0)[0]
    assert np.log(first) == pytest.approx(log_ndtr(-34.0), rel=1e-12)
    assert CDFMixture(MEANS, SDS, WAVY).log_prob(1e200) == -np.inf


def test_samples_have_the_density_and_the_labels_that_go_with_it():
    mixture, size = CDFMixture(MEANS, SDS, WAVY), 20_000
    points, labels = mixture.sample(size, numpy_rng(1, "cdf mixture"))
    weighted = mixture.weighted_components(GRID)
    assert kstest(points, distribution(weighted.sum(axis=-1))).pvalue > 0.01
    probabilities = trapezoid(weighted, GRID, axis=0)
    frequencies = np.bincount(labels, minlength=3) / size
    np.testing.assert_array_less(np.abs(frequencies - probabilities), 4 * np.sqrt(probabilities / size))
    for component in range(3):
        drawn = points[labels == component]
        assert kstest(drawn, distribution(weighted[:, component])).pvalue > 0.01
        assert kstest(drawn, norm(MEANS[component], SDS[component]).cdf).pvalue < 1e-6


def distribution(density):
    """Return the CDF of an unnormalised density on the grid."""
    mass = cumulative_trapezoid(density, GRID, initial=0)
    return lambda x: np.interp(x, GRID, mass / mass[-1])


def test_samples_depend_on_the_generator_only_and_are_finite():
    mixture = CDFMixture(MEANS, SDS, WAVY)
    one, other = (mixture.sample(100, numpy_rng(3, "draw")) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [part.shape for part in mixture.sample(0, numpy_rng(3, "draw"))] == [(0,), (0,)]


@pytest.mark.parametrize("end", [0, -1])
def test_the_outermost_draws_of_the_uniform_variable_are_finite(end):
    class Extreme:
        """Generator stand-in whose integers are the least or the greatest possible ones."""

        def integers(self, high, size):
            return np.full(size, (0, high - 1)[end])

        def random(self, size):
            return np.full(size, (0.0, np.nextafter(1, 0))[end])

    points, labels = CDFMixture([0.0, 0.0], [1.0, 1.0], linear).sample(3, Extreme())
    assert np.abs(points).min() > 7
    assert np.isfinite(points).all()
    assert labels.tolist() == [-end] * 3


@settings(max_examples=20, deadline=None)
@given(mixtures(), st.floats(-5, 5), st.floats(0.2, 5))
def test_shifting_and_scaling_the_components_shifts_and_scales_the_density(mixture, shift, scale):
    moved = CDFMixture(mixture.means * scale + shift, mixture.sds * scale, mixture.classifier)
    x = np.linspace(-3, 3, 31)
    np.testing.assert_allclose(moved.log_prob(x * scale + shift), mixture.log_prob(x) - np.log(scale), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(mixtures(), st.integers(0, 1000))
def test_the_order_of_the_components_does_not_matter(mixture, seed):
    assume(mixture.n_components > 1)
    order = np.random.default_rng(seed).permutation(mixture.n_components)
    classifier = SoftmaxClassifier(mixture.classifier.biases[order], mixture.classifier.coefficients[order])
    permuted, x = CDFMixture(mixture.means[order], mixture.sds[order], classifier), np.linspace(-6, 6, 31)
    np.testing.assert_allclose(permuted.log_prob(x), mixture.log_prob(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(permuted.responsibilities(x), mixture.responsibilities(x)[:, order], atol=1e-12)


def test_parameters_are_copied():
    means = MEANS.copy()
    mixture = CDFMixture(means, SDS, WAVY)
    means[0] = 100
    assert mixture.means[0] == MEANS[0]


@pytest.mark.parametrize(
    ("means", "sds", "classifier", "message"),
    [
        ([[0.0]], [[1.0]], linear, r"means must be \(components,\), at least one, found shape \(1, 1\)"),
        ([], [], linear, r"means must be .* found shape \(0,\)"),
        ([0.0, np.nan], [1.0, 1.0], linear, "means must be finite, found .*nan"),
        ([0.0, 1.0], [1.0], linear, r"sds must be \(2,\), one for each mean, found shape \(1,\)"),
        ([0.0, 1.0], [1.0, 0.0], linear, r"sds must be positive, found \[1\.0, 0\.0\]"),
        ([0.0, 1.0], [1.0, np.inf], linear, "sds must be finite"),
        ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], linear, r"classifier must map shape \(5,\) to \(5, 3\), found \(5, 2\)"),
        ([0.0, 1.0], [1.0, 1.0], lambda u: 1.1 * linear(u), "must return probabilities, non-negative and with sum 1"),
        ([0.0, 1.0], [1.0, 1.0], lambda u: linear(u + 0.5), "must return probabilities"),
        ([0.0, 1.0], [1.0, 1.0], lambda u: linear(u * np.nan), "must return probabilities"),
    ],
)
def test_wrong_parameters_are_refused(means, sds, classifier, message):
    with pytest.raises(ValueError, match=message):
        CDFMixture(means, sds, classifier)


def test_a_classifier_that_fails_only_elsewhere_is_refused_when_it_does():
    mixture = CDFMixture([0.0, 1.0], [1.0, 1.0], lambda u: linear(np.where(np.abs(u - 0.3) < 0.01, 2, u)))
    assert np.isfinite(mixture.log_prob(0.0))
    with pytest.raises(ValueError, match="must return probabilities"):
        mixture.log_prob(norm.ppf(0.3))


@pytest.mark.parametrize("method", ["log_prob", "weights", "weighted_components", "responsibilities"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_must_be_finite(method, value):
    with pytest.raises(ValueError, match="x must be finite"):
        getattr(CDFMixture(MEANS, SDS, WAVY), method)([0.0, value])


def test_wrong_classifiers_are_refused():
    with pytest.raises(ValueError, match=r"biases must be \(classes,\) .* found shape \(1, 1\)"):
        SoftmaxClassifier([[0.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"coefficients must be \(2, frequencies\), .* found shape \(3, 1\)"):
        SoftmaxClassifier([0.0, 0.0], np.zeros((3, 1)))
    with pytest.raises(ValueError, match="coefficients must be finite"):
        SoftmaxClassifier([0.0, 0.0], [[np.inf], [0.0]])
    for weights in ([0.5, 0.6], [1.0, 0.0], [1.5, -0.5], [np.nan, 1.0], [[1.0]], []):
        with pytest.raises(ValueError, match="weights must be positive and sum to 1"):
            SoftmaxClassifier.constant(weights)
    for u in (-1e-9, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"u must lie in \[0, 1\]"):
            WAVY([0.5, u])
