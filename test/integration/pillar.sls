# The site of the suites: the example's, small. Nothing of it is reached: neither registry, master nor peer.
slapos_ha:
  site: kitchen
  cluster:
    name: kitchen
    nodes:
      demo1: {address: 192.0.2.11}
      demo2: {address: 192.0.2.12}
  storage: {size: 1g}
  drbd:
    shared_secret: change-me-drbd
  re6st:
    registry: http://192.0.2.1/
    fingerprint: sha256:41f22e190c7c3e910ffaafd8a9e89f8ad6ea6f4236950a5d8125db37c97c7fac
    token: change-me-re6st
  slapos:
    master_url: https://192.0.2.1/
    web_master_url: https://192.0.2.1/
    computer_name: kitchen
    token: change-me-slapos
    partition_number: 3
  firewall:
    backend: nftables
