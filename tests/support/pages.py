"""The pages of the documentation, and what can be read out of Markdown."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

GUIDE = ROOT / "docs" / "guide"
"""Its pages name files and routes that their reader makes; test_guide follows them."""

CHANGES = ROOT / "CHANGELOG.md"
"""It names what there was."""

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

CURRENT = [page for page in PAGES if page != CHANGES]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ +(.*?)$", re.MULTILINE)


def name(page: Path) -> str:
    """A page's path, for a test's id."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return [code for _, its, code in FENCE.findall(page.read_text()) if its == language]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in HEADING.findall(prose(page))]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}
