"""Blocks as a user writes them, and the same blocks in plain JAX; see nn/test_composition.py.

A block by hand, `by_hand(block, xs, hand, at)`, uses nothing of `jaxsnn.nn` but the parameters of
the block. It runs layer by layer over a sequence `[T, N, ...]`; `at` is the path of the block with
a dot behind it, or empty.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsnn import functional, models, nn, training

CHANNELS = 4


# ------------------------------------------------------------------------- blocks of a user


class SEWBlock(nn.Module):
    """`y = x + branch(x)`."""

    def __init__(self, channels, *, rngs):
        conv = functools.partial(
            nn.Conv, channels, channels, (3, 3), padding=1, use_bias=False, rngs=rngs
        )
        self.branch = nn.Sequential(
            conv(), nn.BatchNorm(channels), nn.IFNode(), nn.Dropout2d(0.1),
            conv(), nn.BatchNorm(channels), nn.IFNode(),
        )  # fmt: skip

    def forward(self, x, run):
        return x + run(self.branch, x)


def iand(x, y):
    """`x AND NOT y` of spikes."""
    return x * (1 - y)


class Block(nn.Module):
    """`y = combine(shortcut(x), branch(x))`; the shortcut is a 1x1 convolution where needed."""

    def __init__(self, inputs, channels, strides=1, combine=operator.add, *, rate=0.4, rngs):
        conv = functools.partial(nn.Conv, use_bias=False, rngs=rngs)
        self.branch = nn.Sequential(
            conv(inputs, channels, (3, 3), strides, padding=1),
            nn.BatchNorm(channels),
            nn.IFNode(v_threshold=0.3),
            nn.Dropout2d(rate),
            conv(channels, channels, (3, 3), padding=1),
            nn.BatchNorm(channels),
            nn.IFNode(v_threshold=0.5),
        )
        if strides == 1 and inputs == channels:
            self.shortcut = None
        else:
            self.shortcut = nn.Sequential(
                conv(inputs, channels, (1, 1), strides),
                nn.BatchNorm(channels),
                nn.IFNode(v_threshold=0.3),
            )
        self.combine = combine

    def forward(self, x, run):
        y = run(self.branch, x)
        return self.combine(x if self.shortcut is None else run(self.shortcut, x), y)


class Stage(nn.Module):
    """Blocks one after another: the first with a stride, then AND and IAND."""

    def __init__(self, inputs, channels, *, rngs):
        self.blocks = nnx.List(
            [
                Block(inputs, channels, 2, rngs=rngs),
                Block(channels, channels, combine=operator.mul, rngs=rngs),
                Block(channels, channels, combine=iand, rngs=rngs),
            ]
        )

    def forward(self, x, run):
        for block in self.blocks:
            x = run(block, x)
        return x


class Nested(nn.Module):
    """A block whose branch is a block, whose branch is a block."""

    def __init__(self, channels, depth=2, *, rngs):
        inner = SEWBlock if depth == 1 else functools.partial(Nested, depth=depth - 1)
        self.inner = inner(channels, rngs=rngs)
        self.node = nn.IFNode()

    def forward(self, x, run):
        return x + run(self.node, run(self.inner, x))


class UNet(nn.Module):
    """Down, up, and the input joined to what comes up."""

    def __init__(self, channels, *, rngs):
        conv = functools.partial(nn.Conv, rngs=rngs)
        self.down = nn.Sequential(
            conv(channels, 2 * channels, (3, 3), 2, padding=1),
            nn.BatchNorm(2 * channels),
            nn.IFNode(v_threshold=0.5),
        )
        self.middle = nn.Sequential(
            conv(2 * channels, channels, (3, 3), padding=1), nn.LIFNode(v_threshold=0.1)
        )
        self.out = conv(2 * channels, channels, (1, 1))
        self.norm = nn.BatchNorm(channels)
        self.node = nn.LIFNode(v_threshold=0.2)

    def forward(self, x, run):
        low = run(self.middle, run(self.down, x))
        high = jnp.repeat(jnp.repeat(low, 2, -3), 2, -2)
        joined = run(self.out, jnp.concatenate([high, x], -1))
        return run(self.node, run(self.norm, joined))


class SqueezeExcite(nn.Module):
    """Scales channels by a function of their means over the image; it has no state."""

    def __init__(self, channels, *, rngs):
        self.squeeze = nn.Linear(channels, 3, rngs=rngs)
        self.excite = nnx.Linear(3, channels, rngs=rngs)

    def forward(self, x, run):
        squeezed = jax.nn.relu(run(self.squeeze, x.mean((-3, -2))))
        return x * jax.nn.sigmoid(run(self.excite, squeezed))[..., None, None, :]


class Attention(nn.Module):
    """Spiking self-attention over tokens `[N, L, D]`: `(q k^T) v / 4`, without a softmax."""

    def __init__(self, features, *, rngs):
        def projection():
            return nn.Sequential(
                nn.Linear(features, features, use_bias=False, rngs=rngs),
                nn.BatchNorm(features),
                nn.LIFNode(v_threshold=0.2),
            )

        self.q, self.k, self.v = projection(), projection(), projection()
        self.node = nn.LIFNode(v_threshold=0.1)

    def forward(self, x, run):
        q, k, v = run(self.q, x), run(self.k, x), run(self.v, x)
        return run(self.node, q @ jnp.swapaxes(k, -1, -2) @ v / 4)


class Twice(nn.Module):
    """Runs one part two times."""

    def __init__(self, features, *, rngs):
        self.part = nn.Sequential(
            nn.Linear(features, features, rngs=rngs),
            nn.BatchNorm(features),
            nn.LIFNode(v_threshold=0.1),
        )

    def forward(self, x, run):
        return x + run(self.part, run(self.part, x))


# ---------------------------------------------------------------------- the same in plain JAX


class ByHand:
    """Layers over a sequence `[T, N, ...]` in plain JAX.

    States, running statistics and outputs are kept by path: a second sequence continues the first.

    Args:
        training: whether dropout drops, and normalisations use the statistics of their input.
        kept: which elements each dropout keeps, by path.
        mask: which steps count, `[T, N]`.
    """

    def __init__(self, training=False, kept=None, mask=None):
        self.training, self.kept, self.mask = training, kept, mask
        self.states, self.running, self.records = {}, {}, {}

    def note(self, path, y):
        before = [self.records[path]] if path in self.records else []
        self.records[path] = jnp.concatenate([*before, y])
        return y

    def counted(self, x):
        """Which elements of `x` count."""
        mask = jnp.ones(x.shape[:2], bool) if self.mask is None else self.mask
        return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x.shape)

    def linear(self, path, layer, x):
        y = jnp.einsum("...i,io->...o", x, layer.kernel[...])
        if layer.bias is not None:
            y = y + channels_last(layer.bias, y)
        return self.note(path, y)

    def conv(self, path, layer, x, strides=1):
        sides = layer.kernel[...].shape[:2]
        images = jax.lax.conv_general_dilated(
            x.reshape(-1, *x.shape[2:]),
            layer.kernel[...],
            (strides, strides),
            [(side // 2, side // 2) for side in sides],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if layer.bias is not None:
            images = images + channels_last(layer.bias, images)
        return self.note(path, images.reshape(*x.shape[:2], *images.shape[1:]))

    def norm(self, path, layer, x):
        name = path.replace("#2", "")  # one layer has one set of statistics
        mean, var = self.running.get(name, jax.lax.stop_gradient((layer.mean[...], layer.var[...])))
        if self.training:
            counted, axes = self.counted(x), tuple(range(x.ndim - 1))
            number = counted.sum(axes).astype(x.dtype)
            batch = jnp.where(counted, x, 0).sum(axes) / number
            deviation = jnp.where(counted, jnp.square(x - channels_last(batch, x)), 0)
            spread = deviation.sum(axes) / number
            self.running[name] = (
                0.9 * mean + 0.1 * batch,
                0.9 * var + 0.1 * spread * number / (number - 1),
            )
            mean, var = batch, spread
        y = (x - channels_last(mean, x)) / jnp.sqrt(channels_last(var, x) + 1e-5)
        return self.note(path, y * channels_last(layer.scale, y) + channels_last(layer.bias, y))

    def fire(self, path, node, x):
        step = functools.partial(
            functional.if_step,
            v_threshold=node.v_threshold,
            v_reset=0.0,
            surrogate_function=node.surrogate_function,
            detach_reset=False,
        )
        if isinstance(node, nn.LIFNode):
            step = functools.partial(
                functional.lif_step, tau=2.0, decay_input=True, **step.keywords
            )

        def body(v, step_of):
            x, counts = step_of
            after, spikes = step(v, x)
            after = jnp.where(counts, after, v)
            return after, (after, spikes)

        first = self.states.get(path, jnp.zeros_like(x[0]))
        self.states[path], (potentials, spikes) = jax.lax.scan(body, first, (x, self.counted(x)))
        self.note(f"{path}.v", potentials)
        return self.note(path, spikes)

    def dropout(self, path, layer, x):
        if self.training:
            x = x * self.kept[path][None].astype(x.dtype) / (1 - layer.rate)
        return self.note(path, x)


def channels_last(a, like):
    """A vector that has one number per channel, with the rank of `like`."""
    return a[...].reshape((1,) * (like.ndim - 1) + (-1,))


def branch(net, x, hand, at, strides=1):
    """The seven layers in the branch of a SEW block."""
    x = hand.conv(f"{at}.0", net[0], x, strides)
    x = hand.norm(f"{at}.1", net[1], x)
    x = hand.fire(f"{at}.2", net[2], x)
    x = hand.dropout(f"{at}.3", net[3], x)
    x = hand.conv(f"{at}.4", net[4], x)
    x = hand.norm(f"{at}.5", net[5], x)
    return hand.note(at, hand.fire(f"{at}.6", net[6], x))


def sew_block(net, x, hand, at=""):
    return x + branch(net.branch, x, hand, f"{at}branch")


def block(net, x, hand, at="", strides=1):
    y = branch(net.branch, x, hand, f"{at}branch", strides)
    if net.shortcut is not None:
        x = hand.conv(f"{at}shortcut.0", net.shortcut[0], x, strides)
        x = hand.norm(f"{at}shortcut.1", net.shortcut[1], x)
        x = hand.note(f"{at}shortcut", hand.fire(f"{at}shortcut.2", net.shortcut[2], x))
    # Not by `net.combine`: what is passed to it, and in which order, is under test.
    return {operator.add: x + y, operator.mul: x * y, iand: x - x * y}[net.combine]


def stage(net, x, hand, at=""):
    for k, strides in enumerate((2, 1, 1)):
        path = f"{at}blocks.{k}"
        x = hand.note(path, block(net.blocks[k], x, hand, f"{path}.", strides))
    return x


def nested(net, x, hand, at=""):
    inside = sew_block if isinstance(net.inner, SEWBlock) else nested
    y = hand.note(f"{at}inner", inside(net.inner, x, hand, f"{at}inner."))
    return x + hand.fire(f"{at}node", net.node, y)


def unet(net, x, hand, at=""):
    y = hand.conv(f"{at}down.0", net.down[0], x, 2)
    y = hand.norm(f"{at}down.1", net.down[1], y)
    y = hand.note(f"{at}down", hand.fire(f"{at}down.2", net.down[2], y))
    y = hand.conv(f"{at}middle.0", net.middle[0], y)
    y = hand.note(f"{at}middle", hand.fire(f"{at}middle.1", net.middle[1], y))
    y = y.repeat(2, axis=2).repeat(2, axis=3)
    y = hand.conv(f"{at}out", net.out, jnp.concatenate([y, x], axis=4))
    return hand.fire(f"{at}node", net.node, hand.norm(f"{at}norm", net.norm, y))


def squeeze_excite(net, x, hand, at=""):
    y = hand.linear(f"{at}squeeze", net.squeeze, x.sum((2, 3)) / (x.shape[2] * x.shape[3]))
    y = hand.linear(f"{at}excite", net.excite, jnp.maximum(y, 0))
    return x * (1 / (1 + jnp.exp(-y)))[:, :, None, None]


def attention(net, x, hand, at=""):
    def projected(name):
        part = getattr(net, name)
        y = hand.norm(f"{at}{name}.1", part[1], hand.linear(f"{at}{name}.0", part[0], x))
        return hand.note(f"{at}{name}", hand.fire(f"{at}{name}.2", part[2], y))

    q, k, v = map(projected, "qkv")
    y = jnp.einsum("tnid,tnjd,tnje->tnie", q, k, v) / 4
    return hand.fire(f"{at}node", net.node, y)


def twice(net, x, hand, at=""):
    y = x
    for name in ("part", "part#2"):
        y = hand.linear(f"{at}{name}.0", net.part[0], y)
        y = hand.norm(f"{at}{name}.1", net.part[1], y)
        y = hand.note(f"{at}{name}", hand.fire(f"{at}{name}.2", net.part[2], y))
    return x + y


IMAGE, TOKENS, FEATURES = (6, 6, CHANNELS), (3, CHANNELS), (CHANNELS,)

# Name: what makes the block, the block by hand, the shape of its input without time and batch.
BLOCKS = {
    "sew": (lambda rngs: SEWBlock(CHANNELS, rngs=rngs), sew_block, IMAGE),
    "and": (
        lambda rngs: Block(CHANNELS, CHANNELS, combine=operator.mul, rngs=rngs), block, IMAGE,
    ),
    "iand": (lambda rngs: Block(CHANNELS, CHANNELS, combine=iand, rngs=rngs), block, IMAGE),
    "shortcut": (
        lambda rngs: Block(CHANNELS, 3, combine=iand, rngs=rngs), block, IMAGE,
    ),
    "stage": (lambda rngs: Stage(CHANNELS, 3, rngs=rngs), stage, IMAGE),
    "nested": (lambda rngs: Nested(CHANNELS, rngs=rngs), nested, IMAGE),
    "unet": (lambda rngs: UNet(CHANNELS, rngs=rngs), unet, IMAGE),
    "squeeze_excite": (lambda rngs: SqueezeExcite(CHANNELS, rngs=rngs), squeeze_excite, IMAGE),
    "attention": (lambda rngs: Attention(CHANNELS, rngs=rngs), attention, TOKENS),
    "twice": (lambda rngs: Twice(CHANNELS, rngs=rngs), twice, FEATURES),
}  # fmt: skip


@functools.cache
def make(name):
    """The block of this name, with other scales, shifts and statistics than at the start."""
    with jax.enable_x64(False):
        return unlike_the_start(BLOCKS[name][0](nnx.Rngs(0)))


def unlike_the_start(net):
    """Changes all batch normalisations, so that none of their variables is 0 or 1."""
    for k, (_, part) in enumerate(nnx.iter_modules(net)):
        if isinstance(part, nn.BatchNorm):
            number = np.arange(part.num_features) + k
            for variable, numbers in (
                (part.scale, 1.2 + 0.3 * np.cos(number)),
                (part.bias, 0.3 + 0.2 * np.sin(number)),
                (part.mean, 0.1 * np.sin(2 * number)),
                (part.var, 1 + 0.5 * np.cos(3 * number)),
            ):
                variable[...] = jnp.asarray(numbers, jnp.float32)
    return net


def in_float64(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)


def norms(net):
    """`(mean, var)` of all batch normalisations, by their paths in a record."""
    found = {}
    for path, part in nnx.iter_modules(net):
        if isinstance(part, nn.BatchNorm):
            name = ".".join(str(key) for key in path if key != "layers")
            found[name] = part.mean[...], part.var[...]
    return found


def dropouts(net):
    """The paths in a record, each with its rate."""
    found = {}
    for path, part in nnx.iter_modules(net):
        if isinstance(part, nn.Dropout):
            found[".".join(str(key) for key in path if key != "layers")] = part.rate
    return found


def kept_by_dropout(net, records):
    """Which channels each `Dropout2d` kept, `[N, 1, 1, C]`: those that are not 0 at all steps."""
    return {
        path: jnp.any(records[path] != 0, (0, 2, 3), keepdims=True)[0] for path in dropouts(net)
    }


# --------------------------------------------------------------- networks that can be trained


class Images(nn.Module):
    """Images over time, through a block with a stride, to class scores of each step."""

    def __init__(self, rate=0.4, *, rngs):
        self.stem = nn.Conv(1, CHANNELS, (3, 3), padding=1, rngs=rngs)
        self.block = Block(CHANNELS, CHANNELS, 2, rate=rate, rngs=rngs)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(9 * CHANNELS, CLASSES, rngs=rngs), nn.LIFNode(v_threshold=0.1)
        )

    def forward(self, x, run):
        return run(self.head, run(self.block, run(self.stem, x)))


class DenseBlock(nn.Module):
    """`y = x + branch(x)` of features."""

    def __init__(self, *, rngs):
        self.branch = nn.Sequential(
            nn.Linear(CHANNELS, CHANNELS, rngs=rngs),
            nn.BatchNorm(CHANNELS),
            nn.IFNode(v_threshold=0.3),
            nn.Dropout(0.4),
        )

    def forward(self, x, run):
        return x + run(self.branch, x)


class Dense(nn.Module):
    """Columns of images as time steps, through a block; compiles quickly."""

    def __init__(self, *, rngs):
        self.first = nn.Linear(6, CHANNELS, rngs=rngs)
        self.block = DenseBlock(rngs=rngs)
        self.last = nn.Linear(CHANNELS, CLASSES, rngs=rngs)

    def forward(self, x, run):
        return run(self.last, run(self.block, run(self.first, x)))


class Columns(nn.Module):
    """Columns of images as time steps, with a normalisation inside a recurrent container."""

    def __init__(self, *, rngs):
        self.first = nn.Sequential(
            nn.Linear(6, CHANNELS, rngs=rngs), nn.BatchNorm(CHANNELS), nn.IFNode(v_threshold=0.3)
        )
        self.again = nn.ElementWiseRecurrentContainer(DenseBlock(rngs=rngs), operator.add)
        self.last = nn.Linear(CHANNELS, CLASSES, rngs=rngs)

    def forward(self, x, run):
        return run(self.last, run(self.again, run(self.first, x)))


class ThroughTime(nn.Module):
    """Normalisations with parameters or statistics of each step."""

    def __init__(self, *, rngs):
        self.first = nn.Sequential(
            nn.Linear(6, CHANNELS, rngs=rngs),
            nn.contrib.BatchNormThroughTime(6, CHANNELS),
            nn.IFNode(v_threshold=0.3),
        )
        self.second = nn.Sequential(
            nn.Linear(CHANNELS, CLASSES, rngs=rngs),
            nn.contrib.TemporalEffectiveBatchNorm(6, CLASSES),
            nn.LIFNode(v_threshold=0.3),
        )

    def forward(self, x, run):
        return run(self.second, run(self.first, x))


CLASSES = 3


def examples(number):
    """Images `[n, 6, 6]` of small integers and their classes, which can be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, number).astype(np.int32)
    bright = 100 + 50 * np.cos(np.arange(6) * (1 + labels[:, None]))[:, None]
    images = bright + rng.integers(0, 60, (number, 6, 6))
    return images.astype(np.uint8), labels


def dtype_of_params():
    return jnp.float64 if jax.config.jax_enable_x64 else jnp.float32


def repeated(images):
    """The image at each of three steps, `[3, N, 6, 6, 1]`."""
    return jnp.repeat(images[None, ..., None].astype(dtype_of_params()) / 255, 3, axis=0)


def columns(images):
    """`[6, N, 6]`."""
    return images.transpose(2, 0, 1).astype(dtype_of_params()) / 255


def padded_columns(images):
    """Sequences of 2 to 6 steps, and which steps count; the lengths follow from the images."""
    lengths = 2 + images[:, 0, 0].astype(jnp.int32) % 5
    return columns(images), nn.sequence_mask(lengths, 6)


# Name: the network, and what makes its sequences.
TRAINABLE = {
    "dense": (Dense, columns),
    "images": (Images, repeated),
    "without dropout": (functools.partial(Images, 0.0), repeated),
    "columns": (Columns, columns),
    "padded": (Columns, padded_columns),
    "through time": (ThroughTime, columns),
}
BATCH, EXAMPLES = 16, 40
SGD = optax.sgd(0.1, momentum=0.9)


def create(name, devices=None, **options):
    """The recipe and the first state of a classifier."""
    net, to_sequence = TRAINABLE[name]
    with jax.enable_x64(False):
        model = models.Classifier(net(rngs=nnx.Rngs(0)))
    model = jax.tree.map(lambda a: a.astype(dtype_of_params()), model)
    return training.create(
        model, SGD, to_sequence=to_sequence, batch_size=BATCH, seed=4, devices=devices, **options
    )


def trained(name, devices=None, *, streamed=False, epochs=2):
    """Parameters and running statistics after a few epochs, a nested dict of NumPy arrays."""
    recipe, state = create(name, devices)
    data = examples(EXAMPLES)
    for _ in range(epochs):
        if streamed:
            state, metrics = training.stream_epoch(recipe, state, *data)
        else:
            state, metrics = training.train_epoch(recipe, state, *training.put(recipe, data))
    assert np.isfinite(metrics.loss)
    model = nnx.state(training.merge(recipe, state))
    return jax.tree.map(np.asarray, nnx.to_pure_dict(model))
