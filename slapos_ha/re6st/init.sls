# re6st on a node: installed alike on both; configured where the service's filesystem is, once it is registered (slapos_ha.re6st.registered). Nothing is started.
include:
  - slapos_ha.re6st.install
{%- if salt['slapos_node.re6st_facts']().registered %}
  - slapos_ha.re6st.config
{%- endif %}
