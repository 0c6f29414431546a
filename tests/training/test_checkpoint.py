"""Checkpoints: whole or absent, verified when read, and none lost to a full disk."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal

import numpy as np
import pytest
import torch
from torch import nn

from elboroom import runs
from elboroom.config import load_run, to_yaml
from elboroom.config.files import merged, run_from, to_dict
from elboroom.errors import InputError, Stopped
from elboroom.studies.execute import check_resumable, execute
from elboroom.training import checkpoint
from elboroom.training.checkpoint import Checkpoint, Store, optimizer_tensors, pack, restore_optimizer, unpack


def saved(folder, *steps):
    store = Store(folder / "checkpoints")
    for step in steps:
        store.save(Checkpoint(step, {"model": {"w": torch.full((3,), float(step))}}, {"note": [1, None, 2.5]}))
    store.point("last", steps[-1])
    return store


def content(folder):
    """Names and bytes of all files in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# bytes


def test_pack_keeps_values_and_writes_shared_tensors_once():
    shared = torch.randn(50, 4)
    tensors = {"a": shared, "b": shared, "t": shared.T, "empty": torch.zeros(0), "scalar": torch.tensor(3)}
    packed = pack(tensors)
    found = unpack(packed)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    assert len(packed) < 2.5 * shared.numel() * 4


def test_pack_gives_the_same_bytes_each_time():
    tensors = {"a": torch.randn(3), "b": torch.randn(2, 2)}
    assert len({pack(tensors) for _ in range(20)}) == 1
    length = int.from_bytes(pack(tensors)[:8], "little")
    assert length % 8 == 0


@pytest.mark.parametrize("fused", [True, False])
def test_optimizer_goes_on_as_if_never_stopped(fused):
    def made():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).to(
            memory_format=torch.channels_last
        )
        return model, torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)).square().sum().backward()
        optimizer.step()

    (alone, first), (resumed, second) = made(), made()
    step(alone, first)
    resumed.load_state_dict(unpack(pack(alone.state_dict())))
    tensors, groups = optimizer_tensors(first)
    restore_optimizer(second, unpack(pack(tensors)), json.loads(json.dumps(groups)))
    for _ in range(3):
        step(alone, first)
        step(resumed, second)
    for mine, theirs in zip(alone.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert second.state[theirs]["exp_avg"].stride() == theirs.stride()


def test_processes_that_write_one_file_leave_it_whole(tmp_path):
    path, size = tmp_path / "shared", 1 << 16

    def write(letter):
        for _ in range(40):
            checkpoint.replace_bytes(path, letter * size)

    checkpoint.replace_bytes(path, b"a" * size)
    writers = [multiprocessing.get_context("fork").Process(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in (b"a" * size, b"b" * size)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["shared"]


# the store


def test_store_saves_loads_points_and_prunes(tmp_path):
    store = saved(tmp_path, 1, 2, 3, 4)
    store.point("best", 2)
    (store.folder / ".step-9.tmp").mkdir()
    (store.folder / ".last.7.tmp").write_text("step-")
    store.prune({1})
    assert store.steps() == [1, 2, 4]
    assert sorted(p.name for p in store.folder.iterdir()) == ["best", "last", "step-1", "step-2", "step-4"]
    found = store.load(4)
    assert found.groups["model"]["w"].tolist() == [4, 4, 4]
    assert (found.step, found.values) == (4, {"note": [1, None, 2.5]})
    assert store.load(4, only=()).groups == {}


@pytest.mark.parametrize(
    "text", ["", "4", "step-", "step-x", "step-²", "../step-4", "step-4\nstep-1", b"\xff\xfe", None]
)
def test_unreadable_pointer_is_told_with_the_names_it_could_have(tmp_path, text):
    store = saved(tmp_path, 4)
    (store.folder / "last").unlink()
    if text is None:
        (store.folder / "last").mkdir()
    else:
        (store.folder / "last").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"last: it should name a checkpoint .* Write one of: step-4"):
        store.pointer("last")


def test_every_flipped_byte_is_noticed(tmp_path):
    store = saved(tmp_path, 1, 2)
    for path in store.path(2).iterdir():
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                found = store.load(2)
            except InputError as error:
                assert path.name in str(error) or "format" in str(error), error
                assert "step-1" in str(error) or "Update" in str(error)
            else:  # a byte whose change means nothing: white space, or the name of the seal itself
                assert path.name == "state.json"
                assert (found.step, found.values) == (2, {"note": [1, None, 2.5]})
        path.write_bytes(whole)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_torn_files_are_noticed(tmp_path, share):
    store = saved(tmp_path, 1, 2)
    for path in store.path(2).iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=f"{path.name}: .*step-1"):
            store.load(2)
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_missing_files_are_noticed(tmp_path, name):
    store = saved(tmp_path, 2)
    (store.path(2) / name).unlink()
    with pytest.raises(InputError, match=r"(missing|no whole checkpoint).* train anew"):
        store.load(2)


# the disk is full


def fail_at(monkeypatch, number, which="fsync"):
    """The n-th call fails as it does on a full disk."""
    calls, real = [0], getattr(os, which)

    def full(*args, **options):
        calls[0] += 1
        if calls[0] == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(os, which, full)


@pytest.mark.parametrize("which", ["fsync", "replace", "rename", "mkdir"])
def test_full_disk_leaves_the_previous_checkpoint_and_goes_on(tmp_path, tiny, monkeypatch, which):
    """Whatever call fails, at whatever time: a message, no leftovers, and the run can be resumed."""
    folder, config = tmp_path / "run", tiny(checkpoint_every=1)
    hits = 0
    for number in (5, 9, 14) if which == "fsync" else (3,):
        shutil.rmtree(folder, ignore_errors=True)
        with monkeypatch.context() as patched:
            fail_at(patched, number, which)
            try:
                execute(config, folder)
                continue
            except InputError as error:
                hits += 1
                assert "no room on the disk" in str(error)
                assert f"elboroom resume {folder}" in str(error)
        assert not list(folder.rglob("*.tmp"))
        execute(config, folder, resume=True)
        assert runs.read_state(folder)["status"] == "done"
        assert runs.load(folder).encode(torch.zeros(1, 8, 8).numpy()).shape == (1, 2)
    assert hits


def test_real_limit_on_file_size(tmp_path, tiny):
    """The kernel itself refuses (EFBIG); the previous checkpoint is whole."""
    folder, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    reached = [0]

    def limit(line):
        reached[0] += 1
        if reached[0] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, before[1]))

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(InputError, match=r"no room on the disk .*resume"):
            execute(tiny(), folder, report=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(folder.rglob("*.tmp"))
    assert Store(folder / "checkpoints").steps() == [2]
    assert runs.load(folder).step == 2
    execute(tiny(), folder, resume=True)
    assert Store(folder / "checkpoints").steps() == [4]


def test_another_error_of_the_system_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(PermissionError), checkpoint.room(tmp_path, "try again"):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_out_of_reach_is_told_with_a_cure_where_it_lies_in_the_folder(tmp_path, code):
    told, run = r"run/last: no access .* choose another folder", tmp_path / "run"
    with pytest.raises(InputError, match=told), checkpoint.room(run, "try again"):
        raise OSError(code, "no", str(tmp_path / "run/last"))
    with pytest.raises(OSError, match="mnist"), checkpoint.room(run, "try again"):
        raise OSError(code, "no", str(tmp_path / "mnist/images.gz"))


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(tmp_path, trained, tiny, monkeypatch):
    """os.access is asked: permissions bind no administrator, who may run these tests."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not mode & os.W_OK)
    for config, folder, resume in (
        (tiny(), tmp_path / "a/b", False),
        (tiny(), trained, True),
        (tiny(epochs=9), trained, True),
    ):
        with pytest.raises(InputError, match=r"no access .it cannot be written to.\. Get the right"):
            execute(config, folder, resume=resume, say=pytest.fail, report=pytest.fail)


# a checkpoint from elsewhere


@pytest.mark.parametrize("change", [{"seed": 1}, {"objective": {"beta": 2.0}}, {"model": {"posterior": {"latent": 3}}}])
def test_checkpoint_of_another_configuration_is_refused(tmp_path, trained, change):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    config = load_run(trained / "config.yaml")
    (other / "config.yaml").write_text(to_yaml(run_from(merged(to_dict(config), change))))
    state = json.loads((other / "state.json").read_text())
    (other / "state.json").write_text(json.dumps({**state, "status": "stopped"}))
    before = content(other)
    with pytest.raises(InputError, match=r"another configuration .*Undo the edit"):
        _ = runs.load(other).model
    with pytest.raises(InputError, match=r"another configuration .*Undo the edit"):
        execute(load_run(other / "config.yaml"), other, resume=True)
    assert content(other) == before


def test_training_does_not_go_on_with_other_data(tmp_path, tiny):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.random((40, 4)).round())
    own = run_from({**to_dict(tiny()), "data": {"path": str(tmp_path / "x.npy"), "binarize": "none"}})
    with pytest.raises(Stopped):
        execute(own, tmp_path / "run", stop=lambda: "now")
    np.save(tmp_path / "x.npy", rng.random((30, 4)).round())
    before = content(tmp_path / "run")
    with pytest.raises(InputError, match=r"trained on other examples than 'x.npy' holds now.*Put the data back"):
        execute(own, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == before


def test_training_goes_on_with_the_same_examples_in_another_file(tmp_path, tiny):
    x = np.random.default_rng(0).random((40, 4)).round()
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    own = run_from({**to_dict(tiny()), "data": {"path": str(tmp_path / "x.npy"), "binarize": "none"}})
    with pytest.raises(Stopped):
        execute(own, tmp_path / "run", stop=lambda: "now")
    np.save(tmp_path / "x.npy", x.astype(np.float64))
    execute(own, tmp_path / "run", resume=True)
    assert runs.read_state(tmp_path / "run")["status"] == "done"


def test_going_on_from_an_older_checkpoint_as_the_cure_says(tmp_path, tiny):
    """The last is torn, its `last` is pointed at another one that is kept; the best is one that is gone."""
    execute(tiny(epochs=4, keep_epochs=[2]), tmp_path / "run")
    store, whole = checkpoint.Store(tmp_path / "run" / "checkpoints"), content(tmp_path / "run")
    older = store.steps()[0]
    torn = store.path(store.latest()) / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"write its name into {store.folder / 'last'} to go on"):
        runs.load(tmp_path / "run", checkpoint="last").model  # noqa: B018
    store.point("last", older)
    for step in store.steps():
        if step != older:
            store.remove(step)
    check_resumable(tmp_path / "run")
    execute(load_run(tmp_path / "run" / "config.yaml"), tmp_path / "run", resume=True, stop=lambda: None)
    assert runs.load(tmp_path / "run").model is not None
    assert content(tmp_path / "run").keys() == whole.keys()


def test_identity_of_a_folder_is_the_hash_of_its_configuration(trained):
    assert runs.identity(trained) == load_run(trained / "config.yaml").identity


def test_equal_runs_have_equal_hashes_of_their_weights(tmp_path, tiny):
    hashes = set()
    for name in "ab":
        execute(tiny(), tmp_path / name)
        hashes.add(runs.load(tmp_path / name).checkpoint_hash)
    assert len(hashes) == 1
