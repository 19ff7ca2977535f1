"""
The two nodes of a site as the master knows them: asking their minions, and what was last heard. For the runner ``slapos_ha``.

What stops a step is a CommandExecutionError with the attribute ``remedy``, made by :py:func:`stop`: each of Salt's loaders has its own copy of this file,
and a class of ours that one of them raises is not the one that another catches.
"""

import functools
import re
import selectors
import time

import salt.client
import salt.key
from salt.exceptions import CommandExecutionError, SaltClientError

__func_alias__ = {"open_": "open"}

# How long the master waits before it asks a silent minion whether the job still runs, and then for that answer, in seconds. A job that runs is
# waited for however long it takes; a node that is busy with it answers late.
_WAITING = 30, 60
# The first question of a run, and those of plan and status, find a silent minion sooner: nothing of ours keeps a node busy then.
_FIRST_WAITING = 15, 30
# Seconds in which whoever waits for answers sleeps, and after which he sees to his timeouts; and for the rest of an event of which the beginning has come.
_LOOK, _REST = 0.25, 5

_AGAIN = "Correct it and run the orchestration again: what is done stays done."


def stop(message, remedy=_AGAIN):
    """The exception with which a step cannot go on: what happened and where, and what to do."""
    error = CommandExecutionError(message)
    error.remedy = remedy
    return error


def told(error):
    """What a person reads of a stop; other errors of Salt have no remedy of their own."""
    return f"{error}\n{getattr(error, 'remedy', _AGAIN)}"


def open_(opts, site=None, preflight=False, force=()):
    """
    The site with the facts of both nodes; raises with every problem there is.

    ``opts`` is the caller's ``__opts__``. A preflight also asks what stands in the way, but for the gates that ``force`` names.
    """
    # A copy: what the loader gives as __opts__ is another thing in each loader's functions.
    client, opts = _client(opts), dict(opts)
    facts, problems = _snapshot(client, opts, site, preflight, force, _FIRST_WAITING)
    if problems:
        raise stop("\n".join(problems), "Nothing was changed.")
    return _Site(client, opts, next(iter(facts.values()))["shape"], facts)


def known(opts, shape):
    """The site whose shape is known already; its nodes are asked when somebody wants to know."""
    return _Site(_client(opts), dict(opts), shape)


def heard(opts, sites):
    """The sites that were heard already, {name: site}, of {name: {node: slapos_ha.facts}} of both nodes."""
    client, opts = _client(opts), dict(opts)
    return {
        name: _Site(client, opts, next(iter(facts.values()))["shape"], facts)
        for name, facts in sites.items()
    }


def everyone(opts, tests=None):
    """
    Ask every minion that has the pillar, all in one job, and return what was heard.

    ``tests`` are functions of the module match with their target, {"match.grain": "os:Debian"}, of which those that answered are asked, in a job for each: a
    job of several functions makes each state run that begins beside it on its minion fail (Salt 3006 to 3008: saltutil.is_running takes a list for a name).
    Returns a dict: ``facts`` {minion: slapos_ha.facts}, ``matches`` {minion: whether all tests are true}, ``broken`` {minion: what it said instead},
    ``silent`` [minion], which the master has reason to expect, and ``accepted`` [minion].
    """
    client = _client(opts)
    said_of = {"facts": {}, "matches": {}, "broken": {}, "silent": []}
    try:
        for answer in client.cmd_iter(
            "slapos_ha:*",
            "slapos_ha.facts",
            tgt_type="pillar",
            timeout=_FIRST_WAITING[0],
            gather_job_timeout=_FIRST_WAITING[1],
            expect_minions=True,
        ):
            for minion, said in (answer or {}).items():
                _sort(said_of, minion, said)
    except SaltClientError as error:
        raise _unpublished(error) from None
    said_of["matches"] = dict.fromkeys(said_of["facts"], True)
    for function, target in (tests or {}).items():
        # One that says nothing more is no longer known to be meant or not.
        known, said = sorted(said_of["facts"]), {}
        if known:
            said = _call(client, known, "list", function, [target], waiting=_FIRST_WAITING)
        for minion in known:
            if isinstance(said.get(minion), bool):
                said_of["matches"][minion] &= said[minion]
                continue
            del said_of["facts"][minion], said_of["matches"][minion]
            if minion in said:
                said_of["broken"][minion] = _line(said[minion]).splitlines()[-1]
            else:
                said_of["silent"].append(minion)
    said_of["silent"].sort()
    said_of["accepted"] = _accepted_minions(dict(opts))
    return said_of


def _sort(said_of, minion, said):
    facts = said.get("ret") if isinstance(said, dict) else None
    if facts is None:
        said_of["silent"].append(minion)
    elif isinstance(facts, dict) and "site" in facts:
        said_of["facts"][minion] = facts
    else:
        said_of["broken"][minion] = _line(facts).splitlines()[-1]


def differing(opts, minions, sls):
    """
    Which of the minions an SLS would change something on, as {minion: why}; all are asked in one job, in test mode.

    A minion that does not answer, or whose states cannot be read, differs: it is not known to be as it should.
    """
    said = _call(_client(opts), minions, "list", "state.sls", [sls], {"test": True, "queue": True})
    found = {}
    for minion in minions:
        states = said.get(minion)
        if not isinstance(states, dict):
            found[minion] = f"{sls} in test mode: {_line(states) if states else 'no answer'}"
            continue
        other = [
            state.get("__id__", tag)
            for tag, state in states.items()
            if state.get("result") is not True
        ]
        if other:
            found[minion] = f"{sls} would change: {', '.join(sorted(other)[:3])}"
    return found


def _client(opts):
    client = salt.client.get_local_client(opts["conf_file"])
    client.get_returns_no_block = functools.partial(_returns, client)
    return client


def _returns(client, tag, match_type=None):
    """
    As LocalClient's function of this name, which it calls in place of its own: the events of a job as they come, and None when there is none just now.

    Salt looks a hundred times a second, a twelfth of a processor for each job that waits. Salt 3007 also does not see an event that came together with another
    on a bus that is quiet since: both nodes' answers are such, and the second was heard when the timeout was over.
    """
    until = time.monotonic() + _LOOK
    for found in type(client).get_returns_no_block(client, tag, match_type):
        if found is None and _comes(client.event, until):
            continue
        yield found
        until = time.monotonic() + _LOOK


def _comes(bus, until):
    """Wait for the next event on the bus; whether there is one to look at before ``until``."""
    subscriber = getattr(bus.subscriber, "obj", None)
    # As Salt 3007 and 3008 call it; 3006 looks into its buffer by itself.
    stream = getattr(subscriber, "_stream", None) or getattr(subscriber, "stream", None)
    left = until - time.monotonic()
    if stream is None or stream.closed() or left <= 0:
        return False
    if not getattr(stream, "_read_buffer_size", 0):
        with selectors.DefaultSelector() as waiting:
            waiting.register(stream.socket, selectors.EVENT_READ)
            return bool(waiting.select(left))
    if not hasattr(subscriber, "_stream"):
        return False
    raw = bus.subscriber.recv(timeout=_REST)
    if raw is None:
        return False
    heard, data = bus.unpack(raw)
    # From there Salt takes what it has heard while it listened for something else.
    bus.pending_events.append({"tag": heard, "data": data})
    return True


class _Site:
    """The two nodes of a site, and what was last heard from them."""

    def __init__(self, client, opts, shape, facts=None):
        self.client = client
        self.opts = opts
        self.shape = shape
        self._facts = facts
        self.nodes = self.shape["nodes"]
        self.first, self.second = self.nodes
        self.changes = {}
        self.notes = []
        # Names of gates that do not stop a move, and what was passed in spite of them.
        self.force = []
        self.forced = []
        self.agent_seconds = _agent_seconds(facts or {})

    @property
    def facts(self):
        """{node: slapos_ha.facts} of both nodes, asked when somebody wants to know: a snapshot is seconds on a busy node."""
        if self._facts is None:
            self.look()
        return self._facts

    def look(self, applications=True):
        """Ask both nodes now; their launchers too, unless what they say of ``applications`` is not needed."""
        minions = [self.minion(node) for node in self.nodes]
        self._facts, problems = _snapshot(
            self.client, self.opts, self.shape["site"], minions=minions, applications=applications
        )
        self.agent_seconds += _agent_seconds(self._facts)
        if problems:
            raise stop("\n".join(problems))

    def minion(self, node):
        return self.shape["cluster"]["nodes"][node]["minion"]

    def call(self, on, function, *args, **kwargs):
        """Run an execution function on nodes at once and return {node: answer}; a silent node stops the step."""
        minions = {self.minion(node): node for node in on}
        said = _call(self.client, list(minions), "list", function, args, kwargs)
        answers = {}
        for minion, node in minions.items():
            if minion not in said:
                raise stop(
                    f"minion {minion} did not answer {function}",
                    f"See whether {node} is up and its salt-minion runs, then run the orchestration again.",
                )
            answers[node] = said[minion]
        return answers

    def public_key(self, node):
        """The public key of a node's minion, of which the master has a copy: the node need not be asked."""
        minion = self.minion(node)
        accepted = salt.key.get_key(self.opts).key_str(minion).get("minions", {})
        if minion not in accepted:
            raise stop(
                f"minion {minion} has no accepted key", f"See salt-key, and accept it: {minion}"
            )
        return accepted[minion]

    def begin(self, on, function):
        """Start an execution function on nodes without waiting for it."""
        try:
            self.client.cmd_async([self.minion(node) for node in on], function, tgt_type="list")
        except SaltClientError as error:
            raise _unpublished(error) from None

    def states(self, on, function, *args, **kwargs):
        """Run states on nodes at once; keep their changes, stop on the first failure."""
        answers = self.call(on, function, *args, queue=True, **kwargs)
        seconds = 0.0
        failures = []
        for node, states in answers.items():
            if not isinstance(states, dict):
                raise stop(f"{node}: {function} {' '.join(map(str, args))}: {_line(states)}")
            spent = 0.0
            for tag, state in sorted(
                states.items(), key=lambda item: item[1].get("__run_num__", 0)
            ):
                if tag.startswith("opensvc_|"):
                    spent += float(state.get("duration", 0)) / 1000
                title = state.get("__id__") or tag.split("_|-")[1]
                if state.get("changes"):
                    self.changes.setdefault(node, {})[title] = state["changes"]
                if state.get("result") is False and not _is_follow_up(state):
                    failures.append(f"{node}: {title}: {state.get('comment', '')}".strip())
            seconds = max(seconds, spent)
        self.agent_seconds += seconds
        if failures:
            raise stop("\n".join(failures))
        return answers

    def single(self, on, function, name, **kwargs):
        """Run one state on one node and note its comment."""
        self._note(on, self.states([on], "state.single", function, name=name, **kwargs)[on])

    def sls(self, on, name):
        """Run one SLS on one node and note what its states say of the service."""
        self._note(on, self.states([on], "state.sls", name)[on])

    def _note(self, node, states):
        for tag, state in sorted(states.items(), key=lambda item: item[1].get("__run_num__", 0)):
            if tag.startswith("opensvc_|"):
                self.notes.append(f"{node}: {state.get('comment', '')}")

    # What the world says, from the last snapshot.

    def cluster(self):
        for node in self.nodes:
            status = self.facts[node]["cluster"]
            if "error" not in status:
                return status
        return {
            "cluster": {"name": None, "nodes": []},
            "nodes": {},
            "heartbeats": {},
            "objects": {},
        }

    def service(self):
        return self.cluster()["objects"].get(self.shape["path"])

    def instance(self, node):
        return ((self.service() or {}).get("instances") or {}).get(node) or {}

    def own(self, node):
        """``(node, instance)`` as the node's own agent knows them, which is sooner than the other's; empty where it does not answer."""
        status = self.facts[node]["cluster"]
        if "error" in status:
            return {}, {}
        service = status["objects"].get(self.shape["path"]) or {}
        return status["nodes"].get(node) or {}, (service.get("instances") or {}).get(node) or {}

    def resource(self, rid):
        """The resource as its last known on any node, the node where the service is up first."""
        for node in sorted(self.nodes, key=lambda name: name != self.active()):
            found = self.instance(node).get("resources", {}).get(rid)
            if found:
                return found
        return {}

    def enabled(self, rid):
        resource = self.resource(rid)
        return bool(resource) and not resource.get("disable")

    def active(self):
        """The node where the service's filesystem is mounted, or None."""
        return next((node for node in self.nodes if self.facts[node]["mounted"]), None)

    def drbd(self, node):
        status = self.facts[node]["drbd"]["status"]
        return (status or {}).get(self.shape["fqdn"]) if "error" not in (status or {}) else None

    def tasks(self):
        return [f"task#{name}" for name in sorted(self.shape["tasks"])]

    def busy(self):
        """{node: ids of the processes of tasks that run now, None, or text that says why that is not known}; not asked while every task is disabled."""
        if not any(map(self.enabled, self.tasks())):
            return {}
        names = "|".join(sorted(map(re.escape, self.shape["tasks"])))
        # The launcher's command line, as files/service.yaml has it.
        pattern = rf"/slapos run ({names})( |$)"
        return self.call(self.nodes, "ps.pgrep", pattern, full=True, pattern_is_regex=True)

    def unverified(self):
        """What may be installed on the nodes though nothing proves it, as sentences; what both say is one."""
        said_by = {}
        for node in self.nodes:
            for sentence in self.facts[node].get("unverified", []):
                said_by.setdefault(sentence, []).append(node)
        return [
            f"NOT VERIFIED on {' and '.join(nodes)}: {sentence}"
            for sentence, nodes in said_by.items()
        ]

    def versions_apart(self):
        return _versions_apart(self.facts)

    def ids_apart(self):
        """In which of the site's users the nodes differ, as sentences."""
        one, two = self.nodes
        known = {node: self.facts[node]["ids"] for node in self.nodes}
        unknown = [
            f"the users' ids on {node} are not known: {ids['error']}"
            for node, ids in known.items()
            if "error" in ids
        ]
        if unknown:
            return unknown
        here, there = (known[node].get("users") or {} for node in self.nodes)
        apart = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        if not apart:
            return []
        name = apart[0]
        return [
            f"the users {', '.join(apart)} are not the same on both nodes ({name}: {here.get(name, 'missing')} on {one}, {there.get(name, 'missing')} on "
            f"{two}): salt -L {self.minion(one)},{self.minion(two)} state.apply slapos_ha.users"
        ]


def _call(
    client, target, target_type, function, args=(), kwargs=None, waiting=_WAITING, silent=None
):
    """{minion: answer}; to ``silent``, a set, go those that the master sent it to and that did not answer."""
    try:
        said = client.cmd(
            target,
            function,
            arg=list(args),
            kwarg=kwargs or {},
            tgt_type=target_type,
            timeout=waiting[0],
            gather_job_timeout=waiting[1],
            full_return=True,
            expect_minions=silent is not None,
        )
    except SaltClientError as error:
        raise _unpublished(error) from None
    answers = {}
    for minion, answer in said.items():
        if not isinstance(answer, dict) or "ret" not in answer:
            continue
        if answer.get("out") != "no_return":
            answers[minion] = answer["ret"]
        elif silent is not None:
            silent.add(minion)
    return answers


def _unpublished(error):
    # Salt goes on with what a user of its command line might do.
    why = str(error).partition(". ")[0]
    return stop(
        f"the Salt master cannot publish: {why}",
        "See that salt-master runs and that this user may publish, then run the orchestration again.",
    )


def _line(answer):
    text = ("; ".join(map(str, answer)) if isinstance(answer, list) else str(answer)).strip()
    if "Traceback (most recent call last)" in text:
        # What Salt itself could not do, such as write to a full disk. Where it happened is for its log.
        text = f"{text.splitlines()[-1].strip()} (see the minion's log)"
    return text or "no answer"


def _agent_seconds(facts):
    """What the agent's own commands took of a look: both nodes are asked at once."""
    return max((known.get("agent_seconds", 0.0) for known in facts.values()), default=0.0)


def _is_follow_up(state):
    return "One or more requisite failed" in str(state.get("comment", ""))


def _snapshot(
    client,
    opts,
    site,
    preflight=False,
    force=(),
    waiting=_WAITING,
    minions=None,
    applications=True,
):
    """Ask the minions of a site and return the facts of its two nodes by node name, with all problems found; ``minions`` are asked where they are known."""
    asked = {"preflight": preflight, "applications": applications}
    said = _asked(client, site, minions, asked, waiting)
    synced = _synced(client, said) if preflight else []
    if synced:
        again = _call(client, synced, "list", "slapos_ha.facts", (), asked, waiting)
        said.update({minion: _marked(answer) for minion, answer in again.items()})
    broken = {minion: answer for minion, answer in said.items() if not isinstance(answer, dict)}
    if broken:
        raise stop(
            "\n".join(
                f"{minion}: {_line(answer).splitlines()[-1]}" for minion, answer in broken.items()
            ),
            "If it says 'not available': salt '*' saltutil.sync_all",
        )
    if not said:
        raise stop(
            "no minion with pillar slapos_ha answered",
            "Target the site's pillar at both nodes in the pillar top file, then: salt '*' saltutil.refresh_pillar; salt '*' test.ping",
        )
    sites = sorted({str(answer["site"]) for answer in said.values() if answer["site"]})
    if site is None and len(sites) > 1:
        raise stop(
            f"there are {len(sites)} sites: {', '.join(sites)}",
            f"""Choose one: pillar='{{"slapos_ha": {{"site": "{sites[0]}"}}}}'""",
        )
    chosen = site or (sites[0] if sites else None)
    # A node whose pillar is too broken to name its site belongs to the only site there is.
    mine = {
        minion: answer
        for minion, answer in said.items()
        if answer["site"] == chosen or (not answer["site"] and len(sites) <= 1)
    }
    if not mine:
        raise stop(
            f"slapos_ha:site: {site!r} is not among the sites {', '.join(sites)}",
            "Give one of these.",
        )
    facts, problems = of_site(mine, set(said), _accepted_minions(opts))
    if preflight and len(facts) == 2:
        problems += pillars_apart(facts)
        if "versions" not in force:
            problems += _versions_apart(facts)
    return facts, problems


def _asked(client, site, minions, asked, waiting):
    """
    {minion: slapos_ha.facts} of the site, or of every minion with the pillar where the site is not known.

    Facts cost a node seconds: on a master with many sites only those of the site are asked. The other node may have another site's name in the pillar that
    it has loaded, so it is asked by its own name too. Who was silent is not waited for a second time.
    """

    def ask(target, target_type, silent=None):
        return _call(client, target, target_type, "slapos_ha.facts", (), asked, waiting, silent)

    if minions is not None:
        return ask(minions, "list")
    silent = set()
    said = ask(f"slapos_ha:site:{site}", "pillar", silent) if site else {}
    if silent and not said:
        names = sorted(silent)
        raise stop(
            "\n".join(f"site {site}: minion {name!r} does not answer" for name in names),
            f"See whether the node is up and its salt-minion runs: salt -L {','.join(names)} test.ping",
        )
    missing = set()
    for answer in said.values():
        if isinstance(answer, dict) and "node" in answer:
            missing.update(_minions(answer).values())
    missing -= {*said, *silent}
    if missing:
        said.update(ask(sorted(missing), "list"))
    return said or ask("slapos_ha:*", "pillar")


def _unsynced(answer):
    """Whether a minion lacks functions of the formula."""
    if not isinstance(answer, dict):
        return True
    known = [answer, *answer.values(), *(answer.get("drbd") or {}).values()]
    return any(isinstance(part, dict) and part.get("unsynced") for part in known)


def _synced(client, said):
    """
    Give the formula's modules to those minions that lack some of them, and return these minions.

    Of Salt's state runs only a highstate syncs by itself (3007, State.load_dynamic), so the preflight looks: they are missing on a new minion, and empty on
    a host that lost its power within seconds of a sync (the lab's fault "host" at "preflight").
    """
    lacking = sorted(minion for minion, answer in said.items() if _unsynced(answer))
    if lacking:
        _call(client, lacking, "list", "saltutil.sync_all")
        # The sync only asks the minion's own process to load them; the next job is a fork of that.
        _call(client, lacking, "list", "saltutil.refresh_modules", (), {"async": False})
    return lacking


def _marked(answer):
    return {**answer, "synced": True} if isinstance(answer, dict) else answer


def _minions(facts):
    """{node: its minion} of the site that a node tells of."""
    return {name: node["minion"] for name, node in facts["shape"]["cluster"]["nodes"].items()}


def of_site(mine, heard, accepted):
    """
    The facts of one site's two nodes by node name, and the problems of what its minions said.

    ``mine`` is {minion: slapos_ha.facts} of the site's minions, ``heard`` the minions that answered at all, ``accepted`` those whose keys are.
    """
    # What both nodes say alike, as they do of a pillar that is not right, is one problem.
    said_by = {}
    for minion, answer in sorted(mine.items()):
        for problem in answer["problems"]:
            said_by.setdefault(problem, []).append(minion)
    problems = [f"{' and '.join(minions)}: {problem}" for problem, minions in said_by.items()]
    facts = {answer["node"]: answer for answer in mine.values() if "node" in answer}
    wanted = {}
    for answer in facts.values():
        wanted.update(_minions(answer))
    for name, minion in sorted(wanted.items()):
        if name in facts or minion in heard:
            continue
        if minion not in accepted:
            problems.append(
                f"slapos_ha:cluster:nodes:{name}: {minion!r} is no minion of this master (accepted: {', '.join(accepted) or 'none'}); "
                "give its id as nodes:…:minion, or accept its key: salt-key"
            )
        else:
            problems.append(
                f"slapos_ha:cluster:nodes:{name}: minion {minion!r} does not answer, or has no pillar slapos_ha; start its salt-minion, see the pillar top file"
            )
    if not facts and not problems:
        problems.append("no node of the site answered")
    return facts, problems


def _accepted_minions(opts):
    return sorted(salt.key.get_key(opts).list_keys().get("minions", []))


def pillars_apart(facts):
    """Whether the two nodes see one site, as sentences."""
    (one, here), (two, there) = sorted(facts.items())
    if all(here["shape"][key] == there["shape"][key] for key in ("fqdn", "nodes")):
        return []
    return [
        f"{one} and {two} see different pillars of site {here['site']}; target one file at both, then: salt '*' saltutil.refresh_pillar"
    ]


def _versions_apart(facts):
    (one, here), (two, there) = sorted(facts.items())
    problems = []
    for what, read in (
        ("the OpenSVC agent", lambda f: f["agent"].get("version")),
        (
            "DRBD's module",
            lambda f: f["drbd"]["version"].get("module_loaded")
            or f["drbd"]["version"].get("module_available"),
        ),
    ):
        left, right = read(here), read(there)
        if left and right and left != right:
            problems.append(
                f"{what} is {left} on {one} and {right} on {two}; install one version on both"
            )
    return problems
