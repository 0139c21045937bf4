"""Which addresses webhooks may be delivered to."""

import ipaddress

import pytest

from streamhub.webhooks.addresses import Addresses, RefusedAddressError

REFUSED = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1",
    "168.63.129.16", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "::127.0.0.1", "fd00:ec2::254", "64:ff9b:1::1", "2001:db8::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(RefusedAddressError):
        Addresses().check(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    Addresses().check(address)


def test_networks_that_are_allowed_may_be_dialled_in_any_form() -> None:
    addresses = Addresses([ipaddress.ip_network("10.20.0.0/16")])
    for address in ("10.20.3.4", "::ffff:10.20.3.4"):
        addresses.check(address)
    with pytest.raises(RefusedAddressError):
        addresses.check("10.21.0.1")


def test_in_development_loopback_may_be_dialled_and_nothing_else() -> None:
    addresses = Addresses(development=True)
    addresses.check("127.0.0.1")
    addresses.check("::1")
    with pytest.raises(RefusedAddressError):
        addresses.check("169.254.169.254")


@pytest.mark.parametrize(
    "host", [*REFUSED, "localhost", "shop.localhost.", "2130706433", "0x7f.1", "127.1", "012.0.0.1"]
)
def test_a_host_that_is_such_an_address_in_any_form_is_refused(host: str) -> None:
    with pytest.raises(RefusedAddressError):
        Addresses().check_host(host)


@pytest.mark.parametrize("host", ["10.example.com", "shop.example.com", "localhost.example.com", "1.1.1.1"])
def test_a_name_or_a_public_address_is_a_host(host: str) -> None:
    Addresses().check_host(host)
