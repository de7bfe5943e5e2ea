"""Networks of snnTorch, with the same spikes: its neurons, in stacks with torch's layers."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._phases import SurrogateFunction
from jaxsnn.interop import _files, _torch_layers
from jaxsnn.interop._leaky import Leaky as Leaky
from jaxsnn.interop._leaky import leaky_step as leaky_step
from jaxsnn.interop._torch_layers import Made, Reader, Refused, require
from jaxsnn.surrogate import ATan


def from_module(
    module: Any,
    *,
    surrogate_function: SurrogateFunction = ATan(),
    flatten_channels: Mapping[str, int] | None = None,
) -> Any:
    """Our module with the layers, settings and parameters of a network of snnTorch 1.0.

    | snnTorch | here |
    |---|---|
    | `Leaky` | `Leaky` |
    | `RLeaky(linear_features=n)` | `LinearRecurrentContainer(Leaky, n, n, feedback_only=True)` |
    | `Synaptic` | `Sequential(ExponentialSynapse, Leaky)` |
    | `RSynaptic(linear_features=n)` | the container around that `Sequential` |
    | `Linear`, `Conv2d`, `MaxPool2d`, `Flatten`, ... of torch | those of `jaxsnn.nn` |

    Constants that are learned there are learned here; the `alpha` of a `Synaptic` through its time
    constant, `alpha = exp(-1/tau)`. Weights always are parameters. Potentials, which snnTorch
    passes in and out or keeps, begin at 0. Layers of torch do as after `module.eval()`. Images have
    their channels last here. Numbers for each neuron are those of features, `[n]` in torch, or of
    the channels of an image, `[n, 1, 1]`. A layer of torch that is used twice is one layer here.

    Args:
        module: a neuron, a layer, or a `torch.nn.Sequential` of them in the order in which they
            run: `torch.nn.Sequential(net.fc1, net.lif1, net.fc2, net.lif2)`. It stays as it is.
        surrogate_function: that of all neurons, as snnTorch's cannot be told apart from outside;
            the default is snnTorch's too. It matters in training only.
        flatten_channels: as in `jaxsnn.interop.spikingjelly.load`.

    Returns:
        The module; `jaxsnn.nn.unroll` runs it over time.

    Raises:
        ValueError: a layer, or a setting of one, has no counterpart; the message names it.
        TypeError: `module` is none of torch's.
        ImportError: torch or snnTorch is not there.
    """
    library = _torch_layers.import_torch("snntorch", module)
    return _torch_layers.convert(module, _reader(library, surrogate_function), flatten_channels)


def to_module(net: Any, module: Any, *, flatten_channels: Mapping[str, int] | None = None) -> None:
    """Writes the parameters of `net` into the network of snnTorch that it came from.

    The parameters that `from_module` made are written back: weights, running statistics and
    learned numbers of neurons; the rest of both must be the same still. snnTorch then gives the
    spikes of `net`.

    Args:
        net: what `from_module(module)` returned, trained since.
        module: that network of snnTorch, which is changed in place.
        flatten_channels: as in `from_module`.

    Raises:
        ValueError: the layers or settings differ, `net` holds NaN or infinity, or two layers that
            have one tensor in torch differ, in all of which nothing is written; or as for
            `from_module`.
        TypeError: `module` is none of torch's.
        ImportError: torch or snnTorch is not there.
    """
    library = _torch_layers.import_torch("snntorch", module)
    _torch_layers.write_back(net, module, _reader(library, ATan()), flatten_channels)


def _reader(library: Any, surrogate: SurrogateFunction) -> Reader:
    def neuron(layer: Any, name: str, reader: Reader) -> Made | None:
        if not isinstance(layer, library.SpikingNeuron):
            return None
        if id(layer) in reader.seen:
            raise Refused(
                f"in snnTorch it keeps one potential for {reader.seen[id(layer)][0]} and {name}; "
                "make two neurons"
            )
        return _neuron(library, layer, surrogate)

    return Reader(neuron)


def _neuron(library: Any, layer: Any, surrogate: SurrogateFunction) -> Made:
    """Our module for a neuron, and its arrays under the names that torch would give them."""
    recurrent = type(layer) in (library.RLeaky, library.RSynaptic)
    synaptic = type(layer) in (library.Synaptic, library.RSynaptic)
    if type(layer) is library.Lapicque:
        raise Refused(
            "with reset_mechanism='subtract' or 'none' take Leaky(beta=1 - time_step / (R * C)), "
            "and multiply the weights and the bias before it by time_step / C"
        )
    if not (recurrent or synaptic or type(layer) is library.Leaky):
        raise Refused("neurons that have a counterpart are Leaky, RLeaky, Synaptic and RSynaptic")
    require(layer, "inhibition", False)
    require(layer, "state_quant", False)
    if type(layer) is library.RSynaptic:
        require(layer, "reset_delay", True)  # snnTorch cannot run it either
    if recurrent and not (layer.all_to_all and layer.linear_features):
        raise Refused("feedback must have all_to_all=True and linear_features")
    reset = layer.reset_mechanism
    if reset == "zero" and type(layer) is not library.Leaky and layer.reset_delay:
        reset = "discard"
    numbers = {key: _numbers(layer, key) for key in Leaky.numbers}
    settings: Any = {key: np.ravel(a) if a.ndim else a for key, a in numbers.items()}
    settings |= {f"learn_{key}": getattr(layer, key).requires_grad for key in numbers}
    settings |= {"reset_mechanism": reset, "reset_delay": layer.reset_delay}
    try:
        node: Any = Leaky(**settings, surrogate_function=surrogate)
    except ValueError as error:
        raise Refused(error) from error
    at = ""
    if synaptic:
        numbers["alpha"] = _numbers(layer, "alpha")
        synapse = _synapse(layer, numbers["alpha"])
        node, at = (node, "") if synapse is None else (nn.Sequential(synapse, node), "1.")
    # Along which axis they lie can be told only where it is known what comes to the neuron.
    arrays: dict[str, Any] = {
        "0.alpha" if key == "alpha" else f"{at}{key}": getattr(layer, key).detach().view(a.shape)
        for key, a in numbers.items()
        if a.ndim or getattr(layer, key).requires_grad
    }
    if not recurrent:
        return node, arrays
    n = layer.linear_features
    container = nn.LinearRecurrentContainer(node, n, n, feedback_only=True, rngs=nnx.Rngs(0))
    inside = {f"sub_module.{key}": array for key, array in arrays.items()}
    weights = {f"rc.{key}": array for key, array in layer.recurrent.state_dict().items()}
    return container, inside | weights


def _numbers(layer: Any, key: str) -> np.ndarray:
    """A number of a neuron: scalar, or one for each feature `[n]` or channel `[n, 1, ...]`."""
    array = _files.array(key, getattr(layer, key))
    fixed = not getattr(layer, key).requires_grad
    if array.size == 1 or (fixed and array.size and np.all(array == array.flat[0])):
        return array.reshape(-1)[0].reshape(())
    while array.shape[0] == 1:
        array = array[0]
    if array.size != len(array):
        raise Refused(
            f"{key} must be one number, one for each feature, [n], or one for each channel of an "
            f"image, [n, 1, 1], got shape {list(array.shape)}"
        )
    return array


def _synapse(layer: Any, alpha: np.ndarray) -> nn.ExponentialSynapse | None:
    """The current of a `Synaptic`; None if nothing is left of it after a step."""
    alpha = np.clip(alpha, 0, 1).astype(np.float64)
    learned = layer.alpha.requires_grad
    if np.all(alpha == 0) and not learned:
        return None
    if not np.all((alpha > 0) & (alpha < 1)):
        raise Refused(f"alpha must be between 0 and 1, got {alpha.tolist()}")
    tau = -1 / np.log(alpha.reshape(-1) if alpha.ndim else alpha)
    return nn.ExponentialSynapse(nn.learnable(tau, param_dtype=jnp.float32) if learned else tau)
