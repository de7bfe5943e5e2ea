"""Tests neither see nor touch the files of whoever runs them."""

import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import platformdirs


def test_where_tests_run(tmp_path):
    repository = pathlib.Path(__file__).parent.parent
    assert pathlib.Path.cwd() == tmp_path
    assert repository not in tmp_path.parents
    home = pathlib.Path.home()
    assert home.parent == pathlib.Path(tempfile.gettempdir())
    for folder in (platformdirs.user_cache_dir(), platformdirs.user_config_dir()):
        assert home in pathlib.Path(folder).parents
    assert jax.config.jax_compilation_cache_dir is None
    assert not {"JAXSNN_DATA_DIR", "TFDS_DATA_DIR"} & set(os.environ)
    found = subprocess.run(
        [sys.executable, "-c", "import os, pathlib; print(pathlib.Path.home(), os.getcwd())"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert found.stdout.split() == [str(home), str(tmp_path)]
