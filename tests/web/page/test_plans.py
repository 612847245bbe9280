"""Plans on the page: what is left, what was warned of, what it costs; and nothing of that where there are none."""

from __future__ import annotations

import pytest

from tests.serving import Serving
from tests.support import eventually
from tests.web.page import paid
from tests.web.page.conftest import Call, Look, OpenLook
from usage_middleware import Usage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(site: Serving, paid_usage: Usage) -> str:
    """The usage API of customers with plans, after a real call whose threshold was told."""
    assert site.call("GET", "/paid/v1/items/1", headers={"X-API-Key": "sk_over"}).status_code == 200
    eventually(lambda: paid_usage.reader.details(org="over").alerts)
    return f"http://127.0.0.1:{site.port}/paid/usage"


def shown(seen: Look, panel: str) -> dict[str, list[str]]:
    """The rows of a table, without the line breaks of badges."""
    return {name.split("\n")[0]: cells for name, cells in seen.rows(panel).items()}


def test_what_is_left_and_what_comes(look: OpenLook, base: str, paid_usage: Usage) -> None:
    seen = look("acme", base=base)
    page = seen.open()
    calls, records = paid.counted(org="acme"), 4_600
    assert "92%" in seen.text("#headline")
    assert f"{records:,} of 5,000" in seen.text("#headline")
    assert page.locator("#headline meter").evaluate("one => one.value") == records / 5_000
    limits = shown(seen, "limits")
    assert limits["calls"][0] == f"{calls} of 1,000"
    assert limits["records"][0] == "4,600 of 5,000"
    assert [cells[0] for name, cells in limits.items() if name.startswith("own")] == ["700 of 720", "50 of 720"]
    assert f"at most {paid.counted(org='acme')}" in limits["requests"][2]
    assert f"{calls - 60} beyond it" in limits["requests"][2]
    told = paid_usage.reader.limits(org="acme").limits
    projected = next(row.projected for row in told if row.name == "records")
    assert ("about" in limits["records"][2]) == (projected is not None)
    if projected is not None:
        assert f"about {projected.value:,} by then" in limits["records"][2]
    assert "records: 4,600 of 5,000 were used" in seen.text("#alerts")


def test_over_quota(look: OpenLook, base: str) -> None:
    seen = look("over", base=base)
    seen.open()
    used = paid.counted(org="over") + 1
    assert "over quota" in seen.text("#headline")
    assert f"{used} of 100" in seen.text("#limits")
    alerts = seen.text("#alerts")
    assert "calls: 151 of 100 were used, 100 % or more." in alerts
    assert "critical" in alerts
    operator = look("operator", base=base)
    operator.open()
    orgs = operator.rows("orgs")
    assert [name for name, cells in orgs.items() if "over quota" in cells] == ["odd", "over"]


def test_what_it_costs(look: OpenLook, base: str) -> None:
    seen = look("acme", base=base)
    page = seen.open()
    # 750 calls, of which 100 are free, at a cent each, and the base.
    assert seen.text("#cost-total") == "€25.50"
    assert shown(seen, "cost-lines") == {"base": ["750", "€19.00"], "calls": ["750", "€6.50"], "Total": ["", "€25.50"]}
    rows = shown(seen, "cost-rows")
    assert [(name, cells[0]) for name, cells in rows.items()] == [("Shop", "€23.80"), ("Depot", "€1.70"), ("Total", "€25.50")]
    page.click("#bill")
    page.wait_for_url("**bill=previous**")
    seen.wait()
    assert seen.text("#cost-total") == "€22.00"
    assert shown(seen, "cost-rows")["Shop"][0] == "€16.50"


def test_cost_beside_keys_where_the_window_is_one_period(look: OpenLook, base: str) -> None:
    seen = look("acme", base=base)
    page = seen.open("?period=last_month&timezone=UTC")
    assert seen.total == paid.counted(is_now=False, org="acme")
    assert page.locator("#keys thead th").last.inner_text() == "Cost"
    assert {name: cells[-1] for name, cells in seen.rows("keys").items() if cells[-1]} == {
        "Shop": "€16.50 75%",
        "Depot": "€5.50 25%",
    }
    seen.open()
    assert page.locator("#keys thead th").last.inner_text() != "Cost"


def test_a_key_sees_its_own_part(look: OpenLook, base: str) -> None:
    seen = look("acme:key_2", base=base)
    page = seen.open()
    assert seen.text("#cost-total") == "€1.70"
    assert "Shop" not in page.content()
    assert "key_1" not in page.content()
    assert page.locator("#limits tbody tr").count() == 1
    assert f"{paid.counted(org='acme', key='key_2')} of 720" in seen.text("#limits")


def test_the_screen_of_a_key_has_its_limits(look: OpenLook, base: str) -> None:
    seen = look("acme", base=base)
    seen.open("?key=key_1")
    assert "700 of 720" in seen.text("#limits")
    assert "5,000" not in seen.text("#limits")


def test_odd_keys(look: OpenLook, base: str) -> None:
    seen = look("odd", base=base)
    page = seen.open()
    assert page.locator("#keys thead th").last.inner_text() == "Odd"
    assert {name: cells[-1] for name, cells in seen.rows("keys").items() if cells[-1]} == {"Odd": "errors"}
    assert "30.0% of the calls" in (page.locator("#keys .badge").get_attribute("title") or "")
    seen.open("?key=key_7")
    assert "30.0% of the calls" in seen.text("#alerts")


@pytest.mark.parametrize(("who", "where"), [("planless", "paid"), ("acme", "")])
def test_nothing_of_plans_where_there_are_none(look: OpenLook, base: str, who: str, where: str, site: Serving) -> None:
    seen = look(who, base=base if where else f"http://127.0.0.1:{site.port}/usage")
    page = seen.open()
    assert seen.total > 0
    for part in ("#limits", "#alerts", "#cost", "meter"):
        assert page.locator(part).count() == 0, part
    asked = [url.partition("?")[0].rpartition("/")[2] for url in seen.asked]
    if not where:
        assert not {"limits", "cost"} & set(asked)
    assert "Odd" not in page.locator("#keys thead").inner_text()


def test_counters_and_rates_of_an_endpoint(look: OpenLook, base: str) -> None:
    seen = look("acme", base=base)
    seen.open("?endpoint=GET+/v1/items&timezone=UTC&period=90d")
    records = sum(one.records for one in paid.CALLS)
    assert seen.rows("counters") == {"records": [f"{records:,}"], "matches": [f"{records // 2:,}"], "match_rate": ["50%"]}


def test_other_measures(look: OpenLook, base: str) -> None:
    seen = look("acme", base=base)
    page = seen.open("?timezone=UTC&period=90d&table=1")
    page.select_option("#measure", "c.records")
    page.wait_for_url("**measure=c.records**")
    seen.wait()
    assert seen.rows("usage")["Total"][-1] == f"{sum(one.records for one in paid.CALLS):,}"
    assert seen.total == paid.counted(org="acme") + paid.counted(is_now=False, org="acme")
    page.select_option("#size", "month")
    page.wait_for_url("**granularity=month**")
    seen.wait()
    assert 3 <= page.locator("#usage tbody tr").count() <= 4
    page.select_option("#group", "status")
    page.wait_for_url("**group=status**")
    seen.wait()
    # Counters are not kept by status.
    assert page.locator("#measure").input_value() == "calls"
    page.select_option("#measure", "bytes")
    page.wait_for_url("**measure=bytes**")
    seen.wait()
    assert page.locator("#group").input_value() == "none"
    seen.open("?group=status&measure=bytes")
    assert "not kept for group=status" in seen.text("#usage")
    seen.said.clear()


def test_amounts_of_other_currencies(call: Call) -> None:
    assert call("money", "1234.50", "EUR") == "€1,234.50"
    assert call("money", "-0.14", "USD") == "-US$0.14"
    assert call("money", "1200", "JPY") == "JP¥1,200"
    assert call("money", "1.005", "KWD") == "KWD\xa01.005"
    assert call("money", "90071992547409931234.56", "EUR") == "€90,071,992,547,409,931,234.56"
