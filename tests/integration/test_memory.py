"""The memory of a web process with the malloc settings of its unit."""

import asyncio
import http.cookiejar
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from tests.integration.local import installation

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "packaging/debian/units/channelbox-web@.service").read_text()
SIGN_INS, AT_ONCE = 32, 8
MAX_GROWTH_MB = 30


def memory_mb(pid: int | None) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def sign_in(url: str, name: str, password: str) -> None:
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
    page = browser.open(f"{url}/accounts/login/").read().decode()
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
    form = {"csrfmiddlewaretoken": token, "username": name, "password": password, "next": "/healthz"}
    answer = browser.open(f"{url}/accounts/login/", urllib.parse.urlencode(form).encode())
    assert answer.url.endswith("/healthz"), answer.url


async def test_memory_used_by_sign_ins_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"^Environment=(MALLOC_\w+)=(\w+)$", UNIT, re.MULTILINE):
        monkeypatch.setenv(name, value)
    async with installation(tmp_path, web=1, workers=0) as local:
        account = json.loads(await local.run("first-password", "--reset", "--json"))
        person = (local.url, account["name"], account["password"])
        await asyncio.to_thread(sign_in, *person)
        before = memory_mb(local.web[0].pid)
        slots = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with slots:
                await asyncio.to_thread(sign_in, *person)

        await asyncio.gather(*(one() for _ in range(SIGN_INS)))
        assert memory_mb(local.web[0].pid) - before < MAX_GROWTH_MB
