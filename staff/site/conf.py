"""Sphinx's configuration for the handout: https://www.sphinx-doc.org/en/master/usage/configuration.html."""

import importlib.metadata
from pathlib import Path

project = "Deep generative models: the assignment"
html_title = "Deep generative models"
extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # the deepest headings that get anchors like GitHub's
exclude_patterns = ["_build"]
nitpicky = True
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_copyright = False

# only the files of `mathjax_files` are copied, not the rest of the package
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {
    "options": {"enableMenu": False, "enableAssistiveMml": True},
    "loader": {"load": ["a11y/assistive-mml"]},
}


def mathjax_files() -> dict[str, Path]:
    """Return the files that MathJax needs: path in mathjax/ -> file."""
    wanted = ("tex-svg-full.js", "a11y/assistive-mml.js")
    found = {}
    for file in importlib.metadata.files("sphinx-mathjax-offline") or ():
        _, _, path = file.as_posix().partition("/static/mathjax/")
        if path in wanted:
            found[path] = Path(file.locate())
    return found
