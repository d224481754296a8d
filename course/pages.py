"""HTML pages from Jinja2 templates: each is a single file, without scripts or external resources.

A template extends `page.html` in course/templates, whose content security policy forbids everything else.
All values in a template are escaped, unless they are `markupsafe.Markup`.
"""

from functools import cache
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).with_name("templates")


@cache
def environment(folder: Path = TEMPLATES) -> jinja2.Environment:
    """Create a Jinja2 environment with a folder's templates and `page.html`; undefined names are errors."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, folder: Path = TEMPLATES, **values) -> str:
    """Render the template with this file name."""
    return environment(folder).get_template(template).render(values)
