# The OpenSVC agent: installed from the pinned package where the pillar says so, and running.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set agent = site.cluster.agent %}
{%- if agent.source == 'package' %}
{%- set package = '/var/cache/slapos_ha/' ~ agent.url.split('/') | last %}
OpenSVC agent package is here and is the pinned one:
  file.managed:
    - name: {{ package | json }}
    - source: {{ agent.url | json }}
{%- if agent.get('sha256') %}
    - source_hash: {{ ('sha256=' ~ agent.sha256) | json }}
{%- else %}
{#- Rendered with allow_unverified only: without it slapos_ha.site refuses the pillar. #}
    - skip_verify: true
{%- endif %}
    - user: root
    - group: root
    - mode: '0600'
    - makedirs: true
    - dir_mode: '0755'

OpenSVC agent is installed:
  pkg.installed:
    - sources:
      - opensvc: {{ package | json }}
    - require:
      - file: OpenSVC agent package is here and is the pinned one
    - require_in:
      - service: OpenSVC agent runs
{%- endif %}

OpenSVC agent runs:
  service.running:
    - name: {{ 'opensvc-server' if agent.get('version', '2').startswith('3') else 'opensvc-agent' }}
    - enable: true
