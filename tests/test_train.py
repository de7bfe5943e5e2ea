"""train.py: learning, files, resuming after kills, and what it says to bad input."""

import ast
import contextlib
import gzip
import hashlib
import importlib.util
import io
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import termios
import time
import types
import zipfile

import jax
import numpy as np
import optax
import options_table
import orbax.checkpoint as ocp
import pytest
import run_files

from jaxsnn import data, experiment, losses, models, nn, training

REPOSITORY = pathlib.Path(__file__).parent.parent
TRAIN = REPOSITORY / "train.py"
GOLDEN = REPOSITORY / "tests" / "golden"
MINI = ["--dataset", "fashion_mnist_mini", "-b", "64"]
SCALARS = ("train_loss", "train_acc", "test_loss", "test_acc")


# For a process that is not to use what another has compiled, see `compiled_once`.
COMPILE_ANEW = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Most processes here run a program that another has run: they share what XLA makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


def command(*args):
    return [sys.executable, str(TRAIN), *map(str, args)]


def run(*args, env=None, **kwargs):
    """Runs train.py in a process of its own, on the CPU, so that results repeat."""
    return subprocess.run(
        command(*args),
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (env or {}),
        **kwargs,
    )


def load_train():
    """train.py as a module, to try what it refuses without starting a process each time."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = load_train()


def main(argv):
    experiment.main(train.train, train.LOSS, argv)


def refused(*args):
    """Runs the command line, which must end with one line on stderr and status 2; returns it."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit) as end,
    ):
        main([str(arg) for arg in args])
    assert end.value.code == 2
    return the_error(errors.getvalue())


def the_error(errors):
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("train.py: error: ")
    return lines[0]


@pytest.fixture(autouse=True)
def restore_config():
    """What train.py sets for its process must not last in this one."""
    names = ("jax_default_device", "jax_default_matmul_precision", "jax_platforms")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def only_run(out_dir):
    (folder,) = out_dir.iterdir()
    return folder


def final_state(folder, opt="sgd"):
    """The latest checkpoint, as plain arrays."""
    settings = json.loads((folder / "config.json").read_text())["settings"]
    optimizer = optax.sgd(optax.constant_schedule(0.1), momentum=0.9)
    if opt == "adam":
        optimizer = optax.adam(optax.constant_schedule(0.1))
    _, like = training.create(
        experiment.build_model(experiment.Config(**settings)),
        optimizer,
        to_sequence=data.columns,
        batch_size=1,
        seed=0,
    )
    state, _ = experiment.Checkpoints(folder).restore(like)
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def assert_same_runs(actual, expected, opt="sgd"):
    """Parameters, optimiser state, key and metrics are equal to the last bit."""
    jax.tree.map(
        np.testing.assert_array_equal, final_state(actual, opt), final_state(expected, opt)
    )
    for a, b in zip(run_files.table(actual), run_files.table(expected), strict=True):
        assert {k: a[k] for k in ("epoch", "lr", *SCALARS)} == {
            k: b[k] for k in ("epoch", "lr", *SCALARS)
        }
    curves, others = run_files.curves(actual), run_files.curves(expected)
    assert curves.keys() == others.keys()
    for name in curves:
        if not name.endswith("_per_s"):
            assert curves[name] == others[name]


def signalled(number, epoch, *args):
    """Starts train.py, sends it a signal as soon as it has printed that epoch, and waits.

    Returns its status and what stands on stderr.
    """
    with subprocess.Popen(
        command(*args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    ) as process:
        for line in process.stdout:
            if line.startswith(f"epoch = {epoch},"):
                process.send_signal(number)
                break
        process.stdout.read()
        errors = process.stderr.read()
    return process.returncode, errors


def kill_after(epoch, *args):
    """Starts train.py and kills it as soon as it has printed that epoch; those before are saved."""
    status, errors = signalled(signal.SIGKILL, epoch, *args, "--save-every", 0)
    assert status == -signal.SIGKILL, errors


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A finished run of four epochs, not to be changed."""
    out = tmp_path_factory.mktemp("straight")
    done = run("--model", "ss", "--epochs", 4, *MINI, "--out-dir", out)
    assert done.returncode == 0, done.stderr
    return done, only_run(out)


@pytest.fixture
def finished(straight, tmp_path):
    """A copy of that run, to be damaged at will."""
    return pathlib.Path(shutil.copytree(straight[1], tmp_path / straight[1].name))


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The same run, killed before its end, not to be changed."""
    out = tmp_path_factory.mktemp("killed")
    kill_after(1, "--model", "ss", "--epochs", 4, *MINI, "--out-dir", out)
    return only_run(out)


# ------------------------------------------------------------------ the script and its options


def test_the_script_can_be_read_in_one_sitting():
    text = TRAIN.read_text()
    assert len(text.splitlines()) <= 150
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert max(node.end_lineno - node.lineno + 1 for node in functions) <= 50


def test_the_documentation_lists_the_options():
    """`python tests/helpers/options_table.py` prints the table."""
    assert options_table.table() in (REPOSITORY / "docs" / "train.md").read_text()


def test_help_has_placement_in_a_group_of_its_own(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    first, _, placement = capsys.readouterr().out.partition("\ndevices, processes and placement")
    for option in ("--devices N|all", "--distributed", "--data-placement device|host"):
        assert f"\n  {option}" in placement
        assert f"\n  {option}" not in first.partition("\n\n")[2]
    assert "seed of parameters and order of the data (default: 0)" in first


# ------------------------------------------------------------------ a run and its files


def test_orbax_alone_reads_the_parameters(straight):
    _, run = straight
    net = experiment.load_model(run, "latest")
    step = experiment.Checkpoints(run).step()
    with ocp.StandardCheckpointer() as checkpointer:
        params = checkpointer.restore(run / "checkpoints" / str(step) / "params")
    layers = params["fc"]["layers"]
    assert set(layers) == {"0", "2", "3"}
    np.testing.assert_array_equal(layers["0"]["kernel"], net.fc[0].kernel)
    np.testing.assert_array_equal(layers["2"]["w"], net.fc[2].w)
    np.testing.assert_array_equal(layers["3"]["bias"], net.fc[3].bias)


@pytest.mark.slow
def test_learns_well_above_chance(tmp_path):
    done = run(
        *("--model", "ss", "--epochs", 5, "--opt", "adam", "--lr", 0.01),
        *("--dataset", "fashion_mnist_mini", "-b", 32, "--out-dir", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    rows = run_files.table(only_run(tmp_path))
    assert rows[-1]["test_acc"] > 0.5  # chance is 0.1
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_prints_what_the_tutorial_prints(straight):
    done, folder = straight
    assert done.stderr == ""  # no progress bar in a pipe, no warnings
    assert "device: cpu" in done.stdout
    assert "(2): SynapseFilter(tau=learnable(2.0))" in done.stdout
    assert "compiled in" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch = ")]
    rows = run_files.table(folder)
    assert len(lines) == len(rows) == 4
    for line, row in zip(lines, rows, strict=True):
        said = dict(part.split(" = ") for part in line.split(", ") if " = " in part)
        assert int(said["epoch"]) == row["epoch"]
        for name in SCALARS:
            assert float(said[name]) == pytest.approx(row[name], abs=6e-5)
        best = max(r["test_acc"] for r in rows[: row["epoch"] + 1])
        assert float(said["max_test_acc"]) == pytest.approx(best, abs=6e-5)
        assert "images/s" in line


def test_files(straight):
    _, folder = straight
    assert folder.name == "ss_b64_sgd_lr0.1_fashion_mnist_mini"
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "epoch,train_loss,train_acc,test_loss,test_acc,gradient_norm,skipped,"
        "train_images_per_s,test_images_per_s,lr,firing_rate/fc.1,firing_rate/fc.4"
    )
    rows = run_files.table(folder)
    np.testing.assert_allclose(
        [row["lr"] for row in rows], training.cosine_learning_rates(0.1, 4), rtol=1e-6
    )
    assert run_files.curves(folder) == {
        name: [(row["epoch"], pytest.approx(row[name])) for row in rows]
        for name in header.split(",")[1:]
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["seed"] == 0
    (session,) = config["sessions"]
    assert session["versions"]["jax"] == jax.__version__
    assert session["jaxsnn"] == experiment._provenance.source()
    assert "--model ss --epochs 4" in session["command"]


def test_evaluate_prints_the_best_epoch(straight):
    _, folder = straight
    best = max(run_files.table(folder), key=lambda row: row["test_acc"])
    done = run("--evaluate", folder)
    assert done.returncode == 0, done.stderr
    assert f"epoch {best['epoch']}," in done.stdout
    assert f"test_acc = {best['test_acc']:.4f} (500 images)" in done.stdout


def test_firing_rates_are_spikes_per_neuron_and_step(straight):
    _, folder = straight
    net = experiment.load_model(folder, "latest")
    xs = data.columns(data.fashion_mnist_mini().test_images[:64])
    _, _, extras = nn.unroll(net.fc, xs, record=["1", "4"])
    last = run_files.table(folder)[-1]
    for layer in ("1", "4"):
        spikes = np.asarray(extras.records[layer])
        assert set(np.unique(spikes)) == {0, 1}
        assert last[f"firing_rate/fc.{layer}"] == pytest.approx(spikes.mean(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["plain", "fb"])
def test_the_doctor_sees_a_new_network(model, tmp_path, capsys):
    """The tutorial's networks start healthy. Nothing is written."""
    main(["--model", model, "--doctor", *MINI, "--out-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "first minibatch of fashion_mnist_mini" in printed
    assert "64 examples of 28 steps" in printed
    assert printed.endswith("no warnings\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_doctor_sees_the_network_of_a_run(straight, capsys):
    _, folder = straight
    before = sorted(folder.rglob("*"))
    for option, which in (("--resume", "latest"), ("--evaluate", "max")):
        main(["--doctor", option, str(folder)])
        net = experiment.load_model(folder, which)
        images = data.fashion_mnist_mini()
        order = jax.random.permutation(jax.random.fold_in(jax.random.key(0), 0), 2000)[:64]
        rates = net(data.columns(images.train_images[np.asarray(order)]))
        labels = images.train_labels[np.asarray(order)]
        loss = float(np.mean(losses.firing_rate_mse(rates, labels)))
        assert f"loss {loss:.4g} (firing_rate_mse)" in capsys.readouterr().out
    main(["--doctor", "--model", "ss", *MINI])  # a new one
    assert capsys.readouterr().out.endswith("no warnings\n")
    assert sorted(folder.rglob("*")) == before


def test_the_tutorials_spelling(tmp_path, capsys):
    """Its command, with only the program's name (and here the data and the length) changed."""
    line = "-model fb -device cpu -b 256 -epochs 1 -opt sgd -lr 0.1 -momentum 0.9 -j 8 -amp -cupy"
    main([*line.split(), "-out-dir", str(tmp_path), "-dataset", "fashion_mnist_mini"])
    assert only_run(tmp_path).name == "fb_b256_sgd_lr0.1_amp_fashion_mnist_mini"
    printed = capsys.readouterr().out
    assert "--cupy has nothing to switch" in printed
    assert "--workers has nothing to switch" in printed


@pytest.mark.slow
def test_other_options_reach_the_run(tmp_path):
    args = ("--epochs", 1, "--dataset", "fashion_mnist_mini", "--out-dir", tmp_path)
    for more in ([], ["--clip-norm", 0.01], ["--seed", 1], ["--sequence", "rows"]):
        main([str(arg) for arg in (*args, *more)])
    names = {folder.name for folder in tmp_path.iterdir()}
    base = "plain_b256_sgd_lr0.1"
    assert names == {
        f"{base}_fashion_mnist_mini",
        f"{base}_clip0.01_fashion_mnist_mini",
        f"{base}_seed1_fashion_mnist_mini",
        f"{base}_fashion_mnist_mini_rows",
    }
    losses = {run_files.table(folder)[0]["train_loss"] for folder in tmp_path.iterdir()}
    assert len(losses) == 4


@pytest.mark.slow
def test_idx_files_in_a_folder(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    write_idx(folder)
    done = run("--data-dir", tmp_path, "-b", 64, "--epochs", 1, "--out-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2000 training and 500 test images" in done.stdout


# ------------------------------------------------------------------ resuming


def test_killed_and_resumed_equals_one_straight_run(straight, killed, tmp_path):
    folder = pathlib.Path(shutil.copytree(killed, tmp_path / "run"))
    done = run("--epochs", 4, "--resume", folder, env=COMPILE_ANEW)  # not the very same program
    assert done.returncode == 0, done.stderr
    assert_same_runs(folder, straight[1])
    sessions = json.loads((folder / "config.json").read_text())["sessions"]
    assert len(sessions) == 2
    assert sessions[1]["first_epoch"] >= 1


@pytest.mark.slow  # the test above has SGD and float32
def test_killed_and_resumed_with_other_settings(tmp_path):
    args = ["--model", "fb", "--epochs", 5, "--opt", "adam", "--lr", 0.01, "--amp", *MINI]
    assert run(*args, "--out-dir", tmp_path / "straight").returncode == 0
    kill_after(2, *args, "--out-dir", tmp_path / "killed")
    folder = only_run(tmp_path / "killed")
    done = run("--epochs", 5, "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert_same_runs(folder, only_run(tmp_path / "straight"), "adam")


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """Kills at moments spread over start, compilation, epochs and writes; then resumes."""
    args = ["--epochs", 60, *MINI, "--out-dir"]
    assert run(*args, tmp_path / "straight").returncode == 0
    out = tmp_path / "killed"
    rng, kills = np.random.default_rng(0), 0
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | COMPILE_ANEW  # a kill would cut off its files
    while True:
        resumed = out.exists() and (only_run(out) / "config.json").exists()
        more = ["--resume", only_run(out)] if resumed else [*args, out]
        with subprocess.Popen(
            command(*more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
        ) as process:
            try:
                process.wait(rng.uniform(1, 6) if kills < 15 else 300)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
            errors = process.stderr.read()
        if process.returncode == 0:
            break
        assert "has already finished" in errors, errors
        break
    assert kills >= 3
    assert_same_runs(only_run(out), only_run(tmp_path / "straight"))


def test_a_run_of_before_goes_on(tmp_path):
    """Its checkpoints lie in the middle of an epoch, and have the records of that time."""
    with zipfile.ZipFile(GOLDEN / "run_before_metrics.zip") as file:
        file.extractall(tmp_path / "run")
    here("--resume", tmp_path / "run")
    first, second, third = run_files.table(tmp_path / "run")
    assert first["test_loss"] == 0.08605588227510452  # as it was written then
    # As that version went on; compiled differently, some spikes flip.
    for row, loss, accuracy in ((second, 0.0826, 0.3357), (third, 0.0772, 0.4138)):
        assert row["train_loss"] == pytest.approx(loss, abs=0.002)
        assert row["train_acc"] == pytest.approx(accuracy, abs=0.03)
    assert experiment.Checkpoints(tmp_path / "run").step() == 93


def test_ctrl_c_saves(tmp_path):
    args = ["--epochs", 2000, *MINI, "--out-dir", tmp_path]
    status, errors = signalled(signal.SIGINT, 1, *args)
    assert status == 130
    (line,) = errors.splitlines()
    assert "interrupted: saved after epoch" in line
    assert "--resume goes on" in line
    folder = only_run(tmp_path)
    saved = len(experiment.Checkpoints(folder).history())
    assert saved >= 2
    assert saved == len(run_files.table(folder))
    assert isinstance(experiment.load_model(folder, "max"), models.PlainNet)


def test_ctrl_c_again_stops_at_once(tmp_path, monkeypatch, capsys):
    def twice(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still running")

    monkeypatch.setattr(experiment.Checkpoints, "hold", twice)
    with pytest.raises(SystemExit) as end:
        here("--epochs", 2, *MINI, "--out-dir", tmp_path)
    assert end.value.code == 130
    assert "interrupted; --resume goes on from what was saved" in capsys.readouterr().err


@pytest.mark.slow  # in this process: below
def test_sigterm_saves_and_the_run_goes_on(straight, tmp_path):
    args = ["--model", "ss", "--epochs", 4, *MINI, "--out-dir", tmp_path]
    status, errors = signalled(signal.SIGTERM, 0, *args)
    assert status == 143, errors
    (line,) = errors.splitlines()
    assert "SIGTERM: saved after epoch" in line
    assert "--resume goes on" in line
    folder = only_run(tmp_path)
    assert len(experiment.Checkpoints(folder).history()) in (1, 2, 3)
    assert run("--resume", folder).returncode == 0
    assert_same_runs(folder, straight[1])


@pytest.fixture
def small_chunks(monkeypatch):
    """Three or so in an epoch of the mini set."""
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", 10 * 64 * (28 * 28 + 4))


@pytest.mark.slow  # in this process: below
def test_streamed_data_give_the_same_run(straight, tmp_path):
    args = ["--model", "ss", "--epochs", 4, *MINI, "--out-dir", tmp_path]
    done = run(*args, "--data-placement", "host", "-j", 1)
    assert done.returncode == 0, done.stderr
    assert_same_runs(only_run(tmp_path), straight[1])


def here(*args):
    """Runs train.py in this process, which compiles without optimising: other numbers."""
    main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def straight_here(tmp_path_factory):
    out = tmp_path_factory.mktemp("straight_here")
    here("--model", "ss", "--epochs", 2, *MINI, "--out-dir", out)
    return only_run(out)


@pytest.mark.parametrize("placement", ["host", "device"])
def test_sigterm_in_the_middle_of_an_epoch(
    straight_here, tmp_path, small_chunks, monkeypatch, capsys, placement
):
    """What is saved there is gone on with, wherever the data live then."""
    stream_epoch, seen = training.stream_epoch, []

    def interrupted(recipe, state, *args, between, **kwargs):
        def then(state):
            seen.append(int(state.step))
            if seen[-1] == 41:  # of the second epoch the second chunk
                os.kill(os.getpid(), signal.SIGTERM)
            return between(state)

        return stream_epoch(recipe, state, *args, between=then, **kwargs)

    monkeypatch.setattr(training, "stream_epoch", interrupted)
    args = ("--model", "ss", "--epochs", 2, *MINI, "--out-dir", tmp_path)
    with pytest.raises(SystemExit) as end:
        here(*args, "--data-placement", "host")
    assert end.value.code == 143
    assert "SIGTERM: saved in epoch 1, after minibatch 10;" in capsys.readouterr().err
    folder = only_run(tmp_path)
    assert sorted(int(path.name) for path in (folder / "checkpoints").iterdir()) == [31, 41]
    monkeypatch.undo()
    here("--resume", folder, "--data-placement", placement)
    assert_same_runs(folder, straight_here)


def test_long_epochs_are_saved_on_the_way(tmp_path, small_chunks, monkeypatch):
    saved, save = [], experiment.Checkpoints.save

    def noted(checkpoints, state, history):
        saved.append(int(state.step))
        save(checkpoints, state, history)

    monkeypatch.setattr(experiment.Checkpoints, "save", noted)
    here(
        *("--epochs", 1, *MINI, "--out-dir", tmp_path),
        *("--data-placement", "host", "--save-every", 0),
    )
    assert saved == [10, 20, 30, 31]


def with_accuracy(metrics, accuracy):
    return types.SimpleNamespace(loss=metrics.loss, finite=metrics.finite, accuracy=accuracy)


def test_short_epochs_are_saved_now_and_then(tmp_path, monkeypatch):
    """And what was the best in between is not lost, nor anything else."""
    saved, write = [], experiment.Checkpoints._write

    def noted(checkpoints, state, history):
        saved.append((int(state.step), len(history)))
        write(checkpoints, state, history)

    ticks = itertools.count()  # each look at the clock is a second later than the one before
    clock = {"monotonic": lambda: float(next(ticks)), "perf_counter": time.perf_counter}
    accuracies = iter([0.2, 0.4, 0.3, 0.5, 0.1, 0.1])
    programs = train.programs

    def rigged(*args):
        train_epoch, evaluate, validate = programs(*args)

        def rigged_evaluate(state):
            return with_accuracy(evaluate(state), next(accuracies))

        return train_epoch, rigged_evaluate, validate

    monkeypatch.setattr(experiment._run, "time", types.SimpleNamespace(**clock))
    monkeypatch.setattr(train, "programs", rigged)
    monkeypatch.setattr(experiment.Checkpoints, "_write", noted)
    here("--epochs", 6, *MINI, "--out-dir", tmp_path, "--save-every", 3)
    assert saved == [(62, 2), (124, 4), (155, 5), (186, 6)]
    checkpoints = experiment.Checkpoints(only_run(tmp_path))
    assert (checkpoints.step(), checkpoints.step("max")) == (186, 124)


def test_what_was_good_is_kept_when_the_numbers_are_not(tmp_path, monkeypatch):
    programs, finite = train.programs, iter([True, True, False])

    def rigged(*args):
        train_epoch, evaluate, validate = programs(*args)

        def rigged_evaluate(state):
            return evaluate(state)._replace(nonfinite=np.int32(not next(finite)))

        return train_epoch, rigged_evaluate, validate

    monkeypatch.setattr(train, "programs", rigged)
    line = refused("--epochs", 3, *MINI, "--out-dir", tmp_path)
    assert "epoch 2: the loss, a parameter or the optimiser's state is not finite" in line
    best = max(run_files.table(only_run(tmp_path)), key=lambda row: row["test_acc"])
    history = experiment.Checkpoints(only_run(tmp_path)).history()
    assert history[-1]["epoch"] == best["epoch"]


def test_validation_chooses_the_epoch(tmp_path, monkeypatch, capsys):
    """Not the test set, whose best epoch here is another."""
    programs = train.programs
    tested, validated = iter([0.7, 0.4, 0.5]), iter([0.25, 0.625, 0.5])

    def rig(measure, accuracies):
        return lambda state: with_accuracy(measure(state), next(accuracies))

    def rigged(*args):
        train_epoch, evaluate, validate = programs(*args)
        return train_epoch, rig(evaluate, tested), rig(validate, validated)

    monkeypatch.setattr(train, "programs", rigged)
    here("--epochs", 3, *MINI, "--out-dir", tmp_path, "--validation", 0.1, "--overwrite")
    folder = only_run(tmp_path)
    assert folder.name == "plain_b64_sgd_lr0.1_fashion_mnist_mini_val0.1"
    assert experiment.read_config(folder)["settings"]["validation"] == 0.1
    printed = capsys.readouterr().out
    assert "1800 training, 200 validation and 500 test images" in printed
    assert "val_acc = 0.5000, test_loss" in printed
    assert "max_val_acc = 0.6250" in printed
    assert "max_test_acc" not in printed
    assert "best by validation: epoch 1, val_acc = 0.6250, test_acc = 0.4000; " in printed
    assert [row["val_acc"] for row in run_files.table(folder)] == [0.25, 0.625, 0.5]
    assert all(0 < row["val_loss"] < 0.2 for row in run_files.table(folder))
    assert run_files.curves(folder)["val_acc"] == [(0, 0.25), (1, 0.625), (2, 0.5)]
    checkpoints = experiment.Checkpoints(folder)
    assert (checkpoints.step(), checkpoints.step("max")) == (3 * 28, 2 * 28)
    here("--evaluate", folder)
    printed = capsys.readouterr().out
    assert "epoch 1, chosen by val_acc = 0.6250, test_loss" in printed
    assert "not the data of the training" not in printed
    for share in (0.2, 0.0001):
        line = refused("--resume", folder, "--validation", share)
        assert f"--validation {share} differs from the 0.1" in line
    line = refused(*MINI, "--validation", 0.0001, "--out-dir", tmp_path / "none")
    assert "holds out 0 of them" in line
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_validation_resumed_streamed_and_on_several_devices(tmp_path):
    args = ("--model", "ss", "--epochs", 3, *MINI, "--validation", 0.25, "--out-dir")
    host = ("--data-placement", "host")
    assert run(*args, tmp_path / "straight").returncode == 0
    assert run(*args, tmp_path / "streamed", *host).returncode == 0
    kill_after(0, *args, tmp_path / "killed")
    resumed = run("--resume", only_run(tmp_path / "killed"), *host)
    assert resumed.returncode == 0, resumed.stderr
    four = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    assert run(*args, tmp_path / "four", "--devices", 4, env=four).returncode == 0
    straight = only_run(tmp_path / "straight")
    rows = run_files.table(straight)
    for name in ("streamed", "killed"):
        assert_same_runs(only_run(tmp_path / name), straight)
        others = run_files.table(only_run(tmp_path / name))
        for key in ("val_loss", "val_acc", "firing_rate/fc.1", "firing_rate/fc.4"):
            assert [row[key] for row in others] == [row[key] for row in rows]
    for row, other in zip(rows, run_files.table(only_run(tmp_path / "four")), strict=True):
        for key in ("val_loss", "val_acc", "firing_rate/fc.1", "firing_rate/fc.4"):
            assert other[key] == pytest.approx(row[key], abs=0.02)


def test_no_grain_no_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    line = refused(*MINI, "--out-dir", tmp_path, "--data-placement", "host")
    assert 'pip install -e ".[stream]"' in line
    assert list(tmp_path.iterdir()) == []


def test_no_room_on_the_device(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(training, "evaluate", types.SimpleNamespace(lower=full))
    line = refused(*MINI, "--out-dir", tmp_path)
    assert "no room for this (RESOURCE_EXHAUSTED" in line
    assert "--batch-size" in line


def test_a_ruined_epoch_ends_early(tmp_path, small_chunks):
    line = refused(
        *("--opt", "adam", "--lr", "3e38", *MINI, "--out-dir", tmp_path),
        *("--data-placement", "host"),
    )
    assert "is not finite since minibatch 1 of 31" in line


def test_updates_that_are_not_finite_are_left_out(tmp_path, capsys):
    args = ("--opt", "adam", "--lr", "3e38", "--epochs", 1, *MINI, "--out-dir", tmp_path)
    here(*args, "--skip-nonfinite")
    printed = capsys.readouterr().out
    assert "skipped = 30" in printed
    assert "30 updates were not finite and left out" in printed
    assert run_files.table(only_run(tmp_path))[0]["skipped"] == 30


@pytest.mark.slow
def test_several_devices(tmp_path):
    args = ("--model", "ss", "--epochs", 1, *MINI, "--out-dir", tmp_path)
    four = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = run(*args, "--devices", 4, env=four)
    assert done.returncode == 0, done.stderr
    assert "device: cpu (cpu:0) and 3 more," in done.stdout
    done = run(*args, "--devices", 5, "--seed", 1, env=four)
    assert done.returncode == 2
    assert "there are only 4 of the kind cpu" in the_error(done.stderr)
    done = run(*args, "--devices", 3, "--seed", 1, env=four)
    assert done.returncode == 2
    assert "batch_size=64 cannot be shared out evenly among 3" in the_error(done.stderr)


def test_ctrl_c_while_starting():
    """Imports take a second or two, in which no exception may escape from them."""
    for delay in (0.4, 1.2):
        with subprocess.Popen(command("--help"), stderr=subprocess.PIPE, text=True) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
        # 0: it had printed the help before; -2: Python itself had not begun, or had ended
        assert process.returncode in (0, 130, -signal.SIGINT), errors
        assert "Traceback" not in errors


def test_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").write_text("")
    assert f"{tmp_path}/out" in refused(*MINI, "--out-dir", "~/out")


@pytest.mark.slow
def test_progress_bar_on_a_terminal(tmp_path):
    master, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    done = subprocess.run(
        command("--epochs", 1, *MINI, "--out-dir", tmp_path),
        stdout=subprocess.PIPE,
        stderr=terminal,
        timeout=300,
    )
    os.close(terminal)
    assert done.returncode == 0
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while chunk := os.read(master, 100_000):
            shown += chunk
    os.close(master)
    assert b"1/1" in shown


@pytest.mark.slow
def test_resume_without_a_checkpoint_starts_anew(straight, finished):
    """A run that was killed in its first epoch has settings and nothing else."""
    shutil.rmtree(finished / "checkpoints")
    (finished / "metrics.csv").unlink()
    done = run("--resume", finished)
    assert done.returncode == 0, done.stderr
    assert_same_runs(finished, straight[1])


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("--epochs", "7", "4"),
        ("--lr", "0.2", "0.1"),
        ("--seed", "5", "0"),
        ("--batch-size", "32", "64"),
        ("--model", "fb", "ss"),
        ("--opt", "adam", "sgd"),
        ("--momentum", "0.5", "0.9"),
        ("--clip-norm", "1.0", "None"),
        ("--sequence", "rows", "columns"),
        ("--dataset", "fashion_mnist", "fashion_mnist_mini"),
    ],
)
def test_resume_with_other_settings(straight, option, value, kept):
    line = refused("--resume", straight[1], option, value)
    assert f"{option} {value} differs from the {kept} with which" in line


def test_resume_of_a_finished_run(straight):
    """A longer run would have had another learning rate in every epoch: the line says so."""
    before = {path: path.stat().st_mtime_ns for path in straight[1].rglob("*")}
    finished = refused("--resume", straight[1])
    assert "has already finished its 4 epochs" in finished
    for line in (finished, refused("--resume", straight[1], "--epochs", 9)):
        assert "another learning rate in every epoch, so it is a new run" in line
        assert "--init-from" in line
    assert before == {path: path.stat().st_mtime_ns for path in straight[1].rglob("*")}


def test_resume_from_nothing(tmp_path):
    assert "not the directory of a run" in refused("--resume", tmp_path / "nowhere")
    assert "not the directory of a run" in refused("--evaluate", tmp_path)


def test_resume_from_damage(finished):
    for path in (finished / "checkpoints").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"")
    assert "cannot read the checkpoint" in refused("--resume", finished)
    (finished / "config.json").write_text("{")
    assert "config.json is damaged" in refused("--resume", finished)


def test_two_processes_on_one_run(straight):
    with experiment.lock(straight[1]):
        assert "another process is training" in refused("--resume", straight[1])


@pytest.mark.slow
def test_resume_needs_the_checkpoints_only(straight, killed, tmp_path):
    """metrics.csv and the curves are made from them."""
    folder = pathlib.Path(shutil.copytree(killed, tmp_path / "run"))
    (folder / "metrics.csv").unlink()
    assert run("--resume", f"{folder}/").returncode == 0
    assert_same_runs(folder, straight[1])


@pytest.mark.parametrize(("option", "value"), [("--model", "fb"), ("--dataset", "fashion_mnist")])
def test_evaluate_with_other_settings(straight, option, value):
    assert f"{option} {value} differs from" in refused("--evaluate", straight[1], option, value)


def test_resume_with_other_data(finished):
    experiment._folder.write_config(finished, experiment.read_config(finished) | {"data": "0" * 64})
    line = refused("--resume", finished)
    assert "0" * 64 in line
    assert "other images, or the same in another order" in line


def test_a_second_run_into_the_same_folder(straight):
    before = {path: path.stat().st_mtime_ns for path in straight[1].rglob("*")}
    args = ("--model", "ss", "--epochs", 4, *MINI, "--out-dir", straight[1].parent)
    line = refused(*args)
    for way_out in ("--resume", "--overwrite", "--out-dir"):
        assert way_out in line
    # Other mistakes are reported first, and are noticed before --overwrite removes anything.
    for more in ([], ["--overwrite"]):
        assert "takes no directory" in refused(*args, "--data-dir", "nowhere", *more)
        assert "--device must be" in refused(*args, "--device", "gpuu", *more)
    with experiment.lock(straight[1]):
        assert "another process is training" in refused(*args, "--overwrite")
    assert before == {path: path.stat().st_mtime_ns for path in straight[1].rglob("*")}


def test_overwrite(finished, monkeypatch):
    folder = finished
    args = ("--model", "ss", *MINI, "--out-dir", folder.parent, "--overwrite", "--epochs", 1)
    (folder / "notes.txt").write_text("mine")
    assert "holds notes.txt, which is not of a run" in refused(*args)
    (folder / "notes.txt").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with monkeypatch.context() as patch:  # what else is wrong is noticed before
        patch.setattr(training, "create", lambda *_, **__: int("wrong"))
        assert "invalid literal" in refused(*args)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    here(*args)
    assert [row["epoch"] for row in run_files.table(folder)] == [0]
    assert len(experiment.read_config(folder)["sessions"]) == 1
    assert len(list(folder.glob("events.*"))) == 1
    assert experiment.Checkpoints(folder).step() == 31


@pytest.mark.parametrize("name", ["sweep [lr=0.1]", "wh?t", "back\\slash", "gs:"])
def test_folders_in_which_checkpoints_would_be_lost(tmp_path, monkeypatch, name):
    """They are refused before there is anything on the disk; relative ones too."""
    monkeypatch.chdir(tmp_path)
    for folder in (name, tmp_path / name / "logs"):
        assert "no checkpoint can be saved into it" in refused(*MINI, "--out-dir", folder)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "cnn"], "must be one of plain, ss, fb, got 'cnn'"),
        (["--opt", "sgdd"], "must be one of sgd, adam, got 'sgdd'"),
        (["--dataset", "mnist"], "fashion_mnist_mini, got 'mnist'"),
        (["--sequence", "pixels"], "must be one of columns, rows, got 'pixels'"),
        (["--device", "tpu9"], "--device must be auto, cpu, gpu or cuda:0"),
        (["--device", "cuda:x"], "'x' is not the number of a GPU"),
        (["-b", "0"], "must be at least 1, got 0"),
        (["-b", "-3"], "must be at least 1, got -3"),
        (["-b", "2.5"], "must be an integer, got '2.5'"),
        (["--epochs", "0"], "must be at least 1, got 0"),
        (["--epochs", "-1"], "must be at least 1, got -1"),
        (["--lr", "nan"], "must be finite, at least 0, got nan"),
        (["--lr", "inf"], "must be finite"),
        (["--lr", "-0.1"], "must be finite, at least 0, got -0.1"),
        (["--lr", "fast"], "must be a number, got 'fast'"),
        (["--momentum", "nan"], "must be finite"),
        (["--momentum", "-0.5"], "at least 0 and below 1"),
        (["--momentum", "1"], "at least 0 and below 1"),
        (["--clip-norm", "0"], "must be finite"),
        (["--seed", "-1"], "must be at least 0"),
        (["--seed", "4294967296"], "must be at most 4294967295"),
        (["--what"], "unrecognized arguments: --what"),
        ([], "choose a network with --model plain, ss, fb"),
        (["--modle", "ss"], "unrecognized arguments: --modle; did you mean --model?"),
        (["-modle=ss"], "unrecognized arguments: -modle; did you mean -model?"),
        (["-batchsize", "64"], "unrecognized arguments: -batchsize; did you mean -batch-size?"),
        (["--model", "SS"], "did you mean ss?"),
        (["--dataset", "fashon_mnist"], "did you mean fashion_mnist?"),
        (["--validation", "0"], "must be finite, at least"),
        (["--validation", "1"], "below 1, got 1"),
        (["--overwrite", "--resume", "a"], "--overwrite is for a new run, not with --resume"),
        (["--resume", "a", "--evaluate", "b"], "exclude each other"),
        (["--devices", "0"], "must be at least 1, got 0"),
        (["--devices", "some"], "must be an integer or all, got 'some'"),
        (["--device", "cuda:0", "--devices", "2"], "cuda:0 is one GPU; for 2 of them say"),
        (["--data-placement", "disk"], "must be one of device, host, got 'disk'"),
        (["-j", "-1"], "must be at least 0, got -1"),
        (["--coordinator", "here", "--process-id", "0"], "HOST:PORT, got 'here'"),
        (["--evaluate", "b", "--devices", "2"], "--devices is for training, not for --evaluate"),
        (["--doctor", "--workers", "2"], "--workers is for training, not for --doctor"),
        (["--doctor", "-b", "2001", "--dataset", "fashion_mnist_mini"], "2001 is larger than"),
        (["--data-dir", "x", "--dataset", "fashion_mnist_mini"], "fashion_mnist_mini"),
        (["-b", "2001", "--dataset", "fashion_mnist_mini"], "2001 is larger than the training"),
    ],
)
def test_bad_options(args, message, tmp_path):
    here_too = not args or {"--resume", "--evaluate"} & set(args)
    out = [] if here_too else ["--out-dir", tmp_path]
    assert message in refused(*args, *out)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_where_there_is_none(tmp_path):
    args = ("--device", "gpu", *MINI, "--out-dir", tmp_path)
    done = run(*args, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "--device gpu: jax finds no such device" in the_error(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_to_the_program_itself(tmp_path):
    """The same as a process: one line, status 2."""
    done = run("-b", "2001", "--dataset", "fashion_mnist_mini", "--out-dir", tmp_path)
    assert done.returncode == 2
    assert "2001 is larger" in the_error(done.stderr)


def write_idx(folder, suffix=""):
    images = data.fashion_mnist_mini()
    arrays = {
        "train-images-idx3-ubyte": images.train_images,
        "train-labels-idx1-ubyte": images.train_labels,
        "t10k-images-idx3-ubyte": images.test_images,
        "t10k-labels-idx1-ubyte": images.test_labels,
    }
    for name, array in arrays.items():
        head = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
        content = head + array.astype(np.uint8).tobytes()
        if suffix:
            content = gzip.compress(content, 1)
        (folder / (name + suffix)).write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def wrong_magic(path):
    path.write_bytes(b"\x00\x00\x08\x09" + path.read_bytes()[4:])


def label_11(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")


def drop_one_label(path):
    content = path.read_bytes()
    path.write_bytes(content[:4] + (1999).to_bytes(4, "big") + content[8:-1])


@pytest.mark.parametrize(
    ("suffix", "file", "damage"),
    [
        ("", "train-images-idx3-ubyte", cut),
        ("", "train-images-idx3-ubyte", wrong_magic),
        ("", "t10k-labels-idx1-ubyte", label_11),
        ("", "train-labels-idx1-ubyte", drop_one_label),
        (".gz", "train-images-idx3-ubyte", cut),
    ],
)
def test_damaged_data(tmp_path, suffix, file, damage):
    folder = tmp_path / "data"
    folder.mkdir()
    write_idx(folder, suffix)
    damage(folder / (file + suffix))
    line = refused("--data-dir", folder, "--out-dir", tmp_path / "out")
    assert str(folder) in line
    assert not (tmp_path / "out").exists()


def flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[5001] ^= 1  # in SHA256SUMS, behind the first line
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("idx/train-images-idx3-ubyte", flip_a_pixel),
        ("idx/t10k-labels-idx1-ubyte", pathlib.Path.unlink),
        ("idx/SHA256SUMS", flip_a_pixel),
    ],
)
def test_damage_that_only_checksums_show(tmp_path, file, damage):
    (tmp_path / "idx").mkdir()
    write_idx(tmp_path / "idx")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted((tmp_path / "idx").iterdir())
    ]
    (tmp_path / "idx/SHA256SUMS").write_text("#" * 4999 + "\n" + "".join(sums))
    (path,) = tmp_path.glob(file)
    damage(path)
    folder = tmp_path / file.partition("/")[0]
    line = refused("--data-dir", folder, "--out-dir", tmp_path / "out")
    assert str(folder) in line
    assert not (tmp_path / "out").exists()


def test_a_damaged_mini_set(tmp_path, monkeypatch):
    (tmp_path / "mini.npz").write_bytes(data._mini._FILE.read_bytes())
    flip_a_pixel(tmp_path / "mini.npz")
    monkeypatch.setattr(data._mini, "_FILE", tmp_path / "mini.npz")
    line = refused(*MINI, "--out-dir", tmp_path / "out")
    assert f"{tmp_path}/mini.npz: damaged" in line
    assert "install jaxsnn again" in line


def test_no_data(tmp_path):
    assert "no such directory" in refused("--data-dir", tmp_path / "nowhere")
    assert "found an empty directory" in refused("--data-dir", tmp_path)


def test_an_unwritable_output_directory(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(*MINI, "--out-dir", tmp_path / "file")
    assert "No such file or directory: '/proc/nowhere" in refused(
        *MINI, "--out-dir", "/proc/nowhere"
    )


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(straight, killed, tmp_path):
    """Files may grow to 3 KiB: enough for the settings and not for a checkpoint."""
    folder = pathlib.Path(shutil.copytree(killed, tmp_path / "run"))
    before = final_state(folder)
    limited = ["bash", "-c", 'ulimit -f 3; exec "$@"', "-", *command("--resume", folder)]
    env = os.environ | COMPILE_ANEW  # nor for what is compiled
    done = subprocess.run(limited, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 75, done.stderr
    assert "cannot write the checkpoint" in the_error(done.stderr)
    assert "--resume goes on" in the_error(done.stderr)
    jax.tree.map(np.testing.assert_array_equal, final_state(folder), before)
    assert run("--resume", folder).returncode == 0
    assert_same_runs(folder, straight[1])


@pytest.mark.slow
def test_a_full_disk_before_the_checkpoint(killed, tmp_path):
    """Not even the settings can be written."""
    folder = pathlib.Path(shutil.copytree(killed, tmp_path / "run"))
    limited = ["bash", "-c", 'ulimit -f 0; exec "$@"', "-", *command("--resume", folder)]
    env = os.environ | COMPILE_ANEW
    done = subprocess.run(limited, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 75, done.stderr
    assert "File too large" in the_error(done.stderr)
    assert experiment.read_config(folder) == experiment.read_config(killed)


def test_checkpoints_elsewhere(finished, tmp_path):
    """Behind a link lies what may belong to another run."""
    (finished / "checkpoints").rename(tmp_path / "elsewhere")
    (finished / "checkpoints").symlink_to(tmp_path / "elsewhere")
    for option in ("--resume", "--evaluate"):
        assert "checkpoints is a link" in refused(option, finished)


def test_a_ruined_run_ends_loudly(tmp_path, monkeypatch):
    closed, close = [], experiment.Log.close
    monkeypatch.setattr(experiment.Log, "close", lambda log: closed.append(close(log)))
    line = refused(*("--epochs", 5, "--opt", "adam", "--lr", "3e38", *MINI, "--out-dir", tmp_path))
    assert "is not finite since minibatch 1 of 31 (its gradient has the norm nan" in line
    assert "--clip-norm" in line
    assert len(closed) == 1  # left open, it may fail while Python ends: more than one line
