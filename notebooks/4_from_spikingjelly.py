# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Coming from SpikingJelly
#
# You will learn
#
# - what the names you know are called here;
# - how to take over the weights of a SpikingJelly network, and that the numbers are the same;
# - how explicit state takes the place of `reset_net`, `step_mode` and `detach_net`;
# - streaming: a sequence in chunks gives what the whole gives;
# - truncated backpropagation through time (TBPTT).
#
# The SpikingJelly code below is for version 2.0 and for reading only; it is not needed to run this
# notebook.

# %%
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from jaxsnn import data, losses, models, nn, plotting, surrogate
from jaxsnn.interop import spikingjelly

SMALL = os.environ.get("JAXSNN_NOTEBOOK_SMALL") == "1"  # fewer steps, for tests

plt.rcParams.update(plotting.STYLE)

# %% [markdown]
# ## One network, two libraries
#
# SpikingJelly:
#
# ```python
# import torch
# from spikingjelly.activation_based import functional, layer, neuron, surrogate
#
# net = torch.nn.Sequential(
#     layer.Linear(28, 32),
#     neuron.IFNode(surrogate_function=surrogate.ATan()),
#     layer.SynapseFilter(tau=2.0, learnable=True),
#     layer.Linear(32, 10),
#     neuron.IFNode(surrogate_function=surrogate.ATan()),
# )
# functional.set_step_mode(net, "m")  # whole sequences
#
# for x_seq, label in loader:  # x_seq: [T, N, 28]
#     rates = net(x_seq).mean(0)
#     loss = torch.nn.functional.mse_loss(rates, torch.nn.functional.one_hot(label, 10).float())
#     optimizer.zero_grad()
#     loss.backward()
#     optimizer.step()
#     functional.reset_net(net)  # or the next batch starts in the state of this one
# ```
#
# Here:

# %%
rngs = nnx.Rngs(0)
net = nn.Sequential(
    nn.Linear(28, 32, rngs=rngs),
    nn.IFNode(surrogate_function=surrogate.ATan()),
    nn.SynapseFilter(tau=2.0, learnable=True),
    nn.Linear(32, 10, rngs=rngs),
    nn.IFNode(surrogate_function=surrogate.ATan()),
)


@jax.jit
def train_step(net, xs, labels):
    """One step of plain gradient descent."""

    def loss(net):
        _, spikes = nn.unroll(net, xs)  # from a fresh state
        return losses.firing_rate_mse(spikes.mean(axis=0), labels).mean()

    value, gradient = jax.value_and_grad(loss)(net)
    return jax.tree.map(lambda p, g: p - 0.1 * g, net, gradient), value


images = data.fashion_mnist_mini()
xs = data.columns(images.train_images[:256])  # [T, N, 28]
labels = jnp.asarray(images.train_labels[:256])
for _ in range(3):
    net, value = train_step(net, xs, labels)
    print(f"loss {value:.4f}")

# %% [markdown]
# (For whole epochs there is `jaxsnn.training`; see
# [notebook 2](2_recurrent_and_stateful.ipynb).)
#
# ## Names
#
# | SpikingJelly 2.0 | jaxsnn | what differs |
# |---|---|---|
# | `neuron.IFNode`, `LIFNode`, `ParametricLIFNode` | `nn.IFNode`, `nn.LIFNode`, `nn.ParametricLIFNode` | same arguments and defaults, by keyword; no `step_mode`, no `store_v_seq` |
# | `layer.SynapseFilter` | `nn.SynapseFilter` | |
# | `layer.ElementWiseRecurrentContainer` | `nn.ElementWiseRecurrentContainer` | feedback is the first argument of the function in both |
# | `layer.LinearRecurrentContainer` | `nn.LinearRecurrentContainer` | takes `rngs` |
# | `layer.Linear`, `layer.Conv2d` | `nn.Linear`, `nn.Conv` | take `rngs`; weights are `[in, out]`; images `[N, H, W, C]` |
# | `torch.nn.Sequential` | `nn.Sequential` | is itself a cell, with a carry |
# | `surrogate.ATan`, `surrogate.Sigmoid` | `surrogate.ATan`, `surrogate.Sigmoid` | frozen dataclasses |
# | `functional.multi_step_forward`, step mode `"m"` | `nn.unroll(net, xs)` | |
# | step mode `"s"` | `carry, y = net(carry, x)` | |
# | `functional.reset_net(net)` | nothing: leave out the carry | fresh state is the default |
# | `functional.detach_net(net)` | `jax.lax.stop_gradient(carry)` | |
# | `neuron.v`, `store_v_seq=True` | the carry; see [notebook 3](3_looking_inside.ipynb) | |
# | `net.state_dict()` | `spikingjelly.state_dict(net)` of `jaxsnn.interop` | the same names and shapes; ours are `nnx.state(net)` |
#
# ## The same weights, the same spikes
#
# Weights come over by name, from a `state_dict` or a file of one (`.npz`, `.safetensors`, `.pth`).
# torch keeps a weight matrix as `[out, in]`, Flax as `[in, out]`; `spikingjelly.load` knows that of
# every layer that both have, and says in one error what does not fit. `spikingjelly.state_dict` and
# `save` go the other way.
#
# The repository holds arrays that were made by running SpikingJelly itself: parameters of the
# three networks, images, and the spikes that came out. (`tests/golden/README.md` says more.)

# %%
golden = np.load(pathlib.Path("..", "tests", "golden", "networks.npz"))
xs = data.columns(golden["images"][:64])
for name, model in models.MODELS.items():
    start = f"{name}/p0_"
    arrays = {k.removeprefix(start): golden[k] for k in golden if k.startswith(start)}
    net = spikingjelly.load(model(rngs=nnx.Rngs(0)), arrays)
    _, spikes = nn.unroll(net.fc, xs)
    theirs = golden[f"{name}/out_spikes"]
    print(f"{name}: {int(theirs.sum())} output spikes, {int((spikes != theirs).sum())} differ")

# %% [markdown]
# ## State is an argument
#
# In SpikingJelly a layer keeps its state, and the caller has to remember to reset it. Here calling
# twice gives the same twice, and going on is what you have to ask for:

# %%
neuron = nn.IFNode()
xs = jnp.full((2, 1), 0.4)  # [T, features]
carry, spikes = nn.unroll(neuron, xs)
print("first call     ", spikes[:, 0], "carry", carry)
_, spikes = nn.unroll(neuron, xs)
print("once more      ", spikes[:, 0])
_, spikes = nn.unroll(neuron, xs, carry)
print("with that carry", spikes[:, 0])

# %% [markdown]
# The carry of a network is a tuple with one entry for each layer, `()` for those without state. It
# is an ordinary pytree of arrays: save it, copy it, edit it, keep one for each user.

# %%
fb = models.FeedBackNet(rngs=nnx.Rngs(0))
for layer, state in zip(fb.fc.layers, fb.fc.initialize_carry((64, 28)), strict=True):
    print(f"{type(layer).__name__:26s}", jax.tree.map(jnp.shape, state))

# %% [markdown]
# A carry that does not fit is an error, where SpikingJelly's neurons silently start anew:

# %%
xs = data.columns(images.train_images[:64])
plain = models.PlainNet(rngs=nnx.Rngs(0))
carry, _ = nn.unroll(plain.fc, xs)
try:
    nn.unroll(plain.fc, xs[:, :10], carry)  # a smaller batch
except ValueError as error:
    print(error)

# %% [markdown]
# ## Streaming
#
# Data may come in chunks, of any length, down to a single time step. The carry goes along, and the
# chunks give what the whole gives.

# %%
whole_carry, whole = nn.unroll(fb.fc, xs)

for length in (14, 7, 4, 1):
    carry, parts = None, []
    for start in range(0, len(xs), length):
        carry, spikes = nn.unroll(fb.fc, xs[start : start + length], carry)
        parts.append(spikes)
    other = int((jnp.concatenate(parts) != whole).sum())
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), carry, whole_carry)
    print(f"chunks of {length:2d}: {other} spikes differ, states by", max(jax.tree.leaves(apart)))

# %% [markdown]
# (In general the states may differ by rounding, when products of matrices of another size sum up
# in another order.)
#
# Step by step, in a compiled function, for use online:

# %%
online = jax.jit(lambda net, carry, x: net.fc(carry, x))

carry = fb.fc.initialize_carry((1, 28))
counts = jnp.zeros(10)
for column in data.columns(images.test_images[:1]):  # one column after the other arrives
    carry, spikes = online(fb, carry, column)
    counts += spikes[0]
print("spikes of the output neurons:", counts.astype(int))

# %% [markdown]
# ## Truncated backpropagation through time
#
# A gradient through all of a long sequence costs memory in proportion to its length. Truncated
# backpropagation cuts the sequence into chunks. The state runs on from chunk to chunk, but no
# gradient flows back: `stop_gradient` on the carry. In SpikingJelly that is
# `functional.detach_net` (with its recurrent containers it raises an error in version 2.0.0).
#
# The loss here is a mean over time steps, so that the only difference is the cut.

# %%
xs = data.columns(images.train_images[:256])
labels = jnp.asarray(images.train_labels[:256])


@functools.partial(jax.jit, static_argnums=3)
def loss_and_gradient(net, xs, labels, length):
    """Squared distance of every spike to the one-hot label; cut into chunks of `length` steps."""
    target = jax.nn.one_hot(labels, 10)
    chunks = xs.reshape(-1, length, *xs.shape[1:])

    def loss(net):
        def one_chunk(carry, chunk):
            carry, spikes = nn.unroll(net.fc, chunk, jax.lax.stop_gradient(carry))
            return carry, jnp.mean((spikes - target) ** 2)

        _, values = jax.lax.scan(one_chunk, net.fc.initialize_carry(xs.shape[1:]), chunks)
        return values.mean()

    return jax.value_and_grad(loss)(net)


def flat(gradient):
    """All gradients as one vector."""
    return jnp.concatenate([g.reshape(-1) for g in jax.tree.leaves(gradient)])


value, gradient = loss_and_gradient(fb, xs, labels, 28)
full = flat(gradient)
print(f"chunks of 28: loss {value:.6f}")
for length in (14, 7, 4, 2, 1):
    value, gradient = loss_and_gradient(fb, xs, labels, length)
    cut = flat(gradient)
    cosine = cut @ full / jnp.linalg.norm(cut) / jnp.linalg.norm(full)
    print(f"chunks of {length:2d}: loss {value:.6f}, cosine to the full gradient {cosine:.3f}")

# %% [markdown]
# The loss is the same, whatever the chunks, since the forward pass is. The gradient turns away from
# the full one as the chunks get shorter. With chunks of one step nothing is left of how an earlier
# input acts on a later spike.
#
# As a rule one updates the weights after each chunk. That needs the memory of one chunk only,
# however long the sequence:


# %%
optimizer = optax.adam(5e-3)


@jax.jit
def train_chunk(net, opt_state, carry, xs, labels):
    """Updates the network on one chunk; the carry goes in and comes out."""

    def loss(net):
        after, spikes = nn.unroll(net.fc, xs, carry)
        rates = spikes.mean(axis=0)
        return losses.firing_rate_mse(rates, labels).mean(), (after, rates)

    (value, (after, rates)), gradient = jax.value_and_grad(loss, has_aux=True)(net)
    updates, opt_state = optimizer.update(gradient, opt_state, net)
    net = optax.apply_updates(net, updates)
    return net, opt_state, after, value, losses.correct(rates, labels).mean()


net = models.FeedBackNet(rngs=nnx.Rngs(0))
opt_state = optimizer.init(net)
curve = []
for _ in range(3 if SMALL else 150):
    carry = net.fc.initialize_carry((256, 28))  # fresh sequences
    for start in range(0, 28, 7):
        chunk = xs[start : start + 7]
        net, opt_state, carry, value, right = train_chunk(net, opt_state, carry, chunk, labels)
    curve.append(float(value))

fig, ax = plt.subplots(figsize=(5.0, 2.8))
ax.plot(curve)
ax.set(xlabel="pass over the sequences, four updates each", ylabel="loss in the last chunk")
plt.show()
print(
    f"last chunk: loss {curve[0]:.3f} -> {curve[-1]:.3f}, {100 * right:.0f} % of the classes right"
)

# %% [markdown]
# If it is only memory that you want to save, and not the gradient that you want to cut, use
# `checkpoint_every`: it keeps few states and computes the rest anew on the way back. The gradient
# is the whole one.


# %%
@functools.partial(jax.jit, static_argnums=3)
def gradient_with(net, xs, labels, checkpoint_every):
    """Gradient of the rate loss."""

    def loss(net):
        _, spikes = nn.unroll(net.fc, xs, checkpoint_every=checkpoint_every)
        return losses.firing_rate_mse(spikes.mean(axis=0), labels).mean()

    return flat(jax.grad(loss)(net))


difference = gradient_with(fb, xs, labels, None) - gradient_with(fb, xs, labels, 7)
print(f"largest difference {jnp.abs(difference).max():.0e}")

# %% [markdown]
# ## Where to go next
#
# - [5. Make it yours](5_make_it_yours.ipynb): your own neurons, surrogates and containers.
# - [Coming from SpikingJelly](../docs/from-spikingjelly.md) has the whole table, and
#   [parity](../docs/explanation/parity.md) how the numbers are compared.
# - [NIR](../docs/how-to/nir.md), for whole networks from and to SpikingJelly and other libraries;
#   [networks of snnTorch and Norse](../docs/how-to/snntorch-norse.md).
# - [Why state is explicit](../docs/explanation/state.md); how to [stream](../docs/how-to/stream.md),
#   and to [train on long sequences](../docs/how-to/long-sequences.md).
