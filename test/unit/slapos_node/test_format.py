"""The first format: the partitions get addresses that SlapOS need not add one by one."""

import configparser
import ipaddress
import os
import types

import pytest
from salt.exceptions import CommandExecutionError
from support import load_module

OWN = "2001:db8:42:1::1/64"


class Failure(Exception):
    pass


class Service:
    """The launcher's object, with an interface that keeps what it is given."""

    interface = "lo"

    def __init__(self, folder):
        self.folder = folder
        self.ha_run_dir = str(folder / "run")
        self.computer_xml = str(folder / "slapos.xml")
        self.options = {"ipv4_local_network": "10.0.0.0/16", "partition_amount": "3", "computer_id": "COMP-1"}  # fmt: skip
        self.there = ["127.0.0.1/8", OWN, "fe80::1/64"]
        self.own = [OWN]
        self.runs = False
        self.code, self.calls, self.definition, self.found = 0, [], None, None
        self.taken_away = False

    def option(self, name):
        return self.options.get(name)

    def file(self, name):
        return f"{self.ha_run_dir}/{name}"

    def batch(self, lines):
        for line in lines:
            _, verb, what, _, interface = line.split()
            assert interface == "lo"
            {"add": self.there.append, "delete": self.there.remove}[verb](what)

    def settle(self):
        self.settled = list(self.there)

    def supervisord(self):
        return self.runs

    def take_addresses_away(self):
        self.taken_away = True

    def slapos(self, *args, good, seconds):
        self.calls.append(args)
        self.found = list(self.there)
        for arg in args:
            if arg.startswith("--input_definition_file="):
                self.definition = configparser.RawConfigParser()
                with open(arg.partition("=")[2]) as file:
                    self.definition.read_file(file)
        if self.code not in good:
            raise Failure("slapos node format: exit code 1")
        return self.code, ""


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


@pytest.fixture
def actor(service):
    def write_private(path, text):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    base = types.SimpleNamespace(
        Failure=Failure,
        addresses=lambda interface: [ipaddress.ip_interface(one) for one in service.own],
        ip=lambda *args: "".join(f"1: lo inet {one} scope global lo\n" for one in service.there),
        write_private=write_private,
    )
    launcher = types.SimpleNamespace(base=base)
    return load_module(
        "_modules/slapos_node_register.py",
        __utils__={"slapos_launcher.service": lambda *_: (launcher, service)},
        __salt__={},
        __opts__={},
    )


def given(service):
    """The addresses that the format found, besides those that were there before."""
    return service.found[3:]


def test_all_addresses_are_there_before_the_first_format(actor, service):
    assert actor.slapos_format() is True
    four = [one for one in given(service) if "." in one]
    assert len(set(four)) == 3 and all(one.endswith("/32") for one in four)
    network = ipaddress.ip_network("10.0.0.0/16")
    assert all(ipaddress.ip_interface(one).ip in network for one in four)
    # re6st has the first address of the prefix; slapos.format 1.25.0 gives the next ones by the partition's number.
    six = [one for one in given(service) if ":" in one]
    assert six == [f"2001:db8:42:1::{number}/64" for number in (2, 3, 4)]
    assert service.settled == service.found
    (call,) = service.calls
    assert call[:4] == ("node", "format", "--now", "--alter_user=True")
    names = ("user", "network_interface", "pathname", "address")
    assert {
        section: {name: service.definition.get(section, name) for name in names}
        for section in service.definition.sections()
        if section != "computer"
    } == {
        f"partition_{index}": {
            "user": f"slapuser{index}",
            "network_interface": f"slaptap{index}",
            "pathname": f"slappart{index}",
            "address": f"{four[index].removesuffix('/32')}/255.255.255.255 {six[index].removesuffix('/64')}/ffff:ffff:ffff:ffff::",
        }
        for index in range(3)
    }
    assert service.definition.has_section("computer")
    assert list((service.folder / "run").iterdir()) == [] and service.taken_away


def test_what_slapos_is_configured_with_is_taken(actor, service):
    service.options |= {"user_base_name": "u", "tap_base_name": "t", "partition_base_name": "p"}
    service.options |= {"create_tun": "false", "ipv6_interface": "lo"}
    service.code, service.runs = 2, True
    assert actor.slapos_format() is False and not service.taken_away
    assert dict(service.definition.items("partition_2")) | {"address": ""} == {
        "user": "u2", "network_interface": "t2", "pathname": "p2", "address": ""
    }  # fmt: skip


def test_a_format_that_fails_leaves_no_address(actor, service):
    before, service.code = list(service.there), 1
    with pytest.raises(CommandExecutionError, match="slapos node format: exit code 1"):
        actor.slapos_format()
    first = given(service)
    assert len(first) == 6 and service.there == before
    assert list((service.folder / "run").iterdir()) == []
    service.code = 0
    actor.slapos_format()
    assert given(service) == first, "who tries again gets the same"


def test_an_address_that_somebody_has_is_not_given(actor, service):
    actor.slapos_format()
    usual = [ipaddress.ip_interface(one).ip for one in given(service) if "." in one]
    service.there = [*service.there[:3], f"{usual[0]}/24", f"{usual[2]}/32"]
    actor.slapos_format()
    four = [ipaddress.ip_interface(one).ip for one in service.found[5:] if "." in one]
    assert len(set(four)) == 3 and four[0] == usual[1] and not {usual[0], usual[2]} & set(four)


def test_addresses_that_cannot_be_read_are_an_error_of_this_module(actor, service, monkeypatch):
    def broken(name):
        raise Failure("ip -o address show: not found")

    monkeypatch.setattr(service, "option", broken)
    with pytest.raises(
        CommandExecutionError, match="SlapOS's partitions: ip -o address show: not found"
    ):
        actor.slapos_format()
    assert service.calls == []


def test_an_address_that_does_not_settle_leaves_none(actor, service, monkeypatch):
    def broken():
        raise Failure("ip -6 address show: no such device")

    before = list(service.there)
    monkeypatch.setattr(service, "settle", broken)
    with pytest.raises(CommandExecutionError, match="no such device"):
        actor.slapos_format()
    assert service.calls == [] and service.there == before
    assert list((service.folder / "run").iterdir()) == []


def formatted(service):
    with open(service.computer_xml, "w"):
        pass


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(formatted, id="formatted before"),
        pytest.param(lambda service: service.own.append("2001:db8:9::1/64"), id="two addresses"),
        pytest.param(lambda service: service.own.clear(), id="no address"),
        pytest.param(lambda service: service.own.__setitem__(0, "2001:db8::3/64"), id="a partition's address"),
        pytest.param(lambda service: service.own.__setitem__(0, "2001:db8::1/120"), id="prefix too long"),
        pytest.param(lambda service: service.options.update(create_tun="true"), id="tun"),
        pytest.param(lambda service: service.options.update(ipv6_interface="eth0"), id="another interface"),
        pytest.param(lambda service: service.options.update(ipv4_local_network="10.0.0.0/28"), id="few IPv4"),
        pytest.param(lambda service: service.options.pop("ipv4_local_network"), id="no IPv4"),
    ],
)  # fmt: skip
def test_what_is_not_usual_is_left_to_slapos(actor, service, change):
    change(service)
    assert actor.slapos_format() is True
    assert service.calls == [("node", "format", "--now", "--alter_user=True")]
    assert given(service) == []
