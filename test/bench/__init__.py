"""
`make bench`: what the formula costs, each as a ratio whose two sides are measured side by side in one run. Nothing here is a test: no time is asserted.

``run`` is the command, ``parts`` what is measured in the lab, ``parsers`` and ``playbook`` two of the parts' own means, ``guest`` the program that measures on
a host by its own clock, ``results`` the file of raw numbers, and ``report`` what docs/performance.md and its picture make of them.
"""
