"""Stages of training: defaults, learning rates, and refusals that name the key."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix.schedule import Noam, Stage, StepDecay, Warmup
from neumix.settings import CatalogueError, parse

GIVEN: dict[str, Any] = {"loss": {"name": "neg_ctc"}, "epochs": 3, "batch_size": 10}
SCHEDULES: dict[str, dict[str, Any]] = {
    "step": {"name": "step", "every": 10, "factor": 0.5},
    "warmup": {"name": "warmup", "steps": 10},
    "noam": {"name": "noam", "steps": 10},
}


def stage(**changes: Any) -> Stage:
    return parse(Stage, {**GIVEN, **changes}, "paper.yaml: stages.main")


def test_defaults_are_those_of_adam_without_validation():
    found = stage()
    assert (found.split, found.validation, found.patience) == ("train", None, None)
    assert (found.learning_rate, found.betas, found.epsilon) == (1e-3, (0.9, 0.999), 1e-8)
    assert found.loss == {"name": "neg_ctc"}


def test_nothing_is_scheduled_decayed_clipped_coarsened_or_kept_unless_asked_for():
    found = stage()
    assert (found.schedule, found.weight_decay, found.clip_value, found.clip_norm) == (None, 0, None, None)
    assert (found.precision, found.snapshots) == ("float32", ())


@pytest.mark.parametrize(
    "key", ["epochs", "batch_size", "patience", "learning_rate", "epsilon", "clip_value", "clip_norm"]
)
@pytest.mark.parametrize("value", [0, -1, "many", None])
def test_a_number_that_is_not_positive_is_refused_by_its_name(key, value):
    if value is None and key in ("patience", "clip_value", "clip_norm"):
        assert getattr(stage(validation="held_out", **{key: None}), key) is None
        return
    if value == 0 and key == "epochs":
        assert stage(epochs=0).epochs == 0  # for a model that fits itself
        return
    with pytest.raises(CatalogueError, match=rf"paper.yaml: stages.main: key '{key}'"):
        stage(validation="held_out", **{key: value})


def test_a_negative_weight_decay_is_refused():
    with pytest.raises(CatalogueError, match="key 'weight_decay'"):
        stage(weight_decay=-1e-4)
    assert stage(weight_decay=1e-4).weight_decay == 1e-4


@pytest.mark.parametrize("key", ["loss", "epochs", "batch_size"])
def test_a_missing_key_is_named(key):
    content = {name: value for name, value in GIVEN.items() if name != key}
    with pytest.raises(CatalogueError, match=f"key '{key}' is missing"):
        parse(Stage, content, "paper.yaml: stages.main")


def test_a_typo_gets_the_nearest_key():
    with pytest.raises(CatalogueError, match="unknown key 'batchsize'; did you mean 'batch_size'"):
        stage(batchsize=5)


def test_a_typo_in_the_precision_gets_the_nearest_value():
    with pytest.raises(CatalogueError, match="key 'precision': unknown value 'bfloat'; did you mean 'bfloat16'"):
        stage(precision="bfloat")


def test_patience_needs_a_split_to_be_patient_about():
    with pytest.raises(CatalogueError, match="'patience' needs a 'validation' split"):
        stage(patience=3)
    assert stage(patience=3, validation="held_out").patience == 3


def test_a_fraction_of_an_epoch_is_refused():
    with pytest.raises(CatalogueError, match="epochs"):
        stage(epochs=1.5)


def test_a_stage_cannot_be_changed():
    with pytest.raises(AttributeError):
        stage().epochs = 9


def test_snapshots_up_to_the_last_epoch_are_taken():
    assert stage(snapshots=[1, 3]).snapshots == (1, 3)


@pytest.mark.parametrize(("epochs", "late"), [(3, 4), (0, 1)])
def test_a_snapshot_after_the_last_epoch_is_refused(epochs, late):
    with pytest.raises(CatalogueError, match=f"'snapshots' asks for epoch {late}, but the stage has {epochs} epochs"):
        stage(epochs=epochs, snapshots=[late])


@pytest.mark.parametrize("epoch", [0, -1])
def test_a_snapshot_before_the_first_epoch_is_refused(epoch):
    with pytest.raises(CatalogueError, match=r"key 'snapshots\.1'"):
        stage(snapshots=[2, epoch])


@pytest.mark.parametrize(("name", "kind"), [("step", StepDecay), ("warmup", Warmup), ("noam", Noam)])
def test_a_schedule_is_chosen_by_its_name(name, kind):
    assert isinstance(stage(schedule=SCHEDULES[name]).schedule, kind)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "cosine", "steps": 5}, r"key 'schedule': .*'cosine'.*'step', 'warmup', 'noam'"),
        ({"steps": 5}, r"key 'schedule': .*'name'"),
        ({"name": "step", "evry": 5, "factor": 0.5}, r"unknown key 'schedule\.step\.evry'; did you mean 'every'"),
        ({"name": "step", "factor": 0.5}, r"key 'schedule\.step\.every' is missing"),
        ({"name": "step", "every": 0, "factor": 0.5}, r"key 'schedule\.step\.every'"),
        ({"name": "step", "every": 5, "factor": 0}, r"key 'schedule\.step\.factor'"),
        ({"name": "step", "every": 5, "factor": 1.5}, r"key 'schedule\.step\.factor'"),
        ({"name": "warmup", "steps": 0}, r"key 'schedule\.warmup\.steps'"),
        ({"name": "noam", "steps": -1}, r"key 'schedule\.noam\.steps'"),
        ({"name": "noam", "steps": 5, "floor": -1e-6}, r"key 'schedule\.noam\.floor'"),
    ],
)
def test_a_bad_schedule_is_refused_by_its_key(schedule, message):
    with pytest.raises(CatalogueError, match=rf"paper\.yaml: stages\.main: {message}"):
        stage(schedule=schedule)


def test_without_a_schedule_the_rate_stays():
    found = stage(learning_rate=0.02)
    assert {found.rate(epoch, 7 * epoch + 3) for epoch in range(50)} == {0.02}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_stage_has_the_rates_of_its_schedule(name):
    found = stage(learning_rate=0.02, schedule=SCHEDULES[name])
    for step in range(60):
        assert found.rate(step // 3, step) == found.schedule.rate(0.02, step // 3, step)


def test_a_step_decay_changes_at_the_first_epoch_of_each_period():
    schedule = StepDecay(name="step", every=10, factor=0.5)
    expected = {0: 8.0, 9: 8.0, 10: 4.0, 19: 4.0, 20: 2.0, 29: 2.0, 30: 1.0}
    assert {epoch: schedule.rate(8.0, epoch, 999) for epoch in expected} == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.floats(0.05, 1), st.floats(1e-5, 1))
def test_a_step_decay_has_the_rates_of_torchs_scheduler(every, factor, base):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, every, factor)
    schedule = StepDecay(name="step", every=every, factor=factor)
    for epoch in range(30):
        assert schedule.rate(base, epoch, 0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_a_warmup_grows_by_equal_parts_to_the_full_rate_and_stays_there():
    schedule = Warmup(name="warmup", steps=4)
    assert [schedule.rate(2.0, 0, step) for step in range(7)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    assert schedule.rate(2.0, 900, 10**9) == 2.0


@pytest.mark.parametrize("kind", [Warmup, Noam])
def test_one_step_of_growth_is_none(kind):
    assert kind(name=kind.__name__.lower(), steps=1).rate(0.3, 0, 0) == 0.3


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000), st.floats(1e-5, 10), st.integers(0, 20_000))
def test_noam_has_the_rate_of_the_printed_formula(steps, base, step):
    scale = base * math.sqrt(steps)  # stands for the inverse square root of the width, which makes the peak `base`
    expected = scale * min((step + 1) ** -0.5, (step + 1) * steps**-1.5)
    assert Noam(name="noam", steps=steps).rate(base, 0, step) == pytest.approx(expected, rel=1e-9)


def test_noam_peaks_at_its_last_growing_step_and_only_there():
    rates = [Noam(name="noam", steps=50).rate(0.1, 0, step) for step in range(400)]
    assert rates[49] == 0.1 == max(rates)
    assert rates[0] == pytest.approx(0.1 / 50)
    assert all(before < after for before, after in pairwise(rates[:50]))
    assert all(before > after for before, after in pairwise(rates[49:]))
    assert rates[199] == pytest.approx(0.05)  # half the rate at four times the steps


def test_the_floor_of_noam_holds_after_the_growth_and_not_before():
    free, floored = Noam(name="noam", steps=50), Noam(name="noam", steps=50, floor=0.05)
    rates = [(free.rate(0.1, 0, step), floored.rate(0.1, 0, step)) for step in range(1000)]
    assert all(plain == lifted for plain, lifted in rates[:199])
    assert all(lifted == 0.05 > plain for plain, lifted in rates[200:])
    assert rates[0][1] < 0.05


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([*SCHEDULES]), st.floats(1e-6, 10), st.integers(0, 500), st.integers(0, 100_000))
def test_a_rate_is_positive_and_never_above_the_stages(name, base, epoch, step):
    assert 0 < stage(learning_rate=base, schedule=SCHEDULES[name]).rate(epoch, step) <= base
