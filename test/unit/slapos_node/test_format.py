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
        self.options = {
            "ipv4_local_network": "10.0.0.0/16", "partition_amount": "3", "computer_id": "COMP-1", "software_root": f"{folder}/soft/slapgrid",
        }  # fmt: skip
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
def users(service):
    """What slapos_node.ids says of a node whose users are made."""
    homes = {"slapsoft": f"{service.folder}/soft/slapgrid"}
    homes |= {f"slapuser{index}": f"{service.folder}/grid/slappart{index}" for index in range(3)}
    wanted = {name: {"id": 5000 + i, "home": home} for i, (name, home) in enumerate(homes.items())}
    return {"wanted": wanted, "missing": {"users": [], "groups": []}, "conflicts": []}


@pytest.fixture
def owners(actor, monkeypatch):
    """{path: (user, group)} of what is given an owner."""
    found = {}
    monkeypatch.setattr(actor.os, "chown", lambda path, *owner: found.update({path: owner}))
    return found


@pytest.fixture
def members(actor, monkeypatch):
    """Those of slapsoft's group."""
    found = ["slapuser0", "slapuser1", "slapuser2"]
    group = types.SimpleNamespace(gr_mem=found)
    monkeypatch.setattr(actor.grp, "getgrnam", {"slapsoft": group}.__getitem__)
    return found


@pytest.fixture(autouse=True)
def everywhere(owners, members):
    """No test gives files of this machine to somebody, or asks whom it has."""


@pytest.fixture
def actor(service, users):
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
        __salt__={"slapos_node.ids": lambda: users},
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
    assert call[:4] == ("node", "format", "--now", "--alter_user=False")
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


def test_users_that_are_made_get_their_folders_here(actor, service, owners, tmp_path):
    actor.slapos_format()
    assert owners == {
        f"{tmp_path}/soft/slapgrid": (5000, 5000),
        **{f"{tmp_path}/grid/slappart{i}": (5001 + i, 5001 + i) for i in range(3)},
    }
    assert {os.stat(path).st_mode & 0o777 for path in owners} == {0o755, 0o750}
    owners.clear()
    formatted(service)
    actor.slapos_format()
    assert owners == {} and service.calls[-1] == ("node", "format", "--now", "--alter_user=True")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s, users, m: users["missing"]["users"].append("slapuser1"), id="missing"),
        pytest.param(lambda s, users, m: users["conflicts"].append("user slapuser1 has home /"), id="conflict"),
        pytest.param(lambda s, users, members: members.remove("slapuser1"), id="not of slapsoft's group"),
        pytest.param(lambda service, u, m: service.options.update(partition_amount="2"), id="fewer"),
        pytest.param(lambda service, u, m: service.options.update(partition_amount="4"), id="more"),
        pytest.param(lambda service, u, m: service.options.update(software_root="/opt/slapgrid"), id="another root"),
        pytest.param(lambda service, u, m: service.options.update(user_base_name="u"), id="other users"),
        pytest.param(lambda service, u, m: service.options.update(partition_base_name="p"), id="other folders"),
    ],
)  # fmt: skip
def test_users_that_are_not_as_slapos_wants_them_are_left_to_it(
    actor, service, users, members, owners, change
):
    change(service, users, members)
    actor.slapos_format()
    (call,) = service.calls
    assert call[3] == "--alter_user=True" and len(call) == 5 and owners == {}


def test_a_folder_that_cannot_be_made_is_an_error_that_leaves_no_address(actor, service, tmp_path):
    (tmp_path / "grid").write_text("")
    before = list(service.there)
    with pytest.raises(CommandExecutionError, match="grid/slappart0"):
        actor.slapos_format()
    assert service.calls == [] and service.there == before


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
