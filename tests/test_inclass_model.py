"""The InClass net: sizes, classifiers, every loss and its terms, independence of seeds, bad settings."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.data.dataset import Field, Split
from neumix.models.inclass import Config, Loss, Model, costs
from neumix.training import generators

WEIGHTS = (0.3, 0.7)
CTC_LIKE = ["neg_ctc", "neg_cmi", "unnorm_neg_ctc", "unnorm_neg_cmi", "neg_tc", "neg_mi", "moving_estimate"]


def make(shape: tuple[int, ...] = (2,), seeds: Any = range(3), **config: Any) -> Model:
    settings_ = {"components": 2, "hidden": (5, 4), **config}
    return Model(Config(**settings_), {"x": shape}, generators(seeds, "init"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labelled(seeds: int = 3) -> dict[str, Tensor]:
    """Return pairs of images (S, B, 2, 3, 3) and labelled images."""
    y = torch.randint(2, (seeds, 9), generator=torch.Generator().manual_seed(2))
    return {"x": draw(seeds, 9, 2, 3, 3), "image": draw(seeds, 9, 3, 3, seed=1), "y": y}


def plain(model: Model, copy: int, x: Tensor, network: int = 0) -> Tensor:
    """Return log-softmax outputs of one network at inputs (B, ...), layer by layer."""
    layers = model.networks[network]
    h = x.flatten(1)
    for weight, bias in zip(layers.weights, layers.biases, strict=True):
        out = h @ weight[copy] + bias[copy]
        h = out.relu()
    return out.log_softmax(-1)


def begin(model: Model, loss: Loss) -> None:
    """Begin a stage as the training loop does."""
    split = Split({"x": Field(np.zeros((4, model.n_variates), dtype=np.float32))})
    points = DeviceSplit(split, model.n_seeds, torch.device("cpu"))
    with torch.no_grad():
        model.begin_stage(loss, points, generators(range(model.n_seeds), "begin"))


def gradients(model: Model, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True))


@pytest.mark.parametrize(
    ("shape", "config", "expected"),
    [
        ((2,), {"components": 2}, 4484),
        ((3,), {"components": 4}, 6924),
        ((2, 28, 28), {"components": 10, "shared": True}, 27562),
        ((2, 28, 28), {"components": 10}, 2 * 27562),
        ((2,), {"components": 2, "known_variate": 0}, 4484 // 2 + 2),
        ((2, 2), {"components": (3, 4)}, 2 * (3 * 32 + 2 * 33 * 32) + 33 * 7),
    ],
)
def test_parameter_counts_are_those_of_the_paper_s_networks(shape, config, expected):
    assert Model(Config(**config), {"x": shape}, generators(range(2), "init")).n_parameters == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_classifiers_are_normalised_and_see_one_variate_each(seeds, points, variates, components, shared, seed):
    model = make((variates,), range(seeds), components=components, shared=shared)
    x = draw(seeds, points, variates, seed=seed)
    found = model.log_beta({"x": x})
    assert found.shape == (seeds, points, variates, components)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(seeds, points, variates))
    for s in range(seeds):
        for v in range(variates):
            copy = s if shared else s * variates + v
            torch.testing.assert_close(found[s, :, v], plain(model, copy, x[s, :, v, None]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_variates_may_be_images(shared):
    model = make((2, 3, 4), components=5, shared=shared)
    x = draw(3, 7, 2, 3, 4)
    found = model.log_beta({"x": x})
    assert found.shape == (3, 7, 2, 5)
    copy = 2 if shared else 2 * 2 + 1
    torch.testing.assert_close(found[2, :, 1], plain(model, copy, x[2, :, 1]), rtol=1e-4, atol=1e-5)


def test_a_shared_classifier_does_not_mind_which_variate_it_sees():
    x = draw(3, 7, 2)
    shared, separate = make(shared=True), make(shared=False)
    swapped = {"x": x.flip(2)}
    torch.testing.assert_close(shared.log_beta(swapped).flip(2), shared.log_beta({"x": x}))
    assert not torch.allclose(separate.log_beta(swapped).flip(2), separate.log_beta({"x": x}), atol=1e-3)


def test_single_inputs_go_through_the_shared_classifier():
    model, batch = make((2, 3, 3), shared=True), labelled()
    pairs = model.log_beta(batch)
    for v in range(2):
        torch.testing.assert_close(model.log_beta_single(batch["x"][:, :, v]), pairs[:, :, v])


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_known_variate_has_one_factor_for_each_component(known):
    model = make((3,), components=4, known_variate=known)
    with torch.no_grad():
        model.log_factor.copy_(draw(3, 4, seed=7))
    batch = {"x": draw(3, 6, 3), "log_density_ratio": draw(3, 6, 4, seed=5)}
    found = model.log_beta(batch)
    assert found.shape == (3, 6, 3, 4)
    expected = costs.known_density_log_beta(batch["log_density_ratio"], model.log_factor)
    torch.testing.assert_close(found[:, :, known], expected)
    others = [v for v in range(3) if v != known]
    for position, v in enumerate(others):
        learned = plain(model, 2 * 1 + position, batch["x"][1, :, v, None])
        torch.testing.assert_close(found[1, :, v], learned, rtol=1e-4, atol=1e-5)
    moved = {**batch, "x": batch["x"].index_fill(2, torch.tensor(known), 99.0)}
    torch.testing.assert_close(model.log_beta(moved), found)  # the variate itself plays no role


def test_the_factors_of_a_known_variate_are_trained():
    model = make((2,), known_variate=1)
    batch = {"x": draw(3, 50, 2), "log_density_ratio": draw(3, 50, 2, seed=5)}
    model.loss(batch, Loss(name="neg_ctc"), []).sum().backward()
    assert torch.all(model.log_factor.grad.abs().sum(-1) > 0)


def test_multi_label_nets_may_have_different_numbers_of_classes():
    model = make((3, 2), components=(2, 3, 4))
    batch = {"x": draw(3, 8, 3, 2)}
    found = model.log_beta_by_variate(batch)
    assert [log.shape for log in found] == [(3, 8, 2), (3, 8, 3), (3, 8, 4)]
    for v, log in enumerate(found):
        torch.testing.assert_close(log.exp().sum(-1), torch.ones(3, 8))
        torch.testing.assert_close(log[1], plain(model, 1, batch["x"][1, :, v], v), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.loss(batch, Loss(name="neg_tc"), []), costs.neg_tc(found))


def test_equal_numbers_of_classes_give_the_same_by_variate():
    model, batch = make((2,), components=(3, 3)), {"x": draw(3, 8, 2)}
    for log, other in zip(model.log_beta_by_variate(batch), model.log_beta(batch).unbind(2), strict=True):
        torch.testing.assert_close(log, other)


def test_different_numbers_of_classes_work_with_scalar_variates():
    model = make((2,), components=(3, 4))
    assert model.loss({"x": draw(3, 8, 2)}, Loss(name="neg_mi"), []).shape == (3,)


@pytest.mark.parametrize("name", [*CTC_LIKE, "cross_entropy", "hybrid"])
def test_every_loss_is_finite_for_each_seed_and_reaches_the_weights(name):
    model = make((2, 3, 3), shared=True)
    loss = model.loss(labelled(), Loss(name=name), [])
    assert loss.shape == (3,)
    assert torch.isfinite(loss).all()
    found = gradients(model, loss.sum())
    assert all(torch.isfinite(gradient).all() and gradient.any() for gradient in found)


def test_every_name_of_a_loss_is_tested():
    names = Loss.__annotations__["name"].__args__
    assert set(names) == {*CTC_LIKE, "cross_entropy", "hybrid"}


@pytest.mark.parametrize("name", ["neg_ctc", "neg_cmi", "unnorm_neg_ctc", "unnorm_neg_cmi"])
def test_a_plain_loss_is_the_cost_of_that_name(name):
    model, batch = make(), {"x": draw(3, 20, 2)}
    expected = getattr(costs, name)(model.log_beta(batch))
    torch.testing.assert_close(model.loss(batch, Loss(name=name), []), expected)


@pytest.mark.parametrize("name", ["neg_tc", "neg_mi"])
def test_a_multi_label_loss_is_the_cost_of_that_name(name):
    model, batch = make(), {"x": draw(3, 20, 2)}
    expected = getattr(costs, name)(list(model.log_beta(batch).unbind(2)))
    torch.testing.assert_close(model.loss(batch, Loss(name=name), []), expected)


def test_cross_entropy_is_that_of_the_labelled_images():
    model, batch = make((2, 3, 3), shared=True), labelled()
    logs = model.log_beta_single(batch["image"]).detach().numpy()
    expected = [-np.mean([logs[s, b, batch["y"][s, b]] for b in range(9)]) for s in range(3)]
    assert model.loss(batch, Loss(name="cross_entropy"), []).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("supervision", [0.0, 1.0, 2.5])
def test_the_hybrid_cost_adds_the_supervised_one(supervision):
    model, batch = make((2, 3, 3), shared=True), labelled()
    expected = model.loss(batch, Loss(name="neg_ctc"), []) + supervision * model.loss(
        batch, Loss(name="cross_entropy"), []
    )
    found = model.loss(batch, Loss(name="hybrid", supervision=supervision), [])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["neg_ctc", "moving_estimate"])
def test_terms_are_added_as_costs_says(name):
    model, batch = make(), {"x": draw(3, 20, 2)}
    base = model.loss(batch, Loss(name=name), [])
    weights = costs.mixture_weights(model.log_beta(batch))
    true = torch.tensor(WEIGHTS)
    cases = [
        ({"tikhonov": 0.7}, costs.tikhonov(weights, 0.7)),
        ({"neg_shannon": -0.3}, costs.neg_shannon(weights, -0.3)),
        ({"known_weights": WEIGHTS, "known_weights_strength": 2.0}, costs.known_weights(weights, true, 2.0)),
    ]
    for changes, term in cases:
        torch.testing.assert_close(model.loss(batch, Loss(name=name, **changes), []) - base, term, rtol=1e-4, atol=1e-5)
    together = model.loss(batch, Loss(name=name, **cases[0][0], **cases[1][0], **cases[2][0]), [])
    torch.testing.assert_close(together - base, sum(term for _, term in cases), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{"known_weights": WEIGHTS}, {"known_weights_strength": 1.0}])
def test_half_of_the_known_weights_term_is_refused(changes):
    with pytest.raises(ValidationError, match="known_weights"):
        Loss(name="neg_ctc", **changes)


def test_the_moving_estimate_has_the_value_of_neg_ctc_and_at_first_its_gradient():
    model, batch = make(), {"x": draw(3, 20, 2)}
    moving = model.loss(batch, Loss(name="moving_estimate", decay=0.9), [])
    exact = model.loss(batch, Loss(name="neg_ctc"), [])
    torch.testing.assert_close(moving, exact)
    for found, expected in zip(gradients(model, moving.sum()), gradients(model, exact.sum()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    second = {"x": draw(3, 20, 2, seed=1)}
    moving, exact = (model.loss(second, Loss(name=name), []) for name in ("moving_estimate", "neg_ctc"))
    torch.testing.assert_close(moving, exact)
    difference = gradients(model, moving.sum())[0] - gradients(model, exact.sum())[0]
    assert difference.abs().max() > 1e-5  # from the second batch on the averages remember


def test_moving_averages_are_kept_while_training_and_forgotten_between_stages():
    model, loss = make(), Loss(name="moving_estimate", decay=0.75)
    model.loss({"x": draw(3, 20, 2)}, loss, [])
    model.loss({"x": draw(3, 20, 2, seed=1)}, loss, [])
    state = {key: model.state_dict()[key].clone() for key in ("phi", "aux", "seen")}
    assert state["seen"] == pytest.approx(1 - 0.75**2)
    torch.testing.assert_close(state["phi"].sum(-1), torch.ones(3, 2))
    expected = [model.log_beta({"x": draw(3, 20, 2, seed=seed)}).exp().mean(1) for seed in (0, 1)]
    torch.testing.assert_close(state["phi"], (0.75 * expected[0] + expected[1]) / 1.75)
    with torch.no_grad():
        model.loss({"x": draw(3, 20, 2, seed=2)}, loss, [])  # scoring leaves them alone
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    begin(model, loss)
    assert not any(model.state_dict()[key].any() for key in state)


def test_multi_label_nets_have_no_averages_to_forget():
    model = make((2, 2), components=(2, 3))
    begin(model, Loss(name="neg_tc"))
    assert not any(key in model.state_dict() for key in ("phi", "aux", "seen"))


@pytest.mark.parametrize("name", [*CTC_LIKE, "cross_entropy", "hybrid"])
def test_a_seed_s_loss_and_gradient_are_its_own(name):
    together, alone = (make((2, 3, 3), seeds, shared=True) for seeds in ([4, 5, 6], [5]))
    batch = labelled()
    loss = together.loss(batch, Loss(name=name), [])
    mine = alone.loss({key: value[1:2] for key, value in batch.items()}, Loss(name=name), [])
    torch.testing.assert_close(loss[1:2], mine)
    sum_gradients = gradients(together, loss.sum())
    own_gradients = gradients(together, loss[1])
    for whole, own, single in zip(sum_gradients, own_gradients, gradients(alone, mine.sum()), strict=True):
        torch.testing.assert_close(whole[1], single[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own[1], single[0], rtol=1e-4, atol=1e-6)
        assert not own[[0, 2]].any()


@pytest.mark.parametrize("config", [{}, {"shared": True}, {"components": (2, 3)}])
def test_a_seed_s_start_does_not_depend_on_the_others(config):
    together, alone = make((2, 3), [4, 5, 6], **config), make((2, 3), [5], **config)
    for several, one in zip(together.parameters(), alone.parameters(), strict=True):
        copies = len(one)
        assert torch.equal(several[copies : 2 * copies], one)


def test_separate_classifiers_of_a_seed_start_differently():
    weight = make((2,), [0]).networks[0].weights[0]
    assert not torch.equal(weight[0], weight[1])


def test_a_useless_classifier_costs_nothing():
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    batch = {"x": draw(3, 20, 2)}
    for name in ("neg_ctc", "neg_cmi", "neg_mi", "neg_tc"):
        torch.testing.assert_close(model.loss(batch, Loss(name=name), []), torch.zeros(3), rtol=0, atol=1e-6)
    # The unnormalised weights are 1/2 each, so N is 1 as well.
    torch.testing.assert_close(model.loss(batch, Loss(name="unnorm_neg_ctc"), []), torch.zeros(3), rtol=0, atol=1e-6)


def test_separated_classes_reach_the_entropy():
    model = make((2,), [0], hidden=())
    with torch.no_grad():
        model.networks[0].weights[0].copy_(torch.tensor([[-50.0, 50.0]]).expand(2, 1, 2))
    x = torch.tensor([-1.0, 1.0, 1.0, 1.0])[None, :, None].expand(1, 4, 2)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert model.loss({"x": x}, Loss(name="neg_ctc"), []).item() == pytest.approx(-entropy, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"components": (2, 3), "shared": True}, "same number of components for every variate"),
        ({"components": (2, 3, 4)}, "components has 3 numbers for 2 variates"),
        ({"components": (2,)}, "components has 1 numbers for 2 variates"),
    ],
)
def test_components_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        make((2,), **config)


def test_single_inputs_without_a_shared_classifier_are_refused():
    with pytest.raises(ValueError, match=r"set model\.shared to true"):
        make((2, 3, 3)).loss(labelled(), Loss(name="cross_entropy"), [])


def test_a_mixture_cost_refuses_different_numbers_of_components():
    with pytest.raises(ValueError, match="components"):
        make((2, 2), components=(2, 3)).loss({"x": draw(3, 5, 2, 2)}, Loss(name="neg_ctc"), [])


@pytest.mark.parametrize("variate", [2, -1])
def test_a_known_variate_that_is_not_there_is_refused(variate):
    with pytest.raises(ValueError, match="known_variate"):
        make((2,), known_variate=variate)


@pytest.mark.parametrize("changes", [{"components": 0}, {"components": -1}, {"hidden": (0,)}])
def test_sizes_that_are_not_positive_are_refused(changes):
    with pytest.raises(ValidationError):
        Config(**{"components": 2, **changes})


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Loss, {"name": "neg_ctcc"}, "name"),
        (Loss, {"name": "hybrid", "supervision": -1}, "supervision"),
        (Loss, {"name": "moving_estimate", "decay": 1.0}, "decay"),
        (Loss, {"name": "neg_ctc", "lambda": 1}, "lambda"),
        (Config, {"components": 2, "width": 3}, "width"),
        (Config, {}, "components"),
    ],
)
def test_bad_settings_are_refused_by_name(kind, content, message):
    with pytest.raises(ValidationError, match=message):
        kind(**content)
