"""A page that needs no other file: a template with its style and script inside, and no other may run.

Every page extends `page.html`, whose content security policy says so. Whatever is put into a page is escaped
by the template. Knows nothing of what the pages show.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib.resources import files
from typing import Any

import jinja2
import markupsafe

from kinescribe.schemas.errors import ConfigError
from kinescribe.storage import credentials, objects

PACKAGE = "kinescribe.reports"


def render(name: str, /, *, look: str | None = None, package: str = PACKAGE, **values: Any) -> str:
    """The page `NAME.html` of a package, with `LOOK.css` and, if there is one, `LOOK.js` inside.

    By default the look has the page's own name, and the package is this file's. The template gets `css`,
    `js` and their hashes for its content security policy, and may include and import others beside it.
    """
    css, js = _read(package, f"{look or name}.css"), _read(package, f"{look or name}.js")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(partial(_read, package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment.get_template(f"{name}.html").render(
        css=markupsafe.Markup(css), css_hash=_hash(css), js=markupsafe.Markup(js), js_hash=_hash(js), **values
    )


def require_html(out: str) -> None:
    """Raises ConfigError for a name that isn't a page's: no other file can be overwritten with one."""
    if not out.endswith(".html"):
        raise ConfigError(
            f"--out {credentials.redact(out)!r} is no name of a page; give one that ends in .html"
        )


def write_page(out: str, page: str) -> None:
    """Publish the page as the file or URL `out`, as a whole. Raises ConfigError and StoreError."""
    require_html(out)
    objects.replace(out, page.encode())


def _read(package: str, name: str) -> str:
    """The text of a file in `package` or else beside this module; empty where there is none."""
    found = (file for folder in (package, PACKAGE) if (file := files(folder) / name).is_file())
    return next((file.read_text("utf-8") for file in found), "")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
