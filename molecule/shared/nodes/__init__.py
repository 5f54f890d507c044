"""Debian nodes in containers: images, clusters, and the inventory that ansible needs to reach them over ssh."""
