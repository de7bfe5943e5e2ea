"""The shapes in the annotations: a type checker that is switched on refuses others."""

import pathlib
import re
import subprocess
import sys

import beartype
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxsnn import data, functional, losses, readouts, surrogate

PAGE = pathlib.Path(__file__).parent.parent / "docs/how-to/ecosystem.md"

# After the lines of the page that switch it on.
CHECKED = """
import sys
sys.path.insert(0, sys.argv[1])
import every_cell
import jax
import numpy as np
import optax
from flax import nnx
from jaxsnn import data, losses, models, nn, readouts, training

def refused(function, *arguments, **settings):
    try:
        function(*arguments, **settings)
    except jaxtyping.TypeCheckError as error:
        print(str(error).splitlines()[1].split()[-1])
    else:
        raise AssertionError(f"{function} takes {arguments}")

rngs = nnx.Rngs(0)
images, labels = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.int32)
for name, make in every_cell.CELLS.items():
    cell, xs = make(), jnp.ones((3, 2, *every_cell.SHAPES.get(name, ()), every_cell.F))
    jax.eval_shape(jax.grad(lambda xs: nn.unroll(cell, xs)[1].sum()), xs)
for name, net in models.MODELS.items():
    recipe, state = training.create(
        net(rngs=rngs), optax.sgd(0.1), to_sequence=data.columns, batch_size=2, seed=0
    )
    state, _ = training.train_epoch(recipe, state, jnp.asarray(images), jnp.asarray(labels))
refused(net(rngs=rngs), jnp.ones((28, 4, 27)))
refused(readouts.firing_rate, jnp.ones((5, 4, 3)), mask=jnp.ones((4, 5), bool))
refused(losses.firing_rate_mse, jnp.ones((4, 10)), jnp.zeros(3, jnp.int32))
refused(data.columns, images.astype(np.float32))
refused(functional.if_step, v, x, surrogate=surrogate.ATan(), **settings)
"""


def refuses(parameter, function, *arguments, **settings):
    checked = jaxtyping.jaxtyped(typechecker=beartype.beartype)(function)
    with pytest.raises(jaxtyping.TypeCheckError, match=f"typechecking parameter '{parameter}'"):
        checked(*arguments, **settings)


def test_annotations_refuse_other_shapes():
    neuron = {
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "surrogate": surrogate.ATan(),
        "detach_reset": False,
    }
    refuses("x", functional.if_step, jnp.zeros((5, 3)), jnp.ones(3), **neuron)
    refuses("a", functional.spiking_gru_step, jnp.zeros((5, 3)), jnp.ones((5, 9)), surrogate=abs)
    refuses("mask", readouts.firing_rate, jnp.ones((5, 4, 3)), jnp.ones((5, 4)))
    refuses("labels", losses.firing_rate_mse, jnp.ones((4, 10)), jnp.zeros(3, jnp.int32))
    refuses("images", data.columns, np.zeros((4, 28, 28), np.float32))


@pytest.mark.slow
def test_a_type_checker_in_the_whole_package():
    """Switched on as the page says, it finds no fault with any cell or model, and with misuse."""
    (block,) = re.findall(
        r"```py\n(import jaxtyping\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    *switched_on, _ = block.splitlines()  # the last one is the error
    program = "\n".join(switched_on) + CHECKED
    command = [sys.executable, "-c", program, str(pathlib.Path(__file__).parent)]
    run = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    assert run.stdout.split() == ["'xs'.", "'mask'.", "'labels'.", "'images'.", "'x'."]
