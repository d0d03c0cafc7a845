"""What MkDocs calls while it builds: generated pages and their places, Chinese search, language of pages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import material.plugins.search.plugin as search
import rjieba
from mkdocs.structure.files import File, Files
from pages import list_written_pages, write_navigation, write_pages

# The search plugin cuts Chinese into words if `jieba` is there. That package exists as source alone; rjieba has the
# same dictionary and comes as a wheel.
search.jieba = SimpleNamespace(cut=lambda text: rjieba.cut(text.decode()))


ZH = {
    "Table of contents": "目录",
    "Back to top": "回到顶部",
    "Previous": "上一页",
    "Next": "下一页",
    '<html lang="en"': '<html lang="zh-CN"',
}
"""What the theme says around a page, in Chinese; and the language, which fonts and screen readers go by."""


def on_config(config: Any) -> Any:
    """Fill in the generated parts of the navigation; a page that has no place yet is a how-to page."""
    lists = write_navigation()
    placed = str(config["nav"])
    unplaced = [page for page in list_written_pages() if f"'{page}'" not in placed]
    for section in config["nav"]:
        for title in section:
            section[title] = lists.get(title, section[title])
            if title == "How to":
                section[title] += unplaced
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated files."""
    for path, content in write_pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001 - names are MkDocs'
    """Write what stands around a Chinese page in Chinese."""
    if page.file.src_path.startswith("zh/"):
        for english, chinese in ZH.items():
            output = output.replace(english, chinese)
    return output
