# SlapOS's users, the same ids on both nodes: after a switch its files must belong to the same people. Before any package can make them with other ids.
{%- from "slapos_ha/map.jinja" import site with context %}
Users of SlapOS have the site's ids:
  slapos_node.users_present:
    - slapsoft_id: {{ site.slapos.users.slapsoft_id | json }}
    - slapuser_first_id: {{ site.slapos.users.slapuser_first_id | json }}
    - partition_number: {{ site.slapos.partition_number | json }}
    - software_root: {{ (site.mount ~ '/slapos/opt/slapgrid') | json }}
    - instance_root: /srv/slapgrid
