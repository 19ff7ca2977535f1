# re6stnet.conf on the service's filesystem. A running daemon is left alone: it reads its options at its next start.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set lines = ['run /run/re6stnet'] %}
{%- if not (site.re6st.options | select('match', 'ip ') | list) %}
{#- Without this re6st searches for a UPnP gateway for seconds; a fixed address would be right on one of the two nodes only. #}
{%- do lines.append('ip any') %}
{%- endif %}
{%- if site.re6st.main_interface %}
{%- do lines.append('main-interface ' ~ site.re6st.main_interface) %}
{%- endif %}
re6st is configured:
  slapos_node.re6st_configured:
    - name: /etc/re6stnet
    - mount: {{ site.mount | json }}
    - registry: {{ site.re6st.registry | json }}
    - options: {{ (lines + site.re6st.options) | json }}
    - location: {{ site.re6st.location | json }}
