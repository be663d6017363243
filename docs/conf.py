"""How the documentation is built."""

import importlib.util

import topwork

project = "topwork"
author = "The topwork developers"
copyright = author
version = release = topwork.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "topwork"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# The pages need the docstrings, not 2 GB of TensorFlow.
autodoc_mock_imports = [
    name for name in ("tensorflow", "keras", "h5py") if importlib.util.find_spec(name) is None
]
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
# Names of other projects: their inventories would need a network at build time.
nitpick_ignore_regex = [
    (r"py:.*", r"(keras|tf|tensorflow|np|numpy|matplotlib|collections|os|typing)(\..*)?"),
    (r"py:.*", r"(Any|Callable|Iterable|Iterator|Mapping|Sequence|PathLike|Path|pathlib\..*)"),
    (r"py:.*", r"(Model|optional|.*\._.*)"),
    # Short names of what the reference lists under the module that defines it.
    (r"py:.*", r"(Figure|Weights|Comparison|CutRow|BoundaryRow)"),
]
