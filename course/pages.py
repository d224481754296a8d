"""HTML pages from Jinja2 templates: each is one file without scripts that loads nothing from anywhere.

A template extends `page.html` of course/templates, which forbids everything else by its content security policy.
Everything that is put into a template is escaped, unless it is `markupsafe.Markup`.
"""

from functools import cache
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).with_name("templates")


@cache
def environment(folder: Path = TEMPLATES) -> jinja2.Environment:
    """The templates of a folder, and `page.html`; a name that a template does not get is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, folder: Path = TEMPLATES, **values) -> str:
    """Fill in the template of that file name."""
    return environment(folder).get_template(template).render(values)
