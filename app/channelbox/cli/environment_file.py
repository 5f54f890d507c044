"""Parser of systemd EnvironmentFiles, like systemd's own (systemd.exec(5), `EnvironmentFile=`; parse_env_file)."""

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Within double quotes a backslash escapes only these; before others it is an ordinary character.
ESCAPED = '"\\`$'


def parse(text: str) -> dict[str, str]:
    """Return the variables that a file sets. Lines that set nothing are skipped, as systemd does."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        name, equals, _ = line.partition("=")
        if equals and name.lstrip()[:1] not in ("", "#", ";"):
            value, at = _value(text, at + len(name) + 1)
            if NAME.match(name.strip()):
                found[name.strip()] = value
        else:
            at += len(line) + 1
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that starts at `at`, and the position at which the next line starts.

    Quotes may span lines, and a backslash at the end of a line joins the next one to it. Quotes count as such only
    where a value starts or another quote has just ended; white space there and at the end of a value is dropped.
    """
    value = ""
    kept = 0  # length of the value without white space at its end
    inside = False  # an unquoted value has begun
    quote = ""
    while at < len(text):
        character, following = text[at], text[at + 1 : at + 2]
        at += 1
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"' and following:
                at += 1
                if following != "\n":
                    value += following if following in ESCAPED else "\\" + following
            else:
                value += character
            kept = len(value)
        elif character == "\n":
            break
        elif character == "\\" and following:
            at += 1
            inside = True
            if following != "\n":
                value += following
                kept = len(value)
        elif not inside and character in "'\"":
            quote = character
        elif not character.isspace():
            inside = True
            value += character
            kept = len(value)
        elif inside:
            value += character
    return value[:kept], at
