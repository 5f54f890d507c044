"""Check the words of documents and docstrings, as far as a machine can: part of `make lint`.

Each rule has a pattern and says what to write instead. Documents are all Markdown files; docstrings are those of the
application, the benchmarks, the packaging and these scripts.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINE = 100  # columns of a line of a document, but for tables, code, links and headings
DOCSTRINGS_OF = ("app/", "bench/", "packaging/", "scripts/")
CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    instead: str


def _rule(pattern: str, instead: str) -> Rule:
    return Rule(re.compile(pattern, re.MULTILINE), instead)


EVERYWHERE = (
    _rule(r"\blet go\b", "say what happens: released, closed, dropped"),
    _rule(r"\bknows? of\b", "knows, or: has heard of"),
    _rule(r"\bwhat is (?:told|said)\b", "name it: the message, the error, the output"),
    _rule(r"\bwould change our mind\b", "When to reconsider"),
    _rule(r"\btells? (?:nobody|somebody|anybody) (?:that|of)\b", "say who is notified, and how"),
    _rule(r"\b(?:[Ww]orld-readable|[Ss]anity check|[Bb]lacklist|[Ww]hitelist)\b", "say what it does"),
)
DOCUMENTS = (
    _rule(r"^(?:Who|Whoever|Those (?:who|that)|What) [^?|]*\.$", "begin with the subject, not with a clause"),
    _rule(r"^#{1,6} .*\.$", "a heading has no full stop"),
)
DOCSTRINGS = (
    _rule(
        r"\A(?:Who|Whoever|What|Whether|Those|How|Where|When|Why)\b",
        "begin with a verb (Return whether ...) or a noun (The ...)",
    ),
)
OF_FUNCTIONS = (
    _rule(r"\A(?:Returns|Raises|Gives|Makes|Sends|Reads|Writes|Takes|Runs)\b", "use the imperative: Return, Send"),
)


def _lines(text: str, matches: Iterator[re.Match[str]]) -> Iterator[tuple[int, str]]:
    for match in matches:
        yield text.count("\n", 0, match.start()) + 1, match[0].splitlines()[0]


def of_document(text: str) -> Iterator[tuple[int, str]]:
    """Yield each objection to a Markdown text: its line, and what is wrong."""
    plain = CODE.sub(lambda match: re.sub(r"[^\n]", "·", match[0]), text)
    for rule in (*EVERYWHERE, *DOCUMENTS):
        for number, words in _lines(plain, rule.pattern.finditer(plain)):
            yield number, f"{words!r}: {rule.instead}"
    for number, (line, shown) in enumerate(zip(text.splitlines(), plain.splitlines(), strict=True), 1):
        exempt = "|" in line or "](" in line or "://" in line or shown.lstrip().startswith(("#", "·", "!["))
        if len(line) > MAX_LINE and not exempt:
            yield number, f"{len(line)} columns: at most {MAX_LINE}"


def of_docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield each objection to the docstrings of a Python text: its line, and what is wrong."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node) or ""
        functions = OF_FUNCTIONS if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ()
        for rule in (*EVERYWHERE, *DOCSTRINGS, *functions):
            if found := rule.pattern.search(docstring):
                yield node.body[0].lineno, f"{found[0].splitlines()[0]!r}: {rule.instead}"


def main() -> int:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    objections = 0
    for name in filter(None, listed):
        path = ROOT / name
        if not path.is_file():
            continue
        if name.endswith(".md"):
            found = of_document(path.read_text())
        elif name.endswith(".py") and name.startswith(DOCSTRINGS_OF) and "/migrations/" not in name:
            found = of_docstrings(path.read_text())
        else:
            continue
        for line, words in found:
            print(f"{name}:{line}: {words}")
            objections += 1
    return 1 if objections else 0


if __name__ == "__main__":
    sys.exit(main())
