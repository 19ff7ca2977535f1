# Two nodes and a pillar become a highly available SlapOS node:
#   salt-run state.orch orch.deploy
#   salt-run state.orch orch.deploy pillar='{"slapos_ha": {"site": "paris"}}'     where this master has several sites
#   salt-run state.orch orch.deploy test=True                                      what it would do
#   salt-run state.orch orch.deploy pillar='{"slapos_ha": {"steal": true}}'        in the place of a run that hangs
#   salt-run state.orch orch.deploy pillar='{"slapos_ha": {"force": ["versions"]}}'  in spite of a gate that is red, by its name
# Each step looks at the world first and is skipped when it is done; a run that died anywhere is simply run again.
# The steps and their conditions are in _runners/slapos_ha.py.
{%- set site = salt['pillar.get']('slapos_ha:site', none) %}
{%- set force = salt['pillar.get']('slapos_ha:force', []) %}
{%- set steps = [
  ('preflight', 'Both nodes can become a site'),
  ('base', 'Agent and DRBD are ready on both nodes'),
  ('cluster', 'Both nodes are one cluster'),
  ('service', 'The service is defined'),
  ('storage', 'Disks and DRBD are there on both nodes'),
  ('sync', 'DRBD is UpToDate on both nodes'),
  ('provision', 'The service is provisioned and up on the first node'),
  ('software', 'What is local is installed and configured on both nodes'),
  ('re6st_first', 're6st is registered on the first node'),
  ('re6st_switch', 'The service is on the second node for re6st'),
  ('re6st_second', 're6st runs on the second node'),
  ('re6st_back', 'The service is back on the first node with re6st'),
  ('slapos_first', 'SlapOS is registered and booted on the first node'),
  ('slapos_switch', 'The service is on the second node for SlapOS'),
  ('slapos_second', 'SlapOS runs on the second node'),
  ('slapos_back', 'The service is back on the first node with SlapOS'),
  ('tasks', 'The five tasks are enabled'),
  ('verify', 'The site is whole, as seen from both nodes'),
] %}
{%- for step, title in steps %}
{{ title }}:
  slapos_ha.step:
    - step: {{ step }}
    - site: {{ site | json }}
    - options: {{ {'force': force} | json }}
{%- if loop.first %}
    - steal: {{ salt['pillar.get']('slapos_ha:steal', false) | json }}
{%- endif %}
{%- if not loop.first %}
    - require:
      - slapos_ha: {{ steps[loop.index0 - 1][1] }}
{%- endif %}
{% endfor %}
