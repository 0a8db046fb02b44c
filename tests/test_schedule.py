"""Stages of training: defaults and refusals that name the key."""

from typing import Any

import pytest

from neumix.schedule import Stage
from neumix.settings import CatalogueError, parse

GIVEN: dict[str, Any] = {"loss": {"name": "neg_ctc"}, "epochs": 3, "batch_size": 10}


def stage(**changes: Any) -> Stage:
    return parse(Stage, {**GIVEN, **changes}, "paper.yaml: stages.main")


def test_defaults_are_those_of_adam_without_validation():
    found = stage()
    assert (found.split, found.validation, found.patience) == ("train", None, None)
    assert (found.learning_rate, found.betas, found.epsilon) == (1e-3, (0.9, 0.999), 1e-8)
    assert found.loss == {"name": "neg_ctc"}


@pytest.mark.parametrize("key", ["epochs", "batch_size", "patience", "learning_rate", "epsilon"])
@pytest.mark.parametrize("value", [0, -1, "many", None])
def test_a_number_that_is_not_positive_is_refused_by_its_name(key, value):
    if key == "patience" and value is None:
        assert stage(patience=None, validation="held_out").patience is None
        return
    with pytest.raises(CatalogueError, match=rf"paper.yaml: stages.main: key '{key}'"):
        stage(validation="held_out", **{key: value})


@pytest.mark.parametrize("key", ["loss", "epochs", "batch_size"])
def test_a_missing_key_is_named(key):
    content = {name: value for name, value in GIVEN.items() if name != key}
    with pytest.raises(CatalogueError, match=f"key '{key}' is missing"):
        parse(Stage, content, "paper.yaml: stages.main")


def test_a_typo_gets_the_nearest_key():
    with pytest.raises(CatalogueError, match="unknown key 'batchsize'; did you mean 'batch_size'"):
        stage(batchsize=5)


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
