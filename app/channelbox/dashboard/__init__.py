"""The live dashboard: how the installation is doing, pushed to everybody who looks."""
