# A site is taken off its two nodes, resource by resource; what is somebody else's stays, and packages stay installed:
#   salt-run state.orch orch.teardown                                                      the data is kept, and the report says where
#   salt-run state.orch orch.teardown pillar='{"slapos_ha": {"destroy_data": "comp1"}}'    with its data; the name is that of the service
#   salt-run state.orch orch.teardown pillar='{"slapos_ha": {"site": "paris"}}'            where this master has several sites
#   salt-run state.orch orch.teardown test=True                                            what would go, and what would stay and why
#   salt-run state.orch orch.teardown pillar='{"slapos_ha": {"steal": true}}'              in the place of a run that hangs
# Each step looks at the world first and is skipped when it is done; a run that died anywhere is simply run again.
# The steps are in _runners/slapos_ha_teardown.py. Take the site out of the pillar top file afterwards, or a highstate installs it again.
{%- set given = salt['pillar.get']('slapos_ha', {}) %}
{%- set destroy_data = given.get('destroy_data') %}
{%- set steps = [
  ('preflight', 'Both nodes can be asked what is theirs of the site'),
  ('stopped', 'The service is stopped on both nodes'),
  ('service', 'The service is out of the agent'),
  ('drbd', 'DRBD is down on both nodes'),
  ('data', 'The data is gone from both nodes' if destroy_data else 'The data is kept on both nodes'),
  ('units', 'Units, cron and LVM are as without a site'),
  ('software', 'Environments and folders of re6st and SlapOS are gone'),
  ('users', 'Users of SlapOS are gone'),
  ('cluster', 'The nodes are no cluster any more'),
  ('verify', 'Nothing of the site is left, as both nodes say'),
] %}
{%- for step, title in steps %}
{{ title }}:
  slapos_ha.step:
    - step: {{ step }}
    - site: {{ given.get('site') | json }}
    - runner: slapos_ha.teardown_step
    - options: {{ {'destroy_data': destroy_data} | json }}
{%- if loop.first %}
    - steal: {{ given.get('steal', false) | json }}
{%- else %}
    - require:
      - slapos_ha: {{ steps[loop.index0 - 1][1] }}
{%- endif %}
{% endfor %}
