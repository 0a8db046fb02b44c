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
from neumix.data.dataset import Dataset, Field, Split
from neumix.models.inclass import Loss, Model
from neumix.training import REQUEUE, NonFiniteLossError, Phase


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
    context.set_forkserver_preload(["training_toy"])
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


@pytest.mark.parametrize("step", [1, 51, 52, 53, 104, 416, 417])
def test_a_signal_around_the_end_of_an_epoch_or_stage_loses_and_repeats_no_step(clean, tmp_path, monkeypatch, step):
    calls = {"n": 0}
    ordinary = Model.loss

    def signalled(self, batch, loss, noise):
        if torch.is_grad_enabled():
            calls["n"] += 1
            if calls["n"] == step:
                os.kill(os.getpid(), signal.SIGTERM)
        return ordinary(self, batch, loss, noise)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "loss", signalled)
        with pytest.raises(SystemExit) as stopped:
            toy.train(tmp_path)
    assert stopped.value.code == REQUEUE
    trained = toy.train(tmp_path)
    assert trained.resumes == 1
    assert toy.digest(trained) == clean[0]
