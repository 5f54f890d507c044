"""The findings of `channelbox doctor`, with their remedies."""

from dataclasses import dataclass

ENV = "/etc/channelbox/channelbox.env"
JOURNAL = "On the web nodes, run: journalctl -u 'channelbox-web@*' -n 50"


@dataclass(frozen=True)
class Finding:
    """The result of one check. `verdict`: "well", "note" (works, with a reservation) or "wrong"."""

    verdict: str
    sentence: str
    remedy: str = ""


def well(sentence: str) -> Finding:
    return Finding("well", sentence)


def note(sentence: str, remedy: str) -> Finding:
    return Finding("note", sentence, remedy)


def wrong(sentence: str, remedy: str) -> Finding:
    return Finding("wrong", sentence, remedy)
