# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. A first spiking neuron
#
# You will learn
#
# - what a spiking neuron does in one time step: charge, fire, reset;
# - how the integrate-and-fire (IF) neuron differs from the leaky one (LIF), and the hard reset
#   from the soft one;
# - what a surrogate gradient is, and what it is not;
# - how to take a gradient through spikes, and to train a neuron with it.
#
# You need Python and a little NumPy, and no knowledge of neurons. Time is counted in time steps,
# and potentials have no unit: a neuron fires at the threshold 1.
#
# To run this yourself, in a clone of the repository: `pip install -e ".[notebooks]"`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from jaxsnn import functional, nn, plotting, surrogate

plt.rcParams.update(plotting.STYLE)

# %% [markdown]
# ## Charge, fire, reset
#
# A spiking neuron has one number to remember, its membrane potential $v$. In each time step it
#
# 1. **charges**: the input current $x$ is added to the potential, $h = v + x$;
# 2. **fires** if the potential has reached the threshold: $s = 1$ if $h \geq 1$, else $s = 0$;
# 3. **resets** the potential if it has fired: $v = 0$, else $v = h$.
#
# That is the integrate-and-fire (IF) neuron. By hand:

# %%
v = 0.0
for t, x in enumerate([0.4, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0, 0.4]):
    h = v + x  # charge
    s = float(h >= 1.0)  # fire
    v = (1 - s) * h  # reset
    print(f"t={t}  x={x:.1f}  h={h:.1f}  s={s:.0f}  v={v:.1f}")

# %% [markdown]
# Where no current comes in, the potential stays what it was: an IF neuron does not forget. In
# `jaxsnn` the same step is the pure function `functional.if_step`: old potential and input go in,
# new potential and spike come out.

# %%
settings = {
    "v_threshold": 1.0,
    "v_reset": 0.0,
    "surrogate_function": surrogate.ATan(),  # matters for gradients only, see below
    "detach_reset": False,
}
v = jnp.zeros(3)  # three neurons
v, s = functional.if_step(v, jnp.array([0.4, 0.8, 1.2]), **settings)
print("potential", v, "spikes", s)

# %% [markdown]
# For networks there is the *cell* `nn.IFNode`, which holds the settings. The potential is not
# inside it. It is the cell's *carry*, an argument and a result, as everywhere in `jaxsnn`.
# `nn.unroll` runs a cell over a whole sequence, time first.

# %%
neuron = nn.IFNode()
print(neuron)

v = neuron.initialize_carry((1,))
v, s = neuron(v, jnp.array([0.4]))  # one time step
print("after one step: potential", v, "spike", s)

xs = jnp.array([0.4, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0, 0.4])[:, None]  # [T, neurons]
v, spikes = nn.unroll(neuron, xs)  # all time steps
print("spikes", spikes[:, 0], "last potential", v)

# %% [markdown]
# `unroll` returns the last potential, and all of them if asked to
# [`record`](../docs/how-to/look-inside.md) them. Here it is by hand, to see what happens: a scan that
# puts the carry out in every step. A cell is a body for `jax.lax.scan`, so this is short:


# %%
def record(neuron, xs):
    """The potential after every step, and the spikes; xs is [T, neurons]."""

    def step(v, x):
        v, s = neuron(v, x)
        return v, (v, s)

    _, (potentials, spikes) = jax.lax.scan(step, neuron.initialize_carry(xs.shape[1:]), xs)
    return potentials, spikes


# %% [markdown]
# ## Hard and soft reset, with and without leak
#
# - A **hard reset** sets the potential to `v_reset`. What it had above the threshold is lost.
# - A **soft reset** (`v_reset=None`) subtracts the threshold. What was above it is kept.
# - A **leaky** integrate-and-fire (LIF) neuron also loses in each step the share $1/\tau$ of its
#   potential, where the time constant $\tau$ is in time steps: $h = v - v/\tau + x$.
#
# `nn.LIFNode` divides the input by $\tau$ too, $h = v + (x - v)/\tau$, unless it is told
# `decay_input=False`. Told so, it charges like the IF neuron, which makes comparing easier.
# Three neurons get the same random current:

# %%
xs = jnp.asarray(np.random.default_rng(0).uniform(0.0, 0.8, (40, 1)), jnp.float32)
neurons = {
    "IF, hard reset": nn.IFNode(),
    "IF, soft reset": nn.IFNode(v_reset=None),
    "LIF, tau = 4, hard reset": nn.LIFNode(tau=4.0, decay_input=False),
}
fig, axes = plt.subplots(4, 1, figsize=(6.5, 7.0), sharex=True)
plotting.current(xs[:, 0], ax=axes[0])
axes[0].set(ylabel="input current", title="input", xlabel="")
for ax, (name, neuron) in zip(axes[1:], neurons.items(), strict=True):
    potentials, spikes = record(neuron, xs)
    plotting.membrane(potentials[:, 0], threshold=1.0, spikes=spikes[:, 0], ax=ax)
    ax.set_title(f"{name}: {int(spikes.sum())} spikes")
    ax.set_ylabel("potential")
    if ax is not axes[-1]:
        ax.set_xlabel("")
plt.show()

# %% [markdown]
# The line is the potential *after* the reset, which is why it never stands above the threshold. The
# ticks over it are the spikes.
#
# How often does a neuron fire at a constant current? The neurons of a layer do not know of each
# other, so one run over 200 time steps answers this for 201 currents at once.

# %%
currents = jnp.linspace(0.0, 2.0, 201)
xs = jnp.broadcast_to(currents, (200, 201))  # [T, neurons]
fig, ax = plt.subplots(figsize=(5.0, 3.2))
for name, neuron in neurons.items():
    _, spikes = nn.unroll(neuron, xs)
    rates = spikes.mean(axis=0)
    ax.plot(currents, rates, label=name)
    print(f"{name}: fires from a current of {currents[rates > 0].min():.2f} on")
ax.set(xlabel="input current", ylabel="firing rate (spikes per time step)")
ax.legend()
plt.show()

# %% [markdown]
# - With the soft reset the firing rate *is* the current, up to one spike per step: nothing is lost.
# - With the hard reset it climbs in stairs. At 0.6, for example, every second step ends at 1.2, and
#   0.2 are thrown away.
# - The LIF neuron does not fire at all for weak currents: it leaks as fast as it is charged. Its
#   potential tends to $\tau x$, which is above the threshold only if $x > 1/\tau$, here 0.25.
#
# ### The leak is forgetting
#
# One pulse, too weak to fire, and then nothing: the potential falls by the factor $1 - 1/\tau$ in
# each step. The IF neuron is the limit without leak.

# %%
pulse = jnp.zeros((40, 1)).at[2].set(0.9)
fig, ax = plt.subplots(figsize=(5.5, 2.6))
for tau in (2.0, 5.0, 20.0):
    potentials, _ = record(nn.LIFNode(tau=tau, decay_input=False), pulse)
    ax.plot(potentials, label=f"LIF, tau = {tau:g}")
potentials, _ = record(nn.IFNode(), pulse)
ax.plot(potentials, label="IF")
ax.set(xlabel="time step", ylabel="membrane potential")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## The gradient of a step
#
# To train a network one asks for every weight: what happens to the loss if it grows a little? For
# spikes the honest answer is: nothing, almost always. A spike is a step function of the potential,
# flat on both sides of the threshold.


# %%
def heaviside(u):
    """1 where u >= 0; u is the potential less the threshold."""
    return (u >= 0).astype(u.dtype)


u = jnp.array([-0.5, -0.1, 0.1, 0.5])
print("step      ", heaviside(u))
print("derivative", jax.vmap(jax.grad(heaviside))(u))

# %% [markdown]
# A **surrogate gradient** is a rule for the backward pass: go forward through the step, and go
# backward as if it had been a smooth function (here called the *primal*). Two common choices:

# %%
functions = (surrogate.ATan(alpha=2.0), surrogate.Sigmoid(alpha=4.0))
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.8), sharey=True)
for ax, function in zip(axes, functions, strict=True):
    plotting.surrogate(function, ax=ax)
    ax.set_title(repr(function))
plt.show()

# %% [markdown]
# Forward they are one and the same: the step. Only their derivatives differ.

# %%
for function in functions:
    print(function)
    print("  forward ", function(u))
    print("  backward", jax.vmap(jax.grad(function))(u).round(3))

# %% [markdown]
# ### What it is not
#
# It is not the gradient of what the network computes. That gradient is zero wherever it exists.
# Look at the number of spikes of an IF neuron with input $w \cdot x[t]$, as a function of the
# weight $w$: a staircase. Below it is what `jax.grad` says with two surrogates.

# %%
xs = jnp.asarray(np.random.default_rng(1).uniform(0.0, 1.0, (20, 1)), jnp.float32)
weights = jnp.linspace(0.0, 1.0, 401)


def spike_count(w, function):
    """How often the neuron fires in 20 time steps."""
    _, spikes = nn.unroll(nn.IFNode(surrogate_function=function), w * xs)
    return spikes.sum()


fig, axes = plt.subplots(2, 1, figsize=(5.5, 4.6), sharex=True)
count_and_gradient = jax.vmap(jax.value_and_grad(spike_count), in_axes=(0, None))
for function in functions:
    count, gradient = count_and_gradient(weights, function)
    axes[1].plot(weights, gradient, label=type(function).__name__)
axes[0].plot(weights, count, drawstyle="steps-mid", color="black")
axes[0].set_ylabel("spikes in 20 steps")
axes[1].axhline(0, color="black", linewidth=0.5)
axes[1].set(xlabel="weight w", ylabel="surrogate gradient")
axes[1].legend()
plt.show()

# %% [markdown]
# Nor is it the gradient of the smooth network, in which the primal runs forward as well
# (`spiking=False`). In that network every gradient is true, and agrees with a finite difference:

# %%
w, small = jnp.float32(0.6), 1e-2
for spiking in (True, False):
    function = surrogate.ATan(spiking=spiking)
    gradient = jax.grad(spike_count)(w, function)
    difference = spike_count(w + small, function) - spike_count(w - small, function)
    print(
        f"spiking={spiking}: output {spike_count(w, function):.3f}, gradient {gradient:.3f}, "
        f"finite difference {difference / (2 * small):.3f}"
    )

# %% [markdown]
# So a surrogate gradient is a guess at a useful direction. It is *biased*, its size depends on the
# surrogate that was chosen, and its merit is that training with it works.
#
# ## A first gradient
#
# A neuron with a weight of 0.01 stays silent for the whole sequence. The true gradient of its loss
# is zero, and it would stay silent for ever. With a surrogate it learns to fire in a quarter of
# all steps:

# %%
xs = jnp.asarray(np.random.default_rng(2).uniform(0.0, 1.0, (40, 1)), jnp.float32)


def loss(w, target):
    """Squared distance of the firing rate to the target; also the rate."""
    _, spikes = nn.unroll(nn.IFNode(surrogate_function=surrogate.ATan()), w * xs)
    rate = spikes.mean()
    return (rate - target) ** 2, rate


loss_and_gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))

w = jnp.float32(0.01)
for step in range(17):
    (value, rate), gradient = loss_and_gradient(w, 0.25)
    if step % 2 == 0:
        print(f"step {step:2d}: w = {w:.3f}, firing rate {rate:.3f}, gradient {gradient:+.4f}")
    w = w - 0.5 * gradient

# %% [markdown]
# ### Many weights: spikes at given times
#
# The same works for 50 inputs. Each of them fires at random. One IF neuron adds them up, and is to
# fire at four given times and at no other. `nn.Linear` and `nn.IFNode` form a small network, which
# is a pytree of arrays as far as JAX is concerned, so `jax.grad` gives a gradient for each weight.

# %%
inputs = jnp.asarray(np.random.default_rng(3).random((50, 1, 50)) < 0.1, jnp.float32)  # [T, N, 50]
target = jnp.zeros((50, 1, 1)).at[jnp.array([10, 20, 30, 40])].set(1.0)
net = nn.Sequential(nn.Linear(50, 1, rngs=nnx.Rngs(0)), nn.LIFNode(tau=4.0, decay_input=False))


@jax.jit
def improve(net):
    """One step of gradient descent; also the loss before it and the spikes."""

    def loss(net):
        _, spikes = nn.unroll(net, inputs)
        return jnp.sum((spikes - target) ** 2), spikes

    (value, spikes), gradient = jax.value_and_grad(loss, has_aux=True)(net)
    net = jax.tree.map(lambda p, g: p - 0.01 * g, net, gradient)
    return net, value, spikes


losses, rasters = [], []
for _ in range(40):
    net, value, spikes = improve(net)
    losses.append(float(value))
    rasters.append(spikes[:, 0, 0])
print(f"wrong time steps: {losses[0]:.0f} before training, {losses[-1]:.0f} after")

fig, axes = plt.subplots(2, 1, figsize=(5.5, 4.0))
axes[0].plot(losses)
axes[0].set(xlabel="training step", ylabel="wrong time steps")
plotting.raster(jnp.stack([rasters[-1], rasters[0], target[:, 0, 0]], axis=1), ax=axes[1])
axes[1].set_yticks([0, 1, 2], ["after", "before", "target"])
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# ## Where to go next
#
# - [2. Recurrent connections and stateful synapses](2_recurrent_and_stateful.ipynb): neurons whose
#   output comes back to them, synapses that remember, and a network that reads images column by
#   column.
# - [The glossary](../docs/glossary.md) has the terms.
# - The equations, on one screen each:
#   [IF and LIF](../jaxsnn/functional/_integrate_and_fire.py) and the
#   [surrogates](../jaxsnn/surrogate/_smooth_steps.py).
# - Why a step has a gradient at all, from the source: Neftci, Mostafa and Zenke 2019, *Surrogate
#   gradient learning in spiking neural networks*.
