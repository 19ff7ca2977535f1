# app#1, SlapOS, becomes the agent's to run. Run by the orchestration on the second node, where the service is: "enabled" says that it was seen to run there.
{%- from "slapos_ha/map.jinja" import site with context %}
include:
  - slapos_ha.slapos.formatted

app#1 of {{ site.path }} is enabled:
  opensvc.enabled:
    - name: {{ site.path | json }}
    - rids: ['app#1']
    - require:
      - slapos_node: Partitions of SlapOS are formatted

app#1 of {{ site.path }} runs:
  opensvc.resource_started:
    - name: {{ site.path | json }}
    - rids: ['app#1']
    - timeout: {{ site.timeouts.start | json }}
    - require:
      - opensvc: app#1 of {{ site.path }} is enabled
