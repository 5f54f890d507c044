"""channelbox: real-time chat and live dashboards that an organisation installs on its own machines."""
