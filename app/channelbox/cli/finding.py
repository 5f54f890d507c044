"""What the doctor found, and what to do about it."""

from dataclasses import dataclass

ENV = "/etc/channelbox/channelbox.env"
JOURNAL = "On the web nodes, run: journalctl -u 'channelbox-web@*' -n 50"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. verdict: "well", "note" (works, but) or "wrong"."""

    verdict: str
    sentence: str
    remedy: str = ""


def well(sentence: str) -> Finding:
    return Finding("well", sentence)


def note(sentence: str, remedy: str) -> Finding:
    return Finding("note", sentence, remedy)


def wrong(sentence: str, remedy: str) -> Finding:
    return Finding("wrong", sentence, remedy)
