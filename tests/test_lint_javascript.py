"""The linters of the JavaScript modules find what they are for; `make lint` shows that they let the rest through."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "app" / "channelbox" / "static"
spec = importlib.util.spec_from_file_location("channelbox_lint", ROOT / "scripts" / "lint.py")
assert spec and spec.loader
lint = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lint)

# One line for each rule of eslint, and for each error of TypeScript.
MISTAKES = {
    "no-undef": "translat('now');",
    "no-unused-vars": "import { icon } from './ui.js';",
    "no-dupe-keys": "console.log({ a: 1, a: 2 });",
    "no-shadow": "console.log((a) => [a].map((a) => a));",
    "no-restricted-globals": "console.log(status);",
    "no-restricted-properties": "document.body.innerHTML = '';",
    "no-use-before-define": "console.log(later); const later = 1; console.log(later);",
    "eqeqeq": "console.log(document.title == 1);",
}
TYPE_ERRORS = {
    "TS2307": "import { id } from './not-there.js';",
    "TS2882": "import './not-there-either.js';",
    "TS2305": "import { notThere } from '../channelbox/ui.js';",
    "TS2554": "import { translate } from '../channelbox/ui.js'; translate('now', {}, 1);",
    "TS2339": "import { Busy } from '../channelbox/request.js'; new Busy(1).minutes;",
    "TS2322": "import { Connection } from '../client/connection.js'; new Connection({ silence: 'long' });",
}


def eslint(text: str, path: str) -> list[tuple[int, str]]:
    """Return the line and the rule of each objection to a module that would be at this path."""
    result = subprocess.run(
        [*lint.ESLINT, "--format=json", "--stdin", f"--stdin-filename={path}"],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
    )
    assert result.returncode in (0, 1), result.stderr
    return [(message["line"], message["ruleId"]) for message in json.loads(result.stdout)[0]["messages"]]


def test_eslint_finds_mistakes_in_a_script_of_a_page() -> None:
    found = eslint("\n".join(MISTAKES.values()), "app/channelbox/static/channelbox/mistakes.js")
    assert found == list(enumerate(MISTAKES, 1))


def test_the_client_library_uses_nothing_that_only_pages_have() -> None:
    text = "console.log(document.title);\n"
    assert eslint(text, "app/channelbox/static/channelbox/mistakes.js") == []
    assert eslint(text, "app/channelbox/static/client/mistakes.js") == [(1, "no-undef")]


def test_eslint_finds_an_undefined_name_in_a_test() -> None:
    assert eslint("process.exit(failures);\n", "tests/clients/js/mistakes.test.js") == [(1, "no-undef")]


@pytest.fixture(scope="module")
def type_errors(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Return the line and the code of each error in a script of the chat page that has all of them."""
    folder = tmp_path_factory.mktemp("static")
    script = folder / "chat" / "mistakes.js"
    script.parent.mkdir()
    script.write_text("\n".join(TYPE_ERRORS.values()))
    project = folder / "tsconfig.json"
    settings = {
        "extends": str(ROOT / lint.JAVASCRIPT / "tsconfig.json"),
        "compilerOptions": {"rootDirs": [str(folder), str(STATIC)]},
        "include": [str(script), str(ROOT / lint.JAVASCRIPT / "pages.d.ts")],
    }
    project.write_text(json.dumps(settings))
    result = subprocess.run([*lint.TSC, str(project)], cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"mistakes\.js\((\d+),\d+\): error (TS\d+)", result.stdout)
    return [(int(line), code) for line, code in found]


def test_typescript_finds_imports_and_arguments_that_do_not_fit(type_errors: list[tuple[int, str]]) -> None:
    assert type_errors == list(enumerate(TYPE_ERRORS, 1))
