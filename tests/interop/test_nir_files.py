"""Files that other libraries wrote, against their spikes; files that are damaged, or a trap."""

import os
import pathlib

import h5py
import nir
import numpy as np
import pytest
from flax import nnx
from nir_files import FILES, assert_outputs_of_files

from jaxsnn import nn
from jaxsnn.interop.nir import Neuron, from_nir, to_nir

MUTATIONS = int(os.environ.get("JAXSNN_MUTATIONS", "32"))
FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "nir"


def test_every_file_is_in_the_table():
    assert {path.stem for path in FOLDER.glob("*.nir")} == FILES.keys()


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse", "spyx"])
def test_files_of_other_libraries(library):
    """The outputs of the library that wrote the file: spikes equal, potentials to rounding."""
    nets = assert_outputs_of_files(FOLDER, library)
    for name, net in nets.items():
        assert isinstance(net, nn.Graph) == (name == "spikingjelly_residual")


@pytest.mark.parametrize("name", ["spikingjelly_dense", "spikingjelly_conv", "norse_box"])
def test_a_graph_and_back(name):
    """The same nodes and edges, numbers to the rounding of the file."""
    settings, *_ = FILES[name]
    graph = nir.read(FOLDER / f"{name}.nir", type_check=False)
    net = from_nir(graph, **settings)
    (start,) = graph.inputs
    (end,) = graph.outputs
    shape = graph.nodes[start].input_type["input"]
    again = to_nir(net, (*shape[1:], shape[0]), dt=settings.get("dt", 1e-4))
    called = {start: "input", end: "output"}
    while len(called) < len(graph.nodes):  # a chain
        name = next(b for a, b in graph.edges if a in called and b not in called)
        called[name] = str(len(called) - 2)
    assert {(called[a], called[b]) for a, b in graph.edges} == set(again.edges)
    for old, new in called.items():
        one, other = graph.nodes[old], again.nodes[new]
        assert type(one) is type(other)
        for field in vars(one).keys() - {"metadata", "input_type", "output_type", "input_shape"}:
            np.testing.assert_allclose(
                *np.broadcast_arrays(getattr(one, field), getattr(other, field)), rtol=1e-6
            )


@pytest.fixture
def path(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)), nn.LIFNode(), nn.Flatten())
    nir.write(tmp_path / "network.nir", to_nir(net, (3,)))
    return tmp_path / "network.nir"


def test_paths(path):
    assert repr(from_nir(path)) == repr(from_nir(str(path)))
    with pytest.raises(FileNotFoundError, match="no such file"):
        from_nir(path.with_name("other.nir"))


def test_damaged_files(path):
    """Every damage is an error that names the path, or does no harm."""
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = []
    for k in range(MUTATIONS):
        damaged = bytearray(whole)
        if k % 4 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for place in rng.integers(len(whole), size=4):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            from_nir(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) >= MUTATIONS // 4
    assert all(message.startswith(str(path)) for message in refused)


def rewritten(path, change):
    with h5py.File(path, "a") as file:
        change(file["node"])
    return path


def replace(group, name, value):
    del group[name]
    group[name] = value


def test_unknown_nodes_are_named(path):
    def change(node):
        replace(node["nodes/1"], "type", "AdEx")
        replace(node["nodes/2"], "type", "Magic")

    with pytest.raises(ValueError, match=r"network\.nir.* \['AdEx \(1\)', 'Magic \(2\)'\]"):
        from_nir(rewritten(path, change))


def test_links_are_refused(path, tmp_path):
    """A file must not have others read."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["weight"] = np.zeros((2, 3), np.float32)
    whole = path.read_bytes()
    links = [h5py.ExternalLink(str(secret), "/weight"), h5py.SoftLink("/node/nodes/0/bias")]
    for link in links:
        path.write_bytes(whole)
        rewritten(path, lambda node, link=link: replace(node["nodes/0"], "weight", link))
        with pytest.raises(ValueError, match=r"network\.nir.*weight is a link"):
            from_nir(path)
    path.write_bytes(whole)

    def circle(node):
        node["nodes/0/again"] = node["nodes"]

    with pytest.raises(ValueError, match=r"network\.nir.*again stands in the file twice"):
        from_nir(rewritten(path, circle))
    path.write_bytes(whole)

    def outside(node):
        del node["nodes/0/weight"]
        raw = [(str(secret), 0, 24)]
        node["nodes/0"].create_dataset("weight", (2, 3), np.float32, external=raw)

    with pytest.raises(ValueError, match=r"network\.nir.*weight lies in another file"):
        from_nir(rewritten(path, outside))
    path.write_bytes(whole)

    def records(node):
        kind = np.dtype([("a", np.float32)])
        replace(node["nodes/0"], "weight", np.zeros((2, 3), kind))

    with pytest.raises(ValueError, match=r"network\.nir.*weight holds neither numbers nor text"):
        from_nir(rewritten(path, records))
    path.write_bytes(whole)

    def huge(node):
        del node["nodes/0/weight"]
        node["nodes/0"].create_dataset("weight", (10**6, 10**6), np.float32, chunks=(1000, 1000))

    with pytest.raises(ValueError, match=r"network\.nir.*claims to hold 4000000"):
        from_nir(rewritten(path, huge))


def nodes_of(*nodes, **named):
    return nir.NIRGraph.from_list(*nodes, type_check=False), named


def lif(**fields):
    plain = {"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | fields
    return nir.LIF(**{name: np.broadcast_to(value, (2,)).copy() for name, value in plain.items()})


def edited(*nodes, edges=None, **more):
    graph = nir.NIRGraph.from_list(*nodes, type_check=False)
    graph.nodes |= more
    graph.edges = edges or graph.edges
    return graph


TWO = np.array([2])
BAD = {
    "tau below dt": (edited(lif(tau=1e-5)), r"LIF at 'lif': tau must be at least dt=0.0001"),
    "nan": (edited(lif(r=np.nan)), "'lif': r must hold finite numbers, got "),
    "another shape": (edited(nir.Input(np.array([3])), lif()), r"tau must have shape \[3\], got"),
    "weights": (edited(nir.Input(TWO), nir.Linear(np.ones((2, 3)))), r"weight of shape \[2, 3\] n"),
    "a bias": (
        edited(nir.Input(TWO), nir.Affine(np.ones((2, 2)), np.ones(3))), r"bias must have shape"
    ),
    "delays": (edited(nir.Delay(np.array([0.1, 0.2]))), r"one multiple of dt=.*, got \[0.1 0.2\]"),
    "a delay": (edited(nir.Delay(np.array([0.00015]))), "multiple of dt=0.0001, got 0.00015"),
    "two inputs": (edited(lif(), more=nir.Input(TWO)), r"one Input, .* 2: \['input', 'more'\]"),
    "no way": (edited(lif(), more=lif()), "no edges lead from the input to the node 'more'"),
    "part of a shape": (
        edited(nir.Input(np.array([2, 3, 3])), nir.Flatten(np.array([2, 3, 3]), 1, -1)),
        "start_dim=1 and end_dim=-1",
    ),
    "channels": (
        edited(nir.Input(np.array([2, 3, 3])),
               nir.Conv2d((3, 3), np.ones((1, 1, 3, 3)), 1, 0, 1, 1, np.ones(1))),
        r"needs 1 channels and 2 axes, its input has shape \[3, 3, 2\]",
    ),
    "a batch": (
        edited(nir.Input(np.array([1, 2])), nir.Linear(np.ones((2, 2)))), r"got \[1, 2\]"
    ),
    "same, with strides": (
        edited(nir.Input(np.array([1, 8, 8])),
               nir.Conv2d((8, 8), np.ones((1, 1, 3, 3)), 2, "same", 1, 1, np.ones(1))),
        r"padding='same' with strides=\(2, 2\) is not",
    ),
    "the output": (edited(lif(), nir.Output(np.array([3]))), r"Output has shape \(3,\)"),
    "four axes": (edited(nir.Input(np.array([1, 2, 3, 4]))), "one to three axes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_graphs(case):
    graph, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        from_nir(graph, dt=1e-4)


@pytest.mark.parametrize("node", [lif(), nir.Delay(np.array([0.1, 0.1]))])
def test_the_length_of_a_step_must_be_said(node):
    """No other library writes it into the graph, and a wrong one gives other spikes."""
    with pytest.raises(ValueError, match=r"does not give the time step; pass dt="):
        from_nir(edited(node))
    weights = from_nir(edited(nir.Input(TWO), nir.Linear(np.ones((2, 2)))))
    assert type(weights[0]) is nn.Linear


def test_bad_notes():
    """Metadata come from the file too."""
    for notes, message in {
        "x": "its metadata 'jaxsnn' must be a group",
        ("reset", "never"): "its metadata 'reset' must be one of",
        ("surrogate", "__import__('os')"): "its metadata 'surrogate' must be of",
        ("surrogate", '{"name": "Surrogate"}'): "its metadata 'surrogate' must be of",
        ("surrogate", '{"name": "ATan", "alpha": -1}'): "its metadata 'surrogate' must be of",
        ("fires_at_threshold", 7): r"must be one of \[False, True\], got 7",
        ("w", "a"): "metadata 'w' must hold finite numbers",
        ("learned", "[]"): "its metadata 'learned' must be like",
        ("learned", "{"): "its metadata 'learned' must be like",
        ("learned", '{"tau": [1]}'): "its metadata 'learned' must be like",
        ("learned", '{"tau": ["0", null]}'): "its metadata 'learned' must be like",
        ("learned", '{"tau": [1, null]}'): "metadata 'w_tau' must hold finite numbers",
        ("learned", '{"k": [0, null]}', "w_k", 1.0): "name 'k', which it does not have",
        ("learned", '{"tau": [3, 2]}', "w_tau", 1.0): "must be like .*two numbers with low < high",
        ("learned", '{"tau": [0, 1]}', "w_tau", 1.0): "tau must be greater than 1",
        ("learned", '{"tau": [1e9, null]}', "w_tau", 1.0): "tau must start inside of its bounds",
        (
            "learned",
            '{"tau": [1, null]}',
            "w_tau",
            np.nan,
        ): "'w_tau' must hold finite numbers, got nan",
        ("learned", '{"tau": [1, null]}', "w_tau", (1, 1, 1)): "tau does not fit its metadata",
    }.items():
        node = lif()
        pairs = {} if notes == "x" else dict(zip(notes[::2], notes[1::2], strict=True))
        node.metadata = {"jaxsnn": pairs or notes}
        with pytest.raises(ValueError, match=message):
            from_nir(edited(node), dt=1e-4)


def test_parts_of_graphs():
    """A graph within a graph is taken apart; a neuron that no cell of ours has becomes one."""
    inner = nir.NIRGraph.from_list(lif(v_leak=0.1), lif())
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))), inner, lif(), type_check=False)
    net = from_nir(graph, dt=1e-4)
    assert [type(layer) for layer in net.layers] == [nn.Linear, Neuron, nn.LIFNode, nn.LIFNode]


def test_parts_of_graphs_stay_in_order():
    """Parameters are named by it, in checkpoints too."""
    names = [f"w{k}" for k in range(8)]
    inner = nir.NIRGraph(
        {"input": nir.Input(TWO)}
        | {name: nir.Linear(np.ones((2, 2))) for name in names}
        | {"output": nir.Output(TWO)},
        [edge for name in names for edge in (("input", name), (name, "output"))],
    )
    graph = nir.NIRGraph(
        {"input": nir.Input(TWO), "part": inner, "output": nir.Output(TWO)},
        [("input", "part"), ("part", "output")],
    )
    assert list(from_nir(graph).names) == [f"part.{name}" for name in names]
