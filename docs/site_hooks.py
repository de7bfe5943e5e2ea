"""Hooks of the documentation site: the version, links to the reference, equations as MathML."""

import html
import logging
import pathlib
import re
import tomllib
from typing import Any

from latex2mathml.converter import convert

ROOT = pathlib.Path(__file__).parent.parent
LOG = logging.getLogger("mkdocs.hooks.site")  # a warning ends a strict build
DOCUMENTED = re.compile(r"^::: (\S+)$", re.MULTILINE)
EQUATION = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
NAME = re.compile(
    r"<a\b.*?</a>|<h\d\b.*?</h\d>|<pre\b.*?</pre>"  # no links in these
    r"|<code>(?P<name>\w+(?:\.\w+)*)(?:\([^<]*\))?</code>",
    re.DOTALL,
)
EXTERNAL = re.compile(
    r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
# Pages where `nn.Linear` may be another library's.
COMPARISONS = {"from-spikingjelly.md", "how-to/snntorch-norse.md"}
reference: set[str] = set()  # the names that have an entry
aliases: dict[str, str] = {}  # names of jaxsnn itself, e.g. jaxsnn.doctor, to their entries


def on_config(config: Any) -> None:
    """Show the version in the header, and the repository if pyproject.toml names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.site_name = f"jaxsnn {project['version']}"
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    config.repo_url = config.repo_url or urls.get("repository")
    config.repo_name = config.repo_name or (config.repo_url and "Repository")


def on_files(files: Any, **_: Any) -> None:
    """Collect the names that the reference documents, and what they are called in jaxsnn."""
    pages = [file for file in files.documentation_pages() if in_reference(file)]
    reference.update(*(DOCUMENTED.findall(file.content_string) for file in pages))
    package = (ROOT / "jaxsnn/__init__.py").read_text(encoding="utf-8")
    imports = re.findall(r"^from (jaxsnn\.\w+) import (\w+)", package, re.MULTILINE)
    aliases.update({f"jaxsnn.{name}": f"{module}.{name}" for module, name in imports})


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """Set the equations of a page, and link names in code; source code is not searched."""
    content = content.replace(
        '<details class="mkdocstrings-source"',
        '<details data-search-exclude class="mkdocstrings-source"',
    )
    content = EQUATION.sub(lambda found: mathml(found[2], page.file.src_uri), content)
    return NAME.sub(lambda found: link(found, page), content)


def on_post_page(output: str, *, page: Any, **_: Any) -> None:
    """Refuse what a browser would fetch from elsewhere: the site works without a network."""
    for tag in EXTERNAL.findall(output):
        LOG.warning("%s: external asset: %s", page.file.src_uri, tag)


def mathml(source: str, page: str) -> str:
    r"""Convert `\(TeX\)` or `\[TeX\]` to MathML."""
    source = html.unescape(source).strip()
    tex = source[2:-2].strip().replace("{aligned}", "{align*}")  # the same, known to the converter
    block = source.startswith(r"\[")
    try:
        result = convert(tex, display="block" if block else "inline")
    except Exception as error:
        LOG.warning("%s: equation cannot be converted to MathML: %s: %r", page, tex, error)
        return f"<code>{html.escape(tex)}</code>"
    if "\\" in html.unescape(result):  # the converter copies commands that it does not know
        LOG.warning("%s: equation has a command unknown to latex2mathml: %s", page, tex)
    return f'<div class="equation">{result}</div>' if block else result


def link(found: re.Match[str], page: Any) -> str:
    """Turn a name in code into a reference.

    A name that begins with `jaxsnn.` must be documented, or the strict build fails. Others,
    `nn.LIFNode` on any page and `LIFNode` on the pages of `jaxsnn.nn`, are linked if they are.
    """
    name = found["name"]
    if name is None or name == "jaxsnn":
        return found[0]
    if not name.startswith("jaxsnn."):
        name = qualified(name, page)
    name = aliases.get(name, name)
    return f'<autoref identifier="{name}">{found[0]}</autoref>' if name else found[0]


def qualified(name: str, page: Any) -> str | None:
    """Return the documented name that a shorter one means on a page, None if there is none."""
    candidates = []
    if "." in name and page.file.src_uri not in COMPARISONS:
        candidates.append(f"jaxsnn.{name}")
    here = DOCUMENTED.findall(page.markdown) if in_reference(page.file) else []
    if here and name != name.lower().replace("_", ""):  # plain words are arguments
        candidates.append(f"{here[-1].rpartition('.')[0]}.{name}")
    return next((name for name in candidates if name in reference), None)


def in_reference(file: Any) -> bool:
    """Return whether a file is a page of the reference."""
    return file.src_uri.startswith("reference/")
