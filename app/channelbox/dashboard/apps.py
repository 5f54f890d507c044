from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "channelbox.dashboard"

    def ready(self) -> None:
        from channelbox.accounts import revocation
        from channelbox.dashboard.access import staff_only

        revocation.rules.append(staff_only)
