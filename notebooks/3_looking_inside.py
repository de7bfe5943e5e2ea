# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Looking inside
#
# You will learn
#
# - how to record every spike, potential and current of a trained network;
# - when in the course of reading an image the answer comes about;
# - how to ask a state what it knows, with a linear probe;
# - how to take memory away from a trained network, by editing its carry;
# - what time constant the synapses learn, and how much it matters.
#
# The networks are those of
# [2. Recurrent connections and stateful synapses](2_recurrent_and_stateful.ipynb), which explains
# them.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from jaxsnn import data, losses, models, nn, plotting, training

SMALL = os.environ.get("JAXSNN_NOTEBOOK_SMALL") == "1"  # a short run on 2,000 images, for tests

plt.rcParams.update(plotting.STYLE)

# %% [markdown]
# ## Three trained networks
#
# As in notebook 2, for 40 epochs, and with the gradient of all three clipped, which feedback needs.
# The time constant that `ss` learns is noted after every epoch, for later.

# %%
EPOCHS, BATCH = (2, 256) if SMALL else (40, 256)

images = data.load("fashion_mnist_mini" if SMALL else "fashion_mnist")
train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
test_set = jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
test_xs, test_labels = data.columns(test_set[0]), test_set[1]

rate = training.cosine_schedule(0.1, EPOCHS, len(train_set[0]) // BATCH)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, momentum=0.9))

nets, taus = {}, [2.0]
for name, model in models.MODELS.items():
    recipe, state = training.create(
        model(rngs=nnx.Rngs(0)), optimizer, to_sequence=data.columns, batch_size=BATCH, seed=0
    )
    for _ in range(EPOCHS):
        state, _ = training.train_epoch(recipe, state, *train_set)
        if name == "ss":
            taus.append(float(training.merge(recipe, state).fc[2].tau))
    nets[name] = training.merge(recipe, state)
    accuracy = training.evaluate(recipe, state, *test_set).accuracy
    print(f"{name}: test accuracy {100 * accuracy:.1f} %")

# %% [markdown]
# ## Recording
#
# `nn.unroll(net.fc, xs, record="*")` returns all of this
# ([Look inside a network](../docs/how-to/look-inside.md)). Here it is by hand, to see what happens: run
# the layers step by step, and put the carries out. Each network has a stack of layers `fc`. A layer
# with a state has `initialize_carry` and is called with its state; any other is called with its input
# alone.


# %%
@jax.jit
def record(fc, xs):
    """States and outputs of every layer of a Sequential in every step, each [T, N, ...]."""

    def step(carry, x):
        states, outputs = [], []
        for layer, state in zip(fc.layers, carry, strict=True):
            if hasattr(layer, "initialize_carry"):
                state, x = layer(state, x)
            else:
                x = layer(x)
            states.append(state)
            outputs.append(x)
        return tuple(states), (states, outputs)

    _, (states, outputs) = jax.lax.scan(step, fc.initialize_carry(xs.shape[1:]), xs)
    return states, outputs


# %% [markdown]
# One image, seen by the three networks:

# %%
example = int(jnp.argmax(test_labels == 8))  # the first bag
one = test_xs[:, example : example + 1]  # [T, 1, 28]
runs = {name: record(net.fc, one) for name, net in nets.items()}

fig, axes = plt.subplots(4, 1, figsize=(5.0, 8.0), height_ratios=(1.5, 1, 1, 1), sharex=True)
axes[0].imshow(images.test_images[example], cmap="gray", aspect="auto")
axes[0].set(ylabel="row", title="the image: in each time step one column is read")
for ax, (name, (_, outputs)) in zip(axes[1:], runs.items(), strict=True):
    plotting.raster(outputs[1][:, 0], ax=ax)
    ax.set(title=f"{name}: spikes of the 32 hidden neurons", xlabel="")
ax.set_xlabel("time step")
plt.show()

# %%
for name, net in nets.items():
    _, outputs = record(net.fc, test_xs[:, :1000])
    print(f"{name}: a hidden neuron fires in {100 * outputs[1].mean():.0f} % of all steps")

# %% [markdown]
# ### Potentials and currents
#
# The carry of an IF neuron is its potential after the reset; that of the synapse filter is its
# current; that of the recurrent container is a pair, the potential of the neurons inside and their
# last output.

# %%
fig, axes = plt.subplots(3, 1, figsize=(5.5, 6.0), sharex=True)
neurons = slice(0, 4)
states, outputs = runs["plain"]
plotting.membrane(states[1][:, 0, neurons], threshold=1.0, ax=axes[0])
axes[0].set(title="plain: potentials of four hidden neurons", xlabel="")
states, outputs = runs["ss"]
plotting.current(states[2][:, 0, neurons], ax=axes[1])
axes[1].set(title="ss: the currents behind four hidden neurons", xlabel="")
(potential, feedback), outputs = runs["fb"][0][1], runs["fb"][1]
plotting.membrane(potential[:, 0, neurons], threshold=1.0, ax=axes[2])
axes[2].set(title="fb: potentials of four hidden neurons")
plt.show()

# %% [markdown]
# Nothing holds a potential from below. Some neurons sink far beneath the threshold and fall silent,
# and while they do they add up what they have seen.
#
# The output layer decides by its spikes. Here the neuron of the right class and two others:

# %%
shown = {"bag": 8, "shirt": 6, "ankle boot": 9}
fig, axes = plt.subplots(3, 1, figsize=(5.5, 6.5), sharex=True)
for ax, (name, (states, outputs)) in zip(axes, runs.items(), strict=True):
    columns = jnp.array(list(shown.values()))
    plotting.membrane(
        states[-1][:, 0, columns], threshold=1.0, spikes=outputs[-1][:, 0, columns], ax=ax
    )
    for line, label in zip(ax.lines, shown, strict=False):
        line.set_label(label)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    ax.set(title=f"{name}: output neurons", ylabel="potential")
    if ax is not axes[-1]:
        ax.set_xlabel("")
plt.show()

# %% [markdown]
# ## When does the answer come about, and how long does it last?
#
# The answer is the output neuron that has fired most. We can ask for it after every column (left).
#
# We can also ask how long it lasts. The image goes on with blank, black columns for twice its own
# length, and only the spikes of the last four steps count (right). What they tell once the image is
# over, they tell from memory.

# %%
BLANK = 56


def with_blank(xs):
    """The image, then darkness."""
    return jnp.concatenate([xs, jnp.zeros((BLANK, *xs.shape[1:]))])


@jax.jit
def spikes_of(fc, xs):
    """Output spikes, [T, N, 10]."""
    return nn.unroll(fc, xs)[1]


def accuracy(outputs):
    """Per cent of the test images whose largest output is that of the label."""
    return 100 * float(losses.correct(outputs, test_labels).mean())


fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0), sharey=True, width_ratios=(2, 3))
print("by the last four steps (%):  end of the image, after 28 blank columns, after 56")
for name, net in nets.items():
    so_far = jnp.cumsum(spikes_of(net.fc, with_blank(test_xs)), axis=0)
    axes[0].plot(range(1, 29), [accuracy(counts) for counts in so_far[:28]], label=name)
    last_four = so_far[4:] - so_far[:-4]
    known = dict(zip(range(5, 29 + BLANK), map(accuracy, last_four), strict=True))
    axes[1].plot(known.keys(), known.values(), label=name)
    print(f"{name:6s}", *(f"{known[t]:8.1f}" for t in (28, 56, 84)))
axes[0].set(xlabel="columns read", ylabel="test accuracy (%)", title="by all spikes so far")
axes[1].set(xlabel="columns read", title="by the spikes of the last four steps")
axes[1].axvline(28, color="black", linewidth=0.5)
for ax in axes:
    ax.axhline(10, color="black", linewidth=0.5)
    ax.grid(axis="y")
axes[0].legend()
plt.show()

# %% [markdown]
# After 15 columns `ss` and `fb` are about where `plain` is at the end. From then on they tell the
# answer in any four steps, while that of `plain` comes and goes.
#
# In the dark all three lose it, `plain` fastest and `ss` most slowly. None was asked to keep it: in
# training the sequence ended with the image.
#
# ## What does the state remember of the past?
#
# After the last column the image is gone and only the state is left. A **linear probe** asks what
# is in it: a linear regression, from the state of the hidden layer to something about the past.
# Here, to the mean brightness of each column. What it can tell of images that were not used for
# the fit is the share of the variance explained, $R^2$: 1 is perfect, 0 is no better than the mean.
#
# Neighbouring columns look alike, so some of the past can be guessed from the present. The grey
# line is the control: the same regression from the last column itself.

# %%
PROBE = min(10_000, len(train_set[0]))
probe_xs, probe_labels = data.columns(train_set[0][:PROBE]), train_set[1][:PROBE]


@jax.jit
def states_of(fc, xs):
    """The carry after every step."""

    def step(carry, x):
        carry, _ = fc(carry, x)
        return carry, carry

    _, states = jax.lax.scan(step, fc.initialize_carry(xs.shape[1:]), xs)
    return states


def hidden_state(name, states):
    """What the hidden layer can remember, part by part, each [T, N, 32]."""
    if name == "ss":
        return {"potentials": states[1], "currents": states[2]}
    if name == "fb":
        return dict(zip(("potentials", "last spikes"), states[1], strict=True))
    return {"potentials": states[1]}


@jax.jit
def fit(features, targets):
    """Weights of a ridge regression with a constant term, [features + 1, targets]."""
    a = jnp.pad(features, ((0, 0), (0, 1)), constant_values=1.0)
    return jnp.linalg.solve(a.T @ a / len(a) + 1e-4 * jnp.eye(a.shape[1]), a.T @ targets / len(a))


@jax.jit
def predict(weights, features):
    """What the regression says."""
    return features @ weights[:-1] + weights[-1]


def explained(features, targets, test_features, test_targets):
    """Share of the variance explained on the test images, one number per target."""
    error = test_targets - predict(fit(features, targets), test_features)
    return 1 - jnp.mean(error**2, axis=0) / jnp.var(test_targets, axis=0)


brightness, test_brightness = probe_xs.mean(axis=-1).T, test_xs.mean(axis=-1).T  # [N, T]


def memory_of_columns(name, net):
    """How well the last hidden state tells the brightness of each column, [T]."""

    def last(xs):
        parts = hidden_state(name, states_of(net.fc, xs))
        return jnp.concatenate([part[-1] for part in parts.values()], axis=-1)

    return explained(last(probe_xs), brightness, last(test_xs), test_brightness)


fig, ax = plt.subplots(figsize=(5.5, 3.4))
print("mean over all columns:")
for name, net in nets.items():
    known = memory_of_columns(name, net)
    before = memory_of_columns(name, models.MODELS[name](rngs=nnx.Rngs(0)))
    ax.plot(known, label=name)
    print(f"  {name:17s} {known.mean():.2f}, before training {before.mean():.2f}")
control = explained(probe_xs[-1], brightness, test_xs[-1], test_brightness)
ax.plot(control, color="grey", linestyle=":", label="last column only")
print(f"  last column only  {control.mean():.2f}")
ax.set(xlabel="column", ylabel="variance explained", ylim=(0, 1))
ax.set_title("what the last state knows of each column's brightness")
ax.legend()
plt.show()

# %% [markdown]
# All three states know far more of the past than the last column lets one guess, and training makes
# them know more, above all with feedback. Best known are the columns in the middle. The very last
# one is known less well than those just before it: in a potential it is but one contribution among
# many.
#
# ### After the image has gone
#
# The same question for the *class*, by a regression onto the one-hot label, fitted anew for each
# time step, while the image is read and in the darkness that follows.

# %%
times = range(3, 28 + BLANK, 2)
one_hot = jax.nn.one_hot(probe_labels, 10)

fig, ax = plt.subplots(figsize=(6.0, 3.6))
for name, net in nets.items():
    fitted_on = hidden_state(name, states_of(net.fc, with_blank(probe_xs)))
    tested_on = hidden_state(name, states_of(net.fc, with_blank(test_xs)))
    for part, states in fitted_on.items():
        known = {t: accuracy(predict(fit(states[t], one_hot), tested_on[part][t])) for t in times}
        ax.plot(known.keys(), known.values(), label=f"{name}: {part}")
        print(
            f"{name}: {part:12s} {known[27]:.1f} % after the last column, "
            f"{known[83]:.1f} % after {BLANK} blank ones"
        )
ax.axvline(27, color="black", linewidth=0.5)
ax.set(xlabel="time step (the image ends at the line)", ylabel="class read from the state (%)")
ax.set_ylim(bottom=0)
ax.legend()
plt.show()

# %% [markdown]
# The states still hold the class when the spikes have long ceased to tell it. An IF neuron has no
# leak, so its potential keeps what it has added up, also far below the threshold, and a regression
# can read it. The network cannot: only spikes leave a neuron. **To hold something is not yet to use
# it.** The synaptic current, and the feedback, hand on what has been in every step.
#
# ## Taking memory away
#
# The state is an argument, so to take a part of it away one edits the carry before each step. The
# network stays as it was trained.


# %%
@functools.partial(jax.jit, static_argnums=2)
def rates_with(fc, xs, edit):
    """Firing rates of the output when `edit` changes the carry before each step."""

    def step(carry, x):
        return fc(edit(carry), x)

    _, spikes = jax.lax.scan(step, fc.initialize_carry(xs.shape[1:]), xs)
    return spikes.mean(axis=0)


def forget(*path):
    """Returns an edit that sets one part of the carry to zero: for (1, 0) this is carry[1][0]."""

    def edit(carry, path=path):
        if not path:
            return jnp.zeros_like(carry)
        entries = list(carry)
        entries[path[0]] = edit(entries[path[0]], path[1:])
        return tuple(entries)

    return edit


edits = {
    "plain": {
        "nothing": lambda carry: carry,
        "hidden potential": forget(1),
        "output potential": forget(3),
    },
    "ss": {
        "nothing": lambda carry: carry,
        "hidden potential": forget(1),
        "synaptic current": forget(2),
        "output potential": forget(4),
    },
    "fb": {
        "nothing": lambda carry: carry,
        "hidden potential": forget(1, 0),
        "feedback": forget(1, 1),
        "output potential": forget(3),
    },
}
print("test accuracy (%) when this is set to 0 before each step:")
for name, of_net in edits.items():
    for what, edit in of_net.items():
        rates = rates_with(nets[name].fc, test_xs, edit)
        print(f"  {name:6s} {what:18s} {accuracy(rates):5.1f}")

# %% [markdown]
# - `plain` relies on both its potentials.
# - `ss` hardly needs the potentials of its output, since the current says in every step anew what has
#   been. It relies on the current, and on the hidden potentials behind it.
# - `fb` relies on its feedback most, on its hidden potentials too, and little on those of the output.
#
# Such a table tells what *these* networks lean on, no more. What is taken away also changes how
# strongly neurons are driven: a synaptic current reset in each step is at most 1, where the output
# was trained with currents many times larger. A network trained without the current from the start
# is `plain`.
#
# ## The learned time constant
#
# The synapse filter started at $\tau = 2$ steps:


# %%
@jax.jit
def rates_at(net, tau):
    """Firing rates of the ss network with another time constant."""
    graphdef, params = nnx.split(net)
    other = nnx.merge(graphdef, params)  # a copy: the trained network stays as it is
    other.fc[2].w[...] = -jnp.log(tau - 1)  # 1 / tau = sigmoid(w)
    return other(test_xs)


grid = np.geomspace(1.1, 1000, 25, dtype=np.float32)
of_tau = [accuracy(rates_at(nets["ss"], tau)) for tau in grid]

fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0))
axes[0].plot(taus)
axes[0].set(xlabel="epoch", ylabel="time constant (time steps)", title="while training")
axes[1].semilogx(grid, of_tau)
axes[1].axvline(taus[-1], color="black", linestyle="--", linewidth=0.8, label="learned")
axes[1].set(xlabel="time constant (time steps)", ylabel="test accuracy (%)")
axes[1].set_title("changed after training")
axes[1].legend()
plt.show()

print(f"learned: {taus[-1]:.1f} time steps")
for tau in (2.0, taus[-1], 1000.0):
    print(f"test accuracy at {tau:6.1f}: {accuracy(rates_at(nets['ss'], jnp.float32(tau))):.1f} %")

# %% [markdown]
# Training has made it longer, of the order of the 28 steps that an image takes. Afterwards a longer
# one does little harm, and a shorter one much.
#
# ## Where to go next
#
# - [5. Make it yours](5_make_it_yours.ipynb): your own neuron, surrogate and container; everything
#   in this notebook works for them too.
# - [4. Coming from SpikingJelly](4_from_spikingjelly.ipynb): explicit state, streaming, truncated
#   backpropagation.
# - [Results](../docs/results.md): the accuracies over several seeds.
