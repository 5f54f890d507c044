from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "channelbox.monitoring"
