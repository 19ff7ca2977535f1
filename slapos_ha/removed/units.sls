# Units are unmasked, cron's file is back, LVM's filter, DRBD's module at boot and the firewall's rules are gone; nothing is started. What guards DRBD stays while it has a resource.
{%- from "slapos_ha/map.jinja" import site with context %}
Units and LVM of {{ site.node }} are as without a site:
  slapos_node.removed:
    - concern: units
    - destroy_data: {{ pillar.get('slapos_ha_destroy_data') | json }}
