"""The prose linter reports the sentences that it should, and accepts good ones."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "scripts" / "prose.py"
spec = importlib.util.spec_from_file_location("channelbox_prose", PATH)
assert spec and spec.loader
prose = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = prose
spec.loader.exec_module(prose)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# A title.\n", 1),
        ("\nWho comes back is let in.\n", 2),
        ("Sockets are let go.\n", 1),
        ("It knows of it.\n", 1),
        ("x " * 51 + "\n", 1),
    ],
)
def test_bad_sentences_are_reported(text: str, line: int) -> None:
    assert [number for number, _ in prose.of_document(text)] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "What does it cost?\n",
        "    let go in code\n",
        "```\nWho is code.\n```\n",
        "`let go` is a name.\n",
        "| " + "x" * 120 + " |\n",
        "# " + "x" * 120 + "\n",
        "A sentence with its subject.\n",
    ],
)
def test_good_sentences_and_code_are_accepted(text: str) -> None:
    assert list(prose.of_document(text)) == []


@pytest.mark.parametrize(
    ("docstring", "good"),
    [
        ("Return whether it holds.", True),
        ("Token bucket per connection.", True),
        ("Whether it holds.", False),
        ("Who is here.", False),
        ("Returns it.", False),
    ],
)
def test_docstrings_begin_with_a_verb_or_a_noun(docstring: str, good: bool) -> None:
    text = f'def function():\n    """{docstring}"""\n'
    assert [number for number, _ in prose.of_docstrings(text)] == ([] if good else [2])


def test_class_docstrings_may_use_the_third_person() -> None:
    assert list(prose.of_docstrings('class A:\n    """Writes reports."""\n')) == []
