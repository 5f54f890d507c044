"""The live dashboard: figures of the installation, pushed to all who watch it."""
