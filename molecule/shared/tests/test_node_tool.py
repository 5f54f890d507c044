"""The node tool removes everything that it creates, and explains why it cannot work on a machine."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import access, cluster, machine
from nodes.cli import main
from nodes.names import container_name, network_name
from nodes.paths import ROOT, cluster_dir
from nodes.plan import Plan, from_arguments, from_file
from nodes.podman import network_exists, podman
from nodes.run import NodeError, run


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a cluster that nothing else uses; the cluster is always removed afterwards."""
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    cluster.down(name)


def is_removed(name: str) -> bool:
    return not (cluster.nodes_of(name) or network_exists(network_name(name)) or cluster_dir(name).exists())


def test_ssh_admits_the_sudo_user_and_not_root(name: str) -> None:
    assert main(["up", name, "--node", "one:trixie:web", "--node", "two:bookworm:web,redis"]) == 0
    ssh = ["ssh", "-F", str(cluster_dir(name) / "ssh_config"), "-o", "BatchMode=yes"]
    for node in ("one", "two"):
        assert run([*ssh, node, "sudo id -u"]).strip() == "0"
        as_root = subprocess.run([*ssh, "-l", "root", node, "true"], capture_output=True, text=True)
        assert "Permission denied" in as_root.stderr
    assert "two" in run([*ssh, "one", "getent hosts two"])
    assert main(["down", name]) == 0
    assert is_removed(name)


def test_a_failure_during_up_removes_everything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_plan: Plan) -> None:
        raise NodeError("in the middle")

    monkeypatch.setattr(access, "open_ssh", fail)
    assert main(["up", name, "--node", "one:trixie"]) == 1
    assert is_removed(name)


def test_an_interruption_during_up_removes_everything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_plan: Plan) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(access, "open_ssh", interrupt)
    assert main(["up", name, "--node", "one:trixie"]) == 130
    assert is_removed(name)


def test_a_node_keeps_address_and_files_over_a_restart(name: str) -> None:
    cluster.up(from_arguments(name, ["one:trixie"]), volumes=[])
    container = container_name(name, "one")
    before = podman("exec", container, "hostname", "-I")
    podman("exec", container, "touch", "/var/kept")
    for power_cut in (False, True):
        cluster.restart(name, "one", power_cut=power_cut)
        assert podman("exec", container, "hostname", "-I") == before
        podman("exec", container, "test", "-e", "/var/kept")


def test_an_existing_cluster_is_not_created_again(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", name, "--node", "one:trixie"]) == 0
    assert main(["up", name, "--node", "one:trixie"]) == 1
    assert f"down {name}" in capsys.readouterr().err
    assert cluster.nodes_of(name) == [container_name(name, "one")]


def test_removal_is_retried_when_processes_die_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    left = ["slow", "other"]

    def podman(*arguments: str) -> str:
        removed = [each for each in left if each in arguments and (each != "slow" or left == ["slow"])]
        for each in removed:
            left.remove(each)
        if left:
            raise NodeError("cannot remove container slow: given PIDs did not die within timeout")
        return ""

    monkeypatch.setattr(cluster, "nodes_of", lambda name: list(left))
    monkeypatch.setattr(cluster, "network_exists", lambda name: False)
    monkeypatch.setattr(cluster, "podman", podman)
    cluster.down("some")
    assert not left


def test_removing_a_missing_cluster_is_no_error(name: str) -> None:
    assert main(["down", name]) == 0


def test_without_root_an_alternative_is_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    assert main(["check"]) == 1
    error = capsys.readouterr().err
    assert "sudo" in error
    assert "make run" in error


def test_without_capabilities_an_alternative_is_suggested() -> None:
    tool = Path(__file__).parents[1] / "node"
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", str(tool), "check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "CAP_SYS_ADMIN" in done.stderr
    assert "make run" in done.stderr


@pytest.mark.parametrize("text", ["One:trixie", "one two:trixie", "-one:trixie"])
def test_invalid_names_are_refused(text: str) -> None:
    with pytest.raises(NodeError, match="small letters"):
        from_arguments("t", [text])


def test_an_unknown_release_is_refused_with_the_known_ones(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", name, "--node", "one:sid"]) == 1
    assert "bookworm" in capsys.readouterr().err


def test_an_invalid_plan_is_refused_with_its_file_name(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[nodes.one]\ngroups = ['web']\n")
    with pytest.raises(NodeError, match=r"plan\.toml"):
        from_file("t", plan)


def test_an_image_that_two_processes_need_is_built_once() -> None:
    """`make test` runs the tests on trixie twice at the same time, on a machine that may have no images yet."""
    build = (
        "import sys; sys.path.insert(0, 'packaging')\n"
        "from containers import RELEASES, with_packages\n"
        "print(with_packages('twice', RELEASES[-1], ('sysvinit-utils',)))\n"
    )

    def remove() -> None:
        images = podman("images", "--quiet", "--filter", "reference=localhost/channelbox-twice").split()
        if images:
            podman("rmi", "--force", *images)

    machine.prepare()
    remove()
    running = [
        subprocess.Popen([sys.executable, "-c", build], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0].splitlines() for process in running]
        assert [process.returncode for process in running] == [0, 0]
        assert outputs[0][-1] == outputs[1][-1]
        assert sum("installing sysvinit-utils" in line for output in outputs for line in output) == 1
    finally:
        for process in running:
            process.kill()
        remove()
