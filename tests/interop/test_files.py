"""Files of parameters: formats, damage, and what says how to get a package."""

import collections
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop import spikingjelly
from jaxsnn.interop.nir import Scale, from_nir

MUTATIONS = int(os.environ.get("JAXSNN_MUTATIONS", "30"))


@pytest.fixture(scope="module")
def net():
    return nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)), nn.SynapseFilter(3.0, learnable=True))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded(net, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    spikingjelly.save(net, path)
    arrays = spikingjelly.state_dict(net)
    loaded = spikingjelly.state_dict(spikingjelly.load(net, str(path)))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(loaded[name], array)


def aligned(shape):
    """Ones at an address that JAX takes over instead of copying, as torch allocates them."""
    size = 4 * int(np.prod(shape))
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    array = buffer[start : start + size].view(np.float32).reshape(shape)
    array[...] = 1
    return array


def test_parameters_are_copies(net):
    """Their source may be a network that goes on training in place."""
    source = {"0.weight": aligned((2, 3)), "0.bias": aligned(2), "1.w": aligned(())}
    weight, bias, scale = aligned((2, 3)), aligned(2), aligned(3)
    graph = nir.NIRGraph.from_list(nir.Scale(scale), nir.Affine(weight, bias))
    made = [spikingjelly.load(net, source), from_nir(graph), Scale(scale)]
    for array in (*source.values(), weight, bias, scale):
        array += 1
    for parameter in jax.tree.leaves(nnx.state(made, nnx.Param)):
        np.testing.assert_array_equal(parameter, 1)


def test_compressed(net, tmp_path):
    arrays = spikingjelly.state_dict(net)
    np.savez_compressed(tmp_path / "net.npz", **arrays)
    loaded = spikingjelly.load(net, tmp_path / "net.npz")
    np.testing.assert_array_equal(loaded[0].kernel[...], net[0].kernel[...])


def test_other_suffixes(net, tmp_path):
    with pytest.raises(ValueError, match=r"net\.bin must end in \.npz or \.safetensors"):
        spikingjelly.save(net, tmp_path / "net.bin")
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"net\.bin must end in \.npz, \.safetensors, \.pth or"):
        spikingjelly.load(net, tmp_path / "net.bin")
    with pytest.raises(TypeError, match=r"source must be a mapping .* got Sequential"):
        spikingjelly.load(net, net)
    with pytest.raises(TypeError, match=r"0\.bias must be an array, got list"):
        spikingjelly.load(net, {"0.bias": [1.0, 2.0]})


def damaged(content, rng):
    """One byte changed, or the end cut off, or something put behind it."""
    content = bytearray(content)
    place, kind = int(rng.integers(len(content))), rng.integers(4)
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        return bytes(content + rng.bytes(10))
    content[place] ^= 1 << int(rng.integers(8))
    return bytes(content)


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_damage(net, tmp_path, compress):
    """Every damage of an .npz, which has checksums, ends in the right arrays or in an error."""
    path = tmp_path / "net.npz"
    arrays = spikingjelly.state_dict(net)
    compress(path, **arrays)
    whole, ends = path.read_bytes(), collections.Counter()
    for number in range(MUTATIONS):
        path.write_bytes(damaged(whole, np.random.default_rng(number)))
        try:
            loaded = spikingjelly.state_dict(spikingjelly.load(net, path))
        except ValueError as error:
            ends["error with the path" if str(path) in str(error) else "error without"] += 1
        else:
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array)
            ends["right arrays"] += 1
    print(dict(ends))
    assert "error without" not in ends
    assert ends["error with the path"] > MUTATIONS / 3


def test_damaged_safetensors(net, tmp_path):
    path = tmp_path / "net.safetensors"
    spikingjelly.save(net, path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:20], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.safetensors is damaged, or not in the format"):
            spikingjelly.load(net, path)


def test_pickles_are_refused(net, tmp_path):
    np.savez(tmp_path / "net.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"not an \.npz of plain arrays .ValueError.$"):
        spikingjelly.load(net, tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("suffix", "package", "way_out"),
    [
        (".safetensors", "safetensors.numpy", 'pip install "jaxsnn-nnx[interop]"'),
        (".pth", "torch", "pip install torch"),
    ],
)
def test_without_the_package(net, tmp_path, monkeypatch, suffix, package, way_out):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as error:
        spikingjelly.load(net, path)
    assert way_out in str(error.value)


def test_bfloat16_of_safetensors(net, tmp_path):
    """NumPy has no such numbers; they are widened."""
    from safetensors.flax import save_file

    path = tmp_path / "net.safetensors"
    arrays = {n: jnp.asarray(a, jnp.bfloat16) for n, a in spikingjelly.state_dict(net).items()}
    save_file(arrays, path)
    loaded = spikingjelly.load(net, path)
    np.testing.assert_array_equal(
        loaded[0].kernel[...], np.asarray(arrays["0.weight"].T, np.float32)
    )


def test_files_of_torch(net, tmp_path):
    """A state_dict, or a checkpoint that holds one; nothing that runs code."""
    torch = pytest.importorskip("torch")
    arrays = {n: torch.from_numpy(a) for n, a in spikingjelly.state_dict(net).items()}
    expected = spikingjelly.state_dict(net)
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1}]}
    for saved in (arrays, {"net": arrays, "optimizer": optimizer, "epoch": 3}):
        torch.save(saved, tmp_path / "net.pth")
        loaded = spikingjelly.state_dict(spikingjelly.load(net, tmp_path / "net.pth"))
        for name, array in expected.items():
            np.testing.assert_array_equal(loaded[name], array)
    for saved, message in (
        ({"a": arrays, "b": arrays}, r"must hold a state_dict, or one .* got \['a', 'b'\]"),
        ([1], "must hold a state_dict, .* got list"),
        ({"net": pathlib.PurePosixPath("x")}, "is damaged, or holds more than tensors"),
        (torch.nn.Linear(3, 2), r"numbers; write torch\.save\(net\.state_dict"),
    ):
        torch.save(saved, tmp_path / "net.pth")
        with pytest.raises(ValueError, match=message):
            spikingjelly.load(net, tmp_path / "net.pth")
    (tmp_path / "net.pt").write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"net\.pt is damaged"):
        spikingjelly.load(net, tmp_path / "net.pt")
    with pytest.raises(TypeError, match=r"0\.bias must be a dense tensor"):
        spikingjelly.load(net, arrays | {"0.bias": torch.eye(2).to_sparse()})
    half = {n: a.bfloat16() for n, a in arrays.items()}
    assert spikingjelly.load(net, half)[0].kernel.dtype == jnp.float32
