"""`make lint`: runs all linters, printing what each checks. The exit status is 1 if any of them objects.

It needs the Python of build/venv, whose tools it runs, and the linters in build/lint-javascript, which `make lint`
installs. `python scripts/lint.py mypy ruff` runs only those two.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

JAVASCRIPT = Path("scripts", "lint-javascript")
NODE_MODULES = Path("build", "lint-javascript", "node_modules", ".bin")
ESLINT = [str(NODE_MODULES / "eslint"), f"--config={JAVASCRIPT / 'eslint.config.mjs'}", "--max-warnings=0"]
TSC = [str(NODE_MODULES / "tsc"), "--pretty", "false", "--project"]


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


def checks() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the name of each check, a description, and its command."""
    templates = files(".html", under="app")
    modules = files(".js", ".mjs")
    scripts = shell_scripts()

    def tool(*words: str) -> list[str]:
        return [str(BIN / words[0]), *words[1:]]

    yield "ruff", "Python: mistakes and style", tool("ruff", "check", "--quiet", "--output-format=concise", ".")
    formatted = tool("ruff", "format", "--check", "--output-format=concise", ".")
    yield "ruff-format", "Python: format (mend: ruff format)", formatted
    yield "import-linter", "Python: imports run one way", tool("lint-imports", "--no-cache")
    yield "mypy", "Python: types", tool("mypy")
    yield "prose", "documents and docstrings: words", [sys.executable, "scripts/prose.py"]
    if templates:
        yield "djlint", f"{len(templates)} templates: mistakes", tool("djlint", "--lint", "--quiet", *templates)
        formatted = tool("djlint", "--check", *templates)
        yield "djlint-format", "templates: format (mend: djlint --reformat)", formatted
    if modules:
        yield "eslint", f"{len(modules)} JavaScript modules: mistakes", [*ESLINT, *modules]
        yield "tsc", "scripts of the pages: imports, arguments, types", [*TSC, str(JAVASCRIPT)]
    if scripts:
        yield "shellcheck", f"{len(scripts)} shell scripts", tool("shellcheck", "--external-sources", *scripts)
    if (ROOT / "ansible" / "site.yml").exists():
        production = tool("ansible-lint", "--offline", "--strict", "--profile", "production", "-q", ".")
        yield "ansible-lint", "roles and playbooks, with yamllint", production


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str | None:
    """Run a command. Return its output if it fails, otherwise None."""
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        return f"{command[0]} is missing: `make lint` installs it"
    return result.stdout.strip() if result.returncode else None


def main(wanted: list[str]) -> int:
    # Some tools start others by name: ansible-lint starts ansible and yamllint.
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "app")}
    failed = []
    for name, what, command in checks():
        if wanted and not any(name.startswith(word) for word in wanted):
            continue
        started = time.monotonic()
        folder = ROOT / "ansible" if name == "ansible-lint" else ROOT
        objections = run(command, folder, environment)
        verdict = "ok" if objections is None else "OBJECTS"
        print(f"{verdict:<8} {name:<14} {what} ({time.monotonic() - started:.1f} s)", flush=True)
        if objections is not None:
            failed.append(name)
            print("  " + "\n  ".join(objections.splitlines()), flush=True)
    if failed:
        print(f"\n{len(failed)} object: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
