"""`make lint`: every tool runs, each says what it looks at, and the exit status is 1 when any of them objects.

Started by the Python of build/venv, whose tools it uses; `python tests/lint.py mypy ruff` runs only those.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def files(*endings: str, under: str = "") -> list[str]:
    """The project's files with one of these endings, whether committed yet or not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", under or "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [name for name in listed if name.endswith(endings) and (ROOT / name).is_file()]


def shell_scripts() -> list[str]:
    """What a shell runs: by its name, by its first line, or as a maintainer script of the package."""
    found = []
    for name in files(""):
        path = ROOT / name
        with path.open("rb") as file:
            first = file.readline(80)
        words = first.removeprefix(b"#!").split() if first.startswith(b"#!") else []
        if name.endswith(".sh") or any(word.rpartition(b"/")[2] in (b"sh", b"bash", b"dash") for word in words):
            found.append(name)
    return found


def checks() -> Iterator[tuple[str, str, list[str]]]:
    """Name, what it looks at, command. What a command reads from standard input is a file named after `<`."""
    templates = files(".html", under="app")
    modules = files(".js", ".mjs")
    scripts = shell_scripts()
    yield "ruff", "Python: mistakes and style", [str(BIN / "ruff"), "check", "--quiet", "--output-format=concise", "."]
    yield (
        "ruff-format",
        "Python: format (mend: ruff format)",
        [str(BIN / "ruff"), "format", "--check", "--output-format=concise", "."],
    )
    yield "import-linter", "Python: imports run one way", [str(BIN / "lint-imports"), "--no-cache"]
    yield "mypy", "Python: types", [str(BIN / "mypy")]
    if templates:
        yield "djlint", f"{len(templates)} templates: mistakes", [str(BIN / "djlint"), "--lint", "--quiet", *templates]
        yield (
            "djlint-format",
            "templates: format (mend: djlint --reformat)",
            [str(BIN / "djlint"), "--check", *templates],
        )
    for module in modules:
        # By its name alone node 20 takes a module for a script, and for good whatever it says.
        yield f"node {Path(module).name}", "JavaScript: syntax", [node(), "--input-type=module", "--check", "<", module]
    if scripts:
        yield "shellcheck", f"{len(scripts)} shell scripts", [str(BIN / "shellcheck"), "--external-sources", *scripts]
    if (ROOT / "ansible" / "site.yml").exists():
        command = [str(BIN / "ansible-lint"), "--offline", "--strict", "--profile", "production", "-q", "."]
        yield "ansible-lint", "roles and playbooks, with yamllint", command


def node() -> str:
    """Debian calls it node or nodejs."""
    found = shutil.which("node") or shutil.which("nodejs")
    if found is None:
        raise SystemExit("JavaScript is checked with node, which is not installed: apt-get install nodejs")
    return found


def main(wanted: list[str]) -> int:
    # The tools call each other by name: ansible-lint calls ansible and yamllint.
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "app")}
    failed = []
    for name, what, command in checks():
        if wanted and not any(name.startswith(word) for word in wanted):
            continue
        started = time.monotonic()
        folder = ROOT / "ansible" if name == "ansible-lint" else ROOT
        source = (ROOT / command[-1]).read_text() if "<" in command else None
        result = subprocess.run(
            command[: command.index("<")] if "<" in command else command,
            cwd=folder,
            env=environment,
            input=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        verdict = "ok" if result.returncode == 0 else "OBJECTS"
        print(f"{verdict:<8} {name:<24} {what} ({time.monotonic() - started:.1f} s)", flush=True)
        if result.returncode:
            failed.append(name)
            print("  " + "\n  ".join(result.stdout.strip().splitlines()), flush=True)
    if failed:
        print(f"\n{len(failed)} object: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
