# re6st gets its certificate, once. Run by the orchestration where the service runs; anywhere else it refuses. Nothing is started: app#0 does that.
{%- from "slapos_ha/map.jinja" import site with context %}
include:
  - slapos_ha.re6st.install
  - slapos_ha.re6st.config

re6st is registered:
  slapos_node.re6st_registered:
    - name: /etc/re6stnet
    - mount: {{ site.mount | json }}
    - token_pillar: slapos_ha:re6st:token
    - registry: {{ site.re6st.registry | json }}
    - fingerprint: {{ site.re6st.fingerprint | json }}
    - title: {{ site.re6st.title | json }}
    - location: {{ site.re6st.location | json }}
    - device: {{ ('/dev/drbd' ~ site.drbd.minor) | json }}
    - require:
      - slapos_node: re6st and what it runs are there
    - require_in:
      - slapos_node: re6st is configured

re6st accepts its configuration:
  slapos_node.re6st_valid:
    - name: /etc/re6stnet
    - mount: {{ site.mount | json }}
    - require:
      - slapos_node: re6st is configured
