"""Links, files, modules and functions that the documents name exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^(```.*?^```|    [^\n]*)$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that a forge generates from the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[Path, str]]:
    return [
        (page, target)
        for page in PAGES
        for target in LINK.findall(CODE.sub("", page.read_text()))
        if "://" not in target and not target.startswith("mailto:")
    ]


@pytest.mark.parametrize(
    ("document", "target"), [pytest.param(p, t, id=f"{p.relative_to(ROOT)}->{t}") for p, t in links()]
)
def test_links_have_existing_targets(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    there = (document.parent / path).resolve() if path else document
    assert there.exists()
    if anchor:
        assert anchor in anchors(there)


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = {target for page, target in links() if page == folder / "README.md"}
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= listed


ELSEWHERE = (
    "channels/",
    "django/",
    "redis/",
    "uvicorn/",
    "meta/",
    "group_vars/",
)  # in libraries, in any role or inventory
PATHS = re.compile(r"`((?:[\w@.-]+/)+[\w.-]+\.(?:py|js|lua|yml|html|sh))`")


def paths() -> list[tuple[Path, str]]:
    found = [(page, path) for page in PAGES for path in PATHS.findall(page.read_text())]
    return [(page, path) for page, path in found if not path.startswith(ELSEWHERE)]


@pytest.mark.parametrize(
    ("document", "path"), [pytest.param(d, p, id=f"{d.relative_to(ROOT)}->{p}") for d, p in sorted(set(paths()))]
)
def test_files_named_in_documents_exist(document: Path, path: str) -> None:
    """Paths are relative to the project, the application, its tests or ansible."""
    assert any((ROOT / folder / path).exists() for folder in ("", "app", "app/channelbox", "tests", "ansible"))


def modules() -> set[str]:
    """Return the application's modules as package.name, without those whose names Django prescribes."""
    application = ROOT / "app" / "channelbox"
    fixed = {"__init__", "apps", "urls", "management", "migrations"}
    return {
        ".".join(module.relative_to(application).with_suffix("").parts)
        for module in application.rglob("*.py")
        if module.parent.name != "postgresql" and not fixed & set(module.relative_to(application).with_suffix("").parts)
    }


def test_the_source_layout_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    source = text[text.index("    app/channelbox/     ") : text.index("    ansible/            ")]
    named, package = set(), ""
    for line in source.splitlines()[1:]:
        if found := re.match(r" {6}(\w+)/", line):
            package = f"{found[1]}."
        elif found := re.match(r" {6,8}((?:\w+ )*\w+)(?=  |$| templates/| static/)", line):
            named |= {package + name for name in found[1].split()}
    assert named == modules() | {"urls"}


def functions(path: Path) -> set[str]:
    """Return the functions and methods of a module, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_functions_named_in_the_message_flow_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text[text.index("### Message flow in the source") :].partition("\nRedis is transport")[0]
    rows = [row for row in section.splitlines() if ".py`" in row]
    assert len(rows) > 15
    for row in rows:
        path = None
        for word in re.findall(r"`([^`]+)`", row):
            if word.endswith(".py"):
                path = ROOT / "app" / "channelbox" / word
            elif path is not None and (word.islower() or "." in word or word.startswith("_")):
                assert word in functions(path), f"{path.name} has no {word}"
