"""How the documentation is built."""

import os

import topwork

# The tutorial is run by a kernel of its own: TensorFlow's remarks are not part of it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "topwork"
author = "The topwork developers"
copyright = author
version = release = topwork.__version__

extensions = [
    "myst_nb",  # with it comes myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "topwork"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Run whenever the documentation is built; a cell that fails, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 1800  # seconds, of a cell
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "code"  # `name` in a docstring
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
