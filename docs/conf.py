"""How Sphinx builds the site: offline, with nothing loaded from elsewhere and formulas as MathML."""

import ast
import dataclasses
import html
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Callable
from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from elboroom import cli
from elboroom.config import catalogue
from elboroom.data import catalog_table

logger = logging.getLogger(__name__)
typing.GENERATING_DOCUMENTATION = True  # jaxtyping then prints shapes as they are written

project = "elboroom"
copyright = "the elboroom authors, Apache-2.0"
release = version = installed("elboroom")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_default_options = {"ignore-module-all": True}  # the reference has more than what a package exports
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = "elboroom"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_static_path = ["_static"]
html_sidebars = {"**": ["globaltoc.html"]}
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# Formulas: docutils translates TeX to MathML, which every browser draws by itself ---------------------------------

SPACING = (
    (re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])"), ""),  # MathML stretches fences by itself
    (re.compile(r"\\(log|ln|max|min)\s*(?=[a-zA-Z\\])"), r"\\\1\\,"),  # log p, not logp
    (re.compile(r" \\\| "), r"\\;\\|\\;"),  # a divergence's bars, but no norm's
)


def mathml(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    """The formula of a node; rows of a displayed one stand below each other, aligned at ``&``."""
    tex = node.astext().strip()
    for pattern, better in SPACING:
        tex = pattern.sub(better, tex)
    if block and ("\\\\" in tex or "&" in tex) and "\\begin" not in tex:
        tex = f"\\begin{{align*}}{tex}\\end{{align*}}"
    try:
        drawn = latex2mathml.tex2mathml(tex, as_block=block)
        return drawn.replace("<mo>‖</mo>", '<mo stretchy="false">‖</mo>')
    except MathError as error:
        logger.warning("%s in the formula %s", error, tex, location=node)
        return f"<code>{html.escape(tex)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{mathml(node, block=True)}</div>')
    raise nodes.SkipNode


SHAPE = re.compile(r"(?<!`)\[[^\]`]*\*\w+\](?!`)")


def tidy(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Show shapes as [n, *shape] literally."""
    lines[:] = [SHAPE.sub(lambda found: f"``{found[0]}``", line) for line in lines]


# What is written from the code: the repository keeps a stub, so that a new part is no change of a page ---------------


def commands() -> str:
    """Every command of the command line: what it does, and its options with their defaults."""
    lines = ["A file, a folder or a name that a command needs comes first, options in any order."]
    for command in cli.COMMANDS:
        lines += ["", f"## {command.__name__.lower()}", "", literal(inspect.getdoc(command))]
        lines += ["", "| option | default | what |", "| --- | --- | --- |"] if dataclasses.fields(command) else []
        said = below_fields(command)
        lines += [option(field, said.get(field.name, "")) for field in dataclasses.fields(command)]
    return "\n".join(lines) + "\n"


def option(field: dataclasses.Field, said: str) -> str:
    """A line of the table: what has no dashes is given by its place."""
    name = field.name if "Positional" in repr(field.type) else f"--{field.name.replace('_', '-')}"
    silent = field.default in (None, "", (), dataclasses.MISSING) or field.default is False
    inner = typing.get_args(field.type)[0] if typing.get_origin(field.type) is typing.Annotated else field.type
    choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
    more = f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
    return f"| `{name}` | {'' if silent else f'`{field.default}`'} | {literal(said)}{more} |"


def literal(text: str) -> str:
    """Options and places to fill in, shown as they are typed."""
    return re.sub(r"(--[a-z][\w.]*|\S*<[^>]+>\S*)", r"`\1`", text)


def below_fields(cls: type) -> dict[str, str]:
    """Field -> the text that stands below it in its class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    pairs = [(a, b) for a, b in itertools.pairwise(body) if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr)]
    return {a.target.id: " ".join(ast.literal_eval(b.value).split()).replace("|", "\\|") for a, b in pairs}


BUILT: dict[str, Callable[[], str]] = {**catalogue.PAGES, "data-sets": catalog_table, "commands": commands}
PLACE = re.compile(r"<!-- built: ([\w-]+) -->.*?<!-- /built -->", re.DOTALL)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what is written from the code into the places that a page has for it."""
    source[0] = PLACE.sub(lambda found: BUILT[found[1]](), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", fill)
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("autodoc-process-docstring", tidy, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
