"""Reading a systemd EnvironmentFile as systemd does (systemd.exec(5), `EnvironmentFile=`)."""

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Within double quotes a backslash goes before these only, and is an ordinary character before others.
ESCAPED = '"\\`$'


def parse(text: str) -> dict[str, str]:
    """The variables that a file sets. Lines that set nothing are passed over, as systemd does."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        line = text[at:line_end]
        name, equals, _ = line.partition("=")
        if not line.strip() or line.lstrip()[0] in "#;" or not equals:
            at = line_end + 1
            continue
        value, at = _value(text, at + len(name) + 1)
        if NAME.match(name.strip()):
            found[name.strip()] = value
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that starts at `at`, and where the next line starts. Quotes may span lines; so does a final backslash."""
    value = ""
    kept = 0  # so much of the value is not white space at its end that is to be cut off
    quote = ""
    while at < len(text):
        character = text[at]
        following = text[at + 1 : at + 2]
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
            if following != "\n":
                value += following
                kept = len(value)
        elif character in "'\"" and not value.strip():
            quote = character
        elif not character.isspace():
            value += character
            kept = len(value)
        elif value:
            value += character
    return value[:kept], at
