"""Reports of services: the newest of each is shown while it is fresh, of not too many."""

from __future__ import annotations

from pool_script import PoolScript

from broker.messages import Report
from broker.service_reports import FORGOTTEN_S, SERVICES_MAX, ServiceReports


def test_the_newest_report_of_each_service_is_shown_until_it_is_old() -> None:
    reports = ServiceReports()
    reports.take("gateway", {"signed": 1}, 0.0)
    reports.take("other", {"open": 2}, 1.0)
    reports.take("gateway", {"signed": 3}, 2.0)
    assert reports.newest(2.0) == {"gateway": {"signed": 3}, "other": {"open": 2}}
    assert reports.newest(1.0 + FORGOTTEN_S) == {"gateway": {"signed": 3}}
    assert reports.newest(2.0 + FORGOTTEN_S) == {}


def test_the_number_of_services_is_bounded() -> None:
    reports = ServiceReports()
    for number in range(SERVICES_MAX + 1):
        reports.take(str(number), {}, 0.0)
    assert len(reports.newest(0.0)) == SERVICES_MAX
    assert "0" not in reports.newest(0.0)


def test_the_status_shows_what_a_client_reports() -> None:
    pool = PoolScript()
    pool.core.client_message("peer", Report("gateway", {"p99_us": 1_500}), pool.now, pool.unix)
    assert pool.core.status(pool.now)["services"] == {"gateway": {"p99_us": 1_500}}
    assert not pool.replies, "it is not answered"
