# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from tests.lab import dns


def serial() -> int:
    return int((dns.folder() / "zone").read_text(encoding="utf-8").split("hostmaster.lab. ")[1].split()[0])


def test_each_owner_has_its_own_records_and_every_change_a_higher_serial() -> None:
    dns.set_records("cloud", {"s3.us-west-2.amazonaws.com": "10.90.0.30", "*.s3.us-west-2.amazonaws.com": "10.90.0.30"})
    first = serial()
    dns.set_records("databases", {"db.example.": "10.90.0.100"})
    dns.set_records("cloud", {"s3.us-west-2.amazonaws.com": "10.90.0.31"})
    zone = (dns.folder() / "zone").read_text(encoding="utf-8")
    assert serial() >= first + 2
    assert "s3.us-west-2.amazonaws.com. IN A 10.90.0.31\n" in zone
    assert "db.example. IN A 10.90.0.100\n" in zone
    assert "*.s3" not in zone
    dns.set_records("databases", {})
    assert dns.records("databases") == {}
    assert "db.example" not in (dns.folder() / "zone").read_text(encoding="utf-8")


def test_a_zone_begins_with_its_authority() -> None:
    lines = dns.zone_text({}, 7).splitlines()
    assert lines[1].startswith(". IN SOA ")
    assert " 7 " in lines[1]
