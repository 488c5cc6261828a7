"""Self-contained HTML pages: a template with its style and script inside.

Every page extends `page.html`, whose content security policy allows no other style or script. The templates
escape all values. Knows nothing of what the pages show.
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
OWN_PAGE = b"default-src 'none'; img-src data:; style-src"
"""Part of the content security policy in `page.html`, which is in every page."""


def render(name: str, /, *, look: str | None = None, package: str = PACKAGE, **values: Any) -> str:
    """The page `NAME.html` of a package, with `LOOK.css` and, if there is one, `LOOK.js` inside.

    By default the look has the page's own name, and the package is this one. The template gets `css`, `js`
    and their hashes for its content security policy, and may include and import others beside it.
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


def require_page(out: str) -> None:
    """Raises ConfigError unless `out` ends in .html and is a new file or a page that Kinescribe wrote."""
    if not out.endswith(".html"):
        raise ConfigError(
            f"out {credentials.redact(out)!r} is not the name of a page; give one that ends in .html"
        )
    try:
        is_own = OWN_PAGE in objects.read_bytes(out)
    except (FileNotFoundError, NotADirectoryError):  # writing it says why a path is impossible
        return
    except IsADirectoryError as error:
        raise ConfigError(f"out {out} is a folder; name a file") from error
    if not is_own:
        raise ConfigError(f"out {out} is another kind of file; remove it, or name another")


def write_page(out: str, page: str) -> None:
    """Publish the page as the file or URL `out`, as a whole. Raises ConfigError and StoreError."""
    require_page(out)
    objects.replace(out, page.encode())


def _read(package: str, name: str) -> str:
    """The text of a file in `package` or else beside this module; empty if there is none."""
    existing = (file for folder in (package, PACKAGE) if (file := files(folder) / name).is_file())
    return next((file.read_text("utf-8") for file in existing), "")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
