"""What the writer and the reader of files agree on."""

FORMAT, VERSION = "jaxsnn.export", 1
METADATA = "metadata.json"


def check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401  (JAX imports it, too late for a clear error)
    except ImportError as error:
        raise ImportError(
            "jaxsnn.export needs flatbuffers, in which JAX writes programs: "
            'pip install "jaxsnn-nnx[export]", or in a clone pip install -e ".[export]"'
        ) from error
