"""Reading a .nir file, which may be damaged or come from anyone."""

import os
from typing import Any

from jaxsnn.interop.nir._package import package


def read(path: str | os.PathLike[str]) -> Any:
    """The graph in a file.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is not a NIR file, or holds nodes that NIR does not have; names the path.
    """
    nir = package()
    import h5py

    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file)
            found = nir.serialization.hdf2dict(file["node"])
        unknown = sorted(set(_unknown(nir, found)))
        if unknown:
            raise ValueError(f"it has nodes of types that NIR {nir.version} lacks: {unknown}")
        if found.get("type") != "NIRGraph":
            raise ValueError(f"it holds one {found.get('type')!r} and no graph")
        return nir.NIRGraph.from_dict({**found, "type_check": False})
    except Exception as error:  # whatever is wrong inside it, HDF5 and nir raise all kinds
        raise ValueError(
            f"{path} is not a NIR file that can be read ({type(error).__name__}: {error}); write "
            "it anew with nir.write"
        ) from error


def _refuse_links(group: Any) -> None:
    """Everything must be in the file itself: links could lead into others, or in circles."""
    import h5py

    if len(group) and len(group.id) > 100_000:
        raise ValueError(f"{group.name} has {len(group)} entries")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to something else")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            if entry.name.count("/") > 20:
                raise ValueError(f"{entry.name} lies too deep")
            _refuse_links(entry)
        elif isinstance(entry, h5py.Dataset) and (entry.is_virtual or entry.external):
            raise ValueError(f"{entry.name} lies in another file")


def _unknown(nir: Any, found: Any) -> list[str]:
    """The types in a graph that are not nodes of NIR."""
    nodes = found.get("nodes", {}) if isinstance(found, dict) else {}
    known = set(nir.ir.__all__)
    types = []
    for name, node in nodes.items() if isinstance(nodes, dict) else ():
        kind = node.get("type") if isinstance(node, dict) else None
        if kind not in known or not isinstance(kind, str):
            types.append(f"{kind} ({name})")
        types += _unknown(nir, node)
    return types
