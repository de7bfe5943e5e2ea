# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Make it yours
#
# You will learn
#
# - how to write a neuron of your own, with as many state variables as it needs;
# - how to write a surrogate gradient of your own, in two ways;
# - how to write a container of your own, with parameters of its own;
# - how to check such a part in a few lines, and train it.
#
# Everything in `jaxsnn` that has a state is a *cell*, `(carry, x) -> (carry, y)`, and whatever
# keeps to that fits in everywhere: in `unroll`, in `Sequential`, in recurrent containers. It helps
# to know [1. A first spiking neuron](1_first_neuron.ipynb).

# %%
import dataclasses
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import jaxsnn
from jaxsnn import data, nn, plotting, surrogate, training
from jaxsnn.nn.constants import Real, TimeConstant

SMALL = os.environ.get("JAXSNN_NOTEBOOK_SMALL") == "1"  # fewer epochs, for tests

plt.rcParams.update(plotting.STYLE)

# %% [markdown]
# ## Something to train on
#
# The 2,500 images of Fashion-MNIST that come with the package, read column by column as in
# [notebook 2](2_recurrent_and_stateful.ipynb), and a network whose hidden layer is to be filled in.
# A network, or a block of one, is an `nn.Module`: its `forward(x, run)` runs each of its parts by
# `run(part, x)`.

# %%
images = data.fashion_mnist_mini()
train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
test_set = jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
EPOCHS, BATCH, HIDDEN = (2 if SMALL else 30), 50, 32

optimizer = optax.adam(5e-3)


class RateNet(nn.Module):
    """Linear, a hidden cell, Linear, IF; the firing rates of the output."""

    def __init__(self, hidden, *, rngs):
        self.layers = nn.Sequential(
            nn.Linear(28, HIDDEN, rngs=rngs),
            hidden,
            nn.Linear(HIDDEN, 10, rngs=rngs),
            nn.IFNode(surrogate_function=surrogate.ATan()),
        )

    def forward(self, xs, run):
        run.require_whole_sequence(self)  # because of the mean over time
        return run(self.layers, xs).mean(axis=0)  # [T, N, 10] -> [N, 10]


curves = {}


def train(name, hidden):
    """Trains a RateNet around a hidden cell; notes its test accuracy (%) after each epoch."""
    recipe, state = training.create(
        RateNet(hidden, rngs=nnx.Rngs(0)),
        optimizer,
        to_sequence=data.columns,
        batch_size=BATCH,
        seed=0,
    )
    untrained = training.evaluate(recipe, state, *test_set)
    curve = []
    for _ in range(EPOCHS):
        state, _ = training.train_epoch(recipe, state, *train_set)
        tested = training.evaluate(recipe, state, *test_set)
        curve.append(100 * float(tested.accuracy))
    curves[name] = curve
    print(
        f"{name}: loss {untrained.loss:.3f} -> {tested.loss:.3f}, "
        f"accuracy {100 * untrained.accuracy:.0f} -> {curve[-1]:.0f} %"
    )
    return training.merge(recipe, state)


net = train("IFNode", nn.IFNode(surrogate_function=surrogate.ATan()))

# %% [markdown]
# ## A neuron: an adaptive threshold
#
# Many neurons tire: the more they have fired of late, the harder they are to fire. A LIF neuron
# does so with a second state variable $a$, which grows with each spike, decays slowly, and raises
# the threshold:
#
# $$h = v - v/\tau + x, \quad s = H(h - (1 + \beta a)), \quad
#   v \leftarrow (1 - s)\, h, \quad a \leftarrow a - a/\tau_a + s.$$
#
# A neuron is a declaration: its constants, each with the range that it may have, and `step`, a pure
# function of one time step. With more than one state variable, a NamedTuple keeps their names.
# $\beta$ is learned, by default from 0.2 on.


# %%
class Adaptive(NamedTuple):
    """State of an adaptive neuron."""

    v: jax.Array
    a: jax.Array


class AdaptiveLIFNode(nn.Neuron):
    """LIF neuron with an adaptive threshold; time constants in time steps."""

    tau: TimeConstant = 10.0
    tau_a: TimeConstant = 10.0
    beta: Real = nn.learnable(0.2)
    state = Adaptive

    @staticmethod
    def step(state, x, *, tau, tau_a, beta, v_threshold, surrogate_function, **_):
        v, a = state
        h = v - v / tau + x
        s = surrogate_function(h - (v_threshold + beta * a))
        return Adaptive(v=(1 - s) * h, a=a - a / tau_a + s), s


ATAN = surrogate.ATan()
print(AdaptiveLIFNode(tau_a=20.0, surrogate_function=ATAN))


# %% [markdown]
# At a constant current it fires less and less, until rise and decay of the threshold balance:

# %%
cell, current = AdaptiveLIFNode(tau_a=20.0), jnp.full((60, 1), 0.6)


def step(carry, x):
    """One step that also outputs the state."""
    carry, s = cell(carry, x)
    return carry, (carry, s)


_, (states, spikes) = jax.lax.scan(step, cell.initialize_carry((1,)), current)
fig, axes = plt.subplots(2, 1, figsize=(5.5, 3.2), sharex=True, height_ratios=(1, 6))
plotting.raster(spikes, ax=axes[0])
axes[0].set(xlabel="", ylabel="", yticks=[], title="spikes, potential and threshold (dashed)")
plotting.membrane(states.v[:, 0], ax=axes[1])
axes[1].plot(1 + cell.beta * states.a[:, 0], "k--", linewidth=0.8)
plt.show()

# %% [markdown]
# ### Three things to check
#
# A sequence in chunks must give what the whole gives, the carry must keep its structure, and every
# gradient must be finite. For any cell of yours:


# %%
def check(cell, xs):
    """The contract of a cell, on a sequence [T, N, features]."""
    first = cell.initialize_carry(xs.shape[1:])
    carry, whole = nn.unroll(cell, xs)
    assert jax.tree.structure(first) == jax.tree.structure(carry)

    carry, part_1 = nn.unroll(cell, xs[:5])
    carry, part_2 = nn.unroll(cell, xs[5:], carry)
    np.testing.assert_allclose(jnp.concatenate([part_1, part_2]), whole, atol=1e-6)

    gradients = jax.grad(lambda cell, xs: nn.unroll(cell, xs)[1].sum(), argnums=(0, 1))(cell, xs)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))


some = jax.random.uniform(jax.random.key(0), (12, 4, HIDDEN))
check(AdaptiveLIFNode(), some)

# %% [markdown]
# And it learns, alone or inside a recurrent container:

# %%
net = train("AdaptiveLIFNode", AdaptiveLIFNode(surrogate_function=ATAN))
print("beta:", net.layers[1].beta)

neuron = AdaptiveLIFNode(surrogate_function=ATAN)
inside = nn.LinearRecurrentContainer(neuron, HIDDEN, HIDDEN, rngs=nnx.Rngs(1))
print(inside)
net = train("AdaptiveLIFNode with feedback", inside)

# %% [markdown]
# Look at $\beta$: learning has turned its sign. After a spike these neurons are *easier* to fire, so
# one that has fired tends to go on. That is of use here, where a network has to remember what it has
# seen, and tired neurons are not. (To keep $\beta$ positive, annotate it with `Positive`. For a
# $\beta$ of each neuron, pass `beta=nn.learnable(jnp.full(HIDDEN, 0.2))`.)
#
# ### If it did not learn
#
# `jaxsnn.doctor` runs one batch forward and back and says of each layer, yours too, how much it
# fires, how many of its potentials are where the surrogate lets a gradient through, and what
# gradient arrives; in plain words if something is wrong.

# %%
xs, labels = data.columns(images.train_images[:256]), images.train_labels[:256]
print(jaxsnn.doctor(RateNet(neuron, rngs=nnx.Rngs(0)), xs, labels))

# %% [markdown]
# The neurons fire little, but a quarter of their potentials are inside the window, and gradients
# arrive everywhere. ([My network does not learn](../docs/how-to/doctor.md) explains the columns.)
#
# ## A surrogate
#
# Anything that maps potential less threshold to spikes will do as `surrogate_function`. Two ways to
# write one:
#
# **As a class.** Derive a frozen dataclass from `surrogate.Surrogate` and give the smooth function
# (`primal`) and its derivative. The step, the rule for the backward pass and `spiking=False` come
# with it. Frozen, since two with equal settings are then one and the same to `jax.jit`.


# %%
@dataclasses.dataclass(frozen=True)
class RaisedCosine(surrogate.Surrogate):
    """A derivative that is one period of a cosine, raised above 0, `width` to either side."""

    width: float = 1.0
    spiking: bool = True

    def primal(self, u):
        z = jnp.clip(u / self.width, -1, 1)
        return (1 + z + jnp.sin(jnp.pi * z) / jnp.pi) / 2

    def derivative(self, u):
        z = jnp.clip(u / self.width, -1, 1)
        return (1 + jnp.cos(jnp.pi * z)) / (2 * self.width)


plotting.surrogate(RaisedCosine())
plt.show()

u = jnp.linspace(-1.5, 1.5, 7)
by_autodiff = jax.vmap(jax.grad(RaisedCosine(spiking=False)))(u)
print("derivative of the primal", by_autodiff.round(3))
print("surrogate gradient      ", jax.vmap(jax.grad(RaisedCosine()))(u).round(3))

# %% [markdown]
# **As a function,** with `jax.custom_vjp`, when no primal is wanted. This one lets the gradient
# through within half a threshold on either side and nowhere else. (`surrogate.Rect()` is the same
# as a class; look into `jaxsnn.surrogate` before you write one, it has many.)


# %%
@jax.custom_vjp
def window(u):
    """A step with a window as its derivative."""
    return (u >= 0).astype(u.dtype)


window.defvjp(
    lambda u: (window(u), u),  # forward: the spikes, and what the backward pass needs
    lambda u, g: (g * (jnp.abs(u) < 0.5),),  # backward: one gradient per argument
)

# %%
net = train("RaisedCosine", nn.IFNode(surrogate_function=RaisedCosine()))
net = train("window", nn.IFNode(surrogate_function=window))

# %% [markdown]
# ## A container
#
# `ElementWiseRecurrentContainer` feeds every neuron's output back to itself, by a fixed function.
# Suppose each neuron should learn how strongly:
#
# $$i[t] = x[t] + g \cdot y[t-1], \qquad y[t] = \mathrm{sub\_module}(i[t]).$$
#
# A container is a cell that calls another cell. Its carry holds the carry of that cell.


# %%
class SelfFeedback(nn.Cell):
    """Feeds each output back to its own input, with a learned strength."""

    def __init__(self, sub_module, features):
        self.sub_module = sub_module
        self.g = nnx.Param(jnp.zeros(features))

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        inner = self.sub_module.initialize_carry(input_shape, rngs, dtype=dtype)
        return inner, jnp.zeros(input_shape, dtype)

    def __call__(self, carry, x):
        inner, y = carry
        inner, y = self.sub_module(inner, x + self.g[...] * y)
        return (inner, y), y


check(SelfFeedback(nn.IFNode(), HIDDEN), some)
print(SelfFeedback(nn.IFNode(), HIDDEN))
net = train("SelfFeedback", SelfFeedback(nn.IFNode(surrogate_function=surrogate.ATan()), HIDDEN))

fig, ax = plt.subplots(figsize=(5.0, 2.2))
ax.bar(range(HIDDEN), np.sort(net.layers[1].g[...]))
ax.set(xlabel="hidden neuron, sorted", ylabel="learned feedback g")
plt.show()

# %% [markdown]
# Nearly all neurons have learned to excite themselves, as those with the adaptive threshold did in
# their way: who has fired, goes on firing.
#
# ## Side by side

# %%
fig, ax = plt.subplots(figsize=(6.0, 3.6))
plotting.learning_curves(curves, ax=ax)
plt.show()

# %% [markdown]
# All of them learn. That is all this shows: one seed, 2,000 images, nothing tuned, and with 500 test
# images differences of a few per cent mean nothing.
#
# ## Where to go next
#
# - Look into what you have built as in [3. Looking inside](3_looking_inside.ipynb).
# - Train it on all 60,000 images, `data.fashion_mnist()`, or on
#   [data of your own](../docs/how-to/own-data.md).
# - [Write a block, a neuron, a surrogate](../docs/how-to/extend.md) says more of what a cell may and
#   must do, and shows blocks: residual, U-net, squeeze-and-excite.
# - How the parts that come with the package are written: [neurons](../jaxsnn/nn/_neurons.py),
#   [containers](../jaxsnn/nn/_containers.py), [surrogates](../jaxsnn/surrogate/_windows.py).
