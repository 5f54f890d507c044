"""Debian nodes in containers: images, clusters, and the inventory that Ansible needs to reach them over SSH."""
