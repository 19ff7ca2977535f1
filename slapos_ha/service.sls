# The service and its launchers in the agent. The configuration is the cluster's, so one node, the preferred, converges it.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- if site.node == site.nodes[0] %}
Launchers' object {{ site.cfg_path }} is there:
  opensvc.object_present:
    - name: {{ site.cfg_path | json }}

{%- for key in ('re6st', 'slapos', 'settings.json') %}
Launchers' object holds {{ key }}:
  opensvc.key_present:
    - name: {{ site.cfg_path | json }}
    - key: {{ key | json }}
    - source: {{ ('salt://slapos_ha/files/' ~ key) | json }}
{%- if key == 'settings.json' %}
    - template: jinja
{%- endif %}
    - require:
      - opensvc: Launchers' object {{ site.cfg_path }} is there
    - require_in:
      - opensvc: Service {{ site.path }} is defined
{%- endfor %}

Service {{ site.path }} is defined:
  opensvc.object_present:
    - name: {{ site.path | json }}
    - config: {{ salt['slapos_ha.service_config']() | json }}
{%- else %}
Service {{ site.path }} is converged from {{ site.nodes[0] }}:
  test.nop: []
{%- endif %}
