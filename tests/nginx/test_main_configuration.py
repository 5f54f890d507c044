"""What nginx.service starts nginx with on a node of the package: nginx.conf with more connections, else as it is."""

import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "packaging/debian/nginx-conf"
DEBIAN = """\
user www-data;
include /etc/nginx/modules-enabled/*.conf;

events {
\tworker_connections 768;
\t# multi_accept on; worker_connections 5;
}

http {
\tinclude /etc/nginx/sites-enabled/*;
}
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sites-enabled").mkdir()
    (tmp_path / "sites-enabled/channelbox").touch()
    return tmp_path


def copied(etc: Path, text: str) -> str:
    (etc / "nginx.conf").write_text(text)
    subprocess.run([PROGRAM, etc], check=True)
    assert (etc / "nginx.conf").read_text() == text
    return (etc / "channelbox-nginx.conf").read_text()


def test_nothing_but_the_number_differs(etc: Path) -> None:
    assert copied(etc, DEBIAN) == DEBIAN.replace("768", "32768")


@pytest.mark.parametrize("line", ["events { worker_connections 1024; }", "events {\n  worker_connections\t99 ;\n}"])
def test_it_is_found_as_people_write_it(etc: Path, line: str) -> None:
    number = "1024" if "1024" in line else "99"
    assert copied(etc, f"user 768;\n{line}\n") == f"user 768;\n{line.replace(number, '32768')}\n"


@pytest.mark.parametrize("text", [DEBIAN.replace("768", "65536"), "events {}\n", "nonsense"])
def test_what_is_more_or_not_there_stays(etc: Path, text: str) -> None:
    assert copied(etc, text).rstrip("\n") == text.rstrip("\n")


def test_where_the_site_is_not_enabled_it_is_a_copy(etc: Path) -> None:
    (etc / "sites-enabled/channelbox").unlink()
    assert copied(etc, DEBIAN) == DEBIAN
