"""A network with constants that are learned or arrays, and its optimizer with two groups."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxsnn import data, models, nn, training
from jaxsnn.surrogate import ATan

IMAGES = data.fashion_mnist_mini()
TRAIN = IMAGES.train_images[:320], IMAGES.train_labels[:320]


def classifier(dtype=jnp.float32):
    """Drawn time constants and thresholds that are learned, and resets that are fixed arrays."""
    rngs = nnx.Rngs(0)
    taus = jax.random.uniform(rngs.params(), (16,), dtype, 1.5, 6.0)
    fire = {
        "v_threshold": nn.learnable(jnp.full(16, 0.1, dtype)),
        "v_reset": jnp.linspace(-0.1, 0.0, 16),
    }
    return models.Classifier(
        nn.Sequential(
            nn.Linear(28, 16, param_dtype=dtype, rngs=rngs),
            nn.LIFNode(nn.learnable(taus), **fire, surrogate_function=ATan()),
            nn.SynapseFilter(nn.learnable(2 * taus)),
            nn.Linear(16, 10, param_dtype=dtype, rngs=rngs),
            nn.LIFNode(v_threshold=0.2, surrogate_function=ATan()),
        )
    )


def groups(net, rate=0.01):
    """AdamW for weights; for constants their own learning rate and no decay, by their type."""
    labels = nnx.map_state(
        lambda _, variable: "constants" if isinstance(variable, nn.Constant) else "weights",
        nnx.state(net, nnx.Param),
    )
    optimizers = {"weights": optax.adamw(1e-3), "constants": optax.adam(rate)}
    return optax.multi_transform(optimizers, nnx.to_pure_dict(labels))


def create(net, optimizer, **kwargs):
    return training.create(
        net, optimizer, to_sequence=data.columns, batch_size=32, seed=3, **kwargs
    )
