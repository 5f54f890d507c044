"""Further runs of site.yml on the cluster, as an administrator starts them after changing a variable."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes.paths import cluster_dir
from probe.nodes import Nodes
from probe.people import Browser, Endpoint
from probe.site import Run, run_until_killed


@pytest.fixture
def by_hand(nodes: Nodes) -> Iterator[str]:
    """An instance with a number far above those that site.yml runs, enabled by an administrator."""
    unit = "channelbox-worker@9"
    nodes.root("worker1", f"systemctl enable --now {unit}")
    yield unit
    nodes.root("worker1", f"systemctl disable --now {unit}")


def test_fewer_instances_stop_only_those_that_site_yml_started(
    nodes: Nodes, run: Callable[..., Run], by_hand: str
) -> None:
    third = "channelbox-worker@3"
    more = run("--tags", "worker", channelbox_worker_instances=3)
    assert more.code == 0, more.output
    assert nodes.active("worker1", third) and nodes.active("worker2", third)

    fewer = run("--tags", "worker", channelbox_worker_instances=2)
    assert fewer.code == 0, fewer.output
    assert not nodes.active("worker1", third) and not nodes.active("worker2", third)
    assert nodes["worker1"].run(f"systemctl is-enabled {third}").stdout.strip() == "disabled"
    assert nodes.active("worker1", by_hand)


def test_changes_of_a_killed_run_take_effect_in_the_next(nodes: Nodes, run: Callable[..., Run]) -> None:
    unit = "channelbox-worker@1"
    before = nodes.main_pid("worker1", unit)
    # At this task, the settings have been written and the workers have not been restarted.
    inventory = cluster_dir(nodes.cluster) / "inventory.json"
    settings = {"CHANNELBOX_OPERATOR": "The harbour office"}
    run_until_killed("app : Apply the database migrations", inventory, channelbox_settings=settings)
    assert "The harbour office" in nodes.root("worker1", "cat /etc/channelbox/channelbox.env")
    assert nodes.main_pid("worker1", unit) == before

    again = run("--tags", "app,worker", channelbox_settings={"CHANNELBOX_OPERATOR": "The harbour office"})
    assert again.code == 0, again.output
    pid = nodes.main_pid("worker1", unit)
    assert pid != before
    assert "The harbour office" in nodes.root("worker1", f"cat /proc/{pid}/environ")

    # One node after another, as in an upgrade without downtime.
    restored = run("--tags", "app,web,worker", channelbox_serial=1)
    assert restored.code == 0, restored.output
    assert restored.output.count("TASK [app : Write the settings file]") == len(
        {*nodes.groups["web"], *nodes.groups["worker"]}
    )
    assert "The harbour office" not in nodes.root("worker1", f"cat /proc/{nodes.main_pid('worker1', unit)}/environ")


def test_an_invalid_nginx_configuration_is_not_installed(
    nodes: Nodes, run: Callable[..., Run], balancer: Endpoint
) -> None:
    site_file = "sha256sum /etc/nginx/sites-available/channelbox"
    before = nodes.root("lb1", site_file)
    nodes.root("lb1", "echo 'nonsense on;' > /etc/nginx/conf.d/broken.conf")
    try:
        result = run("--tags", "nginx", channelbox_hosts=["lb1", "elsewhere.example.org"])
    finally:
        nodes.root("lb1", "rm /etc/nginx/conf.d/broken.conf")
    assert result.code != 0
    assert 'unknown directive "nonsense"' in result.words
    assert nodes.root("lb1", site_file) == before
    assert Browser(balancer).request("GET", "/healthz")[0] == 200


def test_an_organisations_own_certificate_is_served(nodes: Nodes, run: Callable[..., Run], tmp_path: Path) -> None:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=own.example.org "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    look = "openssl s_client -connect 127.0.0.1:443 < /dev/null 2>/dev/null | openssl x509 -noout -subject"

    own = run("--tags", "nginx", channelbox_certificate=str(certificate), channelbox_certificate_key=str(key))
    assert own.code == 0, own.output
    assert "own.example.org" in nodes.root("lb1", look)

    selfsigned = run("--tags", "nginx")
    assert selfsigned.code == 0, selfsigned.output
    assert "own.example.org" not in nodes.root("lb1", look)


def test_secrets_are_neither_printed_nor_logged(nodes: Nodes, run: Callable[..., Run]) -> None:
    result = run("-vvv", "--diff", "--tags", "postgresql,redis,app")
    assert result.code == 0, result.output
    secrets = [path.read_text().strip() for path in (cluster_dir(nodes.cluster) / "secrets").iterdir()]
    assert len(secrets) == 3
    assert [secret for secret in secrets if secret in result.output] == []
    for node in sorted({node for members in nodes.groups.values() for node in members}):
        # `|| true`: it is no error if a process ends between the listing and the reading.
        logged = nodes.root(
            node, "journalctl --no-pager --output cat && { cat /proc/[0-9]*/cmdline 2> /dev/null || true; }"
        )
        assert [secret for secret in secrets if secret in logged] == [], f"a secret is visible on {node}"
