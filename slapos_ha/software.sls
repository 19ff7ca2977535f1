# What the orchestration sees to on both nodes before re6st: all that is local. Until app#0 is enabled, which is in the middle of a first deployment, only re6st's
# part of it: SlapOS's software takes longest and is wanted last (slapos_ha.slapos.registered).
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set app = (salt['opensvc.config_show'](site.path) or {}).get('app#0', {}) %}
include:
  - slapos_ha.allocated
{%- if app != {} and app.get('disable', 'false') | string | lower == 'true' %}
  - slapos_ha.re6st
{%- else %}
  - slapos_ha
{%- endif %}
