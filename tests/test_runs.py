"""Run directories: settings, the table, the TensorBoard curves."""

import json
import re
import resource
import subprocess
from importlib import metadata

import pytest
import run_files

from jaxsnn import experiment


def row(epoch):
    return {
        "epoch": epoch,
        "train_loss": 0.1 / (epoch + 1),
        "train_acc": 0.5,
        "test_loss": 0.2,
        "test_acc": 0.25 * epoch,
        "gradient_norm": 0.3,
        "skipped": 0,
        "train_images_per_s": 1e5,
        "test_images_per_s": 2e5,
        "lr": 0.1,
    }


def test_settings_are_kept(tmp_path):
    experiment._folder.create(tmp_path / "a" / "b", run_files.config(model="fb"))
    assert experiment.read_config(tmp_path / "a" / "b") == run_files.config(model="fb")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, .* choose another --out-dir"):
        experiment._folder.create(tmp_path, run_files.config())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(FileExistsError, match="is a file"):
        experiment._folder.create(tmp_path / "notes.txt", run_files.config())
    experiment._folder.create(tmp_path / "run", run_files.config())
    with pytest.raises(FileExistsError, match=r"--resume .* or choose another --out-dir"):
        experiment._folder.create(tmp_path / "run", run_files.config())


def test_what_a_run_killed_at_once_has_left_is_no_obstacle(tmp_path):
    (tmp_path / ".config.json.abc123").write_text('{"sett')
    with experiment.lock(tmp_path):
        experiment._folder.create(tmp_path, run_files.config())
    assert experiment.read_config(tmp_path) == run_files.config()


def test_a_run_belongs_to_one_process(tmp_path):
    taken = pytest.raises(ValueError, match="another process is training in")
    with experiment.lock(tmp_path), taken, experiment.lock(tmp_path):
        pass
    with experiment.lock(tmp_path):
        pass


def signed(config):
    return json.dumps(experiment._folder.signed(config))


@pytest.mark.parametrize("name", run_files.SETTINGS)
def test_settings_of_another_making(tmp_path, name):
    for value in ("zz", -1, [1]):
        (tmp_path / "config.json").write_text(signed(run_files.config(**{name: value})))
        with pytest.raises(ValueError, match=f"config.json is damaged: {name} must be"):
            experiment.read_config(tmp_path)


@pytest.mark.parametrize("name", run_files.SETTINGS)
def test_a_run_from_before_there_was_a_setting_has_its_default(tmp_path, name):
    config = run_files.config()
    del config["settings"][name]
    (tmp_path / "config.json").write_text(signed(config))
    default = getattr(experiment.Config, name)
    assert experiment.read_config(tmp_path)["settings"] == run_files.SETTINGS | {name: default}


def test_unknown_or_missing_parts(tmp_path):
    (tmp_path / "config.json").write_text(signed(run_files.config(depth=3)))
    with pytest.raises(ValueError, match=r"another version: it has settings \['depth'"):
        experiment.read_config(tmp_path)
    for part in ("data", "sessions"):
        config = run_files.config()
        del config[part]
        (tmp_path / "config.json").write_text(signed(config))
        with pytest.raises(ValueError, match="data or sessions are missing"):
            experiment.read_config(tmp_path)


def test_settings_are_checked_in_python_too():
    for make, problem in (
        (lambda: experiment.Config(model="cnn"), "model must be one of plain, ss, fb, got 'cnn'"),
        (lambda: experiment.Config(lr=float("nan")), "lr must be finite"),
        (lambda: experiment.Runtime(save_every=-1), "save_every must be finite, at least 0"),
        (lambda: experiment.Runtime(devices="some"), "devices must be an integer or all"),
    ):
        with pytest.raises(ValueError, match=problem):
            make()


def test_edited_settings(tmp_path):
    experiment._folder.create(tmp_path, run_files.config(lr=0.1))
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.2'))
    with pytest.raises(ValueError, match=r"or was changed by hand .* start a new one"):
        experiment.read_config(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 3}', "\x00", "[" * 10**5])
def test_damaged_settings(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        experiment.read_config(tmp_path)


def test_missing_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the directory of a run"):
        experiment.read_config(tmp_path)


def test_each_epoch_is_there_once(tmp_path):
    """A run that was cut off after epoch 2 goes on from the checkpoint of epoch 1."""
    log = experiment.Log(tmp_path, [])
    for last in range(3):
        log.write([row(epoch) for epoch in range(last + 1)])
    log.close()
    log = experiment.Log(tmp_path, [row(0), row(1)])
    assert [r["epoch"] for r in run_files.table(tmp_path)] == [0, 1]
    for last in range(2, 4):
        log.write([row(epoch) for epoch in range(last + 1)])
    log.close()
    assert run_files.table(tmp_path) == [row(epoch) for epoch in range(4)]
    assert run_files.curves(tmp_path) == {
        name: [(epoch, pytest.approx(row(epoch)[name])) for epoch in range(4)]
        for name in row(0)
        if name != "epoch"
    }


def test_figures_that_only_some_rows_have(tmp_path):
    """As after resuming a run that was started by an older version."""
    more = {"val_loss": 0.5, "val_acc": 0.25, "firing_rates": {"fc.1": 0.125, "fc.3": 0.75}}
    with experiment.Log(tmp_path, [row(0), row(1) | more]):
        pass
    header, first, second = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header.endswith(",lr,val_loss,val_acc,firing_rate/fc.1,firing_rate/fc.3")
    assert first.endswith(",0.1,,,,")
    assert second.endswith(",0.1,0.5,0.25,0.125,0.75")
    curves = run_files.curves(tmp_path)
    assert curves["firing_rate/fc.3"] == [(1, 0.75)]
    assert len(curves["lr"]) == 2


def test_the_best_epoch():
    """By validation where there is one; of equal ones the earliest."""
    tested = [{"test_acc": accuracy} for accuracy in (0.5, 0.7, 0.7, 0.6)]
    assert experiment.best_row(tested) == 1
    validated = [
        old | {"val_acc": accuracy}
        for old, accuracy in zip(tested, (0.1, 0.2, 0.3, 0.3), strict=True)
    ]
    assert experiment.best_row(validated) == 2
    assert experiment.best_row(validated[:1]) == 0
    # 8600 of 10,000 in float32, by two roundings.
    assert experiment.best_row([{"test_acc": 0.85999995}, {"test_acc": 0.86000001}]) == 0
    assert experiment.best_row([{"test_acc": 0.8599}, {"test_acc": 0.86}]) == 1


def a_run(folder):
    """All that train.py leaves in a folder, and what kills leave."""
    experiment._folder.create(folder, run_files.config())
    with experiment.Log(folder, [row(0)]), experiment.lock(folder):
        pass
    for name in ("12/params", "removed", "3.orbax-checkpoint-tmp"):
        (folder / "checkpoints" / name).mkdir(parents=True)
    (folder / ".metrics.csv.abc").write_text("")
    return folder


def test_a_run_can_be_cleared(tmp_path):
    folder = a_run(tmp_path / "run")
    experiment._folder.refuse_occupied(folder, overwrite=True)
    experiment._folder.clear(folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    experiment._folder.create(folder, run_files.config(model="fb"))


@pytest.mark.parametrize(
    "name", ["notes.txt", "metrics.csv.bak", "checkpoints/notes", "checkpoints/link", "events.txt"]
)
def test_what_is_not_of_a_run_is_not_cleared(tmp_path, name):
    folder = a_run(tmp_path / "run")
    if name.endswith("link"):
        (folder / name).symlink_to(tmp_path)
    else:
        (folder / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for remove in (
        experiment._folder.clear,
        lambda path: experiment._folder.refuse_occupied(path, overwrite=True),
    ):
        with pytest.raises(FileExistsError, match=f"holds {name}, which is not of a run"):
            remove(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_may_not_be_a_run_is_not_cleared(tmp_path):
    folder = a_run(tmp_path / "run")
    (folder / "config.json").write_text('{"name": "another program"}')
    with pytest.raises(ValueError, match=r"--overwrite removes sound runs only: .*yourself"):
        experiment._folder.clear(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileExistsError, match="which is not of a run"):
        experiment._folder.clear(folder)
    assert (folder / "metrics.csv").exists()


def test_version_and_commit(tmp_path):
    """Of the package's own checkout alone, not of one that it is installed inside of."""

    def git(*command):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path, *who, *command], check=True, capture_output=True)

    package = tmp_path / "jaxsnn"
    inside = tmp_path / "lib" / "jaxsnn"
    for folder in (package, inside):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text("1")
    version = metadata.version("jaxsnn-nnx")
    assert experiment._provenance.source(package) == {"version": version}
    git("init")
    assert experiment._provenance.source(package) == {"version": version}
    git("add", ".")
    git("commit", "-m", "a")
    found = experiment._provenance.source(package)
    assert re.fullmatch("[0-9a-f]{40}", found["commit"])
    assert found["clean"]
    (tmp_path / "notes.txt").write_text("not of git")
    assert experiment._provenance.source(package) == found
    (package / "a.py").write_text("2")
    assert experiment._provenance.source(package) == found | {"clean": False}
    assert experiment._provenance.source(inside) == {"version": version}


def test_version_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert experiment._provenance.source() == {"version": metadata.version("jaxsnn-nnx")}


def test_a_folder_is_no_bucket(tmp_path, monkeypatch):
    """A relative path that begins as an address in a cloud does is a folder all the same."""
    monkeypatch.chdir(tmp_path)
    for name in ("gs:", "s3:x", "[a]*"):
        (tmp_path / name / "run").mkdir(parents=True)
        with experiment.Log(f"{name}/run", [row(0)]):
            pass
        assert len(list((tmp_path / name / "run").iterdir())) == 2
        assert run_files.curves(tmp_path / name / "run")["test_acc"] == [(0, 0.0)]


def test_tensorboard_reads_the_curves(tmp_path):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with experiment.Log(tmp_path, [row(0), row(1)]):
        pass
    events = tensorboard.EventAccumulator(str(tmp_path)).Reload()
    for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(epoch, pytest.approx(row(epoch)[name])) for epoch in range(2)]


def test_a_full_disk_is_named_and_the_log_closes(tmp_path, monkeypatch):
    """Without a thread or a hook at exit, which would print tracebacks of their own."""
    with experiment.Log(tmp_path, [row(0)]) as log:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        events = next(tmp_path.glob("events*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (events.stat().st_size, limit[1]))
        try:
            with pytest.raises(OSError, match="File too large") as error:
                log.write([row(0), row(1)])
            log.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert error.value.filename == str(events)
    assert run_files.table(tmp_path) == [row(0)]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    experiment.write_text(path, signed(run_files.config()))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiment._folder.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        experiment.write_text(path, "half")
    assert experiment.read_config(tmp_path) == run_files.config()
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
