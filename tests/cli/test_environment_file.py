"""Environment files are parsed as systemd parses them. Each expected value was compared with systemd 252."""

import pytest

from channelbox.cli.environment_file import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("  A=indented", "indented"),
        ("A =name with space behind", "name with space behind"),
        ("A=  padded value  ", "padded value"),
        ("A=", ""),
        ("A==x=", "=x="),
        ("A=a#b ; c", "a#b ; c"),
        ("A=it's", "it's"),
        ("A=unix:///run/r.sock?db=0&x=1", "unix:///run/r.sock?db=0&x=1"),
        ('A="  kept  "', "  kept  "),
        (r'A="double \"q\" \\ \$x \n `tick"', r'double "q" \ $x \n `tick'),
        (r"""A='single "q" \ '""", 'single "q" \\ '),
        ('A="two" "parts"', "twoparts"),
        ("""A="a"b 'c'""", "ab 'c'"),
        ('A="x" # no comment', "x# no comment"),
        ("A=joined\\\nlines", "joinedlines"),
        (r"A=back\ slash\n", "back slashn"),
        ('A="over\ntwo lines"', "over\ntwo lines"),
        ("A=first\nA=last", "last"),
    ],
)
def test_values_are_parsed_as_systemd_parses_them(text: str, value: str) -> None:
    assert parse(text) == {"A": value}
    assert parse(f"# comment = x\n; another\n\n{text}\nB=after\n") == {"A": value, "B": "after"}


@pytest.mark.parametrize("text", ["", "\n\n", "# A=1", "; A=1", "NOEQUALS", "export A=1", "1A=x", "=x"])
def test_other_lines_set_nothing(text: str) -> None:
    assert parse(text) == {}
