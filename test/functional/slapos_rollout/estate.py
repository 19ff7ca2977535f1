"""Many sites on paper, and minions that answer for them: all that a rollout and its sites' orchestrations ask, in this process or in any other."""

import copy
import json
import os
import pathlib
import time

import yaml
from support import ROOT
from unit.slapos_ha.world import World

# Longer than any test that lets a site hang.
_HANG = 300


def facts(site, world=None):
    """{minion: slapos_ha.facts} of the two nodes <site>1 and <site>2 of a site that is deployed and well."""
    if world is None:
        world = deployed()
    text = json.dumps(world.facts).replace("paris", site).replace("demo", site)
    return json.loads(text)


def deployed():
    defaults = yaml.safe_load((ROOT / "slapos_ha/defaults.yaml").read_text())
    example = yaml.safe_load((ROOT / "pillar.example").read_text())
    return World(defaults, example).deployed()


class Estate:
    """
    Answers as LocalClient does, from a folder, so that processes that were never told of each other see one world.

    ``facts.json`` has {minion: facts or None for a silent one}; ``log`` gets a line for each beginning and end of what is done at a site; while
    ``hang/<site>`` is there what is begun at that site does not end; with ``fail/<site>`` it fails; ``grains.json`` has {minion: what match.grain says, None for nothing}.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    @classmethod
    def make(cls, folder, **sites):
        """An estate of these sites, each with its facts, or None for one that is deployed and well."""
        for name in ("hang", "fail", "differs"):
            (folder / name).mkdir(parents=True)
        (folder / "log").write_text("")
        estate, usual = cls(folder), deployed()
        said = {}
        for site, given in sites.items():
            said.update(facts(site, usual) if given is None else given)
        estate.say(said)
        return estate

    def say(self, said):
        (self.folder / "facts.json").write_text(json.dumps(said))

    @property
    def facts(self):
        return json.loads((self.folder / "facts.json").read_text())

    def grains(self, said):
        (self.folder / "grains.json").write_text(json.dumps(said))

    def log(self):
        """What was done: [{"site", "what", "at", "pid"}], ``what`` being begin or end."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def hang(self, site):
        (self.folder / "hang" / site).touch()

    def let_go(self, site):
        (self.folder / "hang" / site).unlink()

    # --- As LocalClient ---------------------------------------------------------------------------------------------------------------------

    def cmd_iter(self, target, function, tgt_type, **kwargs):
        assert (target, tgt_type) == ("slapos_ha:*", "pillar") and kwargs["expect_minions"]
        self._note("everyone", function)
        for minion, said in self.facts.items():
            yield {minion: {"failed": True} if said is None else {"ret": copy.deepcopy(said)}}

    def cmd(self, target, function, arg=(), kwarg=None, tgt_type="glob", **kwargs):
        if function == "slapos_ha.facts":
            said = self.facts
            if tgt_type == "pillar":
                site = target.rpartition(":")[2]
                names = [one for one, of in said.items() if of and site in ("*", of["site"])]
            else:
                names = [one for one in target if said.get(one)]
            return {name: {"ret": said[name]} for name in names}
        if function == "match.grain":
            assert target, "nobody is asked nothing"
            self._note("match.grain", " ".join(target), *arg)
            grains = json.loads((self.folder / "grains.json").read_text())
            said = {name: grains.get(name, False) for name in target}
            return {name: {"ret": one} for name, one in said.items() if one is not None}
        if (kwarg or {}).get("test"):
            self._note("differing", " ".join(target))
            return {name: {"ret": self._highstate(name)} for name in target}
        site = target[0].rstrip("12")
        self._note(site, "begin", function, *map(str, arg))
        ends = time.monotonic() + _HANG
        while (self.folder / "hang" / site).exists() and time.monotonic() < ends:
            time.sleep(0.05)
        bad = (self.folder / "fail" / site).exists()
        self._note(site, "end", function, *map(str, arg))
        state = {"result": not bad, "comment": "no room [on] <disk>", "changes": {"key": "hunter2"}}
        return {name: {"ret": {"file_|-a_|-a_|-managed": state}} for name in target}

    def _highstate(self, minion):
        differs = (self.folder / "differs" / minion).exists()
        return {"file_|-a_|-a_|-managed": {"__id__": "a", "result": None if differs else True}}

    def _note(self, site, what, *more):
        line = json.dumps(
            {"site": site, "what": what, "more": more, "at": time.time(), "pid": os.getpid()}
        )
        with open(self.folder / "log", "a") as file:
            file.write(line + "\n")
