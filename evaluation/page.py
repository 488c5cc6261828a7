"""A page that needs no other file: a template with its style and script inside, and no other may run.

Every page extends `page.html`, whose content security policy says so. Whatever is put into a page is escaped
by the template. Knows nothing of what the pages show.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

import jinja2
import markupsafe

from schemas.errors import ConfigError
from storage import uri


def render(name: str, /, *, look: str | None = None, **values: Any) -> str:
    """The page `NAME.html` beside this file, with `LOOK.css` and, if there is one, `LOOK.js` inside.

    The look has by default the page's own name. The template gets `css`, `js` and their hashes for its
    content security policy, and may include and import others that lie beside it.
    """
    css, js = _read(f"{look or name}.css"), _read(f"{look or name}.js")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
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
        raise ConfigError(f"--out {uri.redact(out)!r} is no name of a page; give one that ends in .html")


def write_page(out: str, page: str) -> None:
    """Publish the page as the file or URL `out`, as a whole. Raises ConfigError and StoreError."""
    require_html(out)
    uri.replace(out, page.encode())


def _read(name: str) -> str:
    file = files("evaluation") / name
    return file.read_text("utf-8") if file.is_file() else ""


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
