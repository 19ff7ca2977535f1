# SlapOS's users and groups, but for those that own something that stays.
{%- from "slapos_ha/map.jinja" import site with context %}
Users of SlapOS are gone from {{ site.node }}:
  slapos_node.removed:
    - concern: users
    - destroy_data: {{ pillar.get('slapos_ha_destroy_data') | json }}
