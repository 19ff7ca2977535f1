# Both nodes were written to after they parted, and DRBD connects them no more. Which writes go is a person's choice:
#   salt-run state.orch orch.recover_split_brain                                                      shows both sides, and changes nothing
#   salt-run state.orch orch.recover_split_brain pillar='{"slapos_ha": {"victim": "demo2"}}'          what demo2 has written since goes, a copy of it is kept
#   salt-run state.orch orch.recover_split_brain pillar='{"slapos_ha": {"site": "paris"}}'            where this master has several sites
#   … "snapshot": "/srv/spare"         the copy is a file in that folder of the victim
#   … "snapshot": false                no copy is kept
#   … "force": ["service"]             the victim may be the only node where the service is up
#   … "steal": true                    in the place of a run that hangs
# Each step looks at the world first and is skipped when it is done; a run that died anywhere is simply run again. The steps are in
# _runners/slapos_ha_split_brain.py; a runbook is docs/runbooks/split-brain.md.
{%- set given = salt['pillar.get']('slapos_ha', {}) %}
{%- set victim = given.get('victim') %}
{%- set options = {'victim': victim, 'force': given.get('force', []), 'snapshot': given.get('snapshot', true)} %}
{%- set steps = [('preflight', 'Both sides are known')] %}
{%- if victim is not none %}
{%- set steps = steps + [
  ('stopped', 'The victim does not use the resource'),
  ('copied', 'No copy of the data of the victim is wanted' if options.snapshot is false else 'A copy of the data of the victim is kept'),
  ('discarded', 'The writes of the victim are discarded'),
  ('synced', 'DRBD is UpToDate on both nodes'),
  ('agent', 'The agent acts on the service'),
  ('verify', 'The split brain is over, as both nodes say'),
] %}
{%- endif %}
{%- for step, title in steps %}
{{ title }}:
  slapos_ha.step:
    - step: {{ step }}
    - site: {{ given.get('site') | json }}
    - runner: slapos_ha.split_brain_step
    - options: {{ options | json }}
{%- if loop.first %}
    - steal: {{ given.get('steal', false) | json }}
{%- else %}
    - require:
      - slapos_ha: {{ steps[loop.index0 - 1][1] }}
{%- endif %}
{% endfor %}
