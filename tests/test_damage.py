"""Damage to the files of a run: an error that names the file, or the right result; never another.

`JAXSNN_MUTATIONS=5000 python -m pytest tests/test_damage.py` tries more; CI tries a few hundred.
"""

import collections
import contextlib
import functools
import gc
import importlib.util
import os
import pathlib
import shutil
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import run_files
from flax import nnx

from jaxsnn import data, experiment, training

MUTATIONS = int(os.environ.get("JAXSNN_MUTATIONS", "16"))
CHUNKS = 4  # so that several processes can share them
LATEST, MAX, NEXT = 80, 40, 120

Run = collections.namedtuple("Run", "path states like")


def numbers(state, seed):
    """The state with other numbers in it, all bits of which matter."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
        return leaf

    return jax.tree.map(fill, state._replace(step=jnp.int32(seed), epoch=jnp.int32(seed // 40)))


def history(step):
    """One row per 40 minibatches; the first is the best."""
    row = dict.fromkeys(experiment.Row.__required_keys__, 1 / 3)
    return [row | {"epoch": e, "test_acc": 0.7 - e / 10} for e in range(step // 40)]


def bits(tree):
    """All there is to know of the arrays of a tree."""

    def look(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()

    leaves, structure = jax.tree.flatten(tree)
    return structure, [look(leaf) for leaf in leaves]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    """A run with a checkpoint of the latest and one of the best, not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "run"
    experiment._folder.create(path, run_files.config(model="plain"))
    _, like = training.create(
        experiment.build_model(experiment.Config(**run_files.config(model="plain")["settings"])),
        optax.sgd(0.1, momentum=0.9),
        to_sequence=data.columns,
        batch_size=50,
        seed=3,
    )
    states = {step: numbers(like, step) for step in (MAX, LATEST, NEXT)}
    checkpoints = experiment.Checkpoints(path)
    for step in (MAX, LATEST):
        checkpoints.save(states[step], history(step))
    with experiment.Log(path, history(LATEST)):
        pass
    return Run(path, states, like)


@pytest.fixture
def run(undamaged, tmp_path):
    """A copy, to be damaged at will."""
    return pathlib.Path(shutil.copytree(undamaged.path, tmp_path / "run"))


@contextlib.contextmanager
def quick(monkeypatch):
    """Without the pause after each error; what Orbax's threads report is silenced to the end."""
    with experiment._checkpoints._quiet_threads():
        with monkeypatch.context() as patch:
            patch.setattr(
                experiment._checkpoints, "time", types.SimpleNamespace(sleep=lambda seconds: None)
            )
            patch.setattr(
                experiment._checkpoints, "gc", types.SimpleNamespace(collect=lambda: None)
            )
            yield
        time.sleep(0.2)
        gc.collect()


# ------------------------------------------------------------------ what is done to a run


def flip(run, path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def overwrite(run, path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(content)


def zero(run, path, rng):
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    block = content[start : start + 1 + int(rng.integers(64))]
    content[start : start + len(block)] = bytes(len(block))
    path.write_bytes(content)


def truncate(run, path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def extend(run, path, rng):
    path.write_bytes(path.read_bytes() + rng.bytes(1 + rng.integers(64)))


def empty(run, path, rng):
    path.write_bytes(b"")


def delete(run, path, rng):
    path.unlink()


def folder_instead(run, path, rng):
    path.unlink()
    path.mkdir()


def swap(run, path, rng):
    """With any other file, or with that of the same place in the other checkpoint."""
    others = [file for file in files_of(run) if file != path]
    alike = [file for file in others if kind_of(run, file) == kind_of(run, path)]
    choice = alike if alike and rng.random() < 0.7 else others
    other = choice[rng.integers(len(choice))]
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def delete_folder(run, path, rng):
    """The folder of the file, or one above it."""
    above = [folder for folder in path.parents if run in folder.parents]
    if above:
        shutil.rmtree(above[rng.integers(len(above))])


def swap_folders(run, path, rng):
    """A part of one checkpoint for that of the other, or all of it."""
    part = ("params", "progress", "record", "")[rng.integers(4)]
    one, other = (folder / part for folder in checkpoints_of(run))
    one.rename(run / "aside")
    other.rename(one)
    (run / "aside").rename(other)


def rename(run, path, rng):
    """A checkpoint, to the number of another."""
    old = checkpoints_of(run)[rng.integers(2)]
    new = run / "checkpoints" / str(rng.choice([0, 7, MAX, 60, LATEST, 90, NEXT, 2**31]))
    if old != new:
        shutil.rmtree(new, ignore_errors=True)
        old.rename(new)


def alien(run, path, rng):
    """A file, a folder or a copy that is no checkpoint, with a name as good as one or not."""
    names = ("41", "90", "99999999999999999999", "-1", "007", "latest", "80 ", "removed")
    folders = [run / "checkpoints", *(folder for folder in path.parents if run in folder.parents)]
    target = folders[rng.integers(len(folders))] / names[rng.integers(len(names))]
    if rng.random() < 0.3:
        target.write_bytes(rng.bytes(10))
    elif rng.random() < 0.3:
        target.mkdir()
    else:
        shutil.copytree(checkpoints_of(run)[0], run / "aside").rename(target)


TO_BYTES = (flip, overwrite, zero, truncate)
# More flips than others: most bytes are more than one bit away from harm.
MUTATORS = (
    *(*TO_BYTES, flip, extend, empty, delete, folder_instead, swap),
    *(delete_folder, swap_folders, rename, alien),
)


def files_of(run):
    return sorted(path for path in run.rglob("*") if path.is_file())


def checkpoints_of(run):
    """Their folders."""
    return sorted((run / "checkpoints").iterdir())


def kind_of(run, path):
    """What a file is, whichever checkpoint it is of and whatever random name it has."""
    parts = path.relative_to(run).parts[2 if "checkpoints" in path.parts else 0 :]
    name = "/".join(parts)
    if name.startswith("events."):
        return "events"
    return f"{name.rpartition('/')[0]}/*" if path.parent.name == "d" else name


def mutate(run, seed):
    """Does one thing to a run, at random; returns what, and to which kind of file."""
    rng = np.random.default_rng(seed)
    kinds = collections.defaultdict(list)
    for path in files_of(run):
        kinds[kind_of(run, path)].append(path)
    order = sorted(kinds) + 3 * ["config.json", "record/metadata"]  # JSON, which is easily valid
    kind = order[seed % len(order)]
    path = kinds[kind][rng.integers(len(kinds[kind]))]
    mutator = MUTATORS[rng.integers(len(MUTATORS))]
    if mutator in TO_BYTES and path.stat().st_size == 0:
        mutator = extend
    mutator(run, path, rng)
    return mutator.__name__, kind


# ------------------------------------------------------------------ what comes of it


def readings(run, like):
    """All ways to read a run: name, function, and whether it is of the `latest` or the `max`."""

    def checkpoints():
        return experiment.Checkpoints(run)

    def model(which):
        return nnx.to_pure_dict(nnx.split(experiment.load_model(run, which))[1])

    def restored(which):
        state, rows = checkpoints().restore(like, which)
        return bits(state), rows

    yield "config", lambda: experiment.read_config(run)
    for which in ("latest", "max"):
        yield f"step {which}", lambda which=which: checkpoints().step(which)
        yield f"restore {which}", lambda which=which: restored(which)
        yield f"history {which}", lambda which=which: checkpoints().history(which)
        yield f"model {which}", lambda which=which: bits(model(which))


def truth(states, step):
    """What the readings of one checkpoint have to be."""
    return {
        "step": step,
        "restore": (bits(states[step]), history(step)),
        "history": history(step),
        "model": bits(states[step].params),
    }


def expected(run, states):
    """What the readings of a run may be, if not an error.

    Where the folder of the latest checkpoint is not there, the other one is the latest, as the
    messages say; and without any there is none.
    """
    right = {"config": run_files.config(model="plain")}
    found = [s for s in (MAX, LATEST) if (run / "checkpoints" / str(s)).is_dir()]
    for which, step in (("latest", max(found, default=None)), ("max", MAX)):
        told = {"step": None} if step is None else truth(states, step)
        right |= {f"{name} {which}": value for name, value in told.items()}
    if not found:
        right["step max"] = None
    return right


def outcome(name, read, right, run):
    """`right`, or the name of the error; anything else fails."""
    try:
        result = read()
    except (ValueError, FileNotFoundError, experiment.CheckpointWriteError) as error:
        told = error
    else:
        assert name in right, f"{name}: there is nothing to read, but this was read: {result}"
        assert result == right[name], f"{name}: another result"
        return "right"
    assert str(run) in str(told), f"{name}: {told!r} names no file"
    return type(told).__name__


def save_onto(run, damaged, before, right):
    """Saving afterwards works, or is an error; what could be read before can still be read."""

    def save():
        experiment.Checkpoints(run).save(damaged.states[NEXT], history(NEXT))

    told = outcome("save", save, {"save": None}, run)
    right = dict(right)
    if told == "right":
        right |= {f"{name} latest": value for name, value in truth(damaged.states, NEXT).items()}
    for name, read in readings(run, damaged.like):
        of_the_new = told == "right" and name.endswith("latest") and name != "model latest"
        if before[name] == "right" or of_the_new:
            assert outcome(name, read, right, run) == "right", f"{name}: lost by saving"
    return told


def damage(undamaged, run, seed):
    """Damages a copy of a run and reads it; returns what was done and what came of it."""
    shutil.copytree(undamaged.path, run)
    done, kind = mutate(run, seed)
    right = expected(run, undamaged.states)
    came = {name: outcome(name, read, right, run) for name, read in readings(run, undamaged.like)}
    if seed % 4 == 0:
        came["save"] = save_onto(run, undamaged, came, right)
    shutil.rmtree(run)
    return done, kind, came


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_damage_is_an_error_or_does_not_matter(undamaged, tmp_path, monkeypatch, chunk):
    with quick(monkeypatch):
        for seed in range(chunk, MUTATIONS, CHUNKS):
            try:
                damage(undamaged, tmp_path / "run", seed)
            except Exception as error:
                raise AssertionError(f"mutation {seed}: {error!r}") from error


def test_without_damage_all_is_right(undamaged):
    right = expected(undamaged.path, undamaged.states)
    for name, read in readings(undamaged.path, undamaged.like):
        assert outcome(name, read, right, undamaged.path) == "right"


def test_another_number_in_the_record(undamaged, run, monkeypatch):
    path = run / "checkpoints" / str(LATEST) / "record" / "metadata"
    text = path.read_text()
    for old, new in (('"test_acc": 0.7', '"test_acc": 0.8'), (f'"best": {MAX}', '"best": null')):
        assert old in text
        path.write_text(text.replace(old, new))
        wrong = pytest.raises(experiment.CheckpointError, match=f"/{LATEST}: .* checksum")
        with quick(monkeypatch), wrong:
            experiment.Checkpoints(run).history()


# ------------------------------------------------------------------ names that are not ours


@pytest.fixture
def outside(undamaged, tmp_path):
    """Checkpoints of another run, which must stay as they are."""
    folder = pathlib.Path(shutil.copytree(undamaged.path / "checkpoints", tmp_path / "outside"))
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CUT_OFF = "99.orbax-checkpoint-tmp"
NOT_A_STEP = (
    *("-1", "+1", "007", "1.5", "1e3", "0x99", "1_000", "99_", "9" * 30, "9" * 200),
    *("\u0669\u0669", "9\u0669", "\u00b2", "99 ", "99\n", " 99"),  # digits to some, but not to us
    *("latest", "...", CUT_OFF),
)


@pytest.mark.parametrize("form", ["copy", "folder", "file", "link"])
def test_what_is_not_named_as_a_step_is_passed_over(undamaged, run, outside, form):
    for name in NOT_A_STEP:
        path = run / "checkpoints" / name
        if form == "copy":
            shutil.copytree(outside / str(MAX), path)
        elif form == "folder":
            path.mkdir()
        elif form == "file":
            path.write_text("")
        else:
            path.symlink_to(outside / str(MAX))
    assert_all_right(run, undamaged, LATEST)
    experiment.Checkpoints(run).save(undamaged.states[NEXT], history(NEXT))
    assert_all_right(run, undamaged, NEXT)
    names = {path.name for path in (run / "checkpoints").iterdir()}
    left = {CUT_OFF} if form in ("copy", "folder") else set()  # what a kill leaves is removed
    assert names == {*NOT_A_STEP, str(MAX), str(NEXT)} - left


def assert_all_right(run, undamaged, latest):
    right = expected(run, undamaged.states)
    right |= {f"{name} latest": v for name, v in truth(undamaged.states, latest).items()}
    for name, read in readings(run, undamaged.like):
        assert outcome(name, read, right, run) == "right"


@pytest.mark.parametrize("step", [7, LATEST, 90, NEXT])
def test_a_link_in_place_of_a_checkpoint(undamaged, run, outside, step):
    """It is passed over, not written to, and what it leads to is not removed."""
    link = run / "checkpoints" / str(step)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(outside / str(LATEST))
    assert_all_right(run, undamaged, MAX if step == LATEST else LATEST)
    checkpoints = experiment.Checkpoints(run)
    if step == NEXT:
        with pytest.raises(experiment.CheckpointWriteError, match=f"checkpoints/{NEXT}: "):
            checkpoints.save(undamaged.states[NEXT], history(NEXT))
        assert_all_right(run, undamaged, LATEST)
    else:
        checkpoints.save(undamaged.states[NEXT], history(NEXT))
        assert_all_right(run, undamaged, NEXT)
    assert link.is_symlink()


def test_a_link_in_place_of_all_checkpoints(undamaged, run, outside):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(outside)
    checkpoints = experiment.Checkpoints(run)
    for use in (
        checkpoints.step,
        checkpoints.history,
        lambda: checkpoints.restore(undamaged.like),
        lambda: checkpoints.save(undamaged.states[NEXT], history(NEXT)),
        lambda: experiment.load_model(run),
    ):
        with pytest.raises(experiment.CheckpointError, match="checkpoints is a link"):
            use()


@pytest.mark.slow
def test_a_link_in_place_of_what_is_being_written(undamaged, run, outside):
    (run / "checkpoints" / f"{NEXT}.orbax-checkpoint-tmp").symlink_to(outside)
    with pytest.raises(experiment.CheckpointWriteError, match=f"checkpoints/{NEXT}: "):
        experiment.Checkpoints(run).save(undamaged.states[NEXT], history(NEXT))
    assert_all_right(run, undamaged, LATEST)


@pytest.mark.parametrize("form", ["link", "folder", "file"])
def test_what_is_in_place_of_what_is_being_removed(undamaged, run, outside, form):
    removed = run / "checkpoints" / "removed"
    if form == "link":
        removed.symlink_to(outside)
    elif form == "folder":
        shutil.copytree(outside, removed)
    else:
        removed.write_text("")
    experiment.Checkpoints(run).save(undamaged.states[NEXT], history(NEXT))
    assert_all_right(run, undamaged, NEXT)
    assert [path.name for path in checkpoints_of(run)] == [str(NEXT), str(MAX)]


def test_a_link_inside_a_checkpoint(undamaged, run, outside):
    """Its numbers are those of the checksum; removing the checkpoint removes the link alone."""
    params = run / "checkpoints" / str(LATEST) / "params"
    shutil.rmtree(params)
    params.symlink_to(outside / str(LATEST) / "params")
    assert_all_right(run, undamaged, LATEST)
    experiment.Checkpoints(run).save(undamaged.states[NEXT], history(NEXT))
    assert_all_right(run, undamaged, NEXT)


@pytest.mark.slow
def test_what_looks_like_a_later_checkpoint(undamaged, run):
    """The error says which folder is in the way."""
    (run / "checkpoints" / "999").mkdir()
    checkpoints = experiment.Checkpoints(run)
    wrong = pytest.raises(experiment.CheckpointError, match=r"checkpoints/999: .* remove it")
    for use in (
        checkpoints.step,
        lambda: checkpoints.restore(undamaged.like),
        lambda: checkpoints.save(undamaged.states[NEXT], history(NEXT)),
    ):
        with wrong:
            use()
    (run / "checkpoints" / "999").rmdir()
    assert_all_right(run, undamaged, LATEST)


@pytest.mark.slow
def test_a_checkpoint_under_another_number_is_not_removed(undamaged, run):
    (run / "checkpoints" / str(MAX)).rename(run / "checkpoints" / "7")
    experiment.Checkpoints(run).save(undamaged.states[NEXT], history(NEXT))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [str(NEXT), "7"]
    (run / "checkpoints" / "7").rename(run / "checkpoints" / str(MAX))
    assert_all_right(run, undamaged, NEXT)


# ------------------------------------------------------------------ on the command line

EPOCHS = 4
TRAIN = pathlib.Path(__file__).parent.parent / "train.py"


@pytest.fixture(scope="module")
def train():
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(train, capfd, monkeypatch):
    """Runs the command line: what it prints if its status is 0, or its one line of error."""
    monkeypatch.setattr(optax, "identity", functools.cache(optax.identity))  # compiled once

    def run(*args):
        capfd.readouterr()
        status = 0
        try:
            experiment.main(train.train, train.LOSS, [str(arg) for arg in args])
        except SystemExit as end:
            status = end.code
        told = capfd.readouterr()
        if status == 0:
            assert told.err == ""
            return told.out, None
        assert status == 2
        assert told.err.startswith("train.py: error: "), told.err
        assert told.err.count("\n") == 1, told.err
        return None, told.err

    names = ("jax_default_device", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in names}
    yield run
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """A run that has ended, and the same stopped before its last epoch; not to be changed."""
    out = tmp_path_factory.mktemp("trained")
    save = experiment.Checkpoints.save

    def save_and_stop(checkpoints, state, history):
        save(checkpoints, state, history)
        if len(history) == EPOCHS - 1:
            raise KeyboardInterrupt

    args = ["--epochs", str(EPOCHS), "--dataset", "fashion_mnist_mini", "-b", "250"]
    args += ["--save-every", "0"]
    experiment.main(train.train, train.LOSS, [*args, "--out-dir", str(out / "ended")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.Checkpoints, "save", save_and_stop)
        with pytest.raises(SystemExit):
            experiment.main(train.train, train.LOSS, [*args, "--out-dir", str(out / "stopped")])
    (ended,), (stopped,) = (out / "ended").iterdir(), (out / "stopped").iterdir()
    assert len(checkpoints_of(ended)) == len(checkpoints_of(stopped)) == 2
    return ended, stopped


@pytest.mark.slow
def test_evaluating_a_damaged_run(trained, command, tmp_path):
    run = tmp_path / "run"
    told = collections.Counter()
    shutil.copytree(trained[0], run)
    right, _ = command("--evaluate", run)
    for seed in range(max(20, MUTATIONS // 10)):
        shutil.rmtree(run)
        shutil.copytree(trained[0], run)
        what = mutate(run, seed)
        out, error = command("--evaluate", run)
        assert out == right if error is None else str(run) in error, (seed, what, out)
        told[error is None] += 1
    assert len(told) == 2


@pytest.mark.slow
def test_resuming_a_damaged_run(trained, command, tmp_path):
    """The end is that of the run that was never stopped, to the last bit; or nothing is changed."""
    ended, stopped = trained
    told = collections.Counter()
    for seed in range(max(5, MUTATIONS // 40)):
        run = tmp_path / str(seed)
        shutil.copytree(stopped, run)
        what = mutate(run, seed)
        before = contents(run / "checkpoints")
        _, error = command("--resume", run)
        if error is None:
            assert final(run) == final(ended), (seed, what)
        else:
            assert str(run) in error, (seed, what)
            assert contents(run / "checkpoints") == before
        told[error is None] += 1
    assert len(told) == 2


def final(run):
    """Parameters and all else of the latest checkpoint, and the rows but for times."""
    settings = experiment.read_config(run)["settings"]
    _, like = training.create(
        experiment.build_model(experiment.Config(**settings)),
        optax.sgd(optax.constant_schedule(0.1), momentum=0.9),
        to_sequence=data.columns,
        batch_size=1,
        seed=0,
    )
    state, rows = experiment.Checkpoints(run).restore(like)
    table = run_files.table(run)
    flat = [dict(row) for row in rows]
    for row in flat:
        row |= {f"firing_rate/{k}": rate for k, rate in row.pop("firing_rates").items()}
    assert table == [pytest.approx(row) for row in flat]
    timeless = [{k: v for k, v in row.items() if not k.endswith("_per_s")} for row in rows]
    return bits(state), timeless
