"""The site: `make docs` writes it into site/. Nothing in it is fetched from another host when it is read."""

import re
from typing import Any

project = "ferlightning"
html_title = "ferlightning"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_copy_source = html_show_sphinx = html_show_copyright = False
highlight_language = "none"
myst_heading_anchors = 3
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
REPOSITORY = "https://github.com/ferlightning/ferlightning/blob/main/"
PAGES = {
    "Start": "ten-minutes data parts report python coming-from",
    "Results": "recipes protocol papers",
    "Use": "recognize deploying browser security",
    "Scale": "scaling sweeps",
    "Extend": "plugins reference",
    "Help": "troubleshooting",
}
"""The pages in their order; GitHub shows index.md without them."""


def read(app: Any, name: str, source: list[str]) -> None:
    """Let links that leave docs/, such as ../SECURITY.md, lead to the repository; add the pages to the first one."""
    source[0] = re.sub(r"\]\(\.\./(?=[\w.])", f"]({REPOSITORY}", source[0])
    if name == "index":
        for caption, pages in PAGES.items():
            listed = "\n".join(pages.split())
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def setup(app: Any) -> None:
    app.connect("source-read", read)
