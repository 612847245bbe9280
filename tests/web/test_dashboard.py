"""What a browser gets: the page, its files and its rules, from every host."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import ACME, OPERATOR
from tests.web.hosts import HOSTS, Api
from usage_middleware import Plan, Quota, Viewer
from usage_middleware.web import KeyAuth
from usage_middleware.web.page.files import LATER, PAGE, STYLE, sources, static_files, tight, together
from usage_middleware.web.page.words import LANGUAGES, words

if TYPE_CHECKING:
    from usage_middleware import Usage

STATIC = Path(__file__).parents[2] / "src" / "usage_middleware" / "web" / "page" / "static"
#: Bytes over the wire of what a first view needs: where there are no plans, and where there are.
BUDGETS = {False: 18_000, True: 20_000}


def started(html: bytes) -> Any:
    """The data that the page starts from."""
    found = re.search(rb'<script type="application/json" id="usage-start">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_in_every_host(api: Api) -> None:
    page = api.get("/dashboard")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    for path in re.findall(rb'(?:href|src)="(dashboard/[^"]+)"', page.body):
        file = api.with_key(None).get(f"/{path.decode()}")
        assert file.status == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        packed = api.with_key(None).get(f"/{path.decode()}", accept_encoding="br, gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["vary"] == "Accept-Encoding, Origin"
        assert gzip.decompress(packed.body) == file.body
    assert api.call("HEAD", "/dashboard").status == 200
    assert api.with_key(None).get("/dashboard/chart.js").status == 200


def test_the_policy(one_api: Api) -> None:
    policy = dict(rule.partition(" ")[::2] for rule in one_api.get("/dashboard").headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'self'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_nothing_in_the_page_needs_more_than_the_policy_allows(one_api: Api) -> None:
    html = one_api.get("/dashboard").body.decode()
    assert not re.search(
        r"<style|\sstyle=|\son\w+=|javascript:|https?://", re.sub(r'<script type="application/json".*?</script>', "", html)
    )
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|localStorage", text), (
            path.name
        )


def test_a_slash_at_the_end_leads_to_the_page(api: Api) -> None:
    found = api.get("/dashboard/?period=7d")
    assert (found.status, found.headers["location"]) == (308, "../dashboard?period=7d")
    nobody = api.with_key(None).get("/dashboard/?period=7d")
    assert (nobody.status, nobody.headers["location"]) == (308, "../dashboard?period=7d")


def test_what_it_starts_from(one_api: Api) -> None:
    known = started(one_api.get("/dashboard").body)
    assert known["viewer"] == {"org": "acme", "key": None, "operator": False}
    assert known["groups"] == ["project", "chain", "endpoint", "method", "status", "key"]
    assert (known["plans"], known["prices"], known["signs_in"], known["header"]) == (False, False, False, "x-api-key")
    assert started(one_api.with_key(OPERATOR).get("/dashboard").body)["viewer"]["operator"]


def test_signed_out(api: Api) -> None:
    page = api.with_key(None).get("/dashboard")
    assert page.status == 401
    assert started(page.body)["error"]["code"] == "unauthenticated"
    assert "viewer" not in started(page.body)
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<!--", "\u2028", "\u202egnp", "a" * 10_000, "'\"&"])
def test_names_stay_text(usage: Usage, name: str) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=lambda _: Viewer.organization(name)))
    html = api.get("/dashboard").body
    assert html.count(b"<script") == 2
    assert started(html)["viewer"]["org"].startswith(name[:90])


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "de-CH,de;q=0.9,en;q=0.8", "de"),
        ("", "fr, en;q=0.3, de;q=0.7", "de"),
        ("", "de;q=0", "en"),
        ("", "de;q=x", "en"),
        ("?lang=de", "en", "de"),
        ("?lang=../../etc", "en", "en"),
    ],
)
def test_the_language(one_api: Api, query: str, accepted: str, language: str) -> None:
    html = one_api.get(f"/dashboard{query}", accept_language=accepted).body.decode()
    assert f'<html lang="{language}">' in html


def test_the_theme(one_api: Api) -> None:
    assert b'<html lang="en" data-theme="dark">' in one_api.get("/dashboard?theme=dark").body
    assert b"data-theme" not in one_api.get("/dashboard?theme=%22onload=x").body


@pytest.mark.parametrize("query", ["?" + "a=b&" * 200, "?%ff", "?lang", "?x_api_key=sk_acme"])
def test_any_query(one_api: Api, query: str) -> None:
    assert one_api.get(f"/dashboard{query}").status == 200


def test_every_language_has_the_same_words() -> None:
    names = [set(words(language)) for language in LANGUAGES]
    assert names[0] == names[1]
    for name in names[0]:
        places = [set(re.findall(r"\{\w+\}", words(language)[name])) for language in LANGUAGES]
        assert places[0] == places[1], name


def test_every_word_is_used() -> None:
    text = "".join(path.read_text() for path in (*STATIC.glob("*.js"), STATIC.parent / "document.py"))
    made = ("group_", "period_", "status_", "size_", "severity_", "flag_", "state_", "bill_")
    assert not [
        name for name in words("en") if f'"{name}"' not in text and f"words.{name}" not in text and not name.startswith(made)
    ]
    assert not set(re.findall(r'\bt\("(\w+)"', text)) - set(words("en"))


@pytest.mark.parametrize("plans", BUDGETS)
def test_a_first_view_is_small(plans: bool) -> None:
    packed = {file.name: len(file.packed) for file in static_files(plans=plans).files}
    assert packed[PAGE] + packed[STYLE] <= BUDGETS[plans]


def test_what_is_about_plans_is_only_sent_where_there_are_some(make_usage: Callable[..., Usage]) -> None:
    def script(**options: Any) -> bytes:
        api = Api(HOSTS[4], HOSTS[4].make(make_usage(**options), auth=lambda _: Viewer.organization("acme")))
        (path,) = re.findall(rb'src="(dashboard/\w+/page.js)"', api.get("/dashboard").body)
        return api.get(f"/{path.decode()}").body

    assert b"rate_limits" in script(plans=(Plan("free", Quota("calls", 100)),))
    assert b"rate_limits" not in script()


@pytest.mark.parametrize("begin", [("app.js",), ("plans.js", "app.js"), ("embed.js",)])
def test_what_is_put_together_has_no_name_twice(begin: tuple[str, ...]) -> None:
    """Modules that are sent as one file share a scope."""
    text = together({**sources(), "words.js": ""}, *begin)
    names = re.findall(r"^(?:export )?(?:async )?(?:const|let|function|class) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    assert not re.search(r"^import ", text, re.MULTILINE)


def test_what_is_loaded_later_finds_all_that_it_takes() -> None:
    """A module of its own takes what others export, by their names, from the page's one file."""
    exported = set(
        re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", together(sources(), "app.js"), re.MULTILINE)
    )
    for name in LATER:
        taken = re.findall(r"^import \{ (.*?) \}", sources()[name], re.MULTILINE)
        assert not {one.strip() for some in taken for one in some.split(",")} - exported, name


def test_what_is_sent_says_what_was_written() -> None:
    """Only comments and white space stay behind, and none of that from texts."""
    script = 'const a = (b) => `${b} = "c"` + " ? : ";  // no\n'
    assert tight(script) == 'const a=(b)=>`${b} = "c"` + " ? : "; // no\n'
    assert tight("return [ -a, b - -c ];") == "return[-a,b - -c];"


@pytest.mark.parametrize(
    ("secret", "query", "modules"),
    [
        (ACME, "", set()),
        (ACME, "?key=key_1", {b"key.js"}),
        (ACME, "?endpoint=GET+/a&key=key_1", {b"endpoint.js"}),
        (OPERATOR, "", {b"operator.js"}),
        (OPERATOR, "?org=acme", set()),
        (OPERATOR, "?org=acme&key=key_1", {b"key.js"}),
        (None, "?key=key_1", {b"sign_in.js"}),
    ],
)
def test_only_those_who_need_more_load_more(one_api: Api, secret: str | None, query: str, modules: set[bytes]) -> None:
    html = one_api.with_key(secret).get(f"/dashboard{query}").body
    assert set(re.findall(rb'href="dashboard/\w+/(\w+\.js)"', html)) == modules


def test_a_host_may_have_two(usage: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys, "key")), ACME)
    assert started(api.get("/dashboard").body)["viewer"] == {"org": "acme", "key": "key_1", "operator": False}
