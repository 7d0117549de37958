"""Pages of the report: template, style and scripts in one file, and the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup


def render(
    template: str,
    content: Mapping[str, Any],
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    loads: Sequence[str] = (),
) -> str:
    """A page from a template of this folder; all text is escaped.

    Args:
        template: its file name.
        content: what it shows.
        styles: file names of its styles.
        scripts: texts of the scripts that it runs, in this order; the policy names them by digest.
        loads: what else it may load, as sources of images and scripts in the policy's words.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        loader=jinja2.FunctionLoader(resource),
    )  # fmt: skip
    environment.filters["breakable"] = breakable
    environment.filters["data"] = lambda value: Markup(embedded(value))
    policy = "; ".join(
        [
            "default-src 'none'",
            " ".join(["img-src data:", *loads]),
            "style-src 'unsafe-inline'",
            " ".join(["script-src", *map(_digest, scripts), *loads]),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    shown = {
        **content,
        "policy": Markup(policy),
        "style": Markup("\n".join(map(resource, styles))),
        "scripts": list(map(_script, scripts)),
    }
    return environment.get_template(template).render(shown) + "\n"


def resource(name: str) -> str:
    """A template, style or script of this folder."""
    return (files("evals.report") / name).read_text(encoding="utf-8")


def embedded(value: Any) -> str:
    """JSON for a script element that holds data, or for a script: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def breakable(name: str) -> Markup:
    """A name that may wrap after its separators."""
    from markupsafe import Markup, escape

    text = escape(name)
    for separator in "_+/":
        text = text.replace(separator, Markup(f"{separator}<wbr>"))
    return text


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _script(text: str) -> Markup:
    from markupsafe import Markup

    if "</script" in text.lower() or "<!--" in text:
        raise AssertionError("a script of the report would end its element")
    return Markup(text)
