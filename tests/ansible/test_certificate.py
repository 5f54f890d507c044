"""The certificate of a balancer, by the role's own tasks: what was put there by hand is kept, what we made is ours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.packaging.test_self_signed import AUTHORITY_OF_0_1_0, files, make, name_it, text

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
PLAY = """\
- hosts: all
  connection: local
  gather_facts: false
  roles:
    - role: nginx_certificate
"""

Run = Callable[..., str]


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, tls: Path) -> Run:
    """run(channelbox_hosts=[...]) does what the role does for a certificate, in a folder of the test's."""
    role = tmp_path / "roles/nginx_certificate"
    role.mkdir(parents=True)
    for part in ("templates", "files", "defaults"):
        (role / part).symlink_to(ANSIBLE / "roles/nginx" / part)
    (role / "tasks").mkdir()
    (role / "tasks/main.yml").symlink_to(ANSIBLE / "roles/nginx/tasks/certificate.yml")
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_LOCAL_TEMP"] = environment["ANSIBLE_REMOTE_TEMP"] = str(tmp_path / "temporary")
    program = str(Path(sys.executable).parent / "ansible-playbook")

    def run(**variables: object) -> str:
        given = {
            "ansible_python_interpreter": sys.executable,
            "channelbox_hosts": ["chat.example.org"],
            "_channelbox_tls": str(tls),
            "_channelbox_nginx_self_signed": str(tmp_path / "self-signed"),
            **variables,
        }
        command = [program, "-i", "box,", "-e", json.dumps(given), str(tmp_path / "play.yml")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_first_run_keeps_a_certificate_that_was_put_there_by_hand(tls: Path, run: Run) -> None:
    make(tls, days=90, extensions=["subjectAltName=DNS:own.example.org"])
    before = files(tls)
    run()
    assert files(tls) == before


def test_without_one_it_is_made_and_follows_the_names(tls: Path, run: Run) -> None:
    run()
    assert "DNS:chat.example.org" in text(tls)
    run(channelbox_hosts=["another.example.org"])
    assert "DNS:another.example.org" in text(tls)


def test_that_of_the_inventory_goes_with_it(tls: Path, run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    name_it(own, "own.example.org")
    make(own, days=90)
    run(channelbox_certificate=str(own / "cert.pem"), channelbox_certificate_key=str(own / "key.pem"))
    assert files(tls) == files(own)
    run()
    assert "DNS:chat.example.org" in text(tls)


def test_the_authority_of_version_0_1_0_is_replaced_and_told(tls: Path, run: Run) -> None:
    make(tls, days=3650, extensions=AUTHORITY_OF_0_1_0)
    assert "was a certificate authority for ten years" in " ".join(run().split())
    assert "CA:FALSE" in text(tls)
