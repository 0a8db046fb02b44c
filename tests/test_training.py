import math
import multiprocessing
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
import torch
import training_toy as toy

from neumix.checkpoint import Checkpointer
from neumix.data import product_mixture
from neumix.data.dataset import Dataset, Field, Split
from neumix.models.inclass import Config, Loss, Model
from neumix.run import Run
from neumix.trained import TrainedRun
from neumix.training import REQUEUE, NonFiniteLossError, Phase, generators


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    toy.train(tmp_path_factory.mktemp("warm"))
    started = time.monotonic()
    trained = toy.train(tmp_path_factory.mktemp("clean"))
    return toy.digest(trained), trained, time.monotonic() - started


@pytest.fixture(scope="module")
def processes():
    """Children that share one import of torch, so that a kill meets the training and not the import."""
    context = multiprocessing.get_context("forkserver")
    # Not every Python knows the tests' own folder there, and none speaks of what it could not find.
    context.set_forkserver_preload(["torch._dynamo", "neumix.training", "neumix.models.inclass"])
    return context


def start(processes, folder, seconds):
    (folder / "started").unlink(missing_ok=True)
    child = processes.Process(target=toy.run_in_child, args=(str(folder), seconds))
    child.start()
    while child.is_alive() and not (folder / "started").exists():
        time.sleep(0.005)
    return child


def test_two_clean_runs_are_bit_identical(clean, tmp_path):
    assert toy.digest(toy.train(tmp_path)) == clean[0]


def test_twenty_random_kills_leave_the_result_bit_identical(clean, processes, tmp_path):
    rng = random.Random(7)
    kills, finished = 0, []
    while kills < 20:
        child = start(processes, tmp_path, 0.02)
        time.sleep(rng.uniform(0.02, 0.6 * clean[2]))
        killed = child.is_alive()
        child.kill()
        child.join()
        kills += killed
        if (tmp_path / "result").exists():  # finished before the kill: begin anew and go on killing
            finished.append((tmp_path / "result").read_text().split())
            (tmp_path / "result").unlink()
            for path in (tmp_path / "checkpoint").iterdir():
                path.unlink()
    child = start(processes, tmp_path, 60)
    child.join()
    finished.append((tmp_path / "result").read_text().split())
    assert {digest for digest, _ in finished} == {clean[0]}
    assert sum(int(resumes) for _, resumes in finished) >= 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_checkpoints_and_asks_for_a_requeue(clean, processes, tmp_path, number):
    child = start(processes, tmp_path, 60)
    time.sleep(0.3 * clean[2])
    os.kill(child.pid, number)
    child.join(10)
    assert child.exitcode == REQUEUE
    assert (tmp_path / "checkpoint" / "checkpoint").exists()
    assert not (tmp_path / "result").exists()
    trained = toy.train(tmp_path)
    assert trained.resumes == 1
    assert toy.digest(trained) == clean[0]


def damage_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_empty(path):
    path.write_bytes(b"")


def interrupted(processes, tmp_path):
    """Kill a training once it has two checkpoints; return their folder."""
    folder = tmp_path / "checkpoint"
    child = start(processes, tmp_path, 0.02)
    while child.is_alive() and not (folder / "checkpoint.previous").exists():
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGSTOP)  # stopped first, so that both files can be seen before the kill
    time.sleep(0.05)
    while not (folder / "checkpoint").exists():
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.002)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.02)
    child.kill()
    child.join()
    return folder


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, damage_empty])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(clean, processes, tmp_path, damage, caplog):
    folder = interrupted(processes, tmp_path)
    damage(folder / "checkpoint")
    trained = toy.train(tmp_path)
    assert trained.resumes >= 1
    assert toy.digest(trained) == clean[0]
    assert "cut short or altered" in caplog.text


def test_two_damaged_checkpoints_start_from_the_beginning(clean, processes, tmp_path):
    folder = interrupted(processes, tmp_path)
    for path in folder.iterdir():
        damage_cut(path)
    trained = toy.train(tmp_path)
    assert trained.resumes == 0
    assert toy.digest(trained) == clean[0]


def test_a_checkpoint_of_other_settings_is_not_resumed(processes, tmp_path):
    folder = interrupted(processes, tmp_path)
    assert Checkpointer(folder, "toy").load() is not None
    assert Checkpointer(folder, "other").load() is None


def limited(folder, seconds):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    trained = toy.train(folder, seconds=seconds)
    digest = toy.digest(trained)
    (folder / "result").write_text(digest)


def test_no_room_for_checkpoints_costs_no_result_and_leaves_no_rubbish(clean, processes, tmp_path):
    child = processes.Process(target=limited, args=(tmp_path, 0.02))
    child.start()
    child.join()
    assert (tmp_path / "result").read_text() == clean[0]
    assert not list((tmp_path / "checkpoint").glob("*"))


def test_a_full_disk_keeps_the_checkpoint_before(clean, processes, tmp_path):
    folder = interrupted(processes, tmp_path)
    newest = (folder / "checkpoint").read_bytes()
    child = processes.Process(target=limited, args=(tmp_path, 0.02))
    child.start()
    child.join()
    assert (tmp_path / "result").read_text() == clean[0]
    assert (folder / "checkpoint").read_bytes() == newest
    assert len(list(folder.iterdir())) <= 2


def test_a_loss_that_is_not_finite_names_run_stage_epoch_step_and_seed(tmp_path, monkeypatch):
    calls = {"n": 0}
    ordinary = Model.loss

    def diverge(self, batch, loss, noise):
        value = ordinary(self, batch, loss, noise)
        if torch.is_grad_enabled():
            calls["n"] += 1
        return value * torch.tensor([1.0, math.nan if calls["n"] == 60 else 1.0, 1.0])

    monkeypatch.setattr(Model, "loss", diverge)
    with pytest.raises(NonFiniteLossError, match=r"toy: loss is nan in stage 'first', epoch 2, step 8, seed 1;"):
        toy.train(tmp_path, seconds=0.0)


def test_a_seed_learns_the_same_in_any_company(tmp_path):
    plan = [Phase("first", toy.stage(epochs=2), Loss(name="neg_ctc"))]
    together = toy.train(tmp_path, seeds=(0, 1, 2), plan=plan, epochs=100)
    alone = toy.train(tmp_path, seeds=(1,), plan=plan, epochs=100)
    for key, value in alone.weights.items():
        if key.endswith(("weights.0", "weights.1", "weights.2")):
            torch.testing.assert_close(value, together.weights[key][2:4], atol=2e-4, rtol=2e-3)


def test_fields_of_a_split_need_equal_lengths():
    with pytest.raises(ValueError, match="same number of points"):
        Split({"x": Field(np.zeros((3, 2))), "y": Field(np.zeros(4))})
    with pytest.raises(ValueError, match=r"no split 'trian'; it has train"):
        Dataset({"train": Split({"x": Field(np.zeros((3, 2)))})}, "toy")["trian"]


class Died(BaseException):
    """Stands for a kill: nothing more is written."""


def die():
    raise Died


def ask_for_the_end():
    os.kill(os.getpid(), signal.SIGTERM)


def break_off(folder, monkeypatch, step, action, **training):
    """Train up to a step, at which something happens that ends it."""
    calls = {"n": 0}
    ordinary = Model.loss

    def loss(self, batch, loss, noise):
        if torch.is_grad_enabled():
            calls["n"] += 1
            if calls["n"] == step:
                action()
        return ordinary(self, batch, loss, noise)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "loss", loss)
        with pytest.raises((SystemExit, Died)) as stopped:
            toy.train(folder, **training)
    assert action is die or stopped.value.code == REQUEUE


@pytest.mark.parametrize("step", [1, 51, 52, 53, 104, 416, 417])
def test_a_signal_around_the_end_of_an_epoch_or_stage_loses_and_repeats_no_step(clean, tmp_path, monkeypatch, step):
    break_off(tmp_path, monkeypatch, step, ask_for_the_end)
    trained = toy.train(tmp_path)
    assert trained.resumes == 1
    assert toy.digest(trained) == clean[0]


class Observing:
    """Builds models of a kind and keeps them."""

    def __init__(self, kind=toy.Observed):
        self.kind, self.models = kind, []

    def __call__(self, *arguments):
        self.models.append(self.kind(*arguments))
        return self.models[-1]

    @property
    def begun(self):
        """What all of them were asked to begin: losses of stages, numbers of epochs."""
        return [call[0] if len(call) == 1 else call[0].name for model in self.models for call in model.calls]


def fitted(name, **changes):
    """A stage without steps."""
    return Phase(name, toy.stage(epochs=0, validation=None, **changes), Loss(name="neg_cmi"))


def mixed_plan():
    """Stages with and without steps: 3 epochs of 52 steps, then 2 of 21."""
    warm = toy.stage(epochs=2, batch_size=50, schedule={"name": "warmup", "steps": 30}, snapshots=(1,))
    last = Phase("last", warm, Loss(name="neg_ctc"))
    return [fitted("located"), toy.everything(), fitted("again", split="held_out"), last]


BEGUN = ["neg_cmi", "neg_ctc", 0, 1, 2, "neg_cmi", "neg_ctc", 0, 1]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    kind = Observing()
    trained = toy.train(tmp_path_factory.mktemp("mixed"), plan=mixed_plan(), kind=kind)
    return toy.digest(trained), trained, kind


def test_each_stage_and_epoch_is_begun_once_and_in_order(mixed):
    _, trained, kind = mixed
    assert kind.begun == BEGUN
    assert trained.weights["everything/begun"].tolist() == [[2, 3]] * 3
    assert trained.weights["last/begun"].tolist() == [[4, 5]] * 3
    assert [row["stage"] for row in trained.history] == ["everything"] * 3 + ["last"] * 2


def test_a_stage_begins_with_its_loss_its_points_and_noise_of_its_own_without_gradients(mixed):
    begun = [call for call in mixed[2].models[0].calls if len(call) > 1]
    for phase, (loss, split, noise, gradients) in zip(mixed_plan(), begun, strict=True):
        assert loss == phase.loss
        assert len(split) == {"train": 1030, "held_out": 500}[phase.stage.split]
        assert not gradients
        assert len(noise) == 3
    starts = [generator.initial_seed() for _, _, noise, _ in begun for generator in noise]
    assert len(set(starts)) == 12  # for each stage and seed another


@pytest.mark.parametrize("step", [1, 53, 110, 156, 157, 190])
def test_a_signal_in_a_plan_with_everything_leaves_it_bit_identical(mixed, tmp_path, monkeypatch, step):
    kind = Observing()
    break_off(tmp_path, monkeypatch, step, ask_for_the_end, plan=mixed_plan(), kind=kind)
    trained = toy.train(tmp_path, plan=mixed_plan(), kind=kind)
    assert trained.resumes == 1
    assert toy.digest(trained) == mixed[0]
    assert kind.begun == BEGUN  # by both together, so nothing was begun again


@pytest.mark.parametrize(("step", "resumes"), [(30, 0), (53, 1), (130, 1), (160, 1), (190, 1)])
def test_a_kill_in_a_plan_with_everything_leaves_it_bit_identical(mixed, tmp_path, monkeypatch, step, resumes):
    kind = Observing()
    break_off(tmp_path, monkeypatch, step, die, plan=mixed_plan(), kind=kind, epochs=1)
    trained = toy.train(tmp_path, plan=mixed_plan(), kind=kind)
    assert trained.resumes == resumes
    assert toy.digest(trained) == mixed[0]


def test_a_signal_while_a_model_fits_itself_is_not_forgotten(mixed, tmp_path, monkeypatch):
    located = toy.located
    with monkeypatch.context() as patch:
        patch.setattr(toy, "located", lambda split, noise: ask_for_the_end() or located(split, noise))
        with pytest.raises(SystemExit):
            toy.train(tmp_path, plan=mixed_plan(), kind=toy.Observed)
    trained = toy.train(tmp_path, plan=mixed_plan(), kind=toy.Observed)
    assert trained.resumes == 1
    assert toy.digest(trained) == mixed[0]


def test_what_a_model_fitted_to_itself_is_kept_and_trained_on(mixed):
    weights = mixed[1].weights
    assert weights["located/centre"].any()
    assert torch.equal(weights["everything/centre"], weights["located/centre"])
    assert not torch.equal(weights["again/centre"], weights["located/centre"])
    assert torch.equal(weights["again/networks.0.weights.0"], weights["everything/networks.0.weights.0"])


def test_a_model_without_parameters_is_fitted_in_one_step(tmp_path):
    trained = toy.train(tmp_path, plan=[fitted("one"), fitted("two")], kind=toy.Centres)
    assert set(trained.weights) == {"one/centre", "two/centre"}
    assert (trained.history, trained.resumes) == ([], 0)
    assert not (tmp_path / "checkpoint").exists()
    dataset = product_mixture.load(tmp_path, toy.DATA, (0, 1, 2))
    means = np.stack([dataset["train"]["x"].of_seed(s).mean(0) for s in range(3)])
    for centre in trained.weights.values():
        np.testing.assert_allclose(centre, means, atol=0.5)
    alone = toy.train(tmp_path, plan=[fitted("one")], kind=toy.Centres, seeds=(1,))
    torch.testing.assert_close(alone.weights["one/centre"][0], trained.weights["one/centre"][1])
    assert not torch.equal(trained.weights["one/centre"], trained.weights["two/centre"])


def test_snapshots_are_the_weights_of_shorter_trainings(tmp_path):
    whole = toy.train(tmp_path, plan=[toy.everything(snapshots=(1, 2, 3))]).weights
    assert {key.partition("/")[0] for key in whole} == {f"everything{end}" for end in ("@1", "@2", "@3", "")}
    for epochs in (1, 2, 3):
        short = toy.train(tmp_path, plan=[toy.everything(epochs=epochs, snapshots=())]).weights
        assert {key.partition("/")[0] for key in short} == {"everything"}
        for key, value in short.items():
            assert torch.equal(whole[key.replace("everything", f"everything@{epochs}")], value)
    assert not torch.equal(whole["everything@1/networks.0.weights.0"], whole["everything@2/networks.0.weights.0"])


def test_snapshots_survive_a_signal_and_are_not_taken_again(mixed, tmp_path, monkeypatch):
    break_off(tmp_path, monkeypatch, 120, ask_for_the_end, plan=mixed_plan(), kind=toy.Observed)
    held = Checkpointer(tmp_path / "checkpoint", "toy").load().tensors
    weights = mixed[1].weights
    kept = {key.removeprefix("finished/") for key in held if key.startswith("finished/")}
    assert {key.partition("/")[0] for key in kept} == {"located", "everything@1", "everything@2"}
    assert all(torch.equal(held[f"finished/{key}"], weights[key]) for key in kept)


def test_a_run_gives_its_model_as_it_was_at_a_snapshot(mixed, tmp_path):
    stages = {phase.name: phase.stage for phase in mixed_plan()}
    named = {"data": {"name": "product_mixture"}, "model": {"name": "inclass", "components": 2, "hidden": (8, 8)}}
    place = {"paper": "toy", "experiment": "toy", "name": "toy", "budget": "full", "dataset": "toy"}
    run = Run(**place, **named, measure={"name": "toy"}, stages=stages, seeds=3)
    weights = {key: value for key, value in mixed[1].weights.items() if not key.endswith(("/begun", "/centre"))}
    trained = TrainedRun(run, product_mixture.load(tmp_path, toy.DATA, (0, 1, 2)), weights)
    for given in ("everything@1", "last@1", "everything", None):
        state = trained.model(given).state_dict()
        assert all(torch.equal(value, weights[f"{given or 'last'}/{key}"]) for key, value in state.items())


def plain(folder, phase, seed, factor):
    """Train one seed by torch's own tools, with the learning rate times a factor at each step."""
    dataset, stage = product_mixture.load(folder, toy.DATA, (seed,)), phase.stage
    x = torch.from_numpy(dataset["train"]["x"].of_seed(0))
    model = Model(Config(components=2, hidden=(8, 8)), dataset.shapes, generators((seed,), "init"))
    optimizer = torch.optim.Adam(model.parameters(), stage.learning_rate, weight_decay=stage.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for epoch in range(stage.epochs):
        (shuffle,) = generators((seed,), "shuffle", phase.name, epoch)
        for rows in torch.randperm(len(x), generator=shuffle).split(stage.batch_size):
            optimizer.zero_grad()
            model.loss({"x": x[rows][None]}, phase.loss, []).sum().backward()
            torch.nn.utils.clip_grad_value_(model.parameters(), stage.clip_value)
            torch.nn.utils.clip_grad_norm_(model.parameters(), stage.clip_norm)
            optimizer.step()
            scheduler.step()
    return model


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ({"name": "step", "every": 1, "factor": 0.3}, lambda step: 0.3 ** (step // 52)),
        ({"name": "warmup", "steps": 100}, lambda step: min((step + 1) / 100, 1)),
        ({"name": "noam", "steps": 70}, lambda step: min((step + 1) / 70, ((step + 1) / 70) ** -0.5)),
    ],
)
def test_a_training_equals_that_of_each_seed_by_torchs_own_tools(tmp_path, schedule, factor):
    phase = toy.everything(schedule=schedule, precision="float32", snapshots=(), weight_decay=0.01)
    trained = toy.train(tmp_path, plan=[phase])
    for seed in range(3):
        for key, value in plain(tmp_path, phase, seed, factor).state_dict().items():
            if key.startswith("networks"):
                mine = trained.weights[f"everything/{key}"].chunk(3)[seed]
                torch.testing.assert_close(mine, value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (None, [0.01] * 4),
        ({"name": "step", "every": 2, "factor": 0.1}, [0.01, 0.01, 0.001, 0.001]),
        ({"name": "warmup", "steps": 22}, [0.005, 0.01, 0.01, 0.01]),
        ({"name": "noam", "steps": 11, "floor": 0.006}, [0.01, 0.01 * 0.5**0.5, 0.006, 0.006]),
    ],
)
def test_the_history_has_the_rate_of_each_epochs_last_step(tmp_path, schedule, rates):
    settings = toy.stage(epochs=4, batch_size=100, learning_rate=0.01, schedule=schedule)  # 11 steps an epoch
    trained = toy.train(tmp_path, plan=[Phase("first", settings, Loss(name="neg_ctc"))])
    assert [row["learning_rate"] for row in trained.history] == pytest.approx(rates)


@pytest.mark.parametrize("name", ["neg_ctc", "moving_estimate"])
def test_coarser_products_change_losses_little_and_keep_everything_else_in_float32(tmp_path, monkeypatch, name):
    found = {}
    for precision in ("float32", "bfloat16"):
        settings = toy.stage(epochs=3, precision=precision, loss={"name": name})
        found[precision] = toy.train(tmp_path, plan=[Phase("first", settings, Loss(name=name))])
    keys = [key for key in found["float32"].history[0] if key.startswith(("loss", "held_out"))]
    exact, coarse = ([[row[key] for key in keys] for row in found[p].history] for p in ("float32", "bfloat16"))
    assert exact != coarse
    np.testing.assert_allclose(coarse, exact, atol=2e-3)
    assert {value.dtype for value in found["bfloat16"].weights.values()} == {torch.float32}
    plan = [Phase("first", settings, Loss(name=name))]
    break_off(tmp_path, monkeypatch, 60, ask_for_the_end, plan=plan)
    held = Checkpointer(tmp_path / "checkpoint", "toy").load().tensors
    assert {value.dtype for key, value in held.items() if key.startswith(("model/", "optimizer/"))} == {torch.float32}
