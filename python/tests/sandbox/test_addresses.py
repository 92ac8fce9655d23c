from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from homeport.sandbox.addresses import GATEWAY, SLOTS, SUBNET, Slot, allot

numbers = st.sampled_from(SLOTS)


@given(st.sets(numbers, max_size=len(SLOTS) - 1))
def test_a_new_sandbox_gets_addresses_that_nobody_has(taken: set[int]) -> None:
    slot = allot(taken)
    assert slot is not None
    others = {address for number in taken for address in (Slot(number).host, Slot(number).services)}
    assert not {slot.host, slot.services, GATEWAY} & others
    assert slot.host != slot.services


@given(st.sets(numbers, max_size=len(SLOTS) - 1))
def test_the_lowest_free_addresses_are_given_first(taken: set[int]) -> None:
    slot = allot(taken)
    assert slot is not None
    assert all(number in taken for number in range(slot.number))


def test_when_all_are_taken_none_is_given() -> None:
    assert allot(set(SLOTS)) is None


@given(numbers)
def test_every_address_is_a_host_of_the_documentation_network(number: int) -> None:
    network = ip_network(SUBNET)
    for address in (Slot(number).host, Slot(number).services):
        assert ip_address(address) in network
        assert address not in {GATEWAY, str(network.network_address), str(network.broadcast_address)}


@given(numbers)
def test_link_names_fit_the_kernel(number: int) -> None:
    assert all(len(link) <= 15 for link in (Slot(number).host_link, Slot(number).services_link))
