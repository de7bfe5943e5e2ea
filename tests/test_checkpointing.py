"""Checkpoints: latest and best, exact restoration, damage, models out of a run."""

import pathlib
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import run_files
from flax import nnx

from jaxsnn import data, experiment, models, nn, training


def make(model="ss", optimizer=None):
    return training.create(
        models.MODELS[model](rngs=nnx.Rngs(0)),
        optax.adam(0.01) if optimizer is None else optimizer,
        to_sequence=data.columns,
        batch_size=50,
        seed=3,
    )


def marked(state, epoch):
    """A state that can be told from others."""
    params = jax.tree.map(lambda p: p + epoch, state.params)
    return state._replace(params=params, epoch=jnp.int32(epoch + 1), step=jnp.int32(epoch))


def history(accuracies):
    row = dict.fromkeys(experiment.Row.__required_keys__, 0.0)
    return [row | {"epoch": e, "test_acc": accuracy} for e, accuracy in enumerate(accuracies)]


def save_all(run, state, accuracies):
    checkpoints = experiment.Checkpoints(run)
    for epoch in range(len(accuracies)):
        checkpoints.save(marked(state, epoch), history(accuracies[: epoch + 1]))
    return checkpoints


def kept(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def assert_states_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)

    def check(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    jax.tree.map(check, actual, expected)


def test_saving_the_same_state_again_is_no_error(tmp_path):
    _, state = make()
    checkpoints = save_all(tmp_path, state, [0.5, 0.4])
    for again in (checkpoints, experiment.Checkpoints(tmp_path)):
        again.save(marked(state, 1), history([0.5, 0.4]))
        assert kept(tmp_path) == [0, 1]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_state_before_the_latest_is_not_written(tmp_path, epoch):
    """It would take the place of `max`, or never be the latest."""
    _, state = make()
    checkpoints = save_all(tmp_path, state, [0.5, 0.4])
    other = marked(state, epoch)._replace(epoch=jnp.int32(7))
    with pytest.raises(experiment.CheckpointError, match="remove all that are not before"):
        checkpoints.save(other, history([0.5, 0.4][: epoch + 1]))
    assert_states_equal(checkpoints.restore(state)[0], marked(state, 1))
    shutil.rmtree(checkpoints.directory / "1")
    if epoch == 1:
        checkpoints.save(other, history([0.5, 0.4]))
        assert_states_equal(checkpoints.restore(state)[0], other)


def in_the_middle(state, step):
    """A state of an epoch that has not ended."""
    state = marked(state, step)
    return state._replace(tally=state.tally._replace(minibatches=jnp.int32(1)))


def test_in_the_middle_of_epochs(tmp_path):
    """The latest may be of the middle of an epoch, the best never is."""
    _, state = make()
    checkpoints = experiment.Checkpoints(tmp_path)
    for make_state, step, rows, latest, best in (
        (in_the_middle, 5, [], 5, None),  # of the first epoch, when nothing has been tested
        (marked, 10, [0.4], 10, 10),
        (in_the_middle, 15, [0.4], 15, 10),
        (marked, 20, [0.4, 0.6], 20, 20),
        (in_the_middle, 22, [0.4, 0.6], 22, 20),
        (in_the_middle, 24, [0.4, 0.6], 24, 20),
        (marked, 30, [0.4, 0.6, 0.5], 30, 20),
        (in_the_middle, 35, [0.4, 0.6, 0.5], 35, 20),
        (marked, 40, [0.4, 0.6, 0.5, 0.7], 40, 40),
    ):
        checkpoints.save(make_state(state, step), history(rows))
        for reader in (checkpoints, experiment.Checkpoints(tmp_path)):
            assert (reader.step(), reader.step("max")) == (latest, best)
            restored, read = reader.restore(state)
            assert_states_equal(restored, make_state(state, step))
            assert read == history(rows)
        assert kept(tmp_path) == sorted({latest, best} - {None})
        if best is None:
            with pytest.raises(experiment.CheckpointError, match="has not ended an epoch yet"):
                checkpoints.restore(state, "max")
        else:
            assert checkpoints.restore_params(state.params) is not None
            assert len(checkpoints.history("max")) == best // 10


def test_the_best_is_held_until_something_is_saved(tmp_path):
    _, state = make()
    checkpoints = experiment.Checkpoints(tmp_path)
    checkpoints.save_held()  # there is nothing
    rows: list[float] = []
    for epoch, accuracy in enumerate([0.4, 0.6, 0.5]):
        rows.append(accuracy)
        checkpoints.hold(marked(state, epoch), history(rows))
    assert not checkpoints.directory.exists()
    checkpoints.save(marked(state, 2), history(rows))
    assert kept(tmp_path) == [1, 2]
    for which, epoch in (("max", 1), ("latest", 2)):
        restored, read = checkpoints.restore(state, which)
        assert_states_equal(restored, marked(state, epoch))
        assert read == history(rows[: epoch + 1])
    # One that is itself saved is not written twice, and one that is not the best is not held.
    checkpoints.hold(marked(state, 3), history([*rows, 0.9]))
    checkpoints.save(marked(state, 3), history([*rows, 0.9]))
    checkpoints.hold(marked(state, 4), history([*rows, 0.9, 0.9]))
    checkpoints.save_held()
    assert kept(tmp_path) == [3]
    # Held by a run whose numbers then leave the real ones.
    checkpoints.hold(marked(state, 5), history([*rows, 0.9, 0.9, 1.0]))
    checkpoints.save_held()
    assert kept(tmp_path) == [5]
    assert checkpoints.step("max") == 5


def test_what_is_held_survives_donation(tmp_path):
    _, state = make()
    checkpoints = experiment.Checkpoints(tmp_path)
    expected = jax.tree.map(jnp.copy, marked(state, 1))
    mine = jax.tree.map(jnp.copy, marked(state, 1))
    checkpoints.hold(mine, history([0.5]))
    for leaf in jax.tree.leaves(mine):
        leaf.delete()
    checkpoints.save_held()
    assert_states_equal(checkpoints.restore(state)[0], expected)


def test_streaming_goes_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    pytest.importorskip("grain")
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", 3 * 50 * 785)  # three minibatches
    images = data.fashion_mnist_mini()[:2]
    recipe, state = make("plain")
    straight, metrics = training.stream_epoch(recipe, jax.tree.map(jnp.copy, state), *images)

    def stop(state):
        experiment.Checkpoints(tmp_path).save(state, [])
        return state.tally.minibatches == 6

    assert training.stream_epoch(recipe, state, *images, between=stop)[1] is None
    checkpoints = experiment.Checkpoints(tmp_path)
    assert (checkpoints.step(), checkpoints.step("max")) == (6, None)
    assert kept(tmp_path) == [6]
    restored, _ = checkpoints.restore(make("plain")[1])
    resumed, again = training.stream_epoch(recipe, restored, *images)
    assert_states_equal(resumed, straight)
    assert_states_equal(again, metrics)


def test_running_statistics_are_kept(tmp_path):
    net = models.Classifier(nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.BatchNorm(3)))
    _, state = training.create(net, optax.sgd(0.1), to_sequence=data.rows, batch_size=2, seed=0)
    state = state._replace(statistics=jax.tree.map(lambda s: s + 0.5, state.statistics))
    checkpoints = experiment.Checkpoints(tmp_path)
    checkpoints.save(state, history([0.1]))
    restored, _ = checkpoints.restore(jax.tree.map(lambda leaf: leaf, state))
    assert_states_equal(restored, state)
    assert jax.tree.leaves(restored.statistics)


@pytest.mark.parametrize(
    ("accuracies", "best", "files"),
    [
        ([0.1], 0, [0]),
        ([0.1, 0.2], 1, [1]),
        ([0.3, 0.2], 0, [0, 1]),
        ([0.1, 0.5, 0.5, 0.2], 1, [1, 3]),  # of equal ones the first
        ([0.1, 0.5, 0.2, 0.6, 0.3], 3, [3, 4]),
    ],
)
def test_latest_and_max_are_kept(tmp_path, accuracies, best, files):
    _, state = make()
    save_all(tmp_path, state, accuracies)
    assert kept(tmp_path) == files
    checkpoints = experiment.Checkpoints(tmp_path)  # as another process would see it
    assert checkpoints.step("latest") == len(accuracies) - 1
    assert checkpoints.step("max") == best
    _, like = make()
    for which, epoch in (("latest", len(accuracies) - 1), ("max", best)):
        restored, rows = checkpoints.restore(like, which)
        assert_states_equal(restored, marked(state, epoch))
        assert rows == history(accuracies[: epoch + 1])


def test_training_goes_on_exactly(tmp_path):
    images = jax.tree.map(jnp.asarray, data.fashion_mnist_mini()[:2])
    recipe, state = make()
    state, _ = training.train_epoch(recipe, state, *images)
    experiment.Checkpoints(tmp_path).save(state, history([0.1]))
    straight, metrics = training.train_epoch(recipe, state, *images)
    _, like = make()
    restored, _ = experiment.Checkpoints(tmp_path).restore(like)
    resumed, again = training.train_epoch(recipe, restored, *images)
    assert_states_equal(resumed, straight)
    assert_states_equal(again, metrics)


def test_a_write_that_was_cut_off_is_passed_over(tmp_path):
    _, state = make()
    save_all(tmp_path, state, [0.1, 0.2])
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    (folder / "2.orbax-checkpoint-tmp" / "_CHECKPOINT_METADATA").unlink()
    checkpoints = experiment.Checkpoints(tmp_path)
    assert checkpoints.step() == 1
    checkpoints.save(marked(state, 3), history([0.1, 0.2, 0.3, 0.4]))
    assert experiment.Checkpoints(tmp_path).step() == 3
    assert kept(tmp_path) == [3]  # what was cut off has gone, though it was of another step


def test_what_a_kill_has_left_is_removed_next_time(tmp_path, monkeypatch):
    """The next one had been written, and the old ones had not been removed, or half of one."""
    _, state = make()
    with monkeypatch.context() as patch:
        patch.setattr(experiment.Checkpoints, "_remove_all_but", lambda *_: None)
        save_all(tmp_path, state, [0.5, 0.4, 0.3, 0.2])
    (tmp_path / "checkpoints" / "1").rename(tmp_path / "checkpoints" / "removed")
    assert experiment.Checkpoints(tmp_path).step() == 3
    accuracies = [0.5, 0.4, 0.3, 0.2, 0.1]
    experiment.Checkpoints(tmp_path).save(marked(state, 4), history(accuracies))
    assert kept(tmp_path) == [0, 4]


def test_names_of_folders(tmp_path, monkeypatch):
    """All are used as they are, whatever a shell or an address would make of them."""
    _, state = make("plain", optax.sgd(0.1))
    monkeypatch.chdir(tmp_path)
    names = ["sp ace ünïcode {a,b}] $HOME", "~", "gs:x", "a%20b#c '\"\n"]
    for name in names:
        experiment.Checkpoints(f"{name}/").save(state, [])  # relative, with a slash at the end
        restored, _ = experiment.Checkpoints(tmp_path / name).restore(state)
        assert_states_equal(restored, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_names_that_would_lose_a_checkpoint_are_refused(tmp_path):
    """Before anything is written. A symbolic link leads around it."""
    _, state = make("plain", optax.sgd(0.1))
    # `?` and `*` match themselves, but they match the folder next to it too.
    patterns = ["sweep [lr=0.1]", "st*r", "wh?t"]
    for name in [*patterns, "back\\slash", "gs:", "not\udcffutf8"]:
        run, link = tmp_path / name / "run", tmp_path / "link"
        with pytest.raises(ValueError, match=r"no checkpoint can be saved into it; .* link"):
            experiment.Checkpoints(run).save(state, [])
        assert not (tmp_path / name).exists()
        run.mkdir(parents=True)
        link.symlink_to(run)
        experiment.Checkpoints(link).save(state, [])
        link.unlink()
        assert kept(run) == [0]
        if name in patterns:  # a run that was moved there can be read
            restored, _ = experiment.Checkpoints(run).restore(state)
            assert_states_equal(restored, state)
        else:
            with pytest.raises(ValueError, match="no checkpoint can be read from it"):
                experiment.Checkpoints(run).restore(state)


def lose_arrays(folder):
    for path in folder.glob("params/**/d/*"):
        path.unlink()


def change_a_bit(folder):
    for path in folder.glob("progress/**/d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def lose_the_record(folder):
    shutil.rmtree(folder / "record")


@pytest.mark.parametrize(
    "fault",
    [
        lose_arrays,
        *(pytest.param(f, marks=pytest.mark.slow) for f in (change_a_bit, lose_the_record)),
    ],
)
def test_what_was_not_written_right_takes_no_ones_place(tmp_path, monkeypatch, fault):
    """However it comes: each checkpoint is read back before older ones are removed."""
    _, state = make()
    checkpoints = save_all(tmp_path, state, [0.5, 0.4])
    save = checkpoints._orbax.save

    def faulty(path, **kwargs):
        save(path, **kwargs)
        fault(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._orbax, "save", faulty)
        with pytest.raises(experiment.CheckpointWriteError, match="cannot be read back"):
            checkpoints.save(marked(state, 2), history([0.5, 0.4, 0.6]))
    assert kept(tmp_path) == [0, 1]
    assert (checkpoints.step(), checkpoints.step("max")) == (1, 0)
    assert_states_equal(checkpoints.restore(state)[0], marked(state, 1))
    checkpoints.save(marked(state, 2), history([0.5, 0.4, 0.6]))
    assert kept(tmp_path) == [2]


def test_no_checkpoint_yet(tmp_path):
    _, like = make()
    checkpoints = experiment.Checkpoints(tmp_path)
    assert checkpoints.step() is None
    with pytest.raises(experiment.CheckpointError, match="has not ended an epoch yet"):
        checkpoints.restore(like)
    with pytest.raises(ValueError, match="which must be 'latest' or 'max', got 'best'"):
        checkpoints.step("best")


@pytest.mark.parametrize(
    "damage",
    ["truncate", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("remove", "garbage"))],
)
def test_damage_is_an_error(tmp_path, damage):
    _, state = make()
    save_all(tmp_path, state, [0.5])
    for path in (tmp_path / "checkpoints" / "0").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            if damage == "truncate":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            elif damage == "garbage":
                path.write_bytes(b"\x00" * path.stat().st_size)
            else:
                path.unlink()
    _, like = make()
    with pytest.raises(experiment.CheckpointError, match="cannot read the checkpoint"):
        experiment.Checkpoints(tmp_path).restore(like)


def test_another_model_is_an_error(tmp_path):
    _, state = make("ss")
    save_all(tmp_path, state, [0.5])
    _, like = make("fb")
    with pytest.raises(experiment.CheckpointError, match="another model"):
        experiment.Checkpoints(tmp_path).restore(like)
    _, like = make("ss", optax.sgd(0.1))
    with pytest.raises(experiment.CheckpointError, match="another model"):
        experiment.Checkpoints(tmp_path).restore(like)


def test_an_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    _, state = make()
    with pytest.raises((OSError, experiment.CheckpointError)):
        experiment.Checkpoints(tmp_path).save(state, history([0.5]))


@pytest.mark.parametrize("model", models.MODELS)
@pytest.mark.parametrize("amp", [False, True])
def test_load_model(tmp_path, model, amp):
    experiment._folder.create(tmp_path, run_files.config(model=model, amp=amp))
    _, state = make(model)
    save_all(tmp_path, state, [0.5, 0.4])
    for which, epoch in (("max", 0), ("latest", 1)):
        net = experiment.load_model(tmp_path, which)
        assert isinstance(net, models.MODELS[model])
        assert net.fc[0].dtype == (jnp.bfloat16 if amp else None)
        params = nnx.to_pure_dict(nnx.split(net)[1])
        assert_states_equal(params, marked(state, epoch).params)
        assert jax.eval_shape(net, jnp.zeros((28, 2, 28))).shape == (2, 10)
    max_net = experiment.load_model(tmp_path)
    assert_states_equal(nnx.to_pure_dict(nnx.split(max_net)[1]), marked(state, 0).params)


def test_load_model_with_normalization_and_fixed_arrays(tmp_path, monkeypatch):
    """A model of one's own in `MODELS` comes back whole."""

    def build(*, dtype, rngs):
        net = nn.Sequential(nn.Linear(28, 10, rngs=rngs), nn.BatchNorm(10), nn.IFNode())
        net[0].fixed = nnx.Variable(jnp.arange(3.0))
        return models.Classifier(net)

    monkeypatch.setitem(models.MODELS, "plain", build)
    experiment._folder.create(tmp_path, run_files.config(model="plain"))
    model = build(dtype=None, rngs=nnx.Rngs(3))
    model.stack[0].fixed[...] = jnp.arange(3.0) + 5
    _, state = training.create(
        model, optax.sgd(0.1), to_sequence=data.columns, batch_size=2, seed=0
    )
    state = state._replace(statistics=jax.tree.map(lambda s: s + 0.5, state.statistics))
    experiment.Checkpoints(tmp_path).save(state, history([0.5]))
    net = experiment.load_model(tmp_path)
    np.testing.assert_array_equal(net.stack[1].mean, np.full(10, 0.5))
    np.testing.assert_array_equal(net.stack[0].fixed, np.arange(3.0) + 5)
    np.testing.assert_array_equal(net.stack[0].kernel, model.stack[0].kernel)


GOLDEN = pathlib.Path(__file__).parent / "golden"


def test_an_earlier_form_needs_its_run_in_the_middle_of_an_epoch(tmp_path):
    """The figures of that epoch are sums over minibatches, whose size is in config.json alone."""
    with zipfile.ZipFile(GOLDEN / "run_before_metrics.zip") as file:
        file.extractall(tmp_path)
    checkpoints = experiment.Checkpoints(tmp_path)
    _, like = make(optimizer=optax.sgd(optax.constant_schedule(0.1), momentum=0.9))
    state, rows = checkpoints.restore(like)
    assert (int(state.tally.minibatches), int(state.tally.examples)) == (10, 640)
    assert 0.07 < float(state.tally.loss) < 0.1
    assert len(rows) == 1
    (tmp_path / "config.json").unlink()
    with pytest.raises(experiment.CheckpointError, match=r"without the config\.json of its run"):
        checkpoints.restore(like)
    state, _ = checkpoints.restore(like, "max")  # of the end of an epoch
    assert int(state.step) == 31


def test_a_later_form_is_refused(tmp_path, monkeypatch):
    _, state = make()
    with monkeypatch.context() as patch:
        patch.setattr(experiment._checkpoints, "FORM", experiment._checkpoints.FORM + 1)
        experiment.Checkpoints(tmp_path).save(state, [])
    with pytest.raises(experiment.CheckpointError, match="of a later version of jaxsnn"):
        experiment.Checkpoints(tmp_path).restore(state)


def test_load_model_of_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the directory of a run"):
        experiment.load_model(tmp_path)
