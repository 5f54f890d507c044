"""`make lint`: runs all linters, printing what each checks. The exit status is 1 if any of them objects.

It needs the Python of build/venv, whose tools it runs. `python scripts/lint.py mypy ruff` runs only those two.
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

Command = tuple[list[str], str | None]  # arguments, and the file for its standard input


def files(*endings: str, under: str = "") -> list[str]:
    """Return the project's files with one of these endings, including those not committed yet, except ignored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", under or "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [name for name in listed if name.endswith(endings) and (ROOT / name).is_file()]


def shell_scripts() -> list[str]:
    """Return the shell scripts, recognised by their ending or by their first line, as for maintainer scripts."""
    found = []
    for name in files(""):
        path = ROOT / name
        with path.open("rb") as file:
            first = file.readline(80)
        words = first.removeprefix(b"#!").split() if first.startswith(b"#!") else []
        if name.endswith(".sh") or any(word.rpartition(b"/")[2] in (b"sh", b"bash", b"dash") for word in words):
            found.append(name)
    return found


def checks() -> Iterator[tuple[str, str, list[Command]]]:
    """Yield the name of each check, a description, and its commands."""
    templates = files(".html", under="app")
    modules = files(".js", ".mjs")
    scripts = shell_scripts()

    def tool(*words: str) -> list[Command]:
        return [([str(BIN / words[0]), *words[1:]], None)]

    yield "ruff", "Python: mistakes and style", tool("ruff", "check", "--quiet", "--output-format=concise", ".")
    formatted = tool("ruff", "format", "--check", "--output-format=concise", ".")
    yield "ruff-format", "Python: format (mend: ruff format)", formatted
    yield "import-linter", "Python: imports run one way", tool("lint-imports", "--no-cache")
    yield "mypy", "Python: types", tool("mypy")
    yield "prose", "documents and docstrings: words", [([sys.executable, "scripts/prose.py"], None)]
    if templates:
        yield "djlint", f"{len(templates)} templates: mistakes", tool("djlint", "--lint", "--quiet", *templates)
        formatted = tool("djlint", "--check", *templates)
        yield "djlint-format", "templates: format (mend: djlint --reformat)", formatted
    if modules:
        # Given a file name, node 20 takes a module for a script and accepts any content, so pass it on standard input.
        check = [node(), "--input-type=module", "--check"]
        yield "node", f"{len(modules)} JavaScript modules: syntax", [(check, module) for module in modules]
    if scripts:
        yield "shellcheck", f"{len(scripts)} shell scripts", tool("shellcheck", "--external-sources", *scripts)
    if (ROOT / "ansible" / "site.yml").exists():
        production = tool("ansible-lint", "--offline", "--strict", "--profile", "production", "-q", ".")
        yield "ansible-lint", "roles and playbooks, with yamllint", production


def node() -> str:
    """Return the path of node, which Debian may install as node or nodejs."""
    found = shutil.which("node") or shutil.which("nodejs")
    if found is None:
        raise SystemExit("JavaScript is checked with node, which is not installed: apt-get install nodejs")
    return found


def run(command: Command, folder: Path, environment: dict[str, str]) -> str | None:
    """Run a command. Return its output if it fails, otherwise None."""
    words, source = command
    result = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        input=(ROOT / source).read_text() if source else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode == 0:
        return None
    return f"{source}:\n{result.stdout.strip()}" if source else result.stdout.strip()


def main(wanted: list[str]) -> int:
    # Some tools start others by name: ansible-lint starts ansible and yamllint.
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "app")}
    failed = []
    for name, what, commands in checks():
        if wanted and not any(name.startswith(word) for word in wanted):
            continue
        started = time.monotonic()
        folder = ROOT / "ansible" if name == "ansible-lint" else ROOT
        objections = [objection for command in commands if (objection := run(command, folder, environment)) is not None]
        verdict = "OBJECTS" if objections else "ok"
        print(f"{verdict:<8} {name:<14} {what} ({time.monotonic() - started:.1f} s)", flush=True)
        if objections:
            failed.append(name)
            print("  " + "\n  ".join("\n".join(objections).splitlines()), flush=True)
    if failed:
        print(f"\n{len(failed)} object: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
