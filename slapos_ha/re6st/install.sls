# re6st's software, without anything running: the distribution's units are masked before the package that brings them.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- from "slapos_ha/repository.jinja" import known %}
{%- set install = site.re6st.install %}
{%- set path = (install.path + [install.prefix ~ '/bin']) | join(':') %}
include:
  - slapos_ha.units

{%- if install.method == 'pip' %}

Packages that re6st needs are installed:
  slapos_node.programs_present:
    - programs: [openvpn, openssl, ip, '/usr/lib/python3*/ensurepip']
    - packages: [openvpn, openssl, iproute2, python3-venv]
    - require:
      - slapos_node: Units of the distribution are the cluster's to run

re6st is installed in {{ install.prefix }}:
  slapos_node.environment_present:
    - name: {{ install.prefix | json }}
    - requirements: {{ install.requirements | json }}
    - find_links: {{ install.find_links | json }}
    - no_index: {{ install.no_index | json }}
    - hashes: {{ (install.hashes or none) | json }}
    - require:
      - slapos_node: Packages that re6st needs are installed
    - require_in:
      - slapos_node: re6st and what it runs are there
{%- elif install.method == 'packages' %}
{%- if install.get('repository') %}
{{ known('re6st', install.repository) }}
{%- endif %}

re6st is installed from packages:
  pkg.installed:
    - pkgs:
{%- for package, version in install.packages | dictsort %}
      - {{ ({package: version} if version else package) | json }}
{%- endfor %}
    - require:
      - slapos_node: Units of the distribution are the cluster's to run
    - require_in:
      - slapos_node: re6st and what it runs are there
{%- endif %}

re6st and what it runs are there:
  slapos_node.programs_present:
    - programs: [re6stnet, re6st-conf, openvpn, babeld, ip, openssl]
    - path: {{ path | json }}
